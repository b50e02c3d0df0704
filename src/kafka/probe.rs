//! A consumer outside of the group, to look at single records of a log.

use std::time::{Duration, Instant};

use millstream_core::model::{Fingerprint, Offset, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use super::config::KafkaSettings;
use super::context::GroupNotes;
use super::error::KafkaError;
use super::fingerprint::fingerprint;
use super::group;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(10);

/// Reads records without being a member of the group. Dropping it takes about 0.1 s.
pub struct Probe(BaseConsumer<GroupNotes>);

impl Probe {
    pub fn open(settings: &KafkaSettings) -> Result<Probe, KafkaError> {
        let client: BaseConsumer<GroupNotes> =
            settings
                .probe()?
                .create_with_context(GroupNotes::default())
                .map_err(|error| KafkaError::of_client("make a consumer", error))?;
        client.context().set_closing();
        Ok(Probe(client))
    }

    /// The fingerprint of the first record at or after `at`; None where the log has no such record that is
    /// committed. `OffsetOutOfRange` where `at` lies before the log.
    pub fn read_one(
        &mut self,
        partition: &TopicPartition,
        at: Offset,
        timeout: Duration,
    ) -> Result<Option<Fingerprint>, KafkaError> {
        const OPERATION: &str = "read one record";
        let (low, end) = group::log_range(&self.0, partition, timeout)?;
        if at < low {
            let detail = format!("{at} is below {low}");
            return Err(KafkaError::OffsetOutOfRange { partition: partition.clone(), detail });
        }
        if at >= end {
            return Ok(None);
        }
        let mut list = TopicPartitionList::new();
        group::add(&mut list, partition, ListOffset::Offset(at.0))?;
        self.0.assign(&list).map_err(|error| KafkaError::of_client(OPERATION, error))?;
        drop(list);
        let read = self.first_record(partition, end, Instant::now() + timeout);
        self.0.unassign().map_err(|error| KafkaError::of_client(OPERATION, error))?;
        read
    }

    /// Control records and aborted ones may be all that is left before `end`: then the position reaches it.
    fn first_record(
        &self,
        partition: &TopicPartition,
        end: Offset,
        deadline: Instant,
    ) -> Result<Option<Fingerprint>, KafkaError> {
        loop {
            match self.0.poll(POLL) {
                Some(Ok(record)) => {
                    let offset = Offset(record.offset());
                    let timestamp = record.timestamp().to_millis();
                    return Ok(Some(fingerprint(offset, timestamp, record.key(), record.payload())));
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code) => return Err(KafkaError::of_partition(partition, code, code.to_string())),
                    None => return Err(KafkaError::of_client("read one record", error)),
                },
                None if self.passed(partition, end) => return Ok(None),
                None if Instant::now() >= deadline => {
                    return Err(KafkaError::TimedOut { operation: "read one record" });
                }
                None => {}
            }
        }
    }

    fn passed(&self, partition: &TopicPartition, end: Offset) -> bool {
        let Ok(positions) = self.0.position() else { return false };
        let position = positions.find_partition(&partition.topic, partition.partition.0);
        matches!(position.map(|p| p.offset()), Some(ListOffset::Offset(at)) if at >= end.0)
    }
}
