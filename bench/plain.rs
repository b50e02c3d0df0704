//! The yardstick of `./dev bench`: consume, splice a field in, produce, commit, exactly once, and nothing else.
//!
//! The same clients, settings and batches as the processor's, epochs cut by the same rule, and as many members of the
//! group as the processor has workers, but no decoding, no verdict, no window, no state and no PostgreSQL: what any
//! exactly-once copy of a topic costs with this Kafka client on this machine. It reads a group's input to its present end
//! and exits. Usage: `plain INPUT OUTPUT GROUP INSTANCE MEMBERS`; the instance tells the group's members apart, and is
//! the same for a run that goes on where another ended.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::exit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millstream::clock::{Clock, Stopwatch, SystemClock};
use millstream::kafka::{
    Admin, BatchItem, CommittedOffset, Consumer, GroupEvent, KafkaError, KafkaSettings, OutputTopic,
    Producer, Run, partition_for,
};
use millstream::runtime::{BATCH_RECORDS, Gathered};
use millstream_core::model::{Offset, Partition, TopicPartition};
use millstream_core::pipeline::DEFAULT_COMMIT_INTERVAL;

const TIMEOUT: Duration = Duration::from_secs(9);
/// Until every member has its share.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How often members look at each other.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let members = arguments.get(4).and_then(|text| text.parse().ok()).filter(|members| *members > 0);
    let ([input, output, group, instance, _], Some(members)) = (&arguments[..], members) else {
        eprintln!("usage: plain INPUT OUTPUT GROUP INSTANCE MEMBERS");
        exit(2);
    };
    let servers = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "127.0.0.1:29092".into());
    let settings = KafkaSettings {
        client: BTreeMap::from([("bootstrap.servers".to_owned(), servers)]),
        application: group.clone(),
        instance: instance.clone(),
        worker: 0,
        max_record_bytes: 1 << 20,
    };
    match copy(&settings, (input, output), members) {
        Ok(copied) => println!("{copied}"),
        Err(error) => fail(&error),
    }
}

/// How many records were copied, by all members.
fn copy(
    settings: &KafkaSettings,
    (input, output): (&str, &str),
    members: usize,
) -> Result<usize, KafkaError> {
    let admin = Admin::open(settings)?;
    let unknown = |name: &str| KafkaError::UnknownTopic { detail: name.to_owned() };
    let partitions = admin.topic(input, TIMEOUT)?.ok_or_else(|| unknown(input))?.partitions;
    admin.create_topic(output, partitions, &[], TIMEOUT)?;
    // Those beyond have nothing to do, and would only disturb the others when they join.
    let members = members.min(partitions as usize);
    let crew = Arc::new(Crew::new(members, partitions));
    let threads: Vec<JoinHandle<usize>> = (0..members)
        .map(|worker| {
            let settings = KafkaSettings { worker, ..settings.clone() };
            let (crew, input, output) = (crew.clone(), input.to_owned(), output.to_owned());
            // Why: the others would wait for one that failed.
            thread::spawn(move || {
                let copied = Copier::open(&settings, (&input, &output), crew).and_then(Copier::run);
                copied.unwrap_or_else(|error| fail(&error))
            })
        })
        .collect();
    Ok(threads.into_iter().map(|thread| thread.join().expect("a member ends by its own account")).sum())
}

fn fail(error: &KafkaError) -> ! {
    eprintln!("{error}");
    exit(1);
}

/// What members know of each other. None begins before every partition has its owner for good, and none ends before the
/// others are done: its partitions would move.
struct Crew {
    partitions: usize,
    /// How many partitions each holds.
    held: Mutex<Vec<usize>>,
    working: AtomicUsize,
}

struct Copier {
    consumer: Consumer,
    producer: Producer,
    output: OutputTopic,
    crew: Arc<Crew>,
    worker: usize,
    /// The next offset, and where the log ended at the start.
    progress: BTreeMap<TopicPartition, (Offset, Offset)>,
    epoch: Epoch,
    interval: Duration,
}

/// Where both stand in the buffer.
type KeyAndValue = (Option<Range<usize>>, Range<usize>);

/// What is read and not yet committed.
struct Epoch {
    bytes: Vec<u8>,
    /// By output partition.
    records: Vec<Vec<KeyAndValue>>,
    pending: usize,
    since: Stopwatch,
    /// The last batch was full.
    backlog: bool,
}

impl Crew {
    fn new(members: usize, partitions: i32) -> Crew {
        let (held, working) = (Mutex::new(vec![0; members]), AtomicUsize::new(members));
        Crew { partitions: partitions as usize, held, working }
    }

    /// Says how many partitions a member holds; answers whether all are shared out.
    fn settled(&self, worker: usize, holds: usize) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held[worker] = holds;
        held.iter().all(|held| *held > 0) && held.iter().sum::<usize>() == self.partitions
    }

    fn done(&self) {
        self.working.fetch_sub(1, Ordering::Relaxed);
    }

    fn all_done(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0
    }
}

impl Copier {
    fn open(
        settings: &KafkaSettings,
        (input, output): (&str, &str),
        crew: Arc<Crew>,
    ) -> Result<Copier, KafkaError> {
        let mut producer = Producer::open(settings)?;
        producer.init_transactions(TIMEOUT)?;
        let output = producer.topic(output)?;
        let mut consumer = Consumer::open(settings)?;
        consumer.subscribe(&[input])?;
        let epoch = Epoch::new(crew.partitions);
        let worker = settings.worker;
        let interval = Duration::from_micros(DEFAULT_COMMIT_INTERVAL.0.unsigned_abs());
        Ok(Copier { consumer, producer, output, crew, worker, progress: BTreeMap::new(), epoch, interval })
    }

