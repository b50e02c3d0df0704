//! Bytes to rows and back: records, set values, state.
//!
//! Owns the strict reading of record values (what is one JSON object, where a declared field stands in it, what its
//! bytes mean), the splicing of enriched ones, and the formats of local state. Must never judge by anything but the
//! value and the declared fields, nor know an aggregate. Data passes from a borrowed value through a scanner (`fast`,
//! else `scan`) that yields members, and through `field` into a row that borrows from the value; `splice` starts from
//! the same text and writes into a caller's buffer; state bytes come from and go to `engine`. Tested beside each file
//! by tables, and in `tests.rs` by properties: both scanners agree, and agree with serde_json on what is JSON.

mod decode;
mod escape;
mod fast;
mod field;
mod json;
mod names;
mod partitioner;
mod routed;
mod scan;
mod splice;
mod state;
mod timestamp;
mod uuid;

#[cfg(test)]
mod tests;

pub use decode::{Decoded, RecordDecoder};
pub use json::write_json;
pub use partitioner::partition_for;
pub use routed::{Routed, RoutedHead};
pub use splice::{SpliceNames, splice};
pub use state::{
    DEDUP_HEAD, META_KEY, SOURCES_KEY, SourceMarks, StateCodecError, TaskMeta, decode_dedup_key,
    decode_dedup_value, decode_group_key, decode_meta, decode_sources, dedup_key, dedup_prefix,
    encode_group_key, encode_meta, encode_sources, session_prefix, session_slot_prefix, window_key,
    window_prefix,
};
pub use timestamp::{TimestampError, parse_timestamp};
