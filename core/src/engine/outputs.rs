//! Messages and dead-letter rows of the epoch that is being gathered.

use std::ops::Range;
use std::sync::Arc;

use crate::model::{DeadReason, EventTime, Offset, Value};

/// A header of a message: name and value.
pub type Header = (String, Option<Vec<u8>>);

/// An accepted record for one record output; key and value lie in `Outputs::bytes`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordMessage {
    /// Index of the record output in the plan.
    pub output: usize,
    pub key: Option<Range<usize>>,
    pub value: Range<usize>,
    /// The input's Kafka timestamp where the output asks for it.
    pub timestamp_ms: Option<i64>,
}

/// A record on its way to the internal topic; key and value lie in `Outputs::bytes`.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutedRecord {
    pub key: Range<usize>,
    pub value: Range<usize>,
    /// As the source's record has them.
    pub headers: Vec<Header>,
}

/// A message of the dead-letter or late topic.
#[derive(Clone, Debug, PartialEq)]
pub struct SideMessage {
    pub topic: Arc<str>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

/// A row of the dead-letter table.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub offset: Offset,
    pub reason: DeadReason,
    pub detail: String,
    pub key: Option<Vec<u8>>,
    /// The value, or a prefix of it.
    pub value: Option<Vec<u8>>,
    /// The length of the whole value.
    pub value_bytes: Option<usize>,
    pub headers: Vec<Header>,
    pub timestamp_ms: Option<i64>,
}

/// An accepted record as a row of a record table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// Index of the record table in the plan.
    pub output: usize,
    /// The encoded key columns; empty where the table has none.
    pub key: Vec<u8>,
    /// By column; any timestamp where the commit time is wanted.
    pub values: Vec<Value<'static>>,
}

/// Everything an epoch sends apart from result rows.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Keys and values of `records` and `routed`, one after the other.
    pub bytes: Vec<u8>,
    pub records: Vec<RecordMessage>,
    /// What a router copies.
    pub routed: Vec<RoutedRecord>,
    /// What it says to every partition of the internal topic behind them.
    pub tick: Option<Vec<u8>>,
    /// Where in `bytes` a commit time stands, as a JSON string of 29 bytes.
    pub stamps: Vec<usize>,
    pub side: Vec<SideMessage>,
    pub dead_letters: Vec<DeadLetter>,
    pub rows: Vec<TableRow>,
    /// What the rows take, as a bound on memory.
    pub row_bytes: usize,
}

impl TableRow {
    /// About what it takes in memory and on its way.
    pub fn size(&self) -> usize {
        let text = |value: &Value<'_>| match value {
            Value::Text(text) => text.len(),
            _ => 0,
        };
        self.key.len() + self.values.iter().map(|value| size_of_val(value) + text(value)).sum::<usize>()
    }
}

impl Outputs {
    /// Writes the commit time wherever a record carries it. The same time gives the same bytes.
    pub fn stamp(&mut self, commit_time: EventTime) {
        let text = format!("\"{commit_time}\"");
        for at in &self.stamps {
            self.bytes[*at..*at + text.len()].copy_from_slice(text.as_bytes());
        }
    }

    /// Bytes that wait to be sent, as a bound on memory.
    pub fn size(&self) -> usize {
        let side: usize = self.side.iter().map(|m| m.value.as_ref().map_or(64, Vec::len)).sum();
        let dead: usize = self.dead_letters.iter().map(|d| d.value.as_ref().map_or(64, Vec::len)).sum();
        self.bytes.len() + side + dead + self.row_bytes
    }
}