    /// How many records this member copied.
    fn run(mut self) -> Result<usize, KafkaError> {
        self.join()?;
        let mut copied = 0;
        self.epoch.since = Stopwatch::start();
        while self.progress.values().any(|(next, end)| next < end) || self.epoch.pending > 0 {
            self.stay()?;
            let read = self.read()?;
            copied += read;
            if self.epoch.gathered().is_due(self.interval) {
                self.commit()?;
            } else if read == 0 {
                self.consumer.wait(self.epoch.gathered().idle_wait(self.interval));
            }
        }
        self.crew.done();
        while !self.crew.all_done() {
            self.stay()?;
            self.consumer.wait(LOOK_EVERY);
        }
        self.consumer.close(false);
        Ok(copied)
    }

    /// Takes a share, and waits until all partitions are shared out. Goes on where the group stopped.
    fn join(&mut self) -> Result<(), KafkaError> {
        let since = Stopwatch::start();
        while !self.crew.settled(self.worker, self.progress.len()) {
            match self.consumer.poll_group()? {
                None if since.elapsed() > JOIN_TIMEOUT => {
                    return Err(KafkaError::TimedOut { operation: "join the group" });
                }
                None => self.consumer.wait(LOOK_EVERY),
                Some(GroupEvent::Assigned(assigned)) => self.take(&assigned)?,
                Some(GroupEvent::Revoked { partitions, .. }) => {
                    self.progress.retain(|tp, _| !partitions.contains(tp));
                    self.consumer.unassign(&partitions)?;
                }
                Some(GroupEvent::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, assigned: &[TopicPartition]) -> Result<(), KafkaError> {
        let mut at = Vec::new();
        for known in self.consumer.stable_offsets(assigned, TIMEOUT)? {
            let (low, end) = self.consumer.log_range(&known.partition, TIMEOUT)?;
            at.push((known.partition, known.offset.unwrap_or(low), end));
        }
        let starts: Vec<_> = at.iter().map(|(tp, start, _)| (tp.clone(), *start)).collect();
        self.consumer.assign(&starts)?;
        for (tp, start, end) in at {
            self.consumer.seek_and_resume(&tp, start)?;
            self.progress.insert(tp, (start, end));
        }
        Ok(())
    }

    /// Stays a member with its share.
    fn stay(&mut self) -> Result<(), KafkaError> {
        match self.consumer.poll_group()? {
            None => Ok(()),
            // A rebalance of which nothing came.
            Some(GroupEvent::Assigned(none)) if none.is_empty() => self.consumer.assign(&[]),
            Some(event) => {
                eprintln!("the group changed during the copy: {event:?}");
                Err(KafkaError::NotAMember)
            }
        }
    }

    fn read(&mut self) -> Result<usize, KafkaError> {
        let batch = self.consumer.poll_batch(BATCH_RECORDS);
        for item in batch.items() {
            match item {
                BatchItem::Error { error, .. } => return Err(error.clone()),
                BatchItem::Records(run) => {
                    self.epoch.add(&run);
                    if let Some((next, _)) = self.progress.get_mut(run.partition()) {
                        *next = run.iter().next_back().map_or(*next, |record| record.offset().next());
                    }
                }
            }
        }
        self.epoch.backlog = batch.len() == BATCH_RECORDS;
        Ok(batch.len())
    }

    fn commit(&mut self) -> Result<(), KafkaError> {
        self.epoch.since = Stopwatch::start();
        self.producer.begin()?;
        let Epoch { bytes, records, .. } = &self.epoch;
        for (partition, records) in records.iter().enumerate().filter(|(_, records)| !records.is_empty()) {
            let records: Vec<(Option<&[u8]>, &[u8])> = records
                .iter()
                .map(|(key, value)| (key.clone().map(|key| &bytes[key]), &bytes[value.clone()]))
                .collect();
            self.producer.produce_batch(self.output, Partition(partition as i32), &records)?;
        }
        self.producer.drain(TIMEOUT)?;
        let offsets: Vec<CommittedOffset> = self
            .progress
            .iter()
            .map(|(tp, (next, _))| CommittedOffset {
                partition: tp.clone(),
                offset: *next,
                metadata: String::new(),
            })
            .collect();
        self.producer.send_offsets(&offsets, &self.consumer.group_metadata()?, TIMEOUT)?;
        self.producer.commit(TIMEOUT)?;
        self.epoch.clear();
        Ok(())
    }
}

impl Epoch {
    fn new(partitions: usize) -> Epoch {
        let (bytes, records) = (Vec::new(), vec![Vec::new(); partitions]);
        Epoch { bytes, records, pending: 0, since: Stopwatch::start(), backlog: false }
    }

    fn gathered(&self) -> Gathered {
        Gathered {
            records: self.pending,
            bytes: self.bytes.len(),
            age: self.since.elapsed(),
            backlog: self.backlog,
        }
    }

    /// The time at which the batch was read stands in every record of it, as the epoch's does in the processor's.
    fn add(&mut self, run: &Run<'_>) {
        let partitions = self.records.len() as i32;
        let field = format!(",\"processing_time\":\"{}\"}}", SystemClock.now());
        for record in run.iter() {
            let key = record.key().map(|key| self.push(&[key]));
            let value = record.value().unwrap_or_default();
            let value = match value.strip_suffix(b"}") {
                Some(open) => self.push(&[open, field.as_bytes()]),
                None => self.push(&[value]),
            };
            let Partition(to) = partition_for(record.key(), run.partition().partition, partitions);
            self.records[to as usize].push((key, value));
        }
        self.pending += run.len();
    }

    fn push(&mut self, parts: &[&[u8]]) -> Range<usize> {
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        start..self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.records.iter_mut().for_each(Vec::clear);
        self.pending = 0;
    }
}
