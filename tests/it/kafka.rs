//! The Kafka neighbour against a real broker. Every test has topics and a group of its own.

mod consumer;
mod producer;
mod topics;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream::kafka::{Admin, BatchItem, Consumer, GroupEvent, KafkaError, KafkaSettings, Producer};
use millstream_core::model::{Offset, Partition, TopicPartition};
use uuid::Uuid;

/// Beyond any time for which a machine stands still.
const LIMIT: Duration = Duration::from_secs(120);
const TURN: Duration = Duration::from_millis(20);

/// What a test sees of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub offset: Offset,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

pub type Log = BTreeMap<TopicPartition, Vec<Seen>>;

pub fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::new_v4().simple())
}

pub fn settings(application: &str) -> KafkaSettings {
    let servers = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "127.0.0.1:29092".into());
    KafkaSettings {
        client: BTreeMap::from([("bootstrap.servers".to_owned(), servers)]),
        application: application.to_owned(),
        instance: Uuid::new_v4().to_string(),
        worker: 0,
        max_record_bytes: 1 << 20,
    }
}

fn create(topic: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin = Admin::open(&settings("admin")).unwrap();
    assert!(admin.create_topic(topic, partitions, config, LIMIT).unwrap());
}

fn producer(settings: &KafkaSettings) -> Producer {
    let producer = Producer::open(settings).unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer
}

/// One transaction with `values` in order, each on the partition it names.
fn produce(producer: &mut Producer, topic: &str, values: &[(i32, String)]) {
    let output = producer.topic(topic).unwrap();
    producer.begin().unwrap();
    for (partition, value) in values {
        let record = (Some(&b"k"[..]), value.as_bytes());
        producer.produce_batch(output, Partition(*partition), &[record]).unwrap();
    }
    producer.drain(LIMIT).unwrap();
    producer.commit(LIMIT).unwrap();
}

/// Calls `turn` until it answers.
fn until<T>(what: &str, mut turn: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = turn() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
    }
}

/// The next group event; a topic that has just been created may still be unknown for a moment.
fn event(consumer: &mut Consumer) -> GroupEvent {
    until("a group event", || match consumer.poll_group() {
        Ok(Some(event)) => Some(event),
        Ok(None) | Err(KafkaError::UnknownTopic { .. }) => {
            consumer.wait(TURN);
            None
        }
        Err(error) => panic!("{error}"),
    })
}

/// Joins the group and takes every partition, reading from `at`.
pub fn join(settings: &KafkaSettings, topic: &str, at: Offset) -> Consumer {
    let mut consumer = Consumer::open(settings).unwrap();
    consumer.subscribe(&[topic]).unwrap();
    take(&mut consumer, at);
    consumer
}

fn take(consumer: &mut Consumer, at: Offset) {
    loop {
        let GroupEvent::Assigned(partitions) = event(consumer) else { panic!("nothing was assigned") };
        let positions: Vec<_> = partitions.iter().map(|p| (p.clone(), Offset(0))).collect();
        consumer.assign(&positions).unwrap();
        for partition in &partitions {
            consumer.seek_and_resume(partition, at).unwrap();
        }
        if !partitions.is_empty() {
            return;
        }
    }
}

/// Adds what one batch holds to `log`; answers how many records.
fn poll_into(consumer: &mut Consumer, log: &mut Log) -> usize {
    let idle = consumer.poll_group().unwrap().is_none();
    let found = poll_batch_into(consumer, log);
    if idle && found == 0 {
        consumer.wait(TURN);
    }
    found
}

/// The same without serving the group.
fn poll_batch_into(consumer: &mut Consumer, log: &mut Log) -> usize {
    let batch = consumer.poll_batch(1_000);
    let mut found = 0;
    for item in batch.items() {
        match item {
            BatchItem::Records(run) => {
                found += run.len();
                log.entry(run.partition().clone()).or_default().extend(run.iter().map(|r| Seen {
                    offset: r.offset(),
                    key: r.key().map(<[u8]>::to_vec),
                    value: r.value().map(<[u8]>::to_vec),
                }))
            }
            BatchItem::Error { partition, error } => panic!("{partition:?}: {error}"),
        }
    }
    found
}

pub fn read(consumer: &mut Consumer, records: usize) -> Log {
    let mut log = Log::new();
    until("records", || {
        poll_into(consumer, &mut log);
        (log.values().map(Vec::len).sum::<usize>() >= records).then_some(())
    });
    log
}

fn values(log: &Log, topic: &str, partition: i32) -> Vec<String> {
    let found = log.get(&TopicPartition::new(topic, partition)).cloned().unwrap_or_default();
    found.into_iter().map(|seen| String::from_utf8(seen.value.unwrap()).unwrap()).collect()
}

fn numbered(partition: i32, range: std::ops::Range<usize>) -> Vec<(i32, String)> {
    range.map(|n| (partition, format!("{partition}/{n}"))).collect()
}
