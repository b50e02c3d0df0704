//! What is typed, and the load that it means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millstream_core::codec::parse_timestamp;
use millstream_core::model::EventTime;

use crate::generate::{Asked, Kinds, Load, MOST_W1_EVENTS, Profile, Share, Timeline, TopicSettings};
use crate::kafka::{Acks, KafkaSettings};

use super::super::output::OutputFormat;

const MOST_USERS: i64 = 50_000_000;
const MOST_PARTITIONS: i64 = 10_000;
const MOST_SPAN_MS: u64 = 40 * 86_400_000;
const DEFAULT_PARTITIONS: i32 = 3;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct GenerateArguments {
    /// What the events look like
    #[arg(value_name = "PROFILE")]
    profile: Profile,
    /// How many events; without it until stopped (w1: 2,000,000)
    #[arg(long, value_name = "N", help_heading = LOAD, value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,
    /// How long, such as 90s, 10m or 2h; with a rate that is a number of events
    #[arg(long = "for", value_name = "DURATION", help_heading = LOAD, value_parser = span, conflicts_with = "events")]
    limit: Option<Duration>,
    /// Events a second, 1 to 1000000, or `unlimited`; the profile's own pace, unlimited for --output and w1
    #[arg(long, value_name = "N", help_heading = LOAD, value_parser = rate)]
    rate: Option<Rate>,
    /// The same seed, start and options make the same bytes
    #[arg(long, value_name = "N", help_heading = LOAD, default_value_t = 1)]
    seed: u64,
    /// How many users there are
    #[arg(long, value_name = "N", help_heading = LOAD, value_parser = clap::value_parser!(u32).range(1..=MOST_USERS))]
    users: Option<u32>,
    /// How many pages there are
    #[arg(long, value_name = "N", help_heading = LOAD, value_parser = clap::value_parser!(u32).range(1..=MOST_USERS))]
    pages: Option<u32>,
    /// How much more popular the first pages are: Zipf's exponent, 0 for all alike
    #[arg(long, value_name = "S", help_heading = LOAD, default_value_t = 0.9, allow_negative_numbers = true, value_parser = skew)]
    skew: f64,
    /// The same for users; not for w1, where all have as many events
    #[arg(long, value_name = "S", help_heading = LOAD, default_value_t = 0.0, allow_negative_numbers = true, value_parser = skew)]
    user_skew: f64,
    /// Event time of the first event, such as 2026-01-30T00:00:00Z; now for a rate, else so that the last is now
    #[arg(long, value_name = "TIME", help_heading = TIME, value_parser = instant)]
    start: Option<EventTime>,
    /// Spread the events over so much event time, whatever the rate
    #[arg(long, value_name = "DURATION", help_heading = TIME, value_parser = span)]
    span: Option<Duration>,
    /// Events happen up to so long before they are sent, and so out of order; not for w1
    #[arg(long, value_name = "DURATION", help_heading = TIME, value_parser = span)]
    jitter: Option<Duration>,
    /// The share of late events, such as 2%
    #[arg(long, value_name = "PERCENT", help_heading = FAULTS)]
    late: Option<Share>,
    /// How late they are, from at least to at most
    #[arg(long, value_name = "LEAST..MOST", help_heading = FAULTS, value_parser = spans)]
    late_by: Option<(Duration, Duration)>,
    /// The share of events that repeat a sound one of the last ten seconds, byte for byte
    #[arg(long, value_name = "PERCENT", help_heading = FAULTS)]
    duplicates: Option<Share>,
    /// The share of values that nobody can read: no JSON, no UTF-8, no user, a time that is none
    #[arg(long, value_name = "PERCENT", help_heading = FAULTS)]
    bad: Option<Share>,
    /// Write lines of JSON there instead, `-` for stdout; needs no server
    #[arg(long, value_name = "FILE", help_heading = TARGET, conflicts_with_all = ["topic", "partitions", "acks", "key", "kafka"])]
    pub output: Option<PathBuf>,
    /// The topic, which is made if it is missing; the profile's own
    #[arg(long, value_name = "NAME", help_heading = TARGET)]
    topic: Option<String>,
    /// Partitions of a topic that is made (3)
    #[arg(long, value_name = "N", help_heading = TARGET, value_parser = clap::value_parser!(i32).range(1..=MOST_PARTITIONS))]
    pub partitions: Option<i32>,
    /// Who must have an event before it counts as sent; `all` also keeps out copies made on the way
    #[arg(long, value_name = "WHO", help_heading = TARGET, default_value = "all")]
    acks: AcksArgument,
    /// Whether events carry their user as key; as the profile's systems do it
    #[arg(long, value_name = "WHICH", help_heading = TARGET)]
    key: Option<KeyArgument>,
    /// Where Kafka is
    #[arg(long, value_name = "HOST:PORT,...", help_heading = TARGET, env = "KAFKA_BOOTSTRAP_SERVERS", default_value = "localhost:29092")]
    bootstrap_servers: String,
    /// Any setting of librdkafka, such as security.protocol=SSL; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = TARGET, value_parser = setting)]
    kafka: Vec<(String, String)>,
    /// How the counts at the end look
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub summary: OutputFormat,
}

