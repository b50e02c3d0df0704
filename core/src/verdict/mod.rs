//! The verdict on a record: dead, or what it means for every output.
//!
//! Owns the order in which a record is judged and the evaluation of every expression it meets, before any of its
//! effects. Must never keep anything from one record to the next but scratch memory. A record and its row go in; a
//! `Dead`, or the matches and set values, come out for `engine`. Tested in `tests.rs` and by the bad-record corpus.

mod evaluate;
mod judge;
#[cfg(test)]
mod tests;

pub use evaluate::{Evaluated, Match};
pub use judge::{Judge, Judged, RecordView};
