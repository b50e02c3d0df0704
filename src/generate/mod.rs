//! The load generator: events of known systems, at any rate, with faults in known shares.
//!
//! Owns what a load looks like (`profile`, `writer`), which event comes when (`visits`, `bursts`, `timeline`), what is
//! wrong with it (`kind`, `damage`, `recent`), and how fast it goes where (`pace`, `target`, `run`). The bytes depend on
//! nothing but a `Load`: no clock, no order of threads, no library's random numbers (and on the last bit of the
//! platform's `powf`, where some things are more popular than others). Must never read what a pipeline
//! made of them. Data passes from a source through a writer into a batch, and from there to a topic or to lines,
//! without a value of its own on the heap per event. Tested beside each file, and by `tests/it/generate.rs`.

mod bursts;
mod chance;
mod damage;
mod event;
mod generator;
mod kind;
mod pace;
mod popularity;
mod profile;
mod recent;
mod run;
mod target;
mod text;
mod timeline;
mod visits;
mod writer;

use std::io;

use crate::kafka::KafkaError;

pub use bursts::MOST_EVENTS as MOST_W1_EVENTS;
pub use generator::{Generator, Load, Tally};
pub use kind::{Kind, Kinds, Share, ShareError};
pub use profile::{Defaults, Profile};
pub use run::{Control, Outcome, run};
pub use target::{LinesTarget, Target, TopicSettings, TopicTarget};
pub use timeline::{Asked, Timeline, TimelineError};

/// Why events did not reach their target.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("the events cannot be written: {0}")]
    Lines(#[from] io::Error),
}