const LOAD: &str = "Load";
const TIME: &str = "Event time";
const FAULTS: &str = "Faults";
const TARGET: &str = "Target";

const AFTER_HELP: &str = "\
Shares are counted, not drawn: of 10,000 events with `--late 2%` exactly 200 are late. Every event is sound, late, a
duplicate, or bad, never two of these. Event time follows the rate, so that a rate is a live load; with --span or
without a rate it is a past, ready to be read as a backlog.

Examples:
  millstream generate user-activity                              a live load of 100 events a second, until Ctrl-C
  millstream generate user-sessions --rate 5000 --for 10m        one in fifty is late, as this profile has it
  millstream generate clickstream-10m --events 10000000 --rate unlimited --span 24h
  millstream generate w1                                         the benchmark's 2,000,000 events
  millstream generate enriched-activity --events 1000 --bad 1% --output - | millstream try pipeline.yaml --input -

Exit codes:
  0 sent, or stopped by a signal    2 wrong usage                  74 the file cannot be written
  69 Kafka cannot be reached        77 Kafka refused the events";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rate {
    Limited(u32),
    Unlimited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum AcksArgument {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum KeyArgument {
    User,
    None,
}

impl GenerateArguments {
    /// Events a second; None: as fast as possible.
    pub fn rate(&self) -> Option<u32> {
        match self.rate {
            Some(Rate::Limited(rate)) => Some(rate),
            Some(Rate::Unlimited) => None,
            None if self.output.is_some() || self.profile == Profile::W1 || self.span.is_some() => None,
            None => Some(self.profile.defaults().pace),
        }
    }

    /// How long a run without a rate lasts.
    pub fn limit(&self) -> Option<Duration> {
        self.limit.filter(|_| self.rate().is_none())
    }

    pub fn load(&self, now_ms: i64) -> Result<Load, String> {
        let defaults = self.profile.defaults();
        let by_rate = self.limit.zip(self.rate()).map(|(limit, rate)| {
            u64::try_from(limit.as_millis() * u128::from(rate) / 1_000).unwrap_or(u64::MAX).max(1)
        });
        let events = self.events.or(by_rate).or(defaults.events);
        if self.profile == Profile::W1 {
            self.check_w1(events)?;
        }
        let asked = Asked {
            start_ms: self.start.map(EventTime::millis),
            span_ms: self.span.map(millis),
            events,
            rate: self.rate(),
            now_ms,
        };
        let timeline = Timeline::of(asked, &defaults).map_err(|error| error.to_string())?;
        if self.profile == Profile::W1 && timeline.length_ms(events.unwrap_or(0)) > MOST_SPAN_MS as i64 {
            return Err("w1 covers 40 days at most: raise --rate, or give --span".into());
        }
        let kinds = Kinds::new(
            self.late.unwrap_or(defaults.late),
            self.duplicates.unwrap_or(defaults.duplicates),
            self.bad.unwrap_or(Share::NONE),
        );
        let late_by = self.late_by.map(|(least, most)| (short_millis(least), short_millis(most)));
        Ok(Load {
            profile: self.profile,
            seed: self.seed,
            events,
            timeline,
            jitter_ms: self.jitter.map_or(defaults.jitter_ms, short_millis),
            users: self.users.or(defaults.users),
            user_skew: self.user_skew,
            pages: self.pages.unwrap_or(defaults.pages),
            page_skew: self.skew,
            kinds: kinds.ok_or("--late, --duplicates and --bad are more than 100% together")?,
            late_by_ms: late_by.unwrap_or(defaults.late_by_ms),
        })
    }

    pub fn topic_settings(&self) -> TopicSettings {
        let servers = ("bootstrap.servers".to_owned(), self.bootstrap_servers.clone());
        let client: BTreeMap<String, String> = [servers].into_iter().chain(self.kafka.clone()).collect();
        let name = self.topic_name().to_owned();
        TopicSettings {
            kafka: KafkaSettings {
                client,
                application: "millstream-generate".into(),
                instance: name.clone(),
                worker: 0,
                max_record_bytes: 1 << 20,
            },
            name,
            partitions: self.partitions.unwrap_or(DEFAULT_PARTITIONS),
            keyed: self.key.map_or(self.profile.defaults().keyed, |key| key == KeyArgument::User),
            acks: match self.acks {
                AcksArgument::None => Acks::None,
                AcksArgument::Leader => Acks::Leader,
                AcksArgument::All => Acks::All,
            },
        }
    }

    /// Where the events go, for a person.
    pub fn target(&self) -> String {
        match &self.output {
            Some(path) => path.display().to_string(),
            None => self.topic_name().to_owned(),
        }
    }

    fn topic_name(&self) -> &str {
        self.topic.as_deref().unwrap_or(self.profile.defaults().topic)
    }

    fn check_w1(&self, events: Option<u64>) -> Result<(), String> {
        if events.is_some_and(|events| events > MOST_W1_EVENTS) {
            return Err(format!("w1 has at most {MOST_W1_EVENTS} events: it is laid out in memory"));
        }
        if self.user_skew != 0.0 || self.jitter.is_some() {
            return Err("w1 takes no --user-skew and no --jitter: they are part of the workload".into());
        }
        Ok(())
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    const MOST: u32 = 1_000_000;
    if text == "unlimited" {
        return Ok(Rate::Unlimited);
    }
    let rate = text.parse().ok().filter(|rate| (1..=MOST).contains(rate));
    rate.map(Rate::Limited).ok_or_else(|| format!("not a number from 1 to {MOST}, or `unlimited`"))
}

fn skew(text: &str) -> Result<f64, String> {
    let skew = text.parse().ok().filter(|skew| (0.0..=10.0).contains(skew));
    skew.ok_or_else(|| "not a number from 0 to 10".to_owned())
}

fn instant(text: &str) -> Result<EventTime, String> {
    parse_timestamp(text).map_err(|error| error.to_string())
}

/// As the pipeline file writes it: `500ms`, `90s`, `10m`, `2h`, `7d`.
fn span(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let ms = text[..digits].parse().ok().and_then(|number: u64| number.checked_mul(unit_ms));
    let ms = ms.filter(|ms| unit_ms > 0 && *ms <= MOST_SPAN_MS);
    ms.map(Duration::from_millis)
        .ok_or_else(|| "not a duration like 500ms, 90s, 10m or 2h, at most 40d".to_owned())
}

fn spans(text: &str) -> Result<(Duration, Duration), String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let (least, most) = (span(least)?, span(most)?);
    if least <= most { Ok((least, most)) } else { Err("the first is longer than the second".to_owned()) }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn short_millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        generate: GenerateArguments,
    }

    fn load(arguments: &[&str]) -> Result<Load, String> {
        let typed = Typed::try_parse_from([&["generate"], arguments].concat()).map_err(|e| e.to_string())?;
        typed.generate.load(1_769_735_890_000)
    }

    #[test]
    fn rate_and_time_make_a_number_of_events() {
        let load = load(&["user-sessions", "--rate", "5000", "--for", "90s"]).expect("a load");
        assert_eq!(load.events, Some(450_000));
        assert_eq!((load.timeline.start_ms, load.timeline.step_ns), (1_769_735_890_000, 200_000));
    }

    #[test]
    fn lines_and_the_benchmark_know_no_pace() {
        let rate = |arguments: &[&str]| {
            let typed = Typed::try_parse_from([&["generate"], arguments].concat());
            typed.unwrap_or_else(|error| panic!("{error}")).generate.rate()
        };
        assert_eq!(rate(&["user-activity"]), Some(100));
        assert_eq!(rate(&["user-activity", "--output", "-"]), None);
        assert_eq!(rate(&["user-activity", "--output", "-", "--rate", "7"]), Some(7));
        assert_eq!(rate(&["w1"]), None);
        assert_eq!(rate(&["clickstream-10m", "--rate", "unlimited"]), None);
    }

    #[test]
    fn events_are_keyed_where_their_systems_do_it_or_where_it_is_asked() {
        let keyed = |arguments: &[&str]| {
            let typed = Typed::try_parse_from([&["generate"], arguments].concat());
            typed.unwrap_or_else(|error| panic!("{error}")).generate.topic_settings().keyed
        };
        for profile in ["user-activity", "enriched-activity", "user-sessions", "clickstream-minute"] {
            assert!(!keyed(&[profile]), "{profile}");
            assert!(keyed(&[profile, "--key", "user"]), "{profile}");
        }
        for profile in ["clickstream-10m", "w1"] {
            assert!(keyed(&[profile]), "{profile}");
            assert!(!keyed(&[profile, "--key", "none"]), "{profile}");
        }
    }

    #[test]
    fn what_makes_no_load_is_refused_with_a_reason() {
        for (arguments, reason) in [
            (&["user-activity", "--late", "60%", "--bad", "41%"][..], "more than 100% together"),
            (&["user-activity", "--rate", "unlimited"], "add --start"),
            (&["user-activity", "--rate", "0"], "1 to 1000000"),
            (&["user-activity", "--span", "1y"], "not a duration"),
            (&["user-activity", "--late-by", "2m..1m"], "longer than the second"),
            (&["user-activity", "--skew", "-1"], "0 to 10"),
            (&["w1", "--user-skew", "1"], "part of the workload"),
            (&["w1", "--events", "300000000"], "at most 200000000"),
            (&["w1", "--events", "100000000", "--rate", "10"], "40 days at most"),
            (&["nonsense"], "possible values"),
            (&["user-activity", "--output", "-", "--topic", "t"], "cannot be used with"),
        ] {
            let refused = load(arguments).expect_err(reason);
            assert!(refused.contains(reason), "{arguments:?}: {refused}");
        }
    }
}
