//! What the broker knows about a partition: its stable committed offset and the range of its log.

use std::time::Duration;

use millstream_core::model::{EventTime, Offset, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use super::context::GroupNotes;
use super::error::KafkaError;
use super::ffi::{self, Entry};

/// How long a broker that does answer may take to say so, once an offset did not come.
const PING: Duration = Duration::from_secs(1);

/// A committed offset of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    pub partition: TopicPartition,
    /// None where the group has committed nothing, or the broker has forgotten it.
    pub offset: Option<Offset>,
    pub metadata: String,
}

pub(super) fn stable_offsets(
    client: &BaseConsumer<GroupNotes>,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Vec<GroupOffset>, KafkaError> {
    const OPERATION: &str = "fetch committed offsets";
    let Some(first) = partitions.first() else { return Ok(Vec::new()) };
    let answered = match client.committed_offsets(list(partitions.iter())?, timeout) {
        Ok(answered) => answered,
        // Why: librdkafka asks again by itself while a transaction holds an offset, and then only times out.
        Err(ClientError::MetadataFetch(Code::OperationTimedOut))
            if log_range(client, first, PING).is_ok() =>
        {
            return Err(KafkaError::Unstable { partition: first.clone() });
        }
        Err(error) => return Err(KafkaError::of_client(OPERATION, error)),
    };
    let mut offsets = Vec::with_capacity(partitions.len());
    for entry in ffi::entries(&answered) {
        let partition = TopicPartition::new(entry.topic, entry.partition);
        match entry.error {
            Some(Code::UnstableOffsetCommit) => return Err(KafkaError::Unstable { partition }),
            Some(code) => return Err(KafkaError::of_code(OPERATION, code, format!("{partition}: {code}"))),
            None => {}
        }
        let offset = (entry.offset >= 0).then_some(Offset(entry.offset));
        offsets.push(GroupOffset { partition, offset, metadata: entry.metadata });
    }
    Ok(offsets)
}

pub(super) fn log_range(
    client: &BaseConsumer<GroupNotes>,
    partition: &TopicPartition,
    timeout: Duration,
) -> Result<(Offset, Offset), KafkaError> {
    let (low, high) = client
        .fetch_watermarks(&partition.topic, partition.partition.0, timeout)
        .map_err(|error| of_topic("ask for the log's range", partition, error))?;
    Ok((Offset(low), Offset(high)))
}

pub(super) fn offset_at(
    client: &BaseConsumer<GroupNotes>,
    partition: &TopicPartition,
    time: EventTime,
    timeout: Duration,
) -> Result<Offset, KafkaError> {
    const OPERATION: &str = "ask for the offset of a time";
    let mut times = TopicPartitionList::new();
    add(&mut times, partition, ListOffset::Offset(time.millis()))?;
    let answered =
        client.offsets_for_times(times, timeout).map_err(|error| of_topic(OPERATION, partition, error))?;
    match ffi::entries(&answered).into_iter().next() {
        Some(Entry { error: Some(code), .. }) => {
            Err(of_topic(OPERATION, partition, ClientError::OffsetFetch(code)))
        }
        Some(entry) if entry.offset >= 0 => Ok(Offset(entry.offset)),
        _ => Ok(log_range(client, partition, timeout)?.1),
    }
}

/// A list of partitions without offsets.
pub(super) fn list<'p>(
    partitions: impl Iterator<Item = &'p TopicPartition>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        add(&mut list, partition, ListOffset::Invalid)?;
    }
    Ok(list)
}

pub(super) fn add(
    list: &mut TopicPartitionList,
    partition: &TopicPartition,
    offset: ListOffset,
) -> Result<(), KafkaError> {
    list.add_partition_offset(&partition.topic, partition.partition.0, offset)
        .map_err(|error| KafkaError::Config { detail: format!("{partition} at {offset:?}: {error}") })
}

fn of_topic(operation: &'static str, partition: &TopicPartition, error: ClientError) -> KafkaError {
    match error.rdkafka_error_code() {
        Some(code) => match KafkaError::of_partition(partition, code, code.to_string()) {
            KafkaError::TimedOut { .. } => KafkaError::TimedOut { operation },
            known => known,
        },
        None => KafkaError::of_client(operation, error),
    }
}
