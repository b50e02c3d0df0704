//! `millstream test`

use std::fmt::Write;
use std::sync::Arc;

use clap::Args;
use millstream_core::engine::{Difference, TrialOptions, TrialReport, TrialTable, difference, run_trial};
use millstream_core::model::{EventTime, Value};
use millstream_core::pipeline::{Plan, TableId, TestCase};

use super::exit::Exit;
use super::file::FileArgument;
use super::output::{answer, plural, value_text};

/// Rows of a kind that a failed test shows.
const SHOWN_ROWS: usize = 20;
/// `commit_time()` in a test: 1970-01-01T00:00:00Z.
const COMMIT_TIME: EventTime = EventTime(0);

#[derive(Debug, Args)]
#[command(after_help = "\
Each case under `tests` runs the whole engine on its events, in one partition. In a difference `-` is a row that was
expected and not found, `+` one that was found and not expected.

Exit codes:
  0 all passed    1 a test failed    78 the file has problems")]
pub struct TestArguments {
    #[command(flatten)]
    file: FileArgument,
}

/// Runs every test of the file.
pub fn test(arguments: &TestArguments) -> Exit {
    let plan = match arguments.file.load() {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    if plan.tests.is_empty() {
        let hint = "give it a `tests:` list to say what it must compute";
        return answer(&format!("{} has no tests; {hint}", arguments.file.file.display()), Exit::Ok);
    }
    let mut text = String::new();
    let mut failed = 0;
    for case in &plan.tests {
        match run_case(&plan, case) {
            Ok(faults) if faults.is_empty() => text.push_str(&format!("ok      {}\n", case.name)),
            Ok(faults) => {
                failed += 1;
                text.push_str(&format!("FAILED  {}\n{faults}", case.name));
            }
            Err(exit) => return exit,
        }
    }
    let passed = plan.tests.len() - failed;
    text.push_str(&format!("{passed} passed, {failed} failed"));
    answer(&text, if failed == 0 { Exit::Ok } else { Exit::Negative })
}

/// The differences, as indented lines.
fn run_case(plan: &Plan, case: &TestCase) -> Result<String, Exit> {
    let options = TrialOptions { partitions: 1, commit_time: COMMIT_TIME };
    let report = run_trial(plan, &case.given, options).map_err(|error| {
        eprintln!("{}: {error}", case.name);
        Exit::Internal
    })?;
    let mut faults = String::new();
    for expectation in &case.expect {
        let found = match expectation.table {
            TableId::Aggregate(id) => &report.aggregates[id.0].table,
            TableId::Records(index) => &report.record_tables[index],
        };
        if let Some(difference) = difference(found, &expectation.rows) {
            faults.push_str(&told(found, &difference));
        }
    }
    if !faults.is_empty() {
        faults.push_str(&what_was_not_counted(&report));
    }
    Ok(faults)
}

fn told(found: &TrialTable, difference: &Difference<'_>) -> String {
    match difference {
        Difference::Count { expected, found: rows } => {
            let lines = found.rows.iter().map(|row| found_row(found, &row.values));
            let expected = plural(*expected, "row");
            format!("  {}: expected {expected}, found {rows}\n{}", found.name, listed('+', lines))
        }
        Difference::Rows { missing, unexpected } => {
            let expected = missing.iter().map(|row| {
                let cells = row.iter().map(|(name, value)| shown(found, name, value));
                cells.collect::<Vec<_>>().join("  ")
            });
            let others = unexpected.iter().map(|row| found_row(found, &row.values));
            format!(
                "  {}: {} not found, {} not expected\n{}{}",
                found.name,
                plural(missing.len(), "expected row"),
                plural(unexpected.len(), "row"),
                listed('-', expected),
                listed('+', others)
            )
        }
    }
}

fn listed(sign: char, mut rows: impl Iterator<Item = String>) -> String {
    let mut out: String = rows.by_ref().take(SHOWN_ROWS).map(|row| format!("    {sign} {row}\n")).collect();
    let more = rows.count();
    if more > 0 {
        let _ = writeln!(out, "    {sign} ... and {more} more");
    }
    out
}

fn found_row(found: &TrialTable, values: &[Value<'_>]) -> String {
    let cells = found.columns.iter().zip(values).map(|(column, value)| shown(found, &column.name, value));
    cells.collect::<Vec<_>>().join("  ")
}

fn shown(found: &TrialTable, name: &Arc<str>, value: &Value<'_>) -> String {
    let column = found.columns.iter().find(|column| column.name == *name);
    let text = column.map(|column| value_text(value, column.data_type)).unwrap_or_default();
    match value {
        Value::Text(_) => format!("{name}={text:?}"),
        _ => format!("{name}={text}"),
    }
}

/// Dead and late records explain most differences.
fn what_was_not_counted(report: &TrialReport) -> String {
    let mut out = String::new();
    if let Some(first) = report.dead_letters.first() {
        let dead = plural(report.dead_letters.len(), "record");
        let _ = writeln!(
            out,
            "  {dead} dead, the first at line {} of {}: {}: {}",
            first.offset, first.source, first.reason, first.detail
        );
    }
    if let Some(first) = report.late.first() {
        let late = plural(report.late.len(), "record");
        let _ = writeln!(
            out,
            "  {late} too late, the first at line {} of {} for {}",
            first.offset, first.source, first.aggregate
        );
    }
    out
}
