//! What `plan` warns of.

use millstream_core::model::Span;
use millstream_core::pipeline::{Plan, Source, Window};

/// What is allowed and seldom meant.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, source) in plan.sources.iter().enumerate() {
        let name = &source.name;
        let is_read = plan.aggregates.iter().any(|a| a.source.0 == index)
            || plan.records.iter().any(|output| output.source.0 == index)
            || plan.record_tables.iter().any(|output| output.source.0 == index);
        if !is_read {
            warnings.push(format!("sources.{name}: nothing reads it"));
        }
        if source.partitioned_by().is_none() {
            warnings.push(format!(
                "sources.{name}: neither keyed_by nor repartition_by; one key's records may be in several partitions, each with a watermark of \
                 its own, and rows are merged from all of them"
            ));
        }
        if splits_copies(source) {
            warnings.push(format!(
                "sources.{name}.dedup: copies in different partitions are not found; say repartition_by a field of the \
                 dedup key, or keyed_by if the topic's producers key it so"
            ));
        }
        if source.dead_letter_topic.is_none() && plan.dead_letter_table.is_none() {
            warnings.push(format!(
                "sources.{name}: dead records are only counted; see bad_data.topic and .table"
            ));
        }
    }
    for aggregate in &plan.aggregates {
        let name = &aggregate.name;
        if aggregate.allowed_lateness == Span::ZERO {
            let passed = match aggregate.window {
                Window::Session { .. } => "its time and the gap is not counted",
                Window::Tumbling { .. } | Window::Sliding { .. } => "a window's end is not counted in it",
            };
            warnings.push(format!(
                "aggregates.{name}: allowed lateness is 0; what comes after the watermark has passed {passed}"
            ));
        }
        let source = &plan.sources[aggregate.source.0];
        if source.late_topic.is_none() {
            warnings.push(format!("aggregates.{name}: too late records are only counted; see late.topic"));
        }
    }
    if plan.tests.is_empty() {
        warnings.push("tests: there are none; `millstream test` would run them without a server".to_owned());
    }
    warnings
}

/// Whether copies of a record may be in several partitions, where dedup does not find them.
pub fn splits_copies(source: &Source) -> bool {
    let Some(dedup) = &source.dedup else { return false };
    let by = source.partitioned_by();
    !by.is_some_and(|field| dedup.key.iter().any(|expr| expr.as_field() == Some(field.0)))
}
