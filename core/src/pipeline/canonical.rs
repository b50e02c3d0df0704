//! The canonical text of a plan's semantic part, and its hash.
//!
//! What stands in here is the identity of the results: a change of it is a new pipeline version. Left out are
//! connections, `commit_interval`, tests and the name; and of a source what changes no value: `create`, `start`
//! (resolved once and recorded), `keyed_by` (a promise), how many partitions an internal topic gets (its own count stands) and `idle_after` (only for readers).
//!
//! | line | fields |
//! |---|---|
//! | `millstream plan 1` | the version of this format |
//! | `source` | name topic event_time delay max_future max_record_bytes dead-letter topic, late topic |
//! | `field` | name type encoding required |
//! | `check` | name on_fail expression |
//! | `dedup` | within, key expressions; only where there is one |
//! | `repartition` | the field; only where there is one |
//! | `dead_letters` | table |
//! | `aggregate` | name source window size, of a sliding one slide, of a session gap and longest duration, lateness condition |
//! | `by` | column expression |
//! | `select` | column function type argument filter, of a percentile the quantile |
//! | `table` | name, key columns |
//! | `latest` | the columns of the view; only where there is one |
//! | `records` | name source topic key timestamp |
//! | `set` | field expression |
//! | `record_table` | name source, table, key columns |
//! | `column` | column expression |
//!
//! Texts are JSON strings, absent ones `null`, spans are microseconds; one space between fields.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use super::plan::{
    Aggregate, Function, Plan, RecordOutput, RecordTable, ResultTable, SetValue, Source, Window,
};
use crate::expr::Expr;

/// xxh3-64 of the canonical text.
pub(super) fn hash(plan: &Plan) -> u64 {
    xxh3_64(canonical(plan).as_bytes())
}

/// The canonical text: one line a thing, in the file's order.
pub(super) fn canonical(plan: &Plan) -> String {
    let mut lines = Lines { text: "millstream plan 1\n".to_owned() };
    for source in &plan.sources {
        lines.source(source);
    }
    lines.line(&["dead_letters", &optional(plan.dead_letter_table.as_deref())]);
    for aggregate in &plan.aggregates {
        lines.aggregate(aggregate, &plan.sources[aggregate.source.0].name);
    }
    for output in &plan.records {
        lines.records(output, &plan.sources[output.source.0]);
    }
    for output in &plan.record_tables {
        lines.record_table(output, &plan.sources[output.source.0]);
    }
    lines.text
}

struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, fields: &[&str]) {
        self.text.push_str(&fields.join(" "));
        self.text.push('\n');
    }

    fn source(&mut self, source: &Source) {
        self.line(&[
            "source",
            &quoted(&source.name),
            &quoted(&source.topic),
            &quoted(&source.fields[source.event_time.0].name),
            &source.watermark.delay.0.to_string(),
            &source.watermark.max_future.0.to_string(),
            &source.max_record_bytes.to_string(),
            &optional(source.dead_letter_topic.as_deref()),
            &optional(source.late_topic.as_deref()),
        ]);
        if let Some(hop) = &source.repartition {
            self.line(&["repartition", &quoted(&source.fields[hop.by.0].name)]);
        }
        for field in &source.fields {
            let (data_type, encoding) = (field.data_type.to_string(), word(&field.encoding));
            self.line(&["field", &quoted(&field.name), &data_type, &encoding, &field.required.to_string()]);
        }
        for check in &source.checks {
            self.line(&[
                "check",
                &quoted(&check.name),
                &word(&check.on_fail),
                &quoted(&check.expect.canonical()),
            ]);
        }
        if let Some(dedup) = &source.dedup {
            let mut line = format!("dedup {}", dedup.within.0);
            for expr in &dedup.key {
                let _ = write!(line, " {}", quoted(&expr.canonical()));
            }
            self.line(&[&line]);
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate, source: &str) {
        let window = match aggregate.window {
            Window::Tumbling { size } => format!("tumbling {}", size.0),
            Window::Sliding { size, slide } => format!("sliding {} {}", size.0, slide.0),
            Window::Session { gap, max_duration } => {
                let longest = max_duration.map_or_else(|| "null".to_owned(), |span| span.0.to_string());
                format!("session {} {longest}", gap.0)
            }
        };
        self.line(&[
            "aggregate",
            &quoted(&aggregate.name),
            &quoted(source),
            &window,
            &aggregate.allowed_lateness.0.to_string(),
            &expression(aggregate.condition.as_ref()),
        ]);
        for group in &aggregate.by {
            self.line(&["by", &quoted(&group.name), &quoted(&group.expr.canonical())]);
        }
        for selected in &aggregate.select {
            let quantile = match selected.function {
                Function::ApproxPercentile(q) => format!(" {}", q.get()),
                _ => String::new(),
            };
            self.line(&[
                "select",
                &quoted(&selected.name),
                selected.function.name(),
                &selected.data_type.to_string(),
                &expression(selected.argument.as_ref()),
                &(expression(selected.filter.as_ref()) + &quantile),
            ]);
        }
        let mut table = format!("table {}", quoted(&aggregate.table.name));
        for column in &aggregate.table.key {
            let _ = write!(table, " {}", quoted(column));
        }
        self.line(&[&table]);
        if let Some(latest) = &aggregate.table.latest {
            let columns: Vec<String> = latest.by.iter().map(|column| quoted(column)).collect();
            self.line(&["latest", &columns.join(" ")]);
        }
    }

    fn records(&mut self, output: &RecordOutput, source: &Source) {
        self.line(&[
            "records",
            &quoted(&output.name),
            &quoted(&source.name),
            &quoted(&output.topic),
            &optional(output.key.map(|id| &*source.fields[id.0].name)),
            &word(&output.timestamp),
        ]);
        for (name, value) in &output.set {
            self.line(&["set", &quoted(name), &set_value(value)]);
        }
    }

    fn record_table(&mut self, output: &RecordTable, source: &Source) {
        let ResultTable { name, key, columns, latest: _ } = &output.table;
        let mut line = format!("{} {} {}", quoted(&output.name), quoted(&source.name), quoted(name));
        for column in key {
            let _ = write!(line, " {}", quoted(column));
        }
        self.line(&["record_table", &line]);
        for (column, value) in columns.iter().zip(&output.values) {
            self.line(&["column", &quoted(&column.name), &set_value(value)]);
        }
    }
}

fn set_value(value: &SetValue) -> String {
    match value {
        SetValue::CommitTime => "commit_time".to_owned(),
        SetValue::Expr(expr) => quoted(&expr.canonical()),
    }
}

/// The name of a variant without fields, in lower case.
fn word(variant: &impl std::fmt::Debug) -> String {
    format!("{variant:?}").to_lowercase()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), quoted)
}

fn expression(expr: Option<&Expr>) -> String {
    optional(expr.map(Expr::canonical).as_deref())
}
