//! What happened, before it is written down.

/// One event of a visit. Names and texts are numbers here; a profile's writer knows how they read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened, in milliseconds since 1970.
    pub at_ms: i64,
    /// When it arrives, in milliseconds since 1970.
    pub arrives_ms: i64,
    pub user: u32,
    pub page: u32,
    pub action: Action,
    pub session: u32,
    /// From 0 to 2, and from 0 to 3.
    pub device: u8,
    pub browser: u8,
    /// As random as a UUID.
    pub id: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    View,
    Click,
    SessionStart,
    SessionEnd,
}

/// Shares of devices and browsers in per cent: those of workload W1.
pub const DEVICES: [u32; 3] = [55, 38, 7];
pub const BROWSERS: [u32; 4] = [60, 20, 12, 8];
