//! Cases under `tests`: events written out as JSON bytes, expected rows typed by their tables.

use std::borrow::Cow;

use chrono::{NaiveDate, TimeDelta};
use hashbrown::HashSet;
use serde_json::value::RawValue;

use super::keys::{REPEATS, ROW_COUNT, ROWS, TEST};
use super::names::Name;
use super::open::{Fields, list, named, unique};
use super::plan::{
    Aggregate, AggregateId, Column, Expectation, ExpectedRows, RecordTable, SourceId, TableId, TestCase,
};
use super::problem::Problems;
use super::raw::{Entry, Item, Kind, Node, Scalar, join};
use super::scalar::{self, Plain, cut, expected, integer, timestamp, whole};
use super::source::{Checked, source_named_by};
use crate::model::{DataType, Date, Value, canonical_inet};

/// Most of each, in one file.
const MAX_TESTS: usize = 1_000;
const MAX_ENTRIES: usize = 10_000;
/// All events of one case, repeats written out.
const MAX_CASE_BYTES: usize = 256 << 20;

/// Aggregates by name; `None`: its own problems are known.
pub(super) type Aggregates = Vec<(String, Option<Aggregate>)>;
/// Record outputs with a table, likewise.
pub(super) type RecordTables = Vec<(String, Option<RecordTable>)>;

/// What a test can expect rows of.
pub(super) struct Tables<'t> {
    pub aggregates: &'t Aggregates,
    pub records: &'t RecordTables,
}

impl<'t> Tables<'t> {
    /// A table by its output's name, an aggregate first, and its columns.
    fn find(&self, name: &str) -> Option<(TableId, Option<&'t [Column]>)> {
        let aggregate = self.aggregates.iter().position(|(known, _)| known == name).map(|at| {
            let columns = self.aggregates[at].1.as_ref().map(|a| &*a.table.columns);
            (TableId::Aggregate(AggregateId(at)), columns)
        });
        aggregate.or_else(|| {
            let at = self.records.iter().position(|(known, _)| known == name)?;
            let columns = self.records[at].1.as_ref().map(|r| &*r.table.columns);
            Some((TableId::Records(at), columns))
        })
    }

    fn names(&self) -> impl Iterator<Item = &'t str> {
        let aggregates = self.aggregates.iter().map(|(name, _)| &**name);
        aggregates.chain(self.records.iter().map(|(name, _)| &**name))
    }
}

pub(super) fn tests(
    item: &Item<'_>,
    sources: &[Checked],
    tables: &Tables<'_>,
    problems: &mut Problems<'_>,
) -> Vec<TestCase> {
    let mut names = HashSet::new();
    let mut cases = Vec::new();
    for item in list(item, (0, MAX_TESTS), problems).unwrap_or_default() {
        let Some(keys) = Fields::open(&item, &TEST, problems) else { continue };
        let name = keys.get("name").and_then(|item| {
            let name = scalar::text(&item, problems)?;
            unique(&mut names, name, &item, "the test", problems).then(|| name.to_owned())
        });
        let given = keys.get("given").and_then(|item| given(&item, sources, problems));
        let expect = keys.get("expect").and_then(|item| expect(&item, tables, problems));
        if let (Some(name), Some(given), Some(expect)) = (name, given, expect) {
            cases.push(TestCase { name, given, expect });
        }
    }
    cases
}

fn given(
    item: &Item<'_>,
    sources: &[Checked],
    problems: &mut Problems<'_>,
) -> Option<Vec<(SourceId, Vec<Vec<u8>>)>> {
    let mut given = Vec::new();
    let mut room = MAX_CASE_BYTES;
    for (name, item) in named(item, Name::Plain, (0, sources.len().max(1)), problems)? {
        let source = source_named_by(name, item.named, &item.path, sources, problems);
        let mut events = Vec::new();
        for item in list(&item, (0, MAX_ENTRIES), problems)? {
            if let Some((template, times)) = event(&item, problems) {
                let bytes: usize = template.iter().map(Part::room).sum();
                match bytes.checked_mul(times).and_then(|bytes| room.checked_sub(bytes)) {
                    Some(left) => room = left,
                    None => {
                        let message = format!("the events of this case exceed {} MiB", MAX_CASE_BYTES >> 20);
                        problems.add(item.node.at, &item.path, message);
                        return None;
                    }
                }
                events.extend((0..times).map(|i| written(&template, i)));
            }
        }
        given.push((source?, events));
    }
    Some(given)
}

/// A piece of an event's JSON.
enum Part {
    Bytes(String),
    /// `{i}`
    Index,
}

