//! Windows over event time, the watermark, and lateness.
//!
//! Owns which windows a record falls into and whether it comes in time. Must never see a record: times go in, spans
//! and verdicts come out. Used by the engine for every accepted record. Tested here.

mod tumbling;
mod watermark;

pub use tumbling::{first_live_start, tumbling_window};
pub use watermark::{Lateness, lateness, watermark};
