//! What a person, an orchestrator or a scraper may ask of a running instance.
//!
//! Owns the HTTP server, on a thread of its own so that a busy worker is still visible, and the metrics recorder.
//! Must never touch a worker's data: it asks a `Health`, which answers from what the worker last published. Must
//! never change anything: every route is a GET. Answers come from the command's `Health`, go out as JSON or as
//! Prometheus text. Tested in `tests.rs` over real connections.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the worker loop beats, else 503 |
//! | `/readyz` | 200 when ready, else 503; the `Readiness` as JSON either way |
//! | `/metrics` | Prometheus text |
//! | `/status` | what `Health::status` returns, as JSON |

mod metrics;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use millstream_core::model::{EventTime, Recovery, TopicPartition};
use serde::{Serialize, Serializer};

pub use metrics::Metrics;
pub use server::{HttpServer, serve};

/// How the instance is. Every method answers at once, from memory.
pub trait Health: Send + Sync {
    /// Whether the worker loop beats.
    fn alive(&self) -> bool;

    /// Whether it does its work, and what it waits for.
    fn readiness(&self) -> Readiness;

    /// All that is worth knowing.
    fn status(&self) -> serde_json::Value;
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    /// What is missing, each as `<neighbour>: <condition>`, such as `kafka: no broker answers`.
    pub waiting_for: Vec<String>,
    /// Since when `ready` has been what it is.
    #[serde(serialize_with = "as_text")]
    pub since: EventTime,
    pub tasks: Vec<TaskReadiness>,
}

/// One task in the answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskReadiness {
    #[serde(serialize_with = "as_text")]
    pub task: TopicPartition,
    pub state: String,
    /// Why it waits or has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("http: port {} of {} is taken by another program; choose another with --http", addr.port(), addr.ip())]
    PortTaken { addr: SocketAddr },
    #[error(
        "http: '{addr}' is no address to listen on: {problem}; --http takes host:port, such as 127.0.0.1:4040"
    )]
    Address { addr: String, problem: std::io::Error },
    #[error("http: cannot listen on {addr}: {problem}; choose another with --http")]
    Bind { addr: SocketAddr, problem: std::io::Error },
    #[error("http: cannot start the server's thread: {0}")]
    Thread(std::io::Error),
    #[error("metrics: a recorder is installed already")]
    RecorderTaken,
}

impl HttpError {
    pub fn recovery(&self) -> Recovery {
        match self {
            HttpError::PortTaken { .. } | HttpError::Thread(_) => Recovery::Retry,
            HttpError::Address { .. } | HttpError::Bind { .. } | HttpError::RecorderTaken => {
                Recovery::Invalid
            }
        }
    }
}

fn as_text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
