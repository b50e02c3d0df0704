//! What a trial found, and its JSON.

use std::collections::BTreeMap;

use serde::ser::{Error as _, SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::codec::write_json;
use crate::model::{DataType, Offset, Partition, Value};
use crate::pipeline::Column;

use super::AggregateCounts;

/// The key that says whether a row is final; a column of this name moves it to `_final`.
const FINAL: &str = "final";
const FINAL_BESIDE_COLUMN: &str = "_final";

/// Everything that the records of a trial mean.
#[derive(Debug, Serialize)]
pub struct TrialReport {
    /// By source in the file's order, then by partition.
    pub verdicts: Vec<PartitionVerdicts>,
    /// Per source, per check with `on_fail: count`: accepted records that failed it.
    pub checks: BTreeMap<String, BTreeMap<String, i64>>,
    /// In the file's order.
    #[serde(serialize_with = "by_name")]
    pub aggregates: Vec<TrialAggregate>,
    /// Enriched records, by partition in offset order, and by output for each; then the rows of record tables.
    pub records: Vec<TrialRecord>,
    /// The rows of record tables once more, typed, in the order of `Plan::record_tables`.
    #[serde(skip)]
    pub record_tables: Vec<TrialTable>,
    pub dead_letters: Vec<TrialDeadLetter>,
    pub late: Vec<TrialLate>,
}

/// Invariant: `read = accepted + duplicate + dead`, and `dead` is the sum of `dead_by_reason`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionVerdicts {
    pub source: String,
    pub partition: i32,
    pub read: i64,
    pub accepted: i64,
    pub duplicate: i64,
    pub dead: i64,
    pub dead_by_reason: BTreeMap<String, i64>,
}

/// An aggregate's counts over all partitions and its result table, sorted by its key.
#[derive(Debug)]
pub struct TrialAggregate {
    pub counts: AggregateCounts,
    pub table: TrialTable,
}

/// The table of one output.
#[derive(Debug)]
pub struct TrialTable {
    /// The output's name.
    pub name: String,
    pub columns: Vec<Column>,
    pub rows: Vec<TrialRow>,
}

/// One row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialRow {
    /// In the order of the columns.
    pub values: Vec<Value<'static>>,
    /// Whether no record that may still come can change it.
    pub is_final: bool,
}

/// A message for a record output's topic, or a row of its table.
#[derive(Debug, Serialize)]
pub struct TrialRecord {
    pub output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    pub source: String,
    pub partition: Partition,
    /// The declared key field's text; events of a file have no key of their own.
    pub key: Option<String>,
    /// The enriched record, byte for byte, without whitespace around it; of a table the columns of the row.
    pub value: Box<RawValue>,
}

/// A dead record and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrialDeadLetter {
    pub source: String,
    pub partition: Partition,
    pub offset: Offset,
    pub reason: String,
    pub detail: String,
    #[serde(flatten)]
    pub value: TrialValue,
    /// The length of the whole value, of which a too large one shows a prefix.
    pub value_bytes: usize,
}

/// A record that was too late for an aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrialLate {
    pub source: String,
    pub partition: Partition,
    pub offset: Offset,
    pub aggregate: String,
    pub watermark: String,
    pub late_by_ms: i64,
    #[serde(flatten)]
    pub value: TrialValue,
}

/// Bytes of a record's value: as `value` where they are UTF-8, else as `value_hex`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TrialValue {
    #[serde(rename = "value")]
    Text(String),
    #[serde(rename = "value_hex", serialize_with = "hex")]
    Bytes(Vec<u8>),
}

impl TrialReport {
    /// Dead records of all partitions.
    pub fn dead(&self) -> i64 {
        self.verdicts.iter().map(|v| v.dead).sum()
    }
}

impl TrialValue {
    pub fn of(bytes: &[u8]) -> TrialValue {
        match std::str::from_utf8(bytes) {
            Ok(text) => TrialValue::Text(text.to_owned()),
            Err(_) => TrialValue::Bytes(bytes.to_vec()),
        }
    }
}

impl Serialize for TrialAggregate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let AggregateCounts { matched, counted, too_late, partly_late } = self.counts;
        let TrialTable { columns, rows, .. } = &self.table;
        let rows: Vec<_> = rows.iter().map(|row| RowOf { columns, row }).collect();
        let columns: Vec<&str> = columns.iter().map(|c| &*c.name).collect();
        let mut out = serializer.serialize_struct("TrialAggregate", 6)?;
        out.serialize_field("matched", &matched)?;
        out.serialize_field("counted", &counted)?;
        out.serialize_field("too_late", &too_late)?;
        out.serialize_field("partly_late", &partly_late)?;
        out.serialize_field("columns", &columns)?;
        out.serialize_field("rows", &rows)?;
        out.end()
    }
}

struct RowOf<'a> {
    columns: &'a [Column],
    row: &'a TrialRow,
}

impl Serialize for RowOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(Some(self.columns.len() + 1))?;
        for (column, value) in self.columns.iter().zip(&self.row.values) {
            let json = json(value, column.data_type).map_err(S::Error::custom)?;
            out.serialize_entry(&*column.name, &json)?;
        }
        let taken = self.columns.iter().any(|c| &*c.name == FINAL);
        out.serialize_entry(if taken { FINAL_BESIDE_COLUMN } else { FINAL }, &self.row.is_final)?;
        out.end()
    }
}

/// Why: a json column and a numeric wider than 64 bits must come out as they are.
fn json(value: &Value<'_>, data_type: DataType) -> Result<Box<RawValue>, serde_json::Error> {
    let mut text = Vec::new();
    write_json(value, data_type, &mut text);
    RawValue::from_string(String::from_utf8_lossy(&text).into_owned())
}

fn by_name<S: Serializer>(aggregates: &[TrialAggregate], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(aggregates.iter().map(|a| (&a.table.name, a)))
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&digits)
}
