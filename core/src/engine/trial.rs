//! A plan in memory, on records that are all there: for `try` and `test`.
//!
//! One task per source and partition, live, with the same judge, windows and epochs as a run. Offsets are line numbers
//! of the input, in every partition; there are no keys, no timestamps and no headers. The end of the input moves no
//! watermark.
//!
//! A repartitioned source needs no hop here: its lines are spread by the text of its field, so router and internal partition
//! of a line would have the same number, and a task that does the work of both gives the same verdicts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::aggregate::{Sketch, compare};
use crate::codec::{decode_group_key, partition_for, write_json};
use crate::model::{DataType, EventTime, Offset, Partition, TopicPartition, Value};
use crate::pipeline::{
    Aggregate, AggregateId, Connections, Function, OnFail, Plan, RecordTable, SetValue, Source, SourceId,
};
use crate::verdict::Judge;
use crate::window::{Lateness, SessionRules, lateness};

use super::report::{
    PartitionVerdicts, TrialAggregate, TrialDeadLetter, TrialLate, TrialRecord, TrialReport, TrialRow,
    TrialTable, TrialValue,
};
use super::{
    AggregateCounts, DeltaRow, Effects, MemoryStore, ProcessError, Record, Role, SealedEpoch, SessionChange,
    SideMessage, StoreError, Task, TaskCounts, TaskIdentity, merge_deltas,
};

/// Records of one task per epoch.
const EPOCH_RECORDS: usize = 10_000;
/// Windows kept decoded in memory, per task.
const WINDOW_BYTES: usize = 64 << 20;
/// Where late records go in a trial, whatever the file says.
const LATE_TOPIC: &str = "late";

/// What a trial fixes that a run takes from its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct TrialOptions {
    /// Partitions of every source, at least 1.
    pub partitions: i32,
    /// The value of `commit_time()`.
    pub commit_time: EventTime,
}

/// The values of one source's records, in order.
pub type TrialInput = (SourceId, Vec<Vec<u8>>);

/// Runs the plan on the records of each source, in order. A source without input has empty partitions.
///
/// # Errors
/// Only by a fault of our own: the state is in memory.
pub fn run_trial(
    plan: &Plan,
    inputs: &[TrialInput],
    options: TrialOptions,
) -> Result<TrialReport, StoreError> {
    run_in_epochs(plan, inputs, options, EPOCH_RECORDS)
}

fn run_in_epochs(
    plan: &Plan,
    inputs: &[TrialInput],
    options: TrialOptions,
    epoch_records: usize,
) -> Result<TrialReport, StoreError> {
    let visible = Arc::new(with_side_outputs(plan));
    let mut tasks = Vec::new();
    for (index, source) in visible.sources.iter().enumerate() {
        let source_id = SourceId(index);
        let judge = Arc::new(Judge::new(visible.clone(), source_id));
        let mut parts: Vec<TrialTask> = (0..options.partitions)
            .map(|partition| TrialTask::open(&judge, Partition(partition), epoch_records))
            .collect();
        let lines = inputs.iter().filter(|(id, _)| *id == source_id).flat_map(|(_, lines)| lines);
        for (line, value) in lines.enumerate() {
            let partition = partition_of(source, value, options.partitions);
            parts[partition.0 as usize].process(line, value)?;
        }
        for part in &mut parts {
            part.seal()?;
        }
        tasks.extend(parts);
    }
    for sealed in tasks.iter_mut().flat_map(|t| &mut t.sealed) {
        sealed.outputs.stamp(options.commit_time);
    }
    report(plan, &tasks, options.commit_time)
}

/// The same plan, with dead and late records kept wherever the file sends them, and without what a trial never reads.
fn with_side_outputs(plan: &Plan) -> Plan {
    let sources = plan
        .sources
        .iter()
        .map(|source| Source {
            dead_letter_topic: None,
            late_topic: Some(LATE_TOPIC.into()),
            ..source.clone()
        })
        .collect();
    Plan {
        application: plan.application.clone(),
        commit_interval: plan.commit_interval,
        connections: Connections::default(),
        sources,
        dead_letter_table: Some("dead_letters".to_owned()),
        aggregates: plan.aggregates.clone(),
        records: plan.records.clone(),
        record_tables: plan.record_tables.clone(),
        tests: Vec::new(),
        hash: plan.hash,
    }
}

struct TrialTask {
    source: SourceId,
    task: Task,
    sealed: Vec<SealedEpoch>,
    waiting: usize,
    epoch_records: usize,
}

