//! What can be generated: the events of the systems that millstream is for, and workload W1.

use super::bursts::SPAN_MS;
use super::kind::Share;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Views and clicks of users on pages, without a key
    UserActivity,
    /// The same, for the pipeline with an enriched topic
    EnrichedActivity,
    /// Hits on URLs with id, referrer and address; one in a hundred is sent twice
    ClickstreamMinute,
    /// Clicks, views, scrolls and hovers with session, device and browser, keyed by user
    #[value(name = "clickstream-10m")]
    ClickstreamTenMinutes,
    /// Views and clicks of users on pages, without a key, one in fifty late
    UserSessions,
    /// The benchmark: bursts of twenty events a user in two hours, 296 bytes each, keyed by user
    W1,
}

/// What a profile is like unless something else is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    pub topic: &'static str,
    pub keyed: bool,
    /// None: as many as the number of events asks for.
    pub users: Option<u32>,
    pub pages: u32,
    pub skew: f64,
    /// None: until stopped.
    pub events: Option<u64>,
    /// Events per second of event time, and per second where they are sent live.
    pub pace: u32,
    /// The event time all events cover, whatever the pace.
    pub span_ms: Option<i64>,
    pub jitter_ms: u32,
    pub late: Share,
    pub late_by_ms: (u32, u32),
    pub duplicates: Share,
}

const MINUTE_MS: u32 = 60_000;

const ACTIVITY: Defaults = Defaults {
    topic: "user_activity",
    keyed: false,
    users: Some(100),
    pages: 20,
    skew: 0.9,
    events: None,
    pace: 100,
    span_ms: None,
    jitter_ms: 1_000,
    late: Share::NONE,
    late_by_ms: (5 * MINUTE_MS, 10 * MINUTE_MS),
    duplicates: Share::NONE,
};

impl Profile {
    pub fn defaults(self) -> Defaults {
        let clickstream = Defaults { topic: "clickstream", pages: 50, ..ACTIVITY };
        match self {
            Profile::UserActivity | Profile::EnrichedActivity => ACTIVITY,
            Profile::ClickstreamMinute => {
                Defaults { duplicates: Share::of_millionths(10_000), users: Some(500), ..clickstream }
            }
            Profile::ClickstreamTenMinutes => Defaults {
                keyed: true,
                users: Some(1_000),
                pace: 1_000,
                late_by_ms: (20 * MINUTE_MS, 40 * MINUTE_MS),
                ..clickstream
            },
            Profile::UserSessions => Defaults { late: Share::of_millionths(20_000), ..ACTIVITY },
            Profile::W1 => Defaults {
                topic: "w1",
                keyed: true,
                users: None,
                pages: 200,
                events: Some(2_000_000),
                span_ms: Some(SPAN_MS),
                ..ACTIVITY
            },
        }
    }
}
