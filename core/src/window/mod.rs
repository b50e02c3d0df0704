//! Windows over event time, the watermark, lateness, and how long an id is remembered.
//!
//! Owns which windows a record falls into, the slices they share, which sessions it joins, whether it comes in time, and when
//! a bucket of ids expires. Must never see a record: times go in, spans and verdicts come out. Used by the engine for every
//! record that is not dead. Tested here.

mod expiry;
mod frame;
mod session;
mod sources;
mod watermark;

pub use expiry::{Expiry, TimeBucket};
pub use frame::Frame;
pub use session::SessionRules;
pub use sources::{Marks, SourceMark, SourceWatermarks};
pub use watermark::{Arrival, Horizon, Lateness, lateness, watermark};