impl TrialTask {
    fn open(judge: &Arc<Judge>, partition: Partition, epoch_records: usize) -> TrialTask {
        let identity = TaskIdentity {
            application: judge.plan().application.clone(),
            cluster_id: String::new(),
            partition: TopicPartition::new(judge.source().topic.clone(), partition.0),
            topic_id: String::new(),
            plan_hash: judge.plan().hash,
        };
        let store = Box::new(MemoryStore::default());
        let task = Task::open(identity, (judge.clone(), Role::Whole), store, (None, Offset(0)), WINDOW_BYTES);
        TrialTask { source: judge.source_id(), task, sealed: Vec::new(), waiting: 0, epoch_records }
    }

    fn process(&mut self, line: usize, value: &[u8]) -> Result<(), StoreError> {
        let record = Record {
            offset: Offset(line as i64),
            timestamp_ms: None,
            key: None,
            value: Some(value),
            headers: &Vec::new,
        };
        self.task.process(&record, Effects::LIVE).map_err(|error| match error {
            ProcessError::Store(error) => error,
            ProcessError::Refused(refusal) => StoreError::Corrupt(refusal.to_string()),
        })?;
        self.waiting += 1;
        if self.waiting >= self.epoch_records { self.seal() } else { Ok(()) }
    }

    fn seal(&mut self) -> Result<(), StoreError> {
        self.waiting = 0;
        let mut sealed = self.task.seal();
        self.task.write(std::mem::take(&mut sealed.changes))?;
        self.sealed.push(sealed);
        Ok(())
    }

    fn partition(&self) -> Partition {
        self.task.identity().partition.partition
    }

    /// Of the last epoch; every task has one.
    fn counts(&self) -> TaskCounts {
        self.sealed.last().map(|s| s.counts.clone()).unwrap_or_default()
    }
}

/// By the text of the field that the source is keyed or repartitioned by: a string's text, another scalar as it stands. 0 without such a text.
fn partition_of(source: &Source, value: &[u8], partitions: i32) -> Partition {
    if partitions == 1 {
        return Partition(0);
    }
    let text = source.partitioned_by().and_then(|field| field_text(value, &source.fields[field.0].name));
    text.map_or(Partition(0), |text| partition_for(Some(text.as_bytes()), Partition(0), partitions))
}

fn field_text(value: &[u8], field: &str) -> Option<String> {
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(value).ok()?;
    let text = members.get(field)?.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(text.to_owned()),
    }
}

fn report(plan: &Plan, tasks: &[TrialTask], commit_time: EventTime) -> Result<TrialReport, StoreError> {
    let merged = merge_deltas(tasks.iter().flat_map(|t| &t.sealed));
    let aggregates = plan
        .aggregates
        .iter()
        .enumerate()
        .map(|(index, aggregate)| {
            let deltas = merged.get(&AggregateId(index)).map_or(&[][..], Vec::as_slice);
            let of_source: Vec<&TrialTask> = tasks.iter().filter(|t| t.source == aggregate.source).collect();
            let finality = finality(&of_source);
            let rows = match SessionRules::of(aggregate) {
                Some(rules) => session_rows(AggregateId(index), rules, &of_source, finality),
                None => window_rows(aggregate, deltas, finality),
            };
            Ok(table(aggregate, rows?, &of_source))
        })
        .collect::<Result<_, _>>()?;
    let mut records = records(plan, tasks)?;
    let record_tables = record_tables(plan, tasks, commit_time, &mut records)?;
    Ok(TrialReport {
        verdicts: tasks.iter().map(|t| verdicts(plan, t)).collect(),
        checks: checks(plan, tasks),
        aggregates,
        records,
        record_tables,
        dead_letters: tasks.iter().flat_map(|t| dead_letters(plan, t)).collect(),
        late: tasks.iter().flat_map(|t| late(plan, t)).collect(),
    })
}

fn source_name(plan: &Plan, task: &TrialTask) -> String {
    plan.sources[task.source.0].name.to_string()
}

fn verdicts(plan: &Plan, task: &TrialTask) -> PartitionVerdicts {
    let TaskCounts { read, accepted, duplicate, dead, dead_by_reason, .. } = task.counts();
    let (source, partition) = (source_name(plan, task), task.partition().0);
    PartitionVerdicts { source, partition, read, accepted, duplicate, dead, dead_by_reason }
}

