//! The plan: what a pipeline file means, with nothing optional left that the file could have left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::expr::Expr;
use crate::model::{DataType, EventTime, Span, Value};

/// `commit_interval` of a file that does not say it.
pub const DEFAULT_COMMIT_INTERVAL: Span = Span::from_millis(100);

/// Everything a run needs to know. Made only by `check`.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Consumer group, transactional ids, progress rows and the state directory carry this name.
    pub application: Arc<str>,
    /// How often an epoch is committed while live.
    pub commit_interval: Span,
    pub connections: Connections,
    pub sources: Vec<Source>,
    /// The dead-letter table in schema `millstream`: as the file says, `dead_letters` where it names neither table
    /// nor topic, none where it names a topic only.
    pub dead_letter_table: Option<String>,
    pub aggregates: Vec<Aggregate>,
    /// Record outputs to Kafka.
    pub records: Vec<RecordOutput>,
    /// Record outputs to PostgreSQL.
    pub record_tables: Vec<RecordTable>,
    pub tests: Vec<TestCase>,
    /// xxh3-64 of the canonical text of the semantic part: sources, aggregates, records. Connections,
    /// `commit_interval` and tests do not enter.
    pub hash: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// librdkafka settings, `bootstrap.servers` among them; none that millstream owns.
    pub kafka: BTreeMap<String, String>,
    /// A `postgres://` URL; `None` takes PG* or DB_* from the environment.
    pub postgres_url: Option<String>,
}

/// Index of a source in `Plan::sources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId(pub usize);

/// Index of an aggregate in `Plan::aggregates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AggregateId(pub usize);

/// Index of a field in its source's `fields`, and of its value in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldId(pub usize);

#[derive(Clone, Debug)]
pub struct Source {
    pub name: Arc<str>,
    pub topic: Arc<str>,
    /// Partitions to create the topic with where it is missing; `None`: it must exist.
    pub create_partitions: Option<i32>,
    pub fields: Vec<Field>,
    pub event_time: FieldId,
    pub watermark: WatermarkSpec,
    /// A promise of the topic's producers; none where the source is repartitioned.
    pub keyed_by: Option<FieldId>,
    pub repartition: Option<Repartition>,
    pub start: Start,
    pub checks: Vec<Check>,
    pub dedup: Option<DedupSpec>,
    /// Values above this many bytes are `TOO_LARGE`.
    pub max_record_bytes: usize,
    pub dead_letter_topic: Option<Arc<str>>,
    pub late_topic: Option<Arc<str>>,
}

/// A source's records are copied through a topic of the pipeline's own, keyed by a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repartition {
    /// Required, and not json.
    pub by: FieldId,
    /// `{application}.{source}.by-{field}`
    pub topic: Arc<str>,
    /// Partitions to create it with; `None`: as many as the source's topic has.
    pub partitions: Option<i32>,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: Arc<str>,
    pub data_type: DataType,
    pub encoding: Encoding,
    /// `!`: present and not null.
    pub required: bool,
}

/// How a field stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As its type says: text for `timestamp`, `uuid`, `inet`; a number for `bigint`, `double`.
    Plain,
    /// `timestamp_ms`: an integer of milliseconds.
    Millis,
    /// `timestamp_s`: an integer of seconds.
    Seconds,
}

#[derive(Clone, Copy, Debug)]
pub struct WatermarkSpec {
    pub delay: Span,
    pub max_future: Span,
    pub idle_after: Span,
}

/// Where a partition that was never seen begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    /// The first record whose Kafka timestamp is not before this.
    At(EventTime),
}

#[derive(Clone, Debug)]
pub struct Check {
    pub name: Arc<str>,
    pub expect: Expr,
    pub on_fail: OnFail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFail {
    DeadLetter,
    Count,
}

/// A record whose key was seen among the partition's accepted ones is a duplicate.
#[derive(Clone, Debug)]
pub struct DedupSpec {
    /// Never null, by type.
    pub key: Vec<Expr>,
    /// How far event time must have come beyond a key's before it is forgotten.
    pub within: Span,
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub name: Arc<str>,
    pub source: SourceId,
    /// `where`: records for which it is not true do not match.
    pub condition: Option<Expr>,
    pub window: Window,
    pub allowed_lateness: Span,
    pub by: Vec<GroupBy>,
    pub select: Vec<Selected>,
    pub table: ResultTable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Aligned to 1970-01-01T00:00Z.
    Tumbling { size: Span },
    /// One window of `size` starts at every multiple of `slide`, which is not longer.
    Sliding { size: Span, slide: Span },
    /// Records of one key that are no further apart than `gap`, and no more than `max_duration` in all. The source's
    /// field it is partitioned by is one of the key's.
    Session { gap: Span, max_duration: Option<Span> },
}

#[derive(Clone, Debug)]
pub struct GroupBy {
    /// The column.
    pub name: Arc<str>,
    /// Never null, by type.
    pub expr: Expr,
}

#[derive(Clone, Debug)]
pub struct Selected {
    /// The column.
    pub name: Arc<str>,
    pub function: Function,
    /// The argument; `None` only for `count(*)` and `late_rows()`.
    pub argument: Option<Expr>,
    /// `filter (where ...)`.
    pub filter: Option<Expr>,
    pub data_type: DataType,
}

/// The aggregate functions. `data_type` of the argument decides the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    ApproxDistinct,
    LateRows,
    CountDistinct,
    ApproxPercentile(Quantile),
}

