//! Record outputs: every accepted record of a source, enriched, to a topic or a table.

use hashbrown::HashSet;

use super::expression::source_text;
use super::keys::{DESTINATIONS, RECORD_TABLE, RECORDS, TIMESTAMPS};
use super::names::Name;
use super::open::{Fields, fitting, named};
use super::plan::{FieldId, OutputTimestamp, RecordOutput, RecordTable, SetValue};
use super::problem::Problems;
use super::raw::Item;
use super::record_table::{Draft, record_table};
use super::scalar;
use super::source::{Checked, Placed, field, optional, source_named, topic_name};
use crate::expr::is_commit_time;
use crate::model::DataType;

/// Most fields that one output sets, and most different ones that all outputs of a source set.
pub(super) const MAX_SET: usize = 64;

/// A record output by where it goes.
pub(super) enum Recorded {
    Topic(RecordOutput),
    Table(RecordTable),
}

/// What outputs are checked against. The topic is there even where something else is wrong.
pub(super) struct Context<'c> {
    pub sources: &'c [Checked],
    /// Tables of aggregates and of earlier outputs.
    pub tables: &'c mut HashSet<String>,
    /// The topic of the output that was checked last.
    pub topic: Option<Placed>,
}

/// Checks one record output.
pub(super) fn record(
    name: &str,
    item: &Item<'_>,
    context: &mut Context<'_>,
    problems: &mut Problems<'_>,
) -> Option<Recorded> {
    let keys = Fields::open(item, &RECORDS, problems)?;
    let source = keys.get("from").and_then(|item| source_named(&item, context.sources, problems));
    let checked = source.map(|(_, s)| s).filter(|s| !s.scope.fields.is_empty());
    let set = optional(keys.get("set"), |item| {
        let entries = named(item, Name::Field, (0, MAX_SET), problems)?;
        let values: Vec<_> = entries
            .iter()
            .map(|(name, item)| Some(((*name).into(), value(item, checked, problems)?)))
            .collect();
        values.into_iter().collect::<Option<Vec<_>>>()
    });
    let to = keys.get("to")?;
    let block = fitting(&to, &DESTINATIONS);
    if block.name == RECORD_TABLE.name {
        let draft = Draft { name, source, set: set.map(Option::unwrap_or_default) };
        return record_table(&to, draft, context.tables, problems).map(Recorded::Table);
    }
    let to = Fields::open(&to, block, problems)?;
    context.topic = to.get("topic").and_then(|item| topic_name(&item, problems));
    let key = optional(to.get("key"), |item| key(item, checked?, problems));
    let timestamp = optional(to.get("timestamp"), |item| {
        let word = scalar::word(item, TIMESTAMPS, problems)?;
        Some(if word == "input" { OutputTimestamp::Input } else { OutputTimestamp::Produced })
    });
    if to.unsupported {
        return None;
    }
    Some(Recorded::Topic(RecordOutput {
        name: name.into(),
        source: source?.0,
        set: set?.unwrap_or_default(),
        topic: context.topic.as_ref()?.topic.clone(),
        key: key?,
        timestamp: timestamp?.unwrap_or(OutputTimestamp::Produced),
    }))
}

fn value(item: &Item<'_>, source: Option<&Checked>, problems: &mut Problems<'_>) -> Option<SetValue> {
    let text = source_text(item, problems)?;
    if is_commit_time(text) {
        return Some(SetValue::CommitTime);
    }
    source?.scope.expression(item, problems).map(SetValue::Expr)
}

/// The field whose text keys the messages.
fn key(item: &Item<'_>, source: &Checked, problems: &mut Problems<'_>) -> Option<FieldId> {
    let id = field(item, &source.scope, problems)?;
    let declared = &source.scope.fields[id.0];
    if source.scope.broken.contains(&declared.name) {
        return None;
    }
    if declared.data_type != DataType::Text || declared.nullable {
        let null = if declared.nullable { " that may be null" } else { "" };
        let message =
            format!("a message key must be text!, `{}` is {}{null}", declared.name, declared.data_type);
        problems.add(item.node.at, &item.path, message);
        return None;
    }
    Some(id)
}
