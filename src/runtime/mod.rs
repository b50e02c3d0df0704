//! A running pipeline: an instance and its workers, their epochs, taking and releasing tasks.
//!
//! Owns the order in which the participants are told about an epoch, and what happens when one of them does not
//! answer. Must never decide about offsets itself: `millstream_core::commit` does, this carries it out. An `Instance`
//! supervises workers, which share nothing; records come from `kafka`, pass through `millstream_core::engine`, and
//! leave at the epoch for `kafka`, `postgres` and `state`, in that order. What a worker is about is written on its
//! `Board`, and read from all `Boards` as one. Tested by `tests/it` and `chaos/` on real servers.

mod board;
mod boards;
mod commit;
mod coverage;
mod desk;
mod due;
mod ending;
mod epoch;
mod error;
mod hop;
mod instance;
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

pub use board::{Board, BoardState, Stage, TaskReport, Waiter};
pub use boards::{Boards, InstanceState};
pub use due::{BATCH_RECORDS, EPOCH_RECORDS, Gathered};
pub use error::{Halt, RuntimeError};
pub use instance::{Finished, Instance, InstanceOptions};
pub use links::LinkSettings;
pub use prepare::{Prepared, SourceTopic};
pub use stop::StopFlag;
