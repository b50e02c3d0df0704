//! Tables of records: their columns and their key.

use std::sync::Arc;

use hashbrown::HashSet;

use super::aggregate::SYSTEM_COLUMNS;
use super::keys::RECORD_TABLE;
use super::names::Name;
use super::open::{Fields, list, unique};
use super::plan::{Column, RecordTable, ResultTable, SetValue, SourceId};
use super::problem::Problems;
use super::raw::Item;
use super::scalar::{self, cut};
use super::source::{Checked, optional};
use crate::model::DataType;

/// Most columns of a key.
const MAX_KEY: usize = 16;

/// What is known of an output before its destination is looked at; `None`: it is a problem already.
pub(super) struct Draft<'d> {
    pub name: &'d str,
    pub source: Option<(SourceId, &'d Checked)>,
    pub set: Option<Vec<(Arc<str>, SetValue)>>,
}

/// Checks the table of one record output.
pub(super) fn record_table(
    item: &Item<'_>,
    draft: Draft<'_>,
    tables: &mut HashSet<String>,
    problems: &mut Problems<'_>,
) -> Option<RecordTable> {
    let keys = Fields::open(item, &RECORD_TABLE, problems)?;
    let table = keys.get("table").and_then(|item| {
        let name = scalar::name(&item, Name::Identifier, problems)?;
        unique(tables, name, &item, "the table", problems).then(|| name.to_owned())
    });
    let (source, set) = (draft.source?, draft.set?);
    let (columns, values) = columns(source.1, set, item, problems)?;
    let key = optional(keys.get("key"), |item| key(item, &columns, problems));
    Some(RecordTable {
        name: draft.name.into(),
        source: source.0,
        values,
        table: ResultTable { name: table?, key: key?.unwrap_or_default(), columns, latest: None },
    })
}

/// The declared fields, replaced where `set` says so, and what it adds.
fn columns(
    source: &Checked,
    mut set: Vec<(Arc<str>, SetValue)>,
    item: &Item<'_>,
    problems: &mut Problems<'_>,
) -> Option<(Vec<Column>, Vec<SetValue>)> {
    if !source.scope.broken.is_empty() || source.scope.fields.is_empty() {
        return None;
    }
    let before = problems.len();
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for field in &source.scope.fields {
        let value = match set.iter().position(|(name, _)| *name == field.name) {
            Some(at) => set.remove(at).1,
            None => SetValue::Expr(source.scope.field(&field.name, item, problems)?),
        };
        columns.push(column(&field.name, &value, item, problems));
        values.push(value);
    }
    for (name, value) in set {
        columns.push(column(&name, &value, item, problems));
        values.push(value);
    }
    (problems.len() == before).then_some((columns, values))
}

fn column(name: &Arc<str>, value: &SetValue, item: &Item<'_>, problems: &mut Problems<'_>) -> Column {
    let fault = if SYSTEM_COLUMNS.contains(&&**name) {
        Some("is PostgreSQL's own")
    } else {
        (!Name::Identifier.allows(name)).then_some("is not valid as a column")
    };
    if let Some(fault) = fault {
        problems
            .add(item.node.at, &item.path, format!("the field `{}` {fault}", cut(name)))
            .hint("a table has a column per declared field: lower-case letters, digits and `_`, at most 63");
    }
    let (data_type, nullable) = match value {
        SetValue::CommitTime => (DataType::Timestamp, false),
        SetValue::Expr(expr) => (expr.data_type(), expr.nullable()),
    };
    Column { name: name.clone(), data_type, nullable }
}

fn key(item: &Item<'_>, columns: &[Column], problems: &mut Problems<'_>) -> Option<Vec<Arc<str>>> {
    let before = problems.len();
    let mut key: Vec<Arc<str>> = Vec::new();
    for item in list(item, (1, MAX_KEY), problems)? {
        let Some(name) = scalar::text(&item, problems) else { continue };
        let Some(column) = columns.iter().find(|column| &*column.name == name) else {
            problems
                .add(item.node.at, &item.path, format!("no column `{}`", cut(name)))
                .suggest(name, columns.iter().map(|column| &*column.name));
            continue;
        };
        let fault = if key.contains(&column.name) {
            Some("occurs twice")
        } else if column.data_type == DataType::Json {
            Some("is json, which has no equality")
        } else {
            column.nullable.then_some("may be null, and a key must not be")
        };
        if let Some(fault) = fault {
            problems.add(item.node.at, &item.path, format!("`{name}` {fault}"));
        }
        key.push(column.name.clone());
    }
    (problems.len() == before).then_some(key)
}