fn checks(plan: &Plan, tasks: &[TrialTask]) -> BTreeMap<String, BTreeMap<String, i64>> {
    let mut all: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for source in &plan.sources {
        let counted = source.checks.iter().filter(|check| check.on_fail == OnFail::Count);
        let names: BTreeMap<_, _> = counted.map(|check| (check.name.to_string(), 0)).collect();
        if !names.is_empty() {
            all.insert(source.name.to_string(), names);
        }
    }
    for task in tasks {
        for (check, failed) in task.counts().checks {
            *all.entry(source_name(plan, task)).or_default().entry(check).or_default() += failed;
        }
    }
    all
}

fn table(aggregate: &Aggregate, mut rows: Vec<TrialRow>, tasks: &[&TrialTask]) -> TrialAggregate {
    let mut counts = AggregateCounts::default();
    for task in tasks {
        if let Some(part) = task.counts().aggregates.get(&*aggregate.name) {
            counts.matched += part.matched;
            counts.counted += part.counted;
            counts.too_late += part.too_late;
            counts.partly_late += part.partly_late;
        }
    }
    let columns = aggregate.table.columns.clone();
    let key: Vec<usize> = aggregate
        .table
        .key
        .iter()
        .filter_map(|name| columns.iter().position(|column| column.name == *name))
        .collect();
    rows.sort_by(|a, b| {
        let by_column = key.iter().map(|i| compare(&a.values[*i], &b.values[*i]));
        by_column.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    });
    TrialAggregate { counts, table: TrialTable { name: aggregate.name.to_string(), columns, rows } }
}

fn window_rows(
    aggregate: &Aggregate,
    deltas: &[DeltaRow],
    finality: Option<EventTime>,
) -> Result<Vec<TrialRow>, StoreError> {
    let row = |delta: &DeltaRow| {
        let is_final = lateness(delta.window.end, aggregate.allowed_lateness, finality) == Lateness::TooLate;
        Ok(TrialRow { values: row_values(aggregate, delta)?, is_final })
    };
    deltas.iter().map(row).collect()
}

/// What all epochs of all tasks leave in a table of sessions.
fn session_rows(
    id: AggregateId,
    rules: SessionRules,
    tasks: &[&TrialTask],
    finality: Option<EventTime>,
) -> Result<Vec<TrialRow>, StoreError> {
    let mut rows = BTreeMap::new();
    let epochs = tasks.iter().flat_map(|task| &task.sealed);
    for SessionChange { key, start, row } in epochs.filter_map(|sealed| sealed.sessions.get(&id)).flatten() {
        match row {
            Some(row) => rows.insert((key, start), row),
            None => rows.remove(&(key, start)),
        };
    }
    let row = |((key, _), row): ((&Arc<[u8]>, &EventTime), &Vec<Value<'static>>)| {
        let mut values = decode_group_key(key).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let Value::Timestamp(end) = row[1] else { unreachable!("a row has its end: {row:?}") };
        values.extend_from_slice(row);
        Ok(TrialRow { values, is_final: finality.is_some_and(|through| rules.over_at(end) <= through) })
    };
    rows.into_iter().map(row).collect()
}

/// The least watermark over the partitions of a source; none while one of them, be it an empty one, has none.
fn finality(tasks: &[&TrialTask]) -> Option<EventTime> {
    tasks.iter().map(|t| t.task.watermark()).min().flatten()
}

fn row_values(aggregate: &Aggregate, delta: &DeltaRow) -> Result<Vec<Value<'static>>, StoreError> {
    let mut values = vec![Value::Timestamp(delta.window.start), Value::Timestamp(delta.window.end)];
    values.extend(decode_group_key(&delta.key).map_err(|error| StoreError::Corrupt(error.to_string()))?);
    for (index, (accumulator, column)) in delta.accumulators.iter().zip(&aggregate.select).enumerate() {
        values.push(match column.function {
            Function::ApproxDistinct => Value::Bigint(Sketch::estimate_of_all(delta.sketches_of(index))),
            function => accumulator.finish(function),
        });
    }
    Ok(values)
}

fn records(plan: &Plan, tasks: &[TrialTask]) -> Result<Vec<TrialRecord>, StoreError> {
    let mut records = Vec::new();
    for task in tasks {
        for outputs in task.sealed.iter().map(|s| &s.outputs) {
            for message in &outputs.records {
                let output = &plan.records[message.output];
                let text = String::from_utf8_lossy(&outputs.bytes[message.value.clone()]).into_owned();
                let value = RawValue::from_string(text)
                    .map_err(|error| StoreError::Corrupt(format!("records.{}: {error}", output.name)))?;
                let key =
                    message.key.clone().map(|at| String::from_utf8_lossy(&outputs.bytes[at]).into_owned());
                records.push(TrialRecord {
                    output: output.name.to_string(),
                    topic: Some(output.topic.to_string()),
                    table: None,
                    source: source_name(plan, task),
                    partition: task.partition(),
                    key,
                    value,
                });
            }
        }
    }
    Ok(records)
}

