//! `millstream try`

use std::io::{self, Read};
use std::path::Path;

use clap::Args;
use millstream_core::codec::parse_timestamp;
use millstream_core::engine::{
    TrialAggregate, TrialDeadLetter, TrialInput, TrialLate, TrialOptions, TrialRecord, TrialReport,
    TrialValue, run_trial,
};
use millstream_core::model::EventTime;
use millstream_core::pipeline::{Plan, SourceId};

use crate::clock::{Clock, SystemClock};

use super::exit::Exit;
use super::file::FileArgument;
use super::output::{
    OutputArgument, OutputFormat, answer, answer_json, cell, grid, indented, number, or_dash, plural, text,
};

/// All inputs together: everything is kept in memory.
const MAX_INPUT_BYTES: u64 = 2 << 30;
/// Messages of one kind that a table shows; rows of aggregates are all shown.
const SHOWN_MESSAGES: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
A line is a record: an empty line is an empty value, and its offset is its number from 0. A record has no key and no
timestamp, so `max_future` is not looked at. The end of a file moves no watermark: a row whose window may still
change is printed with `final` false.

Examples:
  millstream try pipeline.yaml --input events.ndjson
  kcat -C -e -t user_activity | millstream try pipeline.yaml --input - --output json | jq .aggregates
  millstream try pipeline.yaml --input orders=orders.ndjson --input clicks=clicks.ndjson --partitions 3")]
pub struct TryArguments {
    #[command(flatten)]
    file: FileArgument,
    /// Events, a JSON object a line; `-` is stdin. With several sources SOURCE=EVENTS, once for each
    #[arg(long, value_name = "[SOURCE=]EVENTS", required = true)]
    input: Vec<String>,
    /// Spread the lines over so many partitions, by the text of the field in `keyed_by` or
    /// `repartition_by`
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1024))]
    partitions: i32,
    /// The value of commit_time(), such as 2026-01-30T01:18:10Z; now if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    commit_time: Option<EventTime>,
    /// End with code 65 if a record is dead
    #[arg(long)]
    fail_on_dead: bool,
    #[command(flatten)]
    output: OutputArgument,
}

/// Runs the plan on the inputs and prints what it means.
pub fn try_file(arguments: &TryArguments) -> Exit {
    match judge(arguments) {
        Ok(report) => {
            let exit = match arguments.fail_on_dead && report.dead() > 0 {
                true => Exit::DataPolicy,
                false => Exit::Ok,
            };
            match arguments.output.output {
                OutputFormat::Json => answer_json(&report, exit),
                OutputFormat::Table => answer(&tables(&report), exit),
            }
        }
        Err(exit) => exit,
    }
}

fn judge(arguments: &TryArguments) -> Result<TrialReport, Exit> {
    let plan = arguments.file.load()?;
    let inputs = read_inputs(&plan, &arguments.input)?;
    if arguments.partitions > 1 {
        for source in plan.sources.iter().filter(|source| source.partitioned_by().is_none()) {
            eprintln!(
                "sources.{}: neither keyed_by nor repartition_by, so all its lines go to partition 0",
                source.name
            );
        }
    }
    let options = TrialOptions {
        partitions: arguments.partitions,
        commit_time: arguments.commit_time.unwrap_or_else(|| SystemClock.now()),
    };
    run_trial(&plan, &inputs, options).map_err(|error| {
        eprintln!("{error}");
        Exit::Internal
    })
}

fn instant(text: &str) -> Result<EventTime, String> {
    parse_timestamp(text).map_err(|error| error.to_string())
}

fn read_inputs(plan: &Plan, typed: &[String]) -> Result<Vec<TrialInput>, Exit> {
    let usage = |problem: String| {
        eprintln!("--input: {problem}");
        Exit::Usage
    };
    let mut inputs: Vec<TrialInput> = Vec::new();
    let mut room = MAX_INPUT_BYTES;
    for text in typed {
        let (source, path) = source_and_path(plan, text).map_err(usage)?;
        if inputs.iter().any(|(known, _)| *known == source) {
            return Err(usage(format!("source {} is given twice", plan.sources[source.0].name)));
        }
        let bytes = read_limited(path, room).map_err(|error| {
            eprintln!("{path}: cannot be read: {error}");
            Exit::LocalDisk
        })?;
        room -= bytes.len() as u64;
        inputs.push((source, lines(&bytes)));
    }
    Ok(inputs)
}

fn source_and_path<'t>(plan: &Plan, text: &'t str) -> Result<(SourceId, &'t str), String> {
    if let Some((name, path)) = text.split_once('=')
        && let Some(index) = plan.sources.iter().position(|source| *source.name == *name)
    {
        return Ok((SourceId(index), path));
    }
    if plan.sources.len() == 1 {
        return Ok((SourceId(0), text));
    }
    let names: Vec<&str> = plan.sources.iter().map(|source| &*source.name).collect();
    Err(format!("'{text}' names none of the sources {}; write SOURCE=FILE", names.join(", ")))
}

