//! Accumulators: add, merge, finish, encode.
//!
//! Owns what one aggregate function keeps for one window, key and partition. Merging is commutative and
//! associative, so no interleaving changes a final value (sums of doubles up to rounding). Values come from the
//! engine, go into state and into result deltas. Tested here and by the engine's property tests.

mod accumulator;
mod average;
mod quantiles;
mod sketch;

pub use accumulator::{Accumulator, AccumulatorError};
pub(crate) use accumulator::{compare, encode_value};
pub use average::nearest_quotient;
pub use quantiles::Quantiles;
pub use sketch::Sketch;
