//! What a command answers with on stdout: tables for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use comfy_table::{Cell, CellAlignment, Table, presets};
use millstream_core::codec::write_json;
use millstream_core::model::{DataType, Span, Value};
use serde::Serialize;

use super::exit::Exit;

/// Longest text of one cell, in characters.
const MAX_CELL: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Json,
}

/// `--output` of every reading command.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgument {
    /// A table for people, JSON for programs
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

/// Prints the answer and passes the exit code on. A reader that went away is no fault: it has seen enough.
pub fn answer(text: &str, exit: Exit) -> Exit {
    let mut stdout = io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{newline}").and_then(|()| stdout.flush()) {
        Ok(()) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => {
            eprintln!("cannot write to stdout: {error}");
            Exit::LocalDisk
        }
    }
}

/// Prints the answer as JSON.
pub fn answer_json(value: &impl Serialize, exit: Exit) -> Exit {
    match serde_json::to_string_pretty(value) {
        Ok(text) => answer(&text, exit),
        Err(error) => {
            eprintln!("cannot write the answer as JSON: {error}");
            Exit::Internal
        }
    }
}

/// An empty table: no lines, two blanks between columns.
pub fn grid(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers.iter().map(text));
    table
}

/// The table as indented lines without trailing blanks.
pub fn indented(table: &Table) -> String {
    table.lines().map(|line| format!(" {}\n", line.trim_end())).collect()
}

/// A cell of text: one line, without control characters, cut.
pub fn text(value: impl Display) -> Cell {
    Cell::new(one_line(&value.to_string()))
}

/// A cell that stands right.
pub fn number(value: impl Display) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

/// `-` for what is not there.
pub fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A cell of a row.
pub fn cell(value: &Value<'_>, data_type: DataType) -> Cell {
    match value {
        Value::Bigint(_) | Value::Double(_) | Value::Numeric(_) => number(value_text(value, data_type)),
        _ => text(value_text(value, data_type)),
    }
}

/// A value as JSON has it, text without its quotes.
pub fn value_text(value: &Value<'_>, data_type: DataType) -> String {
    if let Value::Text(text) = value {
        return text.to_string();
    }
    let mut json = Vec::new();
    write_json(value, data_type, &mut json);
    String::from_utf8_lossy(&json).trim_matches('"').to_owned()
}

/// `90s`, `2m`, `1d`: in the largest unit that leaves no rest, as the pipeline file writes it.
pub fn span(span: Span) -> String {
    let ms = span.millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fits = units.iter().find(|(unit, _)| ms > 0 && ms % unit == 0);
    fits.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// `1 row`, `2 rows`.
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Cut in the middle: what a record output adds stands at the end.
///
/// Why: a value from outside must neither break the table nor speak to the terminal.
fn one_line(text: &str) -> String {
    let length = text.chars().count();
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if length > MAX_CELL && at == MAX_CELL / 2 {
            out.push('…');
        }
        if length > MAX_CELL && (MAX_CELL / 2..length - MAX_CELL / 2).contains(&at) {
            continue;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_takes_the_largest_unit_that_leaves_no_rest() {
        for (ms, expect) in [
            (0, "0ms"),
            (1_500, "1500ms"),
            (90_000, "90s"),
            (120_000, "2m"),
            (3_600_000, "1h"),
            (172_800_000, "2d"),
        ] {
            assert_eq!(span(Span::from_millis(ms)), expect);
        }
    }

    #[test]
    fn cell_speaks_to_no_terminal_and_stays_on_its_line() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        let long = one_line(&format!("{}end", "x".repeat(500)));
        assert_eq!(long.chars().count(), MAX_CELL + 1);
        assert!(long.ends_with("xend"), "{long}");
    }

    #[test]
    fn value_is_shown_without_quotes() {
        assert_eq!(value_text(&Value::Text("a\"b".into()), DataType::Text), "a\"b");
        assert_eq!(value_text(&Value::Null, DataType::Text), "null");
        let instant = Value::Timestamp(millstream_core::model::EventTime(0));
        assert_eq!(value_text(&instant, DataType::Timestamp), "1970-01-01T00:00:00.000000Z");
    }
}