/// Rows of record tables, and each as a record too: of equal keys the first, with the lower partition before the higher.
fn record_tables(
    plan: &Plan,
    tasks: &[TrialTask],
    commit_time: EventTime,
    records: &mut Vec<TrialRecord>,
) -> Result<Vec<TrialTable>, StoreError> {
    let table = |output: &RecordTable| {
        let (name, columns) = (output.name.to_string(), output.table.columns.clone());
        TrialTable { name, columns, rows: Vec::new() }
    };
    let mut tables: Vec<TrialTable> = plan.record_tables.iter().map(table).collect();
    let mut keys = HashSet::new();
    for task in tasks {
        for row in task.sealed.iter().flat_map(|sealed| &sealed.outputs.rows) {
            let output = &plan.record_tables[row.output];
            if output.table.key.is_empty() || keys.insert((row.output, &row.key)) {
                let values = with_commit_time(output, &row.values, commit_time);
                records.push(TrialRecord {
                    output: output.name.to_string(),
                    topic: None,
                    table: Some(output.table.name.clone()),
                    source: source_name(plan, task),
                    partition: task.partition(),
                    key: None,
                    value: row_object(output, &values)?,
                });
                tables[row.output].rows.push(TrialRow { values, is_final: true });
            }
        }
    }
    Ok(tables)
}

fn with_commit_time(
    output: &RecordTable,
    values: &[Value<'static>],
    commit_time: EventTime,
) -> Vec<Value<'static>> {
    let value = |(value, is): (&Value<'static>, &SetValue)| match is {
        SetValue::CommitTime => Value::Timestamp(commit_time),
        SetValue::Expr(_) => value.clone(),
    };
    values.iter().zip(&output.values).map(value).collect()
}

fn row_object(output: &RecordTable, values: &[Value<'static>]) -> Result<Box<RawValue>, StoreError> {
    let mut json = Vec::new();
    for (column, value) in output.table.columns.iter().zip(values) {
        json.push(if json.is_empty() { b'{' } else { b',' });
        write_json(&Value::Text(column.name.as_ref().into()), DataType::Text, &mut json);
        json.push(b':');
        write_json(value, column.data_type, &mut json);
    }
    json.push(b'}');
    RawValue::from_string(String::from_utf8_lossy(&json).into_owned())
        .map_err(|error| StoreError::Corrupt(format!("records.{}: {error}", output.name)))
}

fn dead_letters<'t>(plan: &'t Plan, task: &'t TrialTask) -> impl Iterator<Item = TrialDeadLetter> + 't {
    let rows = task.sealed.iter().flat_map(|s| &s.outputs.dead_letters);
    rows.map(|dead| TrialDeadLetter {
        source: source_name(plan, task),
        partition: task.partition(),
        offset: dead.offset,
        reason: dead.reason.to_string(),
        detail: dead.detail.clone(),
        value: TrialValue::of(dead.value.as_deref().unwrap_or_default()),
        value_bytes: dead.value_bytes.unwrap_or_default(),
    })
}

fn late<'t>(plan: &'t Plan, task: &'t TrialTask) -> impl Iterator<Item = TrialLate> + 't {
    let messages = task.sealed.iter().flat_map(|s| &s.outputs.side);
    messages.map(|message| TrialLate {
        source: source_name(plan, task),
        partition: task.partition(),
        offset: Offset(number(message, "source_offset")),
        aggregate: header(message, "aggregate"),
        watermark: header(message, "watermark"),
        late_by_ms: number(message, "late_by_ms"),
        value: TrialValue::of(message.value.as_deref().unwrap_or_default()),
    })
}

/// Invariant: every late message carries these headers, written by the gather as text.
fn header(message: &SideMessage, name: &str) -> String {
    let value = message.headers.iter().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref());
    String::from_utf8_lossy(value.expect("a late message has all its headers")).into_owned()
}

fn number(message: &SideMessage, name: &str) -> i64 {
    header(message, name).parse().expect("a number was written")
}

#[cfg(test)]
mod tests;
