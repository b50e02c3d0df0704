//! A worker's transactional producer: whatever fails, it is discarded and another is made; it never aborts. And a plain
//! one, for whoever needs no transaction.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use millstream_core::model::{Offset, Partition, TopicPartition};
use rdkafka::client::NativeClient;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use crate::clock::{Deadline, Stopwatch};

use super::config::{Acks, KafkaSettings, TRANSACTION_TIMEOUT};
use super::context::DeliveryNotes;
use super::error::{KafkaError, Undelivered};
use super::ffi::{self, GroupMetadata, TopicHandle};
use super::group;

/// What `commit` is called in its errors.
pub const COMMIT: &str = "commit the transaction";
/// How long one look at the records in flight takes.
const FLUSH_SLICE: Duration = Duration::from_millis(5);
/// How long a full queue is left to empty before the next try.
const FULL_QUEUE_POLL: Duration = Duration::from_millis(1);
/// How long a plain producer waits for room in its queue: as long as librdkafka tries to deliver a record.
const PLAIN_PATIENCE: Duration = Duration::from_secs(300);
/// Events served between two slices: failures come bundled, log lines one by one.
const EVENTS_PER_SLICE: usize = 16;
/// Events served where none may be left: more than a client has to say of one transaction.
const ALL_EVENTS: usize = 4_096;

/// The producer of one thread: all its calls but `discard` belong to it.
///
/// Order: topics are dropped before the client.
pub struct Producer {
    topics: Vec<(Arc<str>, TopicHandle)>,
    client: BaseProducer<DeliveryNotes>,
    socket_timeout: Duration,
    /// How long a full queue is waited for.
    patience: Duration,
    in_doubt: AtomicBool,
}

/// A topic of the producer that gave it out; of no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputTopic(usize);

/// A record with everything a record can have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'m> {
    pub key: Option<&'m [u8]>,
    pub value: Option<&'m [u8]>,
    /// Names and values, in order; names may repeat.
    pub headers: &'m [(&'m str, Option<&'m [u8]>)],
    /// None: the present time.
    pub timestamp_ms: Option<i64>,
}

/// An offset to commit with the transaction, and up to 4,096 bytes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub partition: TopicPartition,
    pub offset: Offset,
    pub metadata: String,
}

impl Producer {
    /// Makes the client of a worker; fences nobody yet, and does not need a broker.
    pub fn open(settings: &KafkaSettings) -> Result<Producer, KafkaError> {
        Producer::make(settings, &settings.producer()?, TRANSACTION_TIMEOUT)
    }

    /// Makes a client without transactions: only `produce_batch`, `produce_one`, `check` and `drain` are for it.
    pub fn open_plain(settings: &KafkaSettings, acks: Acks) -> Result<Producer, KafkaError> {
        Producer::make(settings, &settings.plain_producer(acks)?, PLAIN_PATIENCE)
    }

    fn make(
        settings: &KafkaSettings,
        config: &ClientConfig,
        patience: Duration,
    ) -> Result<Producer, KafkaError> {
        let client = config
            .create_with_context(DeliveryNotes::default())
            .map_err(|error| KafkaError::of_client("make the producer", error))?;
        let (socket_timeout, in_doubt) = (settings.socket_timeout(), AtomicBool::new(false));
        Ok(Producer { topics: Vec::new(), client, socket_timeout, patience, in_doubt })
    }

    /// The topic by its name, which is looked up once.
    pub fn topic(&mut self, name: &str) -> Result<OutputTopic, KafkaError> {
        if let Some(known) = self.topics.iter().position(|(topic, _)| **topic == *name) {
            return Ok(OutputTopic(known));
        }
        let unknown = || KafkaError::UnknownTopic { detail: name.to_owned() };
        let topic = CString::new(name).map_err(|_| unknown())?;
        let handle = TopicHandle::new(self.native(), &topic).ok_or_else(unknown)?;
        self.topics.push((name.into(), handle));
        Ok(OutputTopic(self.topics.len() - 1))
    }

    /// Fences every older producer of this worker, and ends its open transaction. To be called again after a
    /// time-out, never after another error.
    pub fn init_transactions(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.client
            .init_transactions(timeout)
            .map_err(|error| KafkaError::of_client("init transactions", error))?;
        // Before this nothing was sent that could come late.
        self.serve_all();
        self.client.context().journal.take_connection_lost();
        Ok(())
    }

    pub fn begin(&self) -> Result<(), KafkaError> {
        self.client.begin_transaction().map_err(|error| KafkaError::of_client("begin a transaction", error))
    }

    /// Queues copies of the records, in their order. A full queue is waited for, in a transaction at most as long as it
    /// lives. An error leaves part of them queued: the transaction must not be committed.
    pub fn produce_batch(
        &self,
        topic: OutputTopic,
        partition: Partition,
        records: &[(Option<&[u8]>, &[u8])],
    ) -> Result<(), KafkaError> {
        let handle = &self.topics[topic.0].1;
        let mut queued = 0;
        self.queue(|| {
            handle.produce(partition.0, &records[queued..]).map_err(|(taken, code)| {
                queued += taken;
                (code, records[queued].0)
            })
        })
        .map_err(|(code, key)| self.undelivered(topic, partition, key, code))
    }

    /// Queues a copy of one record with headers and timestamp; twice as dear as one of a batch.
    pub fn produce_one(
        &self,
        topic: OutputTopic,
        partition: Partition,
        message: &Message<'_>,
    ) -> Result<(), KafkaError> {
        let name = &*self.topics[topic.0].0;
        self.queue(|| {
            let record = BaseRecord::<[u8], [u8]> {
                topic: name,
                partition: Some(partition.0),
                payload: message.value,
                key: message.key,
                timestamp: message.timestamp_ms,
                headers: Some(headers(message.headers)),
                delivery_opaque: (),
            };
            self.client.send(record).map_err(|(error, _)| {
                (error.rdkafka_error_code().unwrap_or(Code::InvalidArgument), message.key)
            })
        })
        .map_err(|(code, key)| self.undelivered(topic, partition, key, code))
    }

