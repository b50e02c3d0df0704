//! Where events go: a topic, or lines.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use millstream_core::model::Partition;

use crate::clock::Deadline;
use crate::kafka::{Acks, Admin, KafkaError, KafkaSettings, OutputTopic, Producer, partition_for};

use super::GenerateError;
use super::generator::Batch;

/// For each question to the cluster.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broker that went away is waited for, by a record or at the end.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(300);
const BUFFER_BYTES: usize = 1 << 20;

pub enum Target {
    Topic(Box<TopicTarget>),
    Lines(LinesTarget),
}

/// A topic, by an idempotent producer where all acknowledge.
pub struct TopicTarget {
    producer: Producer,
    topic: OutputTopic,
    partitions: i32,
    keyed: bool,
}

/// What is needed to send to a topic.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    pub kafka: KafkaSettings,
    pub name: String,
    /// Of a topic that is to be made.
    pub partitions: i32,
    pub keyed: bool,
    pub acks: Acks,
}

/// A value a line.
pub struct LinesTarget(BufWriter<Box<dyn Write + Send>>);

impl Target {
    pub fn send(&mut self, batch: &Batch) -> Result<(), GenerateError> {
        match self {
            Target::Topic(topic) => Ok(topic.send(batch)?),
            Target::Lines(lines) => Ok(lines.send(batch)?),
        }
    }

    /// Waits until everything is where it should be.
    pub fn finish(&mut self) -> Result<(), GenerateError> {
        match self {
            Target::Topic(topic) => Ok(topic.producer.drain(DELIVERY_TIMEOUT)?),
            Target::Lines(lines) => Ok(lines.0.flush()?),
        }
    }
}

type KeyAndValue<'b> = (Option<&'b [u8]>, &'b [u8]);

impl TopicTarget {
    /// Makes the topic where it is missing.
    pub fn open(settings: &TopicSettings) -> Result<TopicTarget, KafkaError> {
        let partitions = find_or_create(settings)?;
        let mut producer = Producer::open_plain(&settings.kafka, settings.acks)?;
        let topic = producer.topic(&settings.name)?;
        Ok(TopicTarget { producer, topic, partitions, keyed: settings.keyed })
    }

    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// By partition, as the client takes them cheapest.
    fn send(&mut self, batch: &Batch) -> Result<(), KafkaError> {
        let mut by_partition: Vec<Vec<KeyAndValue<'_>>> = vec![Vec::new(); self.partitions as usize];
        for message in batch.messages() {
            let source = Partition((message.place >> 1) as i32);
            let key = self.keyed.then_some(message.key);
            let Partition(partition) = partition_for(key, source, self.partitions);
            by_partition[partition as usize].push((key, message.value));
        }
        for (partition, records) in by_partition.iter().enumerate().filter(|(_, records)| !records.is_empty())
        {
            self.producer.produce_batch(self.topic, Partition(partition as i32), records)?;
        }
        self.producer.check()
    }
}

/// How many partitions it has.
fn find_or_create(settings: &TopicSettings) -> Result<i32, KafkaError> {
    let admin = Admin::open(&settings.kafka)?;
    if let Some(found) = admin.topic(&settings.name, ASK_TIMEOUT)? {
        return Ok(found.partitions);
    }
    admin.create_topic(&settings.name, settings.partitions, &[], ASK_TIMEOUT)?;
    let deadline = Deadline::after(ASK_TIMEOUT);
    // A topic that was just made may not be known to every broker yet.
    while !deadline.passed() {
        if let Some(found) = admin.topic(&settings.name, ASK_TIMEOUT)? {
            return Ok(found.partitions);
        }
    }
    Err(KafkaError::TimedOut { operation: "make the topic" })
}

impl LinesTarget {
    pub fn new(to: Box<dyn Write + Send>) -> LinesTarget {
        LinesTarget(BufWriter::with_capacity(BUFFER_BYTES, to))
    }

    fn send(&mut self, batch: &Batch) -> io::Result<()> {
        for message in batch.messages() {
            self.0.write_all(message.value)?;
            self.0.write_all(b"\n")?;
        }
        Ok(())
    }
}
