//! Repartitioning: the field a source's records are spread by anew, and the internal topic they go through.

use std::sync::Arc;

use super::keys::{PARTITIONS, REPARTITION};
use super::open::Fields;
use super::plan::{Field, FieldId, Repartition};
use super::problem::Problems;
use super::raw::{Item, Kind};
use super::scalar::integer;
use super::source::{Checked, Placed, field, optional, topic_is_usable};
use crate::model::DataType;

/// A field, or a field and a number of partitions. The topic is named by `name_topic`.
pub(super) fn repartition(
    item: &Item<'_>,
    fields: &[Field],
    checked: &mut Checked,
    problems: &mut Problems<'_>,
) -> Option<Repartition> {
    let (by, partitions) = if matches!(item.node.kind, Kind::Map(_)) {
        let keys = Fields::open(item, &REPARTITION, problems)?;
        let by = keys.get("field").and_then(|item| by(&item, fields, checked, problems));
        let partitions =
            optional(keys.get("partitions"), |item| i32::try_from(integer(item, PARTITIONS, problems)?).ok());
        (by?, partitions?)
    } else {
        (by(item, fields, checked, problems)?, None)
    };
    let topic: Arc<str> = format!("{}.by-{}", checked.name, checked.scope.fields[by.0].name).into();
    checked.hop = Some(Placed { topic: topic.clone(), at: item.node.at, path: item.path.clone() });
    Some(Repartition { by, topic, partitions })
}

fn by(item: &Item<'_>, fields: &[Field], checked: &Checked, problems: &mut Problems<'_>) -> Option<FieldId> {
    let id = field(item, &checked.scope, problems)?;
    let name = &checked.scope.fields[id.0].name;
    // Why: not found means that its type is a problem already.
    let declared = fields.iter().find(|f| f.name == *name)?;
    if declared.data_type == DataType::Json {
        problems
            .add(item.node.at, &item.path, "records cannot be spread by json, which has no equality")
            .hint("choose a field of another type");
        return None;
    }
    if !declared.required {
        problems
            .add(item.node.at, &item.path, format!("the field must be required, `{name}` may be null"))
            .hint(format!("add `!` to its type: {name}: {}!", declared.data_type));
        return None;
    }
    Some(id)
}

/// The promise that the topic is keyed and the work of keying it are not for one source.
pub(super) fn not_keyed_too(
    keyed_by: Option<&Item<'_>>,
    item: Option<&Item<'_>>,
    problems: &mut Problems<'_>,
) {
    if let (Some(_), Some(item)) = (keyed_by, item) {
        problems
            .add(item.named, &item.path, "the source is `keyed_by` a field already")
            .hint("say keyed_by where the topic's producers key it, repartition_by where they do not");
    }
}

/// `{application}.{source}.by-{field}`, where Kafka takes such a name.
pub(super) fn name_topic(
    application: &str,
    source: &mut Checked,
    problems: &mut Problems<'_>,
) -> Option<Placed> {
    let Placed { topic, at, path } = source.hop.clone()?;
    let topic: Arc<str> = format!("{application}.{topic}").into();
    if !topic_is_usable(&topic, (at, &path), problems) {
        return None;
    }
    if let Some(repartition) = source.source.as_mut().and_then(|source| source.repartition.as_mut()) {
        repartition.topic = topic.clone();
    }
    Some(Placed { topic, at, path })
}
