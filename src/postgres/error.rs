//! What can go wrong with PostgreSQL, by condition.

use std::error::Error as _;
use std::fmt;
use std::io;

use millstream_core::model::Recovery;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// A failure of a session or a refusal of the server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error("postgres settings: {0}")]
    Settings(String),
    #[error("{context}: postgres is not available: {cause}")]
    Unavailable { context: String, cause: String },
    #[error("{target} refuses the login: {cause}; check user, password and database")]
    AuthFailed { target: String, cause: String },
    #[error("{target} is read only; a session that can write is needed")]
    NotReadWrite { target: String },
    #[error("{context}: another session held the lock for longer than the bound")]
    LockTimeout { context: String },
    #[error("{context}: conflict with another transaction ({sqlstate}): {message}")]
    Conflict { context: String, sqlstate: String, message: String },
    #[error("no definite reply to COMMIT: {cause}; the progress rows tell what happened")]
    CommitUnknown { cause: String },
    #[error("SINK_REFUSED: {context} ({sqlstate}): {message}{}", detail.as_deref().map(|d| format!("; {d}")).unwrap_or_default())]
    Refused { context: String, sqlstate: String, message: String, detail: Option<String> },
    #[error("schema millstream is at version {found}, this program knows {known}; run the newer program")]
    SchemaNewer { found: i32, known: i32 },
    #[error("schema millstream lacks version {version}; apply the SQL that `millstream run --no-ddl` prints")]
    SchemaMissing { version: i32 },
    #[error(
        "version {version} of schema millstream is not the one this program knows; it was changed by hand"
    )]
    SchemaDiverged { version: i32 },
    #[error("LOG_IDENTITY_CHANGED: {application} has read from cluster {recorded}, this one is {found}")]
    LogIdentityChanged { application: String, recorded: String, found: String },
    #[error("APP_ID_CONFLICT: {}", list(.0))]
    AppIdConflict(Vec<OutputConflict>),
    #[error("tables do not fit the pipeline: {}", list(.0))]
    Tables(Vec<TableFault>),
    #[error("{context}: unexpected answer: {cause}")]
    Corrupt { context: String, cause: String },
}

/// An output that this application may not take as its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputConflict {
    /// Another application owns it.
    Owned { kind: &'static str, name: String, owner: String },
    /// Nobody owns it, but it holds rows that this application did not write.
    NotEmpty { table: String },
    /// An internal topic that holds records already, which this application's routers did not write.
    TopicNotEmpty { topic: String },
}

/// One way in which an existing table differs from what the pipeline needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFault {
    pub table: String,
    pub fault: String,
}

impl PostgresError {
    /// Of what looks at what is there whenever it runs: a lost reply to COMMIT is an outage like any other.
    pub(super) fn of_repeatable(self) -> PostgresError {
        match self {
            PostgresError::CommitUnknown { cause } => {
                PostgresError::Unavailable { context: "COMMIT".to_owned(), cause }
            }
            other => other,
        }
    }

    pub fn recovery(&self) -> Recovery {
        match self {
            PostgresError::Unavailable { .. }
            | PostgresError::NotReadWrite { .. }
            | PostgresError::LockTimeout { .. }
            | PostgresError::Conflict { .. } => Recovery::Retry,
            PostgresError::CommitUnknown { .. } => Recovery::RestartTask,
            PostgresError::LogIdentityChanged { .. } | PostgresError::Corrupt { .. } => Recovery::Corrupt,
            PostgresError::Settings(_)
            | PostgresError::AuthFailed { .. }
            | PostgresError::Refused { .. }
            | PostgresError::SchemaNewer { .. }
            | PostgresError::SchemaMissing { .. }
            | PostgresError::SchemaDiverged { .. }
            | PostgresError::AppIdConflict(_)
            | PostgresError::Tables(_) => Recovery::Invalid,
        }
    }

