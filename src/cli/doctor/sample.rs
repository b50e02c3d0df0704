//! The newest records of a source: what their verdict would be, and where the values of its key lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::model::{Offset, Row, TopicPartition};
use millstream_core::pipeline::{Plan, SourceId};
use millstream_core::verdict::{Evaluated, Judge, RecordView};

use crate::cli::output::value_text;
use crate::clock::Deadline;
use crate::kafka::{BatchItem, Consumer, KafkaError};

const ASK_TIMEOUT: Duration = Duration::from_secs(4);
/// For all records of a source.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const READ_WAIT: Duration = Duration::from_millis(20);
const BATCH_RECORDS: usize = 1_000;

/// What the looked at records of a source show.
#[derive(Debug, Default)]
pub struct Sample {
    pub records: u64,
    /// By reason.
    pub dead: BTreeMap<String, u64>,
    /// The partitions in which each value of the field of `keyed_by` was seen, among records that are not dead.
    places: BTreeMap<String, BTreeSet<i32>>,
}

impl Sample {
    /// How many values were seen.
    pub fn values(&self) -> usize {
        self.places.len()
    }

    /// A value that lies in several partitions, and these.
    pub fn torn(&self) -> Option<(&str, Vec<i32>)> {
        let torn = self.places.iter().find(|(_, partitions)| partitions.len() > 1);
        torn.map(|(value, partitions)| (&**value, partitions.iter().copied().collect()))
    }

    /// How many such values there are.
    pub fn torn_values(&self) -> usize {
        self.places.values().filter(|partitions| partitions.len() > 1).count()
    }
}

/// Reads the newest `records`, an equal part of each of the topic's `partitions`, as far as they come in time. Joins no
/// group.
pub fn sample(
    consumer: &mut Consumer,
    plan: &Arc<Plan>,
    source: SourceId,
    (partitions, records): (i32, u32),
) -> Result<Sample, KafkaError> {
    let topic = &plan.sources[source.0].topic;
    let each = i64::from(records) / i64::from(partitions.max(1)) + 1;
    let mut ends = BTreeMap::new();
    let mut starts = Vec::new();
    for number in 0..partitions {
        let tp = TopicPartition::new(topic.clone(), number);
        let (low, high) = consumer.log_range(&tp, ASK_TIMEOUT)?;
        let start = Offset(low.0.max(high.0 - each));
        if start < high {
            starts.push((tp.clone(), start));
            ends.insert(tp, high);
        }
    }
    consumer.assign(&starts)?;
    for (tp, start) in &starts {
        consumer.seek_and_resume(tp, *start)?;
    }
    let judge = Judge::new(plan.clone(), source);
    let mut sample = Sample::default();
    let deadline = Deadline::after(READ_TIMEOUT);
    while !ends.is_empty() && !deadline.passed() {
        consumer.poll_group()?;
        let mut read = 0;
        for item in consumer.poll_batch(BATCH_RECORDS).items() {
            match item {
                BatchItem::Records(run) => {
                    for record in run.iter() {
                        read += 1;
                        let view = RecordView { value: record.value(), timestamp_ms: record.timestamp_ms() };
                        sample.add(&judge, run.partition().partition.0, view);
                    }
                }
                BatchItem::Error { error, .. } => return Err(error.clone()),
            }
        }
        for (tp, at) in consumer.positions() {
            if ends.get(&tp).is_some_and(|end| at >= *end) {
                ends.remove(&tp);
            }
        }
        if read == 0 {
            consumer.wait(READ_WAIT);
        }
    }
    Ok(sample)
}

impl Sample {
    fn add(&mut self, judge: &Judge, partition: i32, view: RecordView<'_>) {
        self.records += 1;
        let mut row = Row::with_capacity(judge.source().fields.len());
        let decoded = judge.decode(view, &mut row);
        let (mut evaluated, mut arguments) = (Evaluated::default(), Vec::new());
        let judged = decoded.and_then(|_| judge.evaluate(&row, &mut evaluated, &mut arguments));
        if let Err(dead) = judged {
            *self.dead.entry(dead.reason.to_string()).or_default() += 1;
            return;
        }
        if let Some(field) = judge.source().keyed_by {
            let value = value_text(&row[field.0], judge.source().fields[field.0].data_type);
            self.places.entry(value).or_default().insert(partition);
        }
    }
}
