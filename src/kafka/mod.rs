//! The Kafka neighbour: a worker's consumer and producer, and an administrator for topics.
//!
//! Owns every client of librdkafka, its settings, and what its error codes mean to us. It must never decide about
//! offsets: it assigns, seeks and commits what it is told, and says plainly when it could not. Nothing here resets
//! an offset, joins a group again by itself after it was fenced, or aborts a transaction: a producer that failed is
//! discarded and another takes its place.
//!
//! Records come in as a [`Batch`] that borrows the consumer, grouped in runs of one partition; they go out through
//! [`Producer::produce_batch`], which copies. Unsafe code lives in `ffi.rs` alone. Tested beside the pure parts, and
//! against a real broker in `tests/it/kafka.rs`.

mod admin;
mod batch;
mod config;
mod consumer;
mod context;
mod coverage;
#[cfg(feature = "fault")]
pub mod deliberate;
mod error;
mod ffi;
mod group;
mod producer;

pub use admin::{Admin, TopicDescription};
pub use batch::{Batch, BatchItem, Record, Run};
pub use config::{Acks, KafkaSettings};
pub use consumer::Consumer;
pub use context::GroupEvent;
pub use coverage::Coverage;
pub use error::KafkaError;
pub use ffi::GroupMetadata;
pub use group::GroupOffset;
pub use millstream_core::codec::partition_for;
pub use producer::{COMMIT, CommittedOffset, Message, OutputTopic, Producer};
