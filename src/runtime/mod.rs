//! A running pipeline: the worker loop, its epochs, taking and releasing tasks.
//!
//! Owns the order in which the participants are told about an epoch, and what happens when one of them does not
//! answer. Must never decide about offsets itself: `millstream_core::commit` does, this carries it out. Records come
//! from `kafka`, pass through `millstream_core::engine`, and leave at the epoch for `kafka`, `postgres` and `state`,
//! in that order. What a worker is about is written on a `Board`. Tested by `tests/it` and `chaos/` on real servers.

mod board;
mod commit;
mod epoch;
mod error;
mod links;
mod membership;
mod outputs;
mod prepare;
mod recovery;
mod replay;
mod slot;
mod stop;
mod taking;
mod worker;

pub use board::{Board, BoardState, Stage, TaskReport};
pub use error::{Halt, RuntimeError};
pub use links::{LinkSettings, Links};
pub use prepare::{Prepared, SourceTopic, prepare};
pub use stop::StopFlag;
pub use worker::{Finished, Worker, WorkerOptions};
