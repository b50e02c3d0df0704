//! What librdkafka tells between calls: log lines, outages, group events and failed deliveries.
//!
//! Callbacks run inside the poll of the thread that owns the client; they only take notes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::model::TopicPartition;
use rdkafka::bindings::rd_kafka_resp_err_t as Response;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel as Level;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::clock::Stopwatch;

use super::error::{KafkaError, Undelivered};
use super::ffi;

/// How often errors that go on are told.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What the group decided about this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// Partitions to take, with `Consumer::assign`, even if there are none.
    Assigned(Vec<TopicPartition>),
    /// Partitions to give back, with `Consumer::unassign`. Where `lost`, they are somebody else's already and
    /// nothing may be committed for them.
    Revoked { partitions: Vec<TopicPartition>, lost: bool },
    /// The consumer cannot go on: it must be closed.
    Failed(KafkaError),
}

/// Log lines and outages of one client.
#[derive(Default)]
pub(super) struct Journal {
    told: Mutex<Option<Stopwatch>>,
    reason: Mutex<String>,
    connection_lost: AtomicBool,
}

impl Journal {
    /// Whether a connection was lost since this was asked last.
    pub fn take_connection_lost(&self) -> bool {
        self.connection_lost.swap(false, Ordering::Relaxed)
    }

    /// What librdkafka said about its last error.
    pub fn last_reason(&self) -> String {
        lock(&self.reason).clone()
    }

    /// Tells an error that goes on once a minute, and everything in between to who listens closely.
    fn tell(&self, error: &ClientError, reason: &str) {
        let mut told = lock(&self.told);
        if told.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            tracing::debug!(%error, reason, "kafka still reports errors");
        } else {
            *told = Some(Stopwatch::start());
            tracing::warn!(%error, reason, "kafka reports an error; the client goes on trying");
        }
    }
}

impl ClientContext for Journal {
    fn log(&self, level: Level, facility: &str, line: &str) {
        // Why: a connection that was merely closed is told as a line and no error, whatever was on its way.
        if facility == "FAIL" {
            self.connection_lost.store(true, Ordering::Relaxed);
        }
        // Why: connection failures come again as errors, and settings meant for the other kind of client are no fault.
        let known = matches!(facility, "FAIL" | "ERROR" | "CONFWARN");
        match level {
            Level::Emerg | Level::Alert | Level::Critical => tracing::error!(facility, "librdkafka: {line}"),
            Level::Error | Level::Warning if !known => tracing::warn!(facility, "librdkafka: {line}"),
            _ => tracing::debug!(facility, "librdkafka: {line}"),
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        let down = [
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::Resolve,
            Code::OperationTimedOut,
            Code::TimedOutQueue,
        ];
        if error.rdkafka_error_code().is_some_and(|code| down.contains(&code)) {
            self.connection_lost.store(true, Ordering::Relaxed);
        }
        reason.clone_into(&mut lock(&self.reason));
        self.tell(&error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

/// The consumer's notes: group events not yet acted upon.
#[derive(Default)]
pub(super) struct GroupNotes {
    pub journal: Journal,
    events: Mutex<VecDeque<GroupEvent>>,
    closing: AtomicBool,
}

impl GroupNotes {
    pub fn next(&self) -> Option<GroupEvent> {
        lock(&self.events).pop_front()
    }

    /// From here on the callback gives partitions back itself: nobody acts on events any more.
    pub fn set_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for GroupNotes {
    fn log(&self, level: Level, facility: &str, line: &str) {
        self.journal.log(level, facility, line);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.journal.error(error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for GroupNotes {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: Response, list: &mut TopicPartitionList) {
        let assigned = event == Response::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let done = if assigned {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                consumer.incremental_unassign(&held_of(consumer, list))
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a closing consumer could not answer a group event");
            }
            return;
        }
        let partitions =
            ffi::entries(list).into_iter().map(|e| TopicPartition::new(e.topic, e.partition)).collect();
        let event = if assigned {
            GroupEvent::Assigned(partitions)
        } else {
            GroupEvent::Revoked { partitions, lost: consumer.assignment_lost() }
        };
        lock(&self.events).push_back(event);
    }
}

/// What a consumer holds of a list. Why: partitions that came while it was closing were never taken, and librdkafka
/// takes giving those back for no answer at all.
fn held_of(consumer: &BaseConsumer<GroupNotes>, list: &TopicPartitionList) -> TopicPartitionList {
    let mut held = TopicPartitionList::new();
    let Ok(assigned) = consumer.assignment() else { return held };
    for entry in ffi::entries(list) {
        if assigned.find_partition(&entry.topic, entry.partition).is_some() {
            held.add_partition(&entry.topic, entry.partition);
        }
    }
    held
}

/// The producer's notes: the first delivery that failed.
#[derive(Default)]
pub(super) struct DeliveryNotes {
    pub journal: Journal,
    failure: Mutex<Option<KafkaError>>,
}

impl DeliveryNotes {
    pub fn failure(&self) -> Option<KafkaError> {
        lock(&self.failure).clone()
    }
}

impl ClientContext for DeliveryNotes {
    fn log(&self, level: Level, facility: &str, line: &str) {
        self.journal.log(level, facility, line);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.journal.error(error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ProducerContext for DeliveryNotes {
    type DeliveryOpaque = ();

    /// Keeps the first failure, but lets a record that was refused for itself stand before any other: what
    /// follows it is mostly its consequence.
    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let Err((error, message)) = result else { return };
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        let record =
            Undelivered { topic: message.topic(), partition: message.partition(), key: message.key() };
        let failed = KafkaError::of_delivery(record, code);
        let mut failure = lock(&self.failure);
        let refused = |error: &KafkaError| matches!(error, KafkaError::Refused { .. });
        if failure.as_ref().is_none_or(|first| !refused(first) && refused(&failed)) {
            *failure = Some(failed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