impl Part {
    fn room(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Index => 7,
        }
    }
}

fn written(template: &[Part], index: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(template.iter().map(Part::room).sum());
    for part in template {
        match part {
            Part::Bytes(part) => bytes.extend_from_slice(part.as_bytes()),
            Part::Index => bytes.extend_from_slice(index.to_string().as_bytes()),
        }
    }
    bytes
}

/// One entry: its JSON and how often it occurs.
fn event(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<(Vec<Part>, usize)> {
    let Kind::Map(entries) = &item.node.kind else {
        expected(item, "an event, which is a map", problems);
        return None;
    };
    let before = problems.len();
    let mut times = 1;
    if let Some(entry) = entries.iter().find(|e| e.key == "repeat") {
        times = integer(&item.entry(entry), REPEATS, problems)?;
    }
    let mut template = Template::default();
    template.object(entries.iter().filter(|e| e.key != "repeat"), &item.path, problems);
    if problems.len() > before {
        return None;
    }
    Some((template.finish(), usize::try_from(times).ok()?))
}

#[derive(Default)]
struct Template {
    parts: Vec<Part>,
    text: String,
}

impl Template {
    fn finish(mut self) -> Vec<Part> {
        self.parts.push(Part::Bytes(self.text));
        self.parts
    }

    fn index(&mut self) {
        self.parts.push(Part::Bytes(std::mem::take(&mut self.text)));
        self.parts.push(Part::Index);
    }

    fn object<'e>(
        &mut self,
        entries: impl Iterator<Item = &'e Entry>,
        path: &str,
        problems: &mut Problems<'_>,
    ) {
        self.text.push('{');
        for (index, entry) in entries.enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            self.text.push('"');
            self.escaped(&entry.key);
            self.text.push_str("\":");
            self.value(&entry.value, &join(path, &entry.key), problems);
        }
        self.text.push('}');
    }

    fn value(&mut self, node: &Node, path: &str, problems: &mut Problems<'_>) {
        match &node.kind {
            Kind::Map(entries) => self.object(entries.iter(), path, problems),
            Kind::List(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.text.push(',');
                    }
                    self.value(item, &format!("{path}[{index}]"), problems);
                }
                self.text.push(']');
            }
            Kind::Scalar(scalar) => self.scalar(scalar, node, path, problems),
        }
    }

    fn scalar(&mut self, scalar: &Scalar, node: &Node, path: &str, problems: &mut Problems<'_>) {
        match scalar.resolve() {
            Plain::Null => self.text.push_str("null"),
            Plain::Boolean(v) => self.text.push_str(if v { "true" } else { "false" }),
            Plain::Integer(v) | Plain::Float(v) => match json_number(v) {
                Some(number) => self.text.push_str(&number),
                None => {
                    problems.add(node.at, path, format!("{} has no JSON number", node.found()));
                }
            },
            Plain::Text(text) => {
                self.text.push('"');
                if let Err(message) = self.placeholders(text) {
                    problems
                        .add(node.at, path, message)
                        .hint("{i} is the number of the repeat; {{ and }} stand for braces");
                }
                self.text.push('"');
            }
        }
    }

    /// Text with `{i}`, `{{` and `}}`.
    fn placeholders(&mut self, mut text: &str) -> Result<(), String> {
        while let Some(at) = text.find(['{', '}']) {
            self.escaped(&text[..at]);
            text = &text[at..];
            let taken = if text.starts_with("{{") {
                self.text.push('{');
                2
            } else if text.starts_with("}}") {
                self.text.push('}');
                2
            } else if text.starts_with("{i}") {
                self.index();
                3
            } else {
                return Err(format!("not a placeholder: `{}`", cut(text)));
            };
            text = &text[taken..];
        }
        self.escaped(text);
        Ok(())
    }

    /// The inside of a JSON string.
    fn escaped(&mut self, text: &str) {
        let quoted = serde_json::Value::from(text).to_string();
        self.text.push_str(&quoted[1..quoted.len() - 1]);
    }
}

/// The number as JSON writes it: as typed where that is JSON.
fn json_number(text: &str) -> Option<Cow<'_, str>> {
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        return Some(Cow::Borrowed(text));
    }
    if let Some(number) = whole(text) {
        return Some(Cow::Owned(number.to_string()));
    }
    let number = serde_json::Number::from_f64(text.parse().ok()?)?;
    Some(Cow::Owned(number.to_string()))
}

