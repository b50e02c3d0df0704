//! `millstream plan`

use std::fmt::Write;

use clap::Args;
use millstream_core::expr::Expr;
use millstream_core::pipeline::{
    Aggregate, Column, Encoding, Field, Function, OnFail, OutputTimestamp, Plan, RecordOutput, RecordTable,
    Selected, SetValue, Source, Start, Window,
};
use serde::Serialize;

use super::exit::Exit;
use super::file::FileArgument;
use super::output::{OutputArgument, OutputFormat, answer, answer_json, grid, indented, plural, span, text};
use super::warnings::{splits_copies, warnings};

#[derive(Debug, Args)]
#[command(after_help = "\
Needs no server. The semantic hash names what the file computes: it changes with sources, aggregates and record
outputs, and with nothing else.

Example:
  millstream plan pipeline.yaml --output json | jq -r '.warnings[]'")]
pub struct PlanArguments {
    #[command(flatten)]
    file: FileArgument,
    #[command(flatten)]
    output: OutputArgument,
}

/// Shows what the file means.
pub fn plan(arguments: &PlanArguments) -> Exit {
    let plan = match arguments.file.load() {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    let view = view(&plan);
    match arguments.output.output {
        OutputFormat::Json => answer_json(&view, Exit::Ok),
        OutputFormat::Table => answer(&tables(&view), Exit::Ok),
    }
}

/// The plan in words.
#[derive(Debug, Serialize)]
struct PlanView {
    application: String,
    semantic_hash: String,
    commit_interval: String,
    dead_letter_table: Option<String>,
    sources: Vec<SourceView>,
    aggregates: Vec<AggregateView>,
    records: Vec<RecordView>,
    record_tables: Vec<RecordTableView>,
    tests: usize,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SourceView {
    name: String,
    topic: String,
    /// None: the topic must exist.
    create_partitions: Option<i32>,
    fields: Vec<FieldView>,
    event_time: String,
    watermark_delay: String,
    max_future: String,
    idle_after: String,
    keyed_by: Option<String>,
    repartition_by: Option<HopView>,
    start: String,
    checks: Vec<CheckView>,
    dedup: Option<DedupView>,
    max_record_bytes: usize,
    dead_letter_topic: Option<String>,
    late_topic: Option<String>,
}

/// A source's way through an internal topic.
#[derive(Debug, Serialize)]
struct HopView {
    field: String,
    topic: String,
    /// None: as many as the source's topic has.
    create_partitions: Option<i32>,
}

#[derive(Debug, Serialize)]
struct FieldView {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    required: bool,
}

#[derive(Debug, Serialize)]
struct CheckView {
    name: String,
    expect: String,
    on_fail: &'static str,
}

#[derive(Debug, Serialize)]
struct DedupView {
    key: Vec<String>,
    within: String,
    /// Among which records copies are found.
    among: &'static str,
}

#[derive(Debug, Serialize)]
struct AggregateView {
    name: String,
    from: String,
    #[serde(rename = "where")]
    condition: Option<String>,
    window: String,
    allowed_lateness: String,
    table: String,
    key: Vec<String>,
    /// The view of the latest rows.
    latest: Option<LatestView>,
    columns: Vec<ColumnView>,
}

#[derive(Debug, Serialize)]
struct LatestView {
    view: String,
    by: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ColumnView {
    name: String,
    sql_type: &'static str,
    nullable: bool,
    /// What it holds, where that is an expression of the file.
    is: Option<String>,
}

#[derive(Debug, Serialize)]
struct RecordView {
    name: String,
    from: String,
    topic: String,
    /// None: the input's key.
    key: Option<String>,
    timestamp: &'static str,
    set: Vec<SetView>,
}

#[derive(Debug, Serialize)]
struct RecordTableView {
    name: String,
    from: String,
    table: String,
    /// Empty: every record is a row.
    key: Vec<String>,
    columns: Vec<ColumnView>,
}

#[derive(Debug, Serialize)]
struct SetView {
    name: String,
    value: String,
}

fn view(plan: &Plan) -> PlanView {
    PlanView {
        application: plan.application.to_string(),
        semantic_hash: format!("{:016x}", plan.hash),
        commit_interval: span(plan.commit_interval),
        dead_letter_table: plan.dead_letter_table.as_ref().map(|table| format!("millstream.{table}")),
        sources: plan.sources.iter().map(source).collect(),
        aggregates: plan.aggregates.iter().map(|a| aggregate(plan, a)).collect(),
        records: plan.records.iter().map(|output| record(plan, output)).collect(),
        record_tables: plan.record_tables.iter().map(|output| record_rows(plan, output)).collect(),
        tests: plan.tests.len(),
        warnings: warnings(plan),
    }
}

fn source(source: &Source) -> SourceView {
    let name_of = |field: &Field| field.name.to_string();
    SourceView {
        name: source.name.to_string(),
        topic: source.topic.to_string(),
        create_partitions: source.create_partitions,
        fields: source.fields.iter().map(field).collect(),
        event_time: name_of(&source.fields[source.event_time.0]),
        watermark_delay: span(source.watermark.delay),
        max_future: span(source.watermark.max_future),
        idle_after: span(source.watermark.idle_after),
        keyed_by: source.keyed_by.map(|id| name_of(&source.fields[id.0])),
        repartition_by: source.repartition.as_ref().map(|hop| HopView {
            field: name_of(&source.fields[hop.by.0]),
            topic: hop.topic.to_string(),
            create_partitions: hop.partitions,
        }),
        start: match source.start {
            Start::Earliest => "earliest".to_owned(),
            Start::Latest => "latest".to_owned(),
            Start::At(time) => time.to_string(),
        },
        checks: source
            .checks
            .iter()
            .map(|check| CheckView {
                name: check.name.to_string(),
                expect: check.expect.canonical(),
                on_fail: match check.on_fail {
                    OnFail::DeadLetter => "dead_letter",
                    OnFail::Count => "count",
                },
            })
            .collect(),
        dedup: source.dedup.as_ref().map(|dedup| DedupView {
            key: dedup.key.iter().map(Expr::canonical).collect(),
            within: span(dedup.within),
            among: if splits_copies(source) { "those of one partition" } else { "all" },
        }),
        max_record_bytes: source.max_record_bytes,
        dead_letter_topic: source.dead_letter_topic.as_deref().map(str::to_owned),
        late_topic: source.late_topic.as_deref().map(str::to_owned),
    }
}

fn field(field: &Field) -> FieldView {
    let data_type = match field.encoding {
        Encoding::Plain => field.data_type.to_string(),
        Encoding::Millis => "timestamp_ms".to_owned(),
        Encoding::Seconds => "timestamp_s".to_owned(),
    };
    FieldView { name: field.name.to_string(), data_type, required: field.required }
}

fn aggregate(plan: &Plan, aggregate: &Aggregate) -> AggregateView {
    let window = match aggregate.window {
        Window::Tumbling { size } => format!("tumble {}", span(size)),
        Window::Sliding { size, slide } => format!("slide {} size {}", span(slide), span(size)),
        Window::Session { gap, max_duration: None } => format!("session {}", span(gap)),
        Window::Session { gap, max_duration: Some(most) } => {
            format!("session {} max_duration {}", span(gap), span(most))
        }
    };
    let by = aggregate.by.iter().map(|by| (&by.name, by.expr.canonical()));
    let selected = aggregate.select.iter().map(|s| (&s.name, call(s)));
    let meanings: Vec<_> = by.chain(selected).collect();
    AggregateView {
        name: aggregate.name.to_string(),
        from: plan.sources[aggregate.source.0].name.to_string(),
        condition: aggregate.condition.as_ref().map(|c| c.canonical()),
        window,
        allowed_lateness: span(aggregate.allowed_lateness),
        table: aggregate.table.name.clone(),
        key: aggregate.table.key.iter().map(ToString::to_string).collect(),
        latest: aggregate.table.latest.as_ref().map(|latest| LatestView {
            view: latest.name.clone(),
            by: latest.by.iter().map(ToString::to_string).collect(),
        }),
        columns: aggregate
            .table
            .columns
            .iter()
            .map(|column| {
                let is = meanings.iter().find(|(name, _)| **name == column.name).map(|(_, is)| is.clone());
                column_view(column, is)
            })
            .collect(),
    }
}

fn call(selected: &Selected) -> String {
    let argument = match &selected.argument {
        Some(argument) => argument.canonical(),
        None if selected.function == Function::LateRows => String::new(),
        None => "*".to_owned(),
    };
    let filter = selected.filter.as_ref().map(|f| format!(" filter (where {})", f.canonical()));
    let (name, argument) = match selected.function {
        Function::CountDistinct => ("count", format!("distinct {argument}")),
        Function::ApproxPercentile(q) => (selected.function.name(), format!("{argument}, {}", q.get())),
        other => (other.name(), argument),
    };
    format!("{name}({argument}){}", filter.unwrap_or_default())
}

fn record(plan: &Plan, output: &RecordOutput) -> RecordView {
    let source = &plan.sources[output.source.0];
    RecordView {
        name: output.name.to_string(),
        from: source.name.to_string(),
        topic: output.topic.to_string(),
        key: output.key.map(|id| source.fields[id.0].name.to_string()),
        timestamp: match output.timestamp {
            OutputTimestamp::Produced => "produced",
            OutputTimestamp::Input => "input",
        },
        set: output
            .set
            .iter()
            .map(|(name, value)| SetView { name: name.to_string(), value: set_value(value) })
            .collect(),
    }
}

fn record_rows(plan: &Plan, output: &RecordTable) -> RecordTableView {
    let columns = output.table.columns.iter().zip(&output.values);
    RecordTableView {
        name: output.name.to_string(),
        from: plan.sources[output.source.0].name.to_string(),
        table: output.table.name.clone(),
        key: output.table.key.iter().map(ToString::to_string).collect(),
        columns: columns.map(|(column, value)| column_view(column, Some(set_value(value)))).collect(),
    }
}

fn column_view(column: &Column, is: Option<String>) -> ColumnView {
    ColumnView {
        name: column.name.to_string(),
        sql_type: column.data_type.sql(),
        nullable: column.nullable,
        is,
    }
}

fn set_value(value: &SetValue) -> String {
    match value {
        SetValue::CommitTime => "commit_time()".to_owned(),
        SetValue::Expr(expr) => expr.canonical(),
    }
}

fn tables(view: &PlanView) -> String {
    let mut out = format!(
        "{}: semantic hash {}, an epoch every {}\n",
        view.application, view.semantic_hash, view.commit_interval
    );
    if let Some(table) = &view.dead_letter_table {
        let _ = writeln!(out, "dead letters go to table {table}");
    }
    for source in &view.sources {
        out.push_str(&source_table(source));
    }
    for aggregate in &view.aggregates {
        out.push_str(&aggregate_table(aggregate));
    }
    for output in &view.records {
        out.push_str(&record_table(output));
    }
    for RecordTableView { name, from, table, key, columns } in &view.record_tables {
        let rows = match key.as_slice() {
            [] => "every record".to_owned(),
            key => format!("the first record by ({})", key.join(", ")),
        };
        let columns = indented(&column_grid(columns, key));
        let _ = write!(out, "\nrecords {name}\n {from} to table {table}, {rows}\n{columns}");
    }
    let _ = writeln!(out, "\n{}", plural(view.tests, "test"));
    for warning in &view.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn source_table(source: &SourceView) -> String {
    let topic = match source.create_partitions {
        Some(count) => format!("{}, created with {} if missing", source.topic, partitions(count)),
        None => format!("{}, which must exist", source.topic),
    };
    let none = || "nowhere".to_owned();
    let mut table = grid(&["", ""]);
    let event_time = format!(
        "{}, watermark {} behind, at most {} ahead of the record's timestamp",
        source.event_time, source.watermark_delay, source.max_future
    );
    for (what, is) in [
        ("topic", topic),
        ("event time", event_time),
        ("partitioned by", partitioned(source)),
        ("start", source.start.clone()),
        ("record size", format!("at most {} bytes", source.max_record_bytes)),
        ("dead letters to", source.dead_letter_topic.clone().unwrap_or_else(none)),
        ("too late records to", source.late_topic.clone().unwrap_or_else(none)),
    ] {
        table.add_row([text(what), text(is)]);
    }
    let mut fields = grid(&["field", "type", "required"]);
    for field in &source.fields {
        let required = if field.required { "yes" } else { "no" };
        fields.add_row([text(&field.name), text(&field.data_type), text(required)]);
    }
    let mut out = format!("\nsource {}\n{}{}", source.name, without_header(&table), indented(&fields));
    if !source.checks.is_empty() {
        let mut checks = grid(&["check", "on fail", "expect"]);
        for check in &source.checks {
            checks.add_row([text(&check.name), text(check.on_fail), text(&check.expect)]);
        }
        out.push_str(&indented(&checks));
    }
    if let Some(dedup) = &source.dedup {
        let DedupView { key, within, among } = dedup;
        let _ = writeln!(out, "  one record of each {}, within {within}, among {among}", key.join(", "));
    }
    out
}

fn partitioned(source: &SourceView) -> String {
    match (&source.repartition_by, &source.keyed_by) {
        (Some(hop), _) => {
            let count =
                hop.create_partitions.map_or("as many partitions as it has itself".to_owned(), partitions);
            format!("{}, through topic {}, created with {count} if missing", hop.field, hop.topic)
        }
        (None, Some(field)) => format!("{field}, as its producers promise"),
        (None, None) => "no field".to_owned(),
    }
}

fn aggregate_table(aggregate: &AggregateView) -> String {
    let columns = column_grid(&aggregate.columns, &aggregate.key);
    let condition = aggregate.condition.as_ref().map(|c| format!(", where {c}"));
    let latest = aggregate
        .latest
        .as_ref()
        .map(|l| format!(", view {} of the latest by ({})", l.view, l.by.join(", ")));
    format!(
        "\naggregate {}\n {} of {}{}, allowed lateness {}, to table {} by key ({}){}\n{}",
        aggregate.name,
        aggregate.window,
        aggregate.from,
        condition.unwrap_or_default(),
        aggregate.allowed_lateness,
        aggregate.table,
        aggregate.key.join(", "),
        latest.unwrap_or_default(),
        indented(&columns)
    )
}

fn column_grid(columns: &[ColumnView], key: &[String]) -> comfy_table::Table {
    let mut table = grid(&["column", "sql type", "null", "key", "is"]);
    for column in columns {
        let key = if key.contains(&column.name) { "key" } else { "" };
        let null = if column.nullable { "null" } else { "not null" };
        let is = column.is.as_deref().unwrap_or_default();
        table.add_row([&column.name, column.sql_type, null, key, is].map(text));
    }
    table
}

fn record_table(output: &RecordView) -> String {
    let mut set = grid(&["sets", "to"]);
    for value in &output.set {
        set.add_row([text(&value.name), text(&value.value)]);
    }
    format!(
        "\nrecords {}\n {} to topic {}, key {}, timestamp {}\n{}",
        output.name,
        output.from,
        output.topic,
        output.key.as_deref().unwrap_or("of the input"),
        output.timestamp,
        if output.set.is_empty() { String::new() } else { indented(&set) }
    )
}

fn partitions(count: i32) -> String {
    plural(usize::try_from(count).unwrap_or_default(), "partition")
}

fn without_header(table: &comfy_table::Table) -> String {
    indented(table).split_inclusive('\n').skip(1).collect()
}
