//! What millstream decides, apart from everything it touches.
//!
//! This crate owns the meaning of a pipeline: its file, its expressions, the verdict on a record, windows,
//! accumulators, and the decision a recovery takes. It must never see a client library, an async runtime, the
//! wall clock, randomness or a log macro: it does not depend on them. Data passes from bytes to staged changes
//! and never back. Each module uses only those listed above it; siblings never import each other.
#![forbid(unsafe_code)]

pub mod model;

pub mod expr;

pub mod pipeline;

pub mod codec;

pub mod aggregate;
pub mod verdict;
pub mod window;

pub mod commit;

pub mod engine;