/// A number from 0 to 1, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quantile(u64);

impl Quantile {
    pub const MEDIAN: Quantile = Quantile(0.5f64.to_bits());

    /// Nothing outside of [0, 1].
    pub fn new(q: f64) -> Option<Quantile> {
        // Adding 0 makes one zero of both.
        (0.0..=1.0).contains(&q).then(|| Quantile((q + 0.0).to_bits()))
    }

    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl Function {
    /// As the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Min => "min",
            Function::Max => "max",
            Function::Avg => "avg",
            Function::ApproxDistinct => "approx_distinct",
            Function::LateRows => "late_rows",
            Function::CountDistinct => "count(distinct)",
            Function::ApproxPercentile(_) => "approx_percentile",
        }
    }

    /// Whether it is 0, and not null, where there is no value.
    pub fn counts(self) -> bool {
        matches!(
            self,
            Function::Count | Function::ApproxDistinct | Function::LateRows | Function::CountDistinct
        )
    }
}

/// A table in PostgreSQL that one aggregate or record output owns.
#[derive(Clone, Debug)]
pub struct ResultTable {
    pub name: String,
    /// Column names; the primary key. Of an aggregate the same set as `window_start` (and `window_end`), or
    /// `session_start_time`, and the `by` columns.
    pub key: Vec<Arc<str>>,
    /// All columns in order; of windows `window_start`, `window_end`, the `by` columns, the selected ones; of sessions the `by`
    /// columns, `session_start_time`, `session_end_time`, `session_duration_seconds`, the selected ones.
    pub columns: Vec<Column>,
    pub latest: Option<LatestView>,
}

/// A view of a result table: of all rows that agree in some `by` columns, the one with the latest start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestView {
    /// The table's name and `_latest`.
    pub name: String,
    pub by: Vec<Arc<str>>,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: Arc<str>,
    pub data_type: DataType,
    pub nullable: bool,
}

/// Every accepted record of a source, enriched, to a Kafka topic.
#[derive(Clone, Debug)]
pub struct RecordOutput {
    pub name: Arc<str>,
    pub source: SourceId,
    /// Fields to add or replace, in the file's order.
    pub set: Vec<(Arc<str>, SetValue)>,
    pub topic: Arc<str>,
    /// The field whose text is the message key; `None`: the input's key.
    pub key: Option<FieldId>,
    pub timestamp: OutputTimestamp,
}

/// Every accepted record of a source as a row of a table: with a key the first row of each, without one every row.
#[derive(Clone, Debug)]
pub struct RecordTable {
    pub name: Arc<str>,
    pub source: SourceId,
    /// What stands in each column of the table.
    pub values: Vec<SetValue>,
    /// Its key may be empty. Columns are the declared fields in order, where `set` does not replace them, then what it adds.
    pub table: ResultTable,
}

#[derive(Clone, Debug)]
pub enum SetValue {
    /// `commit_time()`: the wall time at which the epoch was first decided.
    CommitTime,
    Expr(Expr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputTimestamp {
    Produced,
    Input,
}

/// One case under `tests`, run by `millstream test`.
#[derive(Clone, Debug)]
pub struct TestCase {
    pub name: String,
    /// Per source: JSON events in order, repeats already written out.
    pub given: Vec<(SourceId, Vec<Vec<u8>>)>,
    pub expect: Vec<Expectation>,
}

#[derive(Clone, Debug)]
pub struct Expectation {
    pub table: TableId,
    pub rows: ExpectedRows,
}

/// A table that a test can expect rows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableId {
    Aggregate(AggregateId),
    /// Index of a record output in `Plan::record_tables`.
    Records(usize),
}

#[derive(Clone, Debug)]
pub enum ExpectedRows {
    /// `{ rows: N }`
    Count(usize),
    /// Each listed row must match exactly one row in the named columns, and no other row may be left over.
    Rows(Vec<Vec<(Arc<str>, Value<'static>)>>),
}

impl Source {
    /// The field all records of one value of which lie in one partition.
    pub fn partitioned_by(&self) -> Option<FieldId> {
        self.repartition.as_ref().map(|hop| hop.by).or(self.keyed_by)
    }

    /// The topic whose partitions hold windows, sessions and ids: the internal one where there is one.
    pub fn state_topic(&self) -> &Arc<str> {
        self.repartition.as_ref().map_or(&self.topic, |hop| &hop.topic)
    }
}

impl Plan {
    /// Whether anything goes to Kafka, so that the group offset is a witness of its own.
    pub fn has_kafka_outputs(&self) -> bool {
        let writes =
            |s: &Source| s.dead_letter_topic.is_some() || s.late_topic.is_some() || s.repartition.is_some();
        !self.records.is_empty() || self.sources.iter().any(writes)
    }

    /// Every topic that is read: those of the sources, and the internal ones.
    pub fn input_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        let own = self.sources.iter().map(|s| &s.topic);
        own.chain(self.sources.iter().filter_map(|s| s.repartition.as_ref()).map(|hop| &hop.topic))
    }

    /// The largest `max_record_bytes` of all sources.
    pub fn largest_record(&self) -> usize {
        self.sources.iter().map(|source| source.max_record_bytes).max().unwrap_or_default()
    }
}
