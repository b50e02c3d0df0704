//! The yardstick of `./dev bench`: consume, splice a field in, produce, commit, exactly once, and nothing else.
//!
//! The same clients, settings, batches and epochs as the processor's, but no decoding, no verdict, no window, no state
//! and no PostgreSQL: what any exactly-once copy of a topic costs with this Kafka client on this machine. It reads a
//! group's input to its present end and exits. Usage: `plain INPUT OUTPUT GROUP INSTANCE`; the instance tells the group's
//! members apart, and is the same for a run that goes on where another ended.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use millstream::clock::{Clock, Stopwatch, SystemClock};
use millstream::kafka::{
    Admin, BatchItem, CommittedOffset, Consumer, GroupEvent, KafkaError, KafkaSettings, OutputTopic,
    Producer, Run, partition_for,
};
use millstream_core::model::{Offset, Partition, TopicPartition};

const TIMEOUT: Duration = Duration::from_secs(9);
const BATCH_RECORDS: usize = 10_000;
const EPOCH_RECORDS: usize = 100_000;
const EPOCH_AGE: Duration = Duration::from_secs(1);
const IDLE_WAIT: Duration = Duration::from_millis(100);

fn main() -> Result<(), KafkaError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, group, instance] = &arguments[..] else {
        eprintln!("usage: plain INPUT OUTPUT GROUP INSTANCE");
        std::process::exit(2);
    };
    let servers = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "127.0.0.1:29092".into());
    let settings = KafkaSettings {
        client: BTreeMap::from([("bootstrap.servers".to_owned(), servers)]),
        application: group.clone(),
        instance: instance.clone(),
        worker: 0,
        max_record_bytes: 1 << 20,
    };
    let copied = Copier::open(&settings, input, output)?.run()?;
    println!("{copied}");
    Ok(())
}

struct Copier {
    consumer: Consumer,
    producer: Producer,
    output: OutputTopic,
    partitions: i32,
    /// The next offset, and where the log ended at the start.
    progress: BTreeMap<TopicPartition, (Offset, Offset)>,
    epoch: Epoch,
}

/// Where both stand in the buffer.
type KeyAndValue = (Option<Range<usize>>, Range<usize>);

/// What is read and not yet committed.
#[derive(Default)]
struct Epoch {
    bytes: Vec<u8>,
    records: Vec<Vec<KeyAndValue>>,
    pending: usize,
    since: Option<Stopwatch>,
}

impl Copier {
    fn open(settings: &KafkaSettings, input: &str, output: &str) -> Result<Copier, KafkaError> {
        let admin = Admin::open(settings)?;
        let unknown = |name: &str| KafkaError::UnknownTopic { detail: name.to_owned() };
        let partitions = admin.topic(input, TIMEOUT)?.ok_or_else(|| unknown(input))?.partitions;
        admin.create_topic(output, partitions, &[], TIMEOUT)?;
        let mut producer = Producer::open(settings)?;
        producer.init_transactions(TIMEOUT)?;
        let output = producer.topic(output)?;
        let mut consumer = Consumer::open(settings)?;
        consumer.subscribe(&[input])?;
        let progress = take(&mut consumer, partitions as usize)?;
        let records = vec![Vec::new(); partitions as usize];
        let epoch = Epoch { records, ..Epoch::default() };
        Ok(Copier { consumer, producer, output, partitions, progress, epoch })
    }

    /// How many records were copied.
    fn run(mut self) -> Result<usize, KafkaError> {
        let mut copied = 0;
        while self.progress.values().any(|(next, end)| next < end) || self.epoch.pending > 0 {
            if let Some(event) = self.consumer.poll_group()? {
                eprintln!("the group changed during the copy: {event:?}");
                return Err(KafkaError::NotAMember);
            }
            let read = self.read()?;
            copied += read;
            let at_end = self.progress.values().all(|(next, end)| next >= end);
            let old = self.epoch.since.is_some_and(|since| since.elapsed() >= EPOCH_AGE);
            if self.epoch.pending > 0 && (at_end || old || self.epoch.pending >= EPOCH_RECORDS) {
                self.commit()?;
            } else if read == 0 {
                self.consumer.wait(IDLE_WAIT);
            }
        }
        self.consumer.close(false);
        Ok(copied)
    }

    fn read(&mut self) -> Result<usize, KafkaError> {
        let batch = self.consumer.poll_batch(BATCH_RECORDS);
        for item in batch.items() {
            match item {
                BatchItem::Error { error, .. } => return Err(error.clone()),
                BatchItem::Records(run) => {
                    self.epoch.add(&run, self.partitions);
                    if let Some((next, _)) = self.progress.get_mut(run.partition()) {
                        *next = run.iter().next_back().map_or(*next, |record| record.offset().next());
                    }
                }
            }
        }
        Ok(batch.len())
    }

    fn commit(&mut self) -> Result<(), KafkaError> {
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
    /// The time at which the batch was read stands in every record of it, as the epoch's does in the processor's.
    fn add(&mut self, run: &Run<'_>, partitions: i32) {
        self.since.get_or_insert_with(Stopwatch::start);
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
        (self.pending, self.since) = (0, None);
    }
}

/// Waits for all partitions, and goes on where the group stopped.
fn take(
    consumer: &mut Consumer,
    partitions: usize,
) -> Result<BTreeMap<TopicPartition, (Offset, Offset)>, KafkaError> {
    let mut progress = BTreeMap::new();
    let since = Stopwatch::start();
    while progress.len() < partitions {
        match consumer.poll_group()? {
            None if since.elapsed() > TIMEOUT * 5 => {
                return Err(KafkaError::TimedOut { operation: "join the group" });
            }
            None => consumer.wait(IDLE_WAIT),
            Some(GroupEvent::Assigned(assigned)) => {
                let offsets = consumer.stable_offsets(&assigned, TIMEOUT)?;
                let mut at = Vec::new();
                for known in offsets {
                    let (low, end) = consumer.log_range(&known.partition, TIMEOUT)?;
                    at.push((known.partition, known.offset.unwrap_or(low), end));
                }
                let starts: Vec<_> = at.iter().map(|(tp, start, _)| (tp.clone(), *start)).collect();
                consumer.assign(&starts)?;
                for (tp, start, end) in at {
                    consumer.seek_and_resume(&tp, start)?;
                    progress.insert(tp, (start, end));
                }
            }
            Some(event) => {
                eprintln!("unexpected: {event:?}");
                return Err(KafkaError::NotAMember);
            }
        }
    }
    Ok(progress)
}
