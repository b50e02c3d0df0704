//! What an epoch sends to Kafka, grouped by partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::engine::{Header, Outputs, RecordMessage, SideMessage};
use millstream_core::model::{Partition, TopicPartition};
use millstream_core::pipeline::Plan;

use crate::kafka::{KafkaError, Message, OutputTopic, Producer, partition_for};

/// Sends everything one task gathered. Order within an output partition is that of the input partition.
pub fn produce(
    producer: &mut Producer,
    plan: &Plan,
    counts: &BTreeMap<Arc<str>, i32>,
    (task, outputs): (&TopicPartition, &Outputs),
) -> Result<(), KafkaError> {
    for (index, output) in plan.records.iter().enumerate() {
        let records: Vec<&RecordMessage> = outputs.records.iter().filter(|r| r.output == index).collect();
        if !records.is_empty() {
            let topic = producer.topic(&output.topic)?;
            let count = partitions_of(counts, &output.topic)?;
            produce_records(producer, (topic, count), task.partition, (&outputs.bytes, &records))?;
        }
    }
    produce_hop(producer, plan, counts, (task, outputs))?;
    for message in &outputs.side {
        let count = partitions_of(counts, &message.topic)?;
        produce_side(producer, count, task.partition, message)?;
    }
    Ok(())
}

/// A router's copies by the text of their field, and behind them its tick to every partition.
fn produce_hop(
    producer: &mut Producer,
    plan: &Plan,
    counts: &BTreeMap<Arc<str>, i32>,
    (task, outputs): (&TopicPartition, &Outputs),
) -> Result<(), KafkaError> {
    let of_topic = plan.sources.iter().find(|source| source.topic == task.topic);
    let Some(hop) = of_topic.and_then(|source| source.repartition.as_ref()) else { return Ok(()) };
    let topic = producer.topic(&hop.topic)?;
    let count = partitions_of(counts, &hop.topic)?;
    let Outputs { bytes, routed, tick, .. } = outputs;
    let partition = |key: &[u8]| partition_for(Some(key), task.partition, count);
    if routed.iter().all(|record| record.headers.is_empty()) {
        let mut by_partition: BTreeMap<Partition, Vec<KeyValue<'_>>> = BTreeMap::new();
        for record in routed {
            let key = &bytes[record.key.clone()];
            by_partition.entry(partition(key)).or_default().push((Some(key), &bytes[record.value.clone()]));
        }
        for (partition, records) in &by_partition {
            producer.produce_batch(topic, *partition, records)?;
        }
    } else {
        for record in routed {
            let (key, headers) = (&bytes[record.key.clone()], borrowed(&record.headers));
            let value = Some(&bytes[record.value.clone()]);
            let message = Message { key: Some(key), value, headers: &headers, timestamp_ms: None };
            producer.produce_one(topic, partition(key), &message)?;
        }
    }
    if let Some(tick) = tick {
        for number in 0..count {
            producer.produce_batch(topic, Partition(number), &[(None, tick)])?;
        }
    }
    Ok(())
}

fn borrowed(headers: &[Header]) -> Vec<(&str, Option<&[u8]>)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
}

/// A record as a batch takes it.
type KeyValue<'b> = (Option<&'b [u8]>, &'b [u8]);

fn produce_records(
    producer: &Producer,
    (topic, count): (OutputTopic, i32),
    source: Partition,
    (bytes, records): (&[u8], &[&RecordMessage]),
) -> Result<(), KafkaError> {
    let key = |record: &RecordMessage| record.key.clone().map(|range| &bytes[range]);
    if records.iter().any(|r| r.timestamp_ms.is_some()) {
        for record in records {
            let message = Message {
                key: key(record),
                value: Some(&bytes[record.value.clone()]),
                headers: &[],
                timestamp_ms: record.timestamp_ms,
            };
            producer.produce_one(topic, partition_for(key(record), source, count), &message)?;
        }
        return Ok(());
    }
    let mut by_partition: BTreeMap<Partition, Vec<KeyValue<'_>>> = BTreeMap::new();
    for record in records {
        let partition = partition_for(key(record), source, count);
        by_partition.entry(partition).or_default().push((key(record), &bytes[record.value.clone()]));
    }
    for (partition, records) in &by_partition {
        producer.produce_batch(topic, *partition, records)?;
    }
    Ok(())
}

fn produce_side(
    producer: &mut Producer,
    count: i32,
    source: Partition,
    message: &SideMessage,
) -> Result<(), KafkaError> {
    let headers = borrowed(&message.headers);
    let topic = producer.topic(&message.topic)?;
    let partition = partition_for(message.key.as_deref(), source, count);
    let message = Message {
        key: message.key.as_deref(),
        value: message.value.as_deref(),
        headers: &headers,
        timestamp_ms: None,
    };
    producer.produce_one(topic, partition, &message)
}

fn partitions_of(counts: &BTreeMap<Arc<str>, i32>, topic: &str) -> Result<i32, KafkaError> {
    counts.get(topic).copied().ok_or_else(|| KafkaError::UnknownTopic { detail: topic.to_owned() })
}
