//! Record outputs: every accepted record of a source, enriched, to a topic.

use super::expression::source_text;
use super::keys::{OUTPUT, RECORDS, TIMESTAMPS};
use super::names::Name;
use super::open::{Fields, named};
use super::plan::{FieldId, OutputTimestamp, RecordOutput, SetValue};
use super::problem::Problems;
use super::raw::Item;
use super::scalar;
use super::source::{Checked, Placed, field, optional, source_named, topic_name};
use crate::expr::is_commit_time;
use crate::model::DataType;

/// Most fields that one output sets, and most different ones that all outputs of a source set.
pub(super) const MAX_SET: usize = 64;

/// Checks one record output. The topic is there even where something else is wrong.
pub(super) fn record(
    name: &str,
    item: &Item<'_>,
    sources: &[Checked],
    problems: &mut Problems<'_>,
) -> (Option<RecordOutput>, Option<Placed>) {
    let mut topic = None;
    let output = output(name, item, (sources, &mut topic), problems);
    (output, topic)
}

fn output(
    name: &str,
    item: &Item<'_>,
    (sources, topic): (&[Checked], &mut Option<Placed>),
    problems: &mut Problems<'_>,
) -> Option<RecordOutput> {
    let keys = Fields::open(item, &RECORDS, problems)?;
    let source = keys.get("from").and_then(|item| source_named(&item, sources, problems));
    let checked = source.map(|(_, s)| s).filter(|s| !s.scope.fields.is_empty());
    let set = optional(keys.get("set"), |item| {
        let entries = named(item, Name::Field, (0, MAX_SET), problems)?;
        let values: Vec<_> = entries
            .iter()
            .map(|(name, item)| Some(((*name).into(), value(item, checked, problems)?)))
            .collect();
        values.into_iter().collect::<Option<Vec<_>>>()
    });
    let to = Fields::open(&keys.get("to")?, &OUTPUT, problems)?;
    *topic = to.get("topic").and_then(|item| topic_name(&item, problems));
    let key = optional(to.get("key"), |item| key(item, checked?, problems));
    let timestamp = optional(to.get("timestamp"), |item| {
        let word = scalar::word(item, TIMESTAMPS, problems)?;
        Some(if word == "input" { OutputTimestamp::Input } else { OutputTimestamp::Produced })
    });
    if to.unsupported {
        return None;
    }
    Some(RecordOutput {
        name: name.into(),
        source: source?.0,
        set: set?.unwrap_or_default(),
        topic: topic.as_ref()?.topic.clone(),
        key: key?,
        timestamp: timestamp?.unwrap_or(OutputTimestamp::Produced),
    })
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