fn expect(item: &Item<'_>, tables: &Tables<'_>, problems: &mut Problems<'_>) -> Option<Vec<Expectation>> {
    let mut expectations = Vec::new();
    for (name, item) in named(item, Name::Plain, (0, tables.names().count().max(1)), problems)? {
        let Some((table, columns)) = tables.find(name) else {
            problems
                .add(item.named, &item.path, format!("no aggregate or record table `{}`", cut(name)))
                .suggest(name, tables.names());
            continue;
        };
        let rows = expected_rows(&item, columns, problems);
        expectations.push(rows.map(|rows| Expectation { table, rows }));
    }
    expectations.into_iter().collect()
}

fn expected_rows(
    item: &Item<'_>,
    columns: Option<&[Column]>,
    problems: &mut Problems<'_>,
) -> Option<ExpectedRows> {
    match &item.node.kind {
        Kind::Map(_) => {
            let keys = Fields::open(item, &ROW_COUNT, problems)?;
            let rows = integer(&keys.get("rows")?, ROWS, problems)?;
            Some(ExpectedRows::Count(usize::try_from(rows).ok()?))
        }
        Kind::List(_) => {
            let rows = list(item, (0, MAX_ENTRIES), problems)?;
            let rows: Vec<_> = rows.iter().map(|item| row(item, columns?, problems)).collect();
            rows.into_iter().collect::<Option<Vec<_>>>().map(ExpectedRows::Rows)
        }
        Kind::Scalar(_) => {
            expected(item, "a list of rows, or { rows: N }", problems);
            None
        }
    }
}

fn row(
    item: &Item<'_>,
    columns: &[Column],
    problems: &mut Problems<'_>,
) -> Option<Vec<(std::sync::Arc<str>, Value<'static>)>> {
    let Kind::Map(entries) = &item.node.kind else {
        expected(item, "a row, which is a map of columns", problems);
        return None;
    };
    let cells: Vec<_> = entries
        .iter()
        .map(|entry| {
            let item = item.entry(entry);
            let Some(column) = columns.iter().find(|c| *c.name == *entry.key) else {
                problems
                    .add(entry.at, &item.path, format!("no column `{}`", cut(&entry.key)))
                    .suggest(&entry.key, columns.iter().map(|c| &*c.name));
                return None;
            };
            Some((column.name.clone(), cell(&item, column, problems)?))
        })
        .collect();
    cells.into_iter().collect()
}

/// A value of the column's type.
fn cell(item: &Item<'_>, column: &Column, problems: &mut Problems<'_>) -> Option<Value<'static>> {
    let value = item.scalar().and_then(|scalar| match scalar.resolve() {
        Plain::Null => column.nullable.then_some(Value::Null),
        Plain::Boolean(v) => (column.data_type == DataType::Boolean).then_some(Value::Boolean(v)),
        Plain::Integer(text) | Plain::Float(text) => number(text, column.data_type),
        Plain::Text(text) => text_value(text, column.data_type),
    });
    if value.is_none() {
        let null = if column.nullable { " or null" } else { "" };
        let problem = expected(item, &format!("{}{null}", column.data_type), problems);
        match column.data_type {
            DataType::Timestamp => problem.hint("a timestamp is a text like 2026-01-30T01:18:00Z"),
            DataType::Text => problem.hint("quote a text that looks like a number"),
            _ => {}
        }
    }
    value
}

fn number(text: &str, data_type: DataType) -> Option<Value<'static>> {
    match data_type {
        DataType::Bigint => Some(Value::Bigint(i64::try_from(whole(text)?).ok()?)),
        DataType::Numeric => Some(Value::Numeric(whole(text)?)),
        DataType::Double => {
            let value = whole(text).map_or_else(|| text.parse::<f64>().ok(), |v| Some(v as f64))?;
            value.is_finite().then_some(Value::Double(value))
        }
        _ => None,
    }
}

fn text_value(text: &str, data_type: DataType) -> Option<Value<'static>> {
    let owned = |text: &str| Some(Value::Text(Cow::Owned(text.to_owned())));
    match data_type {
        DataType::Text | DataType::Json => owned(text),
        DataType::Inet => owned(&canonical_inet(text.into())?),
        DataType::Uuid => owned(&text.to_ascii_lowercase()).filter(|_| is_uuid(text)),
        DataType::Timestamp => timestamp(text).map(Value::Timestamp),
        DataType::Date => {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            let days = date.signed_duration_since(NaiveDate::default());
            i32::try_from(TimeDelta::num_days(&days)).ok().map(|days| Value::Date(Date(days)))
        }
        _ => None,
    }
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.len() == 5
        && groups
            .iter()
            .zip([8, 4, 4, 4, 12])
            .all(|(g, n)| g.len() == n && g.chars().all(|c| c.is_ascii_hexdigit()))
}
