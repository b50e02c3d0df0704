//! What ends a run, and what interrupts an epoch.

use millstream_core::commit::Refusal;
use millstream_core::engine::StoreError;
use millstream_core::model::Recovery;

use crate::kafka::KafkaError;
use crate::postgres::PostgresError;
use crate::state::StateError;

/// A failure of one of the neighbours.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("no thread could be started: {0}")]
    NoThread(String),
}

/// Why a worker, or a whole instance, stopped before its work was done.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// A signal came during an outage; what was under way is safe to abandon.
    #[error("stopped while waiting for {0}")]
    Interrupted(String),
    #[error("{waiting_for} did not come back within {seconds} s (--give-up-after)")]
    GaveUp { waiting_for: String, seconds: u64 },
    /// Another process is this member of the group.
    #[error("{0}")]
    Duplicate(KafkaError),
    #[error("a task has stopped, so the end was not reached everywhere: {0}")]
    AllStopped(Refusal),
    #[error("worker {worker} ended by a fault of the program; please report it with the lines above")]
    Panicked { worker: usize },
    #[error(transparent)]
    Failed(#[from] RuntimeError),
}

impl RuntimeError {
    pub fn recovery(&self) -> Recovery {
        match self {
            RuntimeError::Kafka(error) => error.recovery(),
            RuntimeError::Postgres(error) => error.recovery(),
            RuntimeError::State(error) => error.recovery(),
            RuntimeError::Store(StoreError::Io(_)) => Recovery::Retry,
            RuntimeError::NoThread(_) => Recovery::RestartTask,
            RuntimeError::Store(StoreError::Corrupt(_)) | RuntimeError::Refused(_) => Recovery::Corrupt,
        }
    }

    /// The neighbour it is about, as `/readyz` names it.
    pub fn neighbour(&self) -> &'static str {
        match self {
            RuntimeError::Kafka(_) => "kafka",
            RuntimeError::Postgres(_) => "postgres",
            RuntimeError::State(_) | RuntimeError::Store(_) => "local state",
            RuntimeError::Refused(_) => "operator",
            RuntimeError::NoThread(_) => "operating system",
        }
    }
}
