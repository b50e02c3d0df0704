//! What a careless program would read, to prove that the referee notices. Compiled only with the feature `fault`.

use std::time::Duration;

use millstream_core::model::TopicPartition;
use rdkafka::consumer::BaseConsumer;

use super::config::KafkaSettings;
use super::context::GroupNotes;
use super::error::KafkaError;
use super::group::{self, GroupOffset};

/// The group's offsets as they are committed at the moment, whatever transaction is about to change them.
pub fn unstable_offsets(
    settings: &KafkaSettings,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Vec<GroupOffset>, KafkaError> {
    let mut config = settings.consumer()?;
    config.set("isolation.level", "read_uncommitted");
    let client: BaseConsumer<GroupNotes> = config
        .create_with_context(GroupNotes::default())
        .map_err(|error| KafkaError::of_client("make a consumer", error))?;
    group::stable_offsets(&client, partitions, timeout)
}
