//! Logs: to stderr, always; stdout is only a command's answer.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The variable that holds the filter, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "MILLSTREAM_LOG";
const DEFAULT_FILTER: &str = "info";

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    Text,
    Json,
}

/// Why logging could not be set up; a mistake of usage, exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("{FILTER_VARIABLE}='{filter}': {problem}; try 'info' or 'warn,millstream=debug'")]
    Filter { filter: String, problem: ParseError },
    #[error("logging: {0}")]
    Taken(#[from] TryInitError),
}

/// Sends all logs of the process to stderr. Once per process.
pub fn init(format: LogFormat) -> Result<(), LoggingError> {
    let filter = filter(std::env::var_os(FILTER_VARIABLE).map(|value| value.to_string_lossy().into_owned()))?;
    let registry = tracing_subscriber::registry().with(filter);
    let on_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if is_text(format, on_terminal) {
        let colours = on_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        registry.with(lines.with_ansi(colours)).try_init()?;
    } else {
        registry
            .with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false))
            .try_init()?;
    }
    Ok(())
}

fn filter(asked: Option<String>) -> Result<EnvFilter, LoggingError> {
    let filter = asked.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| DEFAULT_FILTER.to_string());
    EnvFilter::builder().parse(&filter).map_err(|problem| LoggingError::Filter { filter, problem })
}

fn is_text(format: LogFormat, on_terminal: bool) -> bool {
    match format {
        LogFormat::Auto => on_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn filter_defaults_to_info_and_names_what_it_cannot_read() {
        assert_eq!(filter(None).map(|filter| filter.to_string()).ok().as_deref(), Some("info"));
        assert_eq!(filter(Some(" ".into())).map(|filter| filter.to_string()).ok().as_deref(), Some("info"));
        let refused = filter(Some("millstream=loud".into())).map_err(|error| error.to_string());
        assert!(refused.is_err_and(|text| text.contains("MILLSTREAM_LOG='millstream=loud'")));
    }

    #[test]
    fn auto_follows_the_terminal() {
        assert!(is_text(LogFormat::Auto, true) && !is_text(LogFormat::Auto, false));
        assert!(is_text(LogFormat::Text, false) && !is_text(LogFormat::Json, true));
    }

    #[test]
    fn says_a_word() {
        if std::env::var_os("MILLSTREAM_TEST_SAYS_A_WORD").is_some() {
            init(LogFormat::Auto).expect("logging starts once");
            tracing::info!(task = "page-views-0", "taken");
        }
    }

    #[test]
    fn lines_go_to_stderr_as_json_where_it_is_no_terminal() {
        let said = Command::new(std::env::current_exe().expect("the test program has a path"))
            .args(["--exact", "cli::logging::tests::says_a_word", "--nocapture"])
            .env("MILLSTREAM_TEST_SAYS_A_WORD", "1")
            .env_remove(FILTER_VARIABLE)
            .output()
            .expect("the test program runs");
        let stderr = String::from_utf8_lossy(&said.stderr).into_owned();
        let line: serde_json::Value = stderr
            .lines()
            .find_map(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("no JSON in {stderr}"));
        assert_eq!(line["message"], "taken");
        assert_eq!(line["task"], "page-views-0");
        assert_eq!(line["level"], "INFO");
        assert!(!String::from_utf8_lossy(&said.stdout).contains("taken"));
    }
}
