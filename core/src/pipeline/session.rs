//! Sessions: their window, their columns, and the source they need.

use super::keys::SESSION;
use super::open::Fields;
use super::plan::{GroupBy, Source, Window};
use super::problem::Problems;
use super::raw::Item;
use super::scalar::duration;
use super::source::{MAX_SPAN, optional};
use crate::model::{DataType, Span};

/// The columns of a table of sessions beside the key's and the selected ones. The first is part of the primary key.
pub(super) const SESSION_COLUMNS: [(&str, DataType); 3] = [
    ("session_start_time", DataType::Timestamp),
    ("session_end_time", DataType::Timestamp),
    ("session_duration_seconds", DataType::Bigint),
];

pub(super) fn window(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Window> {
    let bounds = (Span::from_millis(1), MAX_SPAN);
    let keys = Fields::open(item, &SESSION, problems)?;
    let gap = keys.get("session").and_then(|item| duration(&item, bounds, problems));
    let max_duration = optional(keys.get("max_duration"), |item| duration(item, bounds, problems));
    Some(Window::Session { gap: gap?, max_duration: max_duration? })
}

/// Whether all records of a session lie in one partition of the source: the field it is keyed or
/// repartitioned by must be one of the key's,
/// as it stands.
///
/// Why: a session is merged from records, not from parts of it, so one task has to see them all.
pub(super) fn one_partition(
    item: &Item<'_>,
    source: &Source,
    by: &[GroupBy],
    problems: &mut Problems<'_>,
) -> bool {
    let split_by = source.partitioned_by();
    if split_by.is_some_and(|field| by.iter().any(|group| group.expr.as_field() == Some(field.0))) {
        return true;
    }
    let name = &source.name;
    let of_key = by.iter().find_map(|group| Some(&source.fields[group.expr.as_field()?].name));
    let message = match (split_by, of_key) {
        (Some(field), _) => format!(
            "sessions need all records of their key in one partition, and the source `{name}` is {} by `{}`, which is \
             not a column of `by`",
            if source.repartition.is_some() { "repartitioned" } else { "keyed" },
            source.fields[field.0].name
        ),
        (None, _) => {
            format!(
                "sessions need all records of their key in one partition, and the source `{name}` is neither keyed nor repartitioned"
            )
        }
    };
    let hint = match (split_by, of_key) {
        (Some(_), Some(of_key)) if source.repartition.is_some() => {
            format!("say sources.{name}.repartition_by: {of_key}")
        }
        (_, Some(of_key)) => format!(
            "if the topic's producers key it by `{of_key}`, say sources.{name}.keyed_by: {of_key}; if they do not, \
             sources.{name}.repartition_by: {of_key}"
        ),
        (Some(field), None) => format!("add it: by: [{}]", source.fields[field.0].name),
        (None, None) => {
            format!(
                "say in `by` and in sources.{name}.keyed_by by which field the topic's producers key it; if by none, say \
                 in sources.{name}.repartition_by which one it shall be"
            )
        }
    };
    problems.add(item.named, &item.path, message).hint(hint);
    false
}
