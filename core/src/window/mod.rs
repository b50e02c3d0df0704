//! Windows over event time, the watermark, and lateness.
//!
//! Owns which windows a record falls into, the slices they share, which sessions it joins, and whether it comes in time. Must
//! never see a record: times go in, spans and verdicts come out. Used by the engine for every accepted record. Tested here.

mod frame;
mod session;
mod watermark;

pub use frame::Frame;
pub use session::SessionRules;
pub use watermark::{Arrival, Horizon, Lateness, lateness, watermark};