    /// Serves what came meanwhile. The first record that was not delivered is the error.
    pub fn check(&self) -> Result<(), KafkaError> {
        self.serve();
        self.failure()
    }

    /// Waits until every queued record is acknowledged. The first that was not is the error.
    pub fn drain(&self, timeout: Duration) -> Result<(), KafkaError> {
        let deadline = Deadline::after(timeout);
        loop {
            // Why: a fenced producer would block one long flush for all of its timeout.
            let drained = ffi::flush(self.native(), FLUSH_SLICE);
            if !drained {
                self.serve();
            }
            self.failure()?;
            if drained {
                return Ok(());
            }
            if deadline.passed() {
                return Err(KafkaError::TimedOut { operation: "drain" });
            }
        }
    }

    /// Adds the group's offsets to the transaction. `group` must be fresh.
    pub fn send_offsets(
        &self,
        offsets: &[CommittedOffset],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for offset in offsets {
            group::add(&mut list, &offset.partition, ListOffset::Offset(offset.offset.0))?;
            if let Some(mut entry) =
                list.find_partition(&offset.partition.topic, offset.partition.partition.0)
            {
                entry.set_metadata(&offset.metadata);
            }
        }
        self.timed(|| ffi::send_offsets(self.native(), &list, group, timeout))
            .map_err(|failure| KafkaError::of_failure("send offsets", failure))
    }

    /// Ends the transaction, after `drain`. Any error leaves it unknown whether it did.
    pub fn commit(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.timed(|| ffi::commit_transaction(self.native(), timeout))
            .map_err(|failure| KafkaError::of_failure(COMMIT, failure))
    }

    /// For a deliberate fault of the tests; see the head of this file.
    #[cfg(feature = "fault")]
    pub fn abort(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.client.abort_transaction(timeout).map_err(|error| KafkaError::of_client("abort", error))
    }

    /// Whether a request may still be on its way although its call returned Ok: a call outlasted `socket.timeout.ms`, or
    /// a connection was lost since `init_transactions`, and the client sent it again. Such a producer must be discarded,
    /// or the delayed copy meets the next transaction.
    pub fn in_doubt(&self) -> bool {
        self.serve_all();
        if self.client.context().journal.take_connection_lost() {
            self.in_doubt.store(true, Ordering::Relaxed);
        }
        self.in_doubt.load(Ordering::Relaxed)
    }

    /// Drops the client on a thread of its own: that takes up to half a second. Its open transaction is ended by the
    /// next producer of this worker.
    pub fn discard(self) {
        let dropped = thread::Builder::new().name("kafka-discard".into()).spawn(move || drop(self));
        if let Err(error) = dropped {
            tracing::warn!(%error, "no thread to drop a producer on; dropped in place");
        }
    }

    fn native(&self) -> &NativeClient {
        self.client.client().native_client()
    }

    fn serve(&self) {
        for _ in 0..EVENTS_PER_SLICE {
            self.client.poll(Duration::ZERO);
        }
    }

    /// Serves every event there is, where no record is in flight.
    fn serve_all(&self) {
        for _ in 0..ALL_EVENTS {
            if self.client.in_flight_count() == 0 {
                return;
            }
            self.client.poll(Duration::ZERO);
        }
    }

    fn failure(&self) -> Result<(), KafkaError> {
        if let Some(refused @ KafkaError::Refused { .. }) = self.client.context().failure() {
            return Err(refused);
        }
        if let Some((code, detail)) = self.client.client().fatal_error() {
            return Err(match KafkaError::of_code("produce", code, detail.clone()) {
                fenced @ KafkaError::Fenced { .. } => fenced,
                _ => KafkaError::Fatal { operation: "produce", detail },
            });
        }
        self.client.context().failure().map_or(Ok(()), Err)
    }

    /// Tries again while the queue is full, and serves events in between.
    fn queue<'k>(
        &self,
        mut attempt: impl FnMut() -> Result<(), (Code, Option<&'k [u8]>)>,
    ) -> Result<(), (Code, Option<&'k [u8]>)> {
        let deadline = Deadline::after(self.patience);
        loop {
            match attempt() {
                Err((Code::QueueFull, key)) => {
                    if deadline.passed() {
                        return Err((Code::TimedOutQueue, key));
                    }
                    self.client.poll(FULL_QUEUE_POLL);
                }
                done => return done,
            }
        }
    }

    fn undelivered(
        &self,
        topic: OutputTopic,
        partition: Partition,
        key: Option<&[u8]>,
        code: Code,
    ) -> KafkaError {
        // Why: once the transaction failed, every further record is refused for its state; the cause is the news.
        if let Err(cause) = self.failure() {
            return cause;
        }
        let record = Undelivered { topic: &self.topics[topic.0].0, partition: partition.0, key };
        KafkaError::of_delivery(record, code)
    }

    fn timed<T>(&self, call: impl FnOnce() -> T) -> T {
        let started = Stopwatch::start();
        let done = call();
        if started.elapsed() >= self.socket_timeout {
            self.in_doubt.store(true, Ordering::Relaxed);
        }
        done
    }
}

fn headers(from: &[(&str, Option<&[u8]>)]) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(from.len());
    from.iter().fold(empty, |headers, (key, value)| headers.insert(Header { key, value: *value }))
}