fn read_limited(path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == "-" {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(Path::new(path))?.take(limit + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > limit {
        let problem =
            format!("all inputs together exceed {} GiB; `run` has no such limit", MAX_INPUT_BYTES >> 30);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// LF ends a record; a last line without it counts.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

fn tables(report: &TrialReport) -> String {
    let mut out = String::from("verdicts\n");
    let mut table = grid(&["source", "partition", "read", "accepted", "duplicate", "dead", "reasons"]);
    for v in &report.verdicts {
        let reasons: Vec<String> =
            v.dead_by_reason.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        let counts = [v.read, v.accepted, v.duplicate, v.dead].map(number);
        let row = [text(&v.source), number(v.partition)].into_iter().chain(counts);
        table.add_row(row.chain([text(reasons.join(", "))]));
    }
    out.push_str(&indented(&table));
    for (source, checks) in &report.checks {
        for (check, failed) in checks {
            out.push_str(&format!("\ncheck {check} of {source}: failed by {failed} accepted records\n"));
        }
    }
    for aggregate in &report.aggregates {
        out.push_str(&rows(aggregate));
    }
    out.push_str(&messages("records", &report.records, &["output", "to", "key", "value"], record));
    let columns = ["source", "partition", "offset", "reason", "detail", "value"];
    out.push_str(&messages("dead letters", &report.dead_letters, &columns, dead_letter));
    let columns = ["source", "partition", "offset", "aggregate", "watermark", "late by ms", "value"];
    out.push_str(&messages("late", &report.late, &columns, late));
    out
}

fn rows(TrialAggregate { counts, table: found }: &TrialAggregate) -> String {
    let headers: Vec<&str> = found.columns.iter().map(|column| &*column.name).chain(["final"]).collect();
    let mut table = grid(&headers);
    for row in &found.rows {
        let cells =
            row.values.iter().zip(&found.columns).map(|(value, column)| cell(value, column.data_type));
        table.add_row(cells.chain([text(if row.is_final { "yes" } else { "no" })]));
    }
    format!(
        "\n{}: {} (matched {}, counted {}, too late {}, partly late {})\n{}",
        found.name,
        plural(found.rows.len(), "row"),
        counts.matched,
        counts.counted,
        counts.too_late,
        counts.partly_late,
        if found.rows.is_empty() { String::new() } else { indented(&table) },
    )
}

/// The first messages of a kind; nothing where there are none.
fn messages<T>(title: &str, all: &[T], columns: &[&str], cells: fn(&T) -> Vec<comfy_table::Cell>) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut table = grid(columns);
    for message in all.iter().take(SHOWN_MESSAGES) {
        table.add_row(cells(message));
    }
    let more = match all.len().saturating_sub(SHOWN_MESSAGES) {
        0 => String::new(),
        more => format!(" ... and {more} more; `--output json` prints them all\n"),
    };
    format!("\n{title}: {}\n{}{more}", plural(all.len(), "message"), indented(&table))
}

fn record(record: &TrialRecord) -> Vec<comfy_table::Cell> {
    let key = or_dash(record.key.as_deref());
    let to = record.topic.as_deref().or(record.table.as_deref()).unwrap_or_default();
    vec![text(&record.output), text(to), text(key), text(record.value.get())]
}

fn dead_letter(dead: &TrialDeadLetter) -> Vec<comfy_table::Cell> {
    vec![
        text(&dead.source),
        number(dead.partition),
        number(dead.offset),
        text(&dead.reason),
        text(&dead.detail),
        text(shown(&dead.value)),
    ]
}

fn late(late: &TrialLate) -> Vec<comfy_table::Cell> {
    vec![
        text(&late.source),
        number(late.partition),
        number(late.offset),
        text(&late.aggregate),
        text(&late.watermark),
        number(late.late_by_ms),
        text(shown(&late.value)),
    ]
}

fn shown(value: &TrialValue) -> String {
    match value {
        TrialValue::Text(text) => text.clone(),
        TrialValue::Bytes(bytes) => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lf_ends_a_record_and_a_last_line_without_it_counts() {
        let split =
            |bytes: &[u8]| lines(bytes).iter().map(|l| l.escape_ascii().to_string()).collect::<Vec<_>>();
        assert_eq!(split(b""), [""; 0]);
        assert_eq!(split(b"a"), ["a"]);
        assert_eq!(split(b"a\n"), ["a"]);
        assert_eq!(split(b"a\n\n"), ["a", ""]);
        assert_eq!(split(b"\n"), [""]);
        assert_eq!(split(b"a\r\nb"), ["a\\r", "b"]);
    }
}
