//! Bytes to rows and back.
//!
//! Owns the reading of record values: what is one JSON object, where a declared field stands in it, what its bytes
//! mean, and how fields are added to a record without touching the bytes around them.
//! Must never judge by anything but the value and the declared fields: no clock, no state, no other record.
//! Data passes from a borrowed value through a scanner (`fast`, else `scan`) that yields members, and through `field`
//! into a row that borrows from the value; `splice` starts from the same text and writes into a caller's buffer.
//! Tested beside each file by tables, and in `tests.rs` by properties: both scanners agree, and agree with
//! serde_json on what is JSON.

mod decode;
mod escape;
mod fast;
mod field;
mod inet;
mod names;
mod scan;
mod splice;
mod timestamp;
mod uuid;

#[cfg(test)]
mod tests;

pub use decode::{Decoded, RecordDecoder};
pub use splice::{SpliceNames, splice};
pub use timestamp::{TimestampError, parse_timestamp};