    /// Whether the same transaction may be run again on the same session.
    pub fn is_conflict(&self) -> bool {
        matches!(self, PostgresError::Conflict { .. } | PostgresError::LockTimeout { .. })
    }

    /// Classes a failed statement; `context` says what was being done, to which table.
    pub(super) fn statement(context: &str, error: &tokio_postgres::Error) -> PostgresError {
        let context = context.to_owned();
        let Some(db) = error.as_db_error() else {
            return match error.source() {
                _ if error.is_closed() => PostgresError::Unavailable { context, cause: chain(error) },
                Some(source) if source.is::<io::Error>() => {
                    PostgresError::Unavailable { context, cause: chain(error) }
                }
                _ => PostgresError::Corrupt { context, cause: chain(error) },
            };
        };
        let code = db.code();
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            return PostgresError::LockTimeout { context };
        }
        let (sqlstate, message) = (code.code().to_owned(), db.message().to_owned());
        if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED {
            return PostgresError::Conflict { context, sqlstate, message };
        }
        if is_outage(db) {
            return PostgresError::Unavailable { context, cause: format!("{message} ({sqlstate})") };
        }
        PostgresError::Refused { context, sqlstate, message, detail: db.detail().map(str::to_owned) }
    }

    /// Classes a failed COMMIT: only what the server says to have rolled back is definite.
    pub(super) fn commit(error: &tokio_postgres::Error) -> PostgresError {
        let definite = error.as_db_error().is_some_and(|db| {
            let class = &db.code().code()[..2];
            db.parsed_severity() == Some(Severity::Error) && matches!(class, "40" | "23" | "44")
        });
        if definite {
            PostgresError::statement("commit", error)
        } else {
            PostgresError::CommitUnknown { cause: chain(error) }
        }
    }

    /// Classes a failed attempt to connect.
    pub(super) fn connect(target: &str, error: &tokio_postgres::Error) -> PostgresError {
        let (target, cause) = (target.to_owned(), chain(error));
        let source = error.source();
        if let Some(io) = source.and_then(|s| s.downcast_ref::<io::Error>())
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return PostgresError::NotReadWrite { target };
        }
        if let Some(db) = error.as_db_error() {
            return match &db.code().code()[..2] {
                "28" | "3D" | "42" => PostgresError::AuthFailed { target, cause },
                _ => PostgresError::Unavailable { context: target, cause },
            };
        }
        match error.to_string().as_str() {
            "authentication error" | "invalid configuration" => PostgresError::AuthFailed { target, cause },
            _ => PostgresError::Unavailable { context: target, cause },
        }
    }
}

/// Conditions that pass, or that an operator lifts, without any change to the pipeline: connection, shutdown,
/// time-outs, want of resources, a disk that failed, a standby.
fn is_outage(db: &DbError) -> bool {
    let code = db.code().code();
    let fatal = matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    fatal || matches!(&code[..2], "08" | "53" | "57" | "58") || matches!(code, "25006" | "25P03")
}

/// An error with its causes, on one line.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = match error.as_db_error() {
        Some(db) => return format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for OutputConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputConflict::Owned { kind, name, owner } => {
                write!(f, "{kind} {name} belongs to application {owner}")
            }
            OutputConflict::NotEmpty { table } => {
                write!(f, "table {table} holds rows that this application did not write; empty or rename it")
            }
            OutputConflict::TopicNotEmpty { topic } => {
                write!(f, "topic {topic} holds records that this application did not write; delete it")
            }
        }
    }
}

impl fmt::Display for TableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.table, self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_reply_is_an_outage_to_what_looks_again_and_to_nothing_else() {
        let lost = || PostgresError::CommitUnknown { cause: "connection closed".to_owned() };
        assert_eq!(lost().recovery(), Recovery::RestartTask);
        assert_eq!(lost().of_repeatable().recovery(), Recovery::Retry);
        let newer = PostgresError::SchemaNewer { found: 9, known: 5 };
        assert_eq!(newer.of_repeatable().recovery(), Recovery::Invalid);
    }
}
