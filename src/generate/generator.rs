//! Events by the thousand: which comes next, what it is, how it reads.

use std::ops::Range;

use super::bursts::{Bursts, EVENTS_PER_USER};
use super::chance::Chance;
use super::damage::Damage;
use super::event::Event;
use super::kind::{Kind, Kinds};
use super::popularity::Popularity;
use super::profile::Profile;
use super::recent::Recent;
use super::timeline::Timeline;
use super::visits::{Clock, Visits};
use super::writer::Writer;

/// Everything that the bytes depend on.
#[derive(Clone, Debug)]
pub struct Load {
    pub profile: Profile,
    pub seed: u64,
    /// None: without an end.
    pub events: Option<u64>,
    pub timeline: Timeline,
    pub jitter_ms: u32,
    /// None: as many as the number of events asks for.
    pub users: Option<u32>,
    pub user_skew: f64,
    pub pages: u32,
    pub page_skew: f64,
    pub kinds: Kinds,
    pub late_by_ms: (u32, u32),
}

/// The load, event by event: the same for the same `Load`, however it is taken.
pub struct Generator {
    source: Source,
    left: Option<u64>,
    kinds: Kinds,
    chance: Chance,
    writer: Writer,
    recent: Recent,
    /// The event time at which the last event arrived.
    now_ms: i64,
    late_by_ms: (u32, u32),
    tally: Tally,
}

enum Source {
    Visits(Box<Visits>),
    Bursts(Box<Bursts>),
}

/// How many events of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; 4]);

/// Events that are ready to be sent.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ready: Vec<Ready>,
}

#[derive(Clone, Debug)]
struct Ready {
    value: Range<usize>,
    key: Range<usize>,
    place: u32,
}

/// One event as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Message<'b> {
    /// The user.
    pub key: &'b [u8],
    pub value: &'b [u8],
    /// Any number: events that are sent without a key go to the partition it leads to.
    pub place: u32,
}

impl Generator {
    pub fn new(load: Load) -> Generator {
        let pages = Popularity::new(load.pages, load.page_skew);
        let Timeline { start_ms, step_ns } = load.timeline;
        let source = match load.profile {
            Profile::W1 => {
                let events = load.events.expect("the number of a benchmark's events is known");
                let span_ms = load.timeline.length_ms(events);
                // Why: laid out for all, bursts would lack their end, and the last would never come.
                let events = load.kinds.clone().originals(events);
                let users =
                    load.users.unwrap_or((events / EVENTS_PER_USER).clamp(1, u64::from(u32::MAX)) as u32);
                Source::Bursts(Box::new(Bursts::new(load.seed, events, (users, pages), (start_ms, span_ms))))
            }
            _ => {
                let users = load.users.expect("the profile has a number of users");
                let users = Popularity::new(users, load.user_skew);
                let clock = Clock { start_ms, step_ns, passed_ns: 0 };
                Source::Visits(Box::new(Visits::new(load.seed, (users, pages), clock, load.jitter_ms)))
            }
        };
        Generator {
            source,
            left: load.events,
            kinds: load.kinds,
            chance: Chance::new(load.seed, 0),
            writer: Writer::new(load.profile),
            recent: Recent::default(),
            now_ms: start_ms,
            late_by_ms: load.late_by_ms,
            tally: Tally::default(),
        }
    }

    /// Adds up to `most` events; fewer only at the end.
    pub fn fill(&mut self, batch: &mut Batch, most: usize) {
        for _ in 0..most {
            if self.left == Some(0) || !self.add(batch) {
                return;
            }
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
        }
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// False at the end.
    fn add(&mut self, batch: &mut Batch) -> bool {
        let kind = self.kinds.next(!self.recent.is_empty());
        if kind == Kind::Duplicate {
            self.now_ms = self.source.pass().unwrap_or(self.now_ms);
            let sent = self.recent.pick(self.now_ms, &mut self.chance);
            batch.push_copy(&sent.value, sent.user.clone(), sent.place);
        } else {
            let Some(mut event) = self.source.next() else { return false };
            self.now_ms = event.arrives_ms;
            if kind == Kind::Late {
                event.at_ms = event.arrives_ms - self.late_by();
            }
            self.write(&event, kind, batch);
        }
        self.tally.0[kind as usize] += 1;
        true
    }

    fn write(&mut self, event: &Event, kind: Kind, batch: &mut Batch) {
        let written = self.writer.write(event, &mut batch.bytes);
        let (mut value, mut key) = (written.value.clone(), written.user.clone());
        let place = self.chance.next() as u32;
        if kind == Kind::Bad {
            // The key is that of the sound value, and stands behind the spoilt one.
            let user = batch.bytes[key.clone()].to_vec();
            value = Damage::pick(&mut self.chance).strike(&written, &mut batch.bytes);
            key = value.end..value.end + user.len();
            batch.bytes.extend_from_slice(&user);
        } else if kind == Kind::Sound && self.kinds.repeat() {
            let user = key.start - value.start..key.end - value.start;
            self.recent.keep(&batch.bytes[value.clone()], (user, place), event.arrives_ms);
        }
        batch.ready.push(Ready { value, key, place });
    }

    fn late_by(&mut self) -> i64 {
        let (least, most) = self.late_by_ms;
        i64::from(least) + i64::from(self.chance.below((most - least).saturating_add(1)))
    }
}

impl Source {
    fn next(&mut self) -> Option<Event> {
        match self {
            Source::Visits(visits) => Some(visits.next()),
            Source::Bursts(bursts) => bursts.next(),
        }
    }

    /// Lets pass the time of an event that something else takes the place of; answers it. Bursts have times of their own,
    /// whatever comes between them.
    fn pass(&mut self) -> Option<i64> {
        match self {
            Source::Visits(visits) => Some(visits.pass()),
            Source::Bursts(_) => None,
        }
    }
}

impl Tally {
    pub fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    pub fn events(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Batch {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ready.clear();
    }

    pub fn len(&self) -> usize {
        self.ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.ready.iter().map(|ready| Message {
            key: &self.bytes[ready.key.clone()],
            value: &self.bytes[ready.value.clone()],
            place: ready.place,
        })
    }

    fn push_copy(&mut self, value: &[u8], user: Range<usize>, place: u32) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let key = start + user.start..start + user.end;
        self.ready.push(Ready { value: start..self.bytes.len(), key, place });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::kind::Share;
    use super::super::timeline::Asked;
    use super::*;

    const PROFILES: [Profile; 6] = [
        Profile::UserActivity,
        Profile::EnrichedActivity,
        Profile::ClickstreamMinute,
        Profile::ClickstreamTenMinutes,
        Profile::UserSessions,
        Profile::W1,
    ];

    fn load(profile: Profile, seed: u64) -> Load {
        let defaults = profile.defaults();
        let asked = Asked { start_ms: Some(1_769_735_890_123), events: Some(5_000), ..Asked::default() };
        let share = |text: &str| text.parse::<Share>().expect(text);
        Load {
            profile,
            seed,
            events: asked.events,
            timeline: Timeline::of(asked, &defaults).expect("a start and a number"),
            jitter_ms: defaults.jitter_ms,
            users: defaults.users,
            user_skew: 0.0,
            pages: defaults.pages,
            page_skew: defaults.skew,
            kinds: Kinds::new(share("2%"), share("3%"), share("1%")).expect("not too much"),
            late_by_ms: defaults.late_by_ms,
        }
    }

    /// Key, value and place of each.
    type Found = Vec<(Vec<u8>, Vec<u8>, u32)>;

    fn all(load: Load, at_once: usize) -> (Found, Tally) {
        let mut generator = Generator::new(load);
        let (mut batch, mut found) = (Batch::default(), Vec::new());
        loop {
            batch.clear();
            generator.fill(&mut batch, at_once);
            if batch.is_empty() {
                return (found, generator.tally());
            }
            found.extend(batch.messages().map(|m| (m.key.to_vec(), m.value.to_vec(), m.place)));
        }
    }

    #[test]
    fn bytes_depend_on_the_load_alone() {
        for profile in PROFILES {
            let (events, tally) = all(load(profile, 5), 5_000);
            assert_eq!((events.len(), tally.events()), (5_000, 5_000), "{profile:?}");
            assert!(all(load(profile, 5), 7).0 == events, "{profile:?}: taken otherwise");
            assert!(all(load(profile, 6), 5_000).0 != events, "{profile:?}: another seed");
        }
    }

    /// The event time of the latest, in milliseconds.
    fn last_time(events: &Found) -> i64 {
        let time = |value: &[u8]| {
            let json: serde_json::Value = serde_json::from_slice(value).expect("JSON");
            let text = ["event_time", "event_ts", "timestamp"].iter().find_map(|name| json[*name].as_str());
            chrono::DateTime::parse_from_rfc3339(text.expect("a time")).expect("a time").timestamp_millis()
        };
        events.iter().map(|(_, value, _)| time(value)).max().expect("events")
    }

    #[test]
    fn duplicates_take_their_place_in_time_too() {
        for profile in PROFILES {
            for duplicates in ["0", "50%", "90%"] {
                let share = |text: &str| text.parse::<Share>().expect(text);
                let kinds = Kinds::new(Share::NONE, share(duplicates), Share::NONE).expect("not too much");
                let load = Load { kinds, jitter_ms: 0, ..load(profile, 1) };
                let Timeline { start_ms, .. } = load.timeline;
                let length_ms = load.timeline.length_ms(5_000);
                let (events, tally) = all(load, 1_000);
                assert_eq!(tally.events(), 5_000, "{profile:?} {duplicates}");
                let covered = (last_time(&events) - start_ms) as f64 / length_ms as f64;
                // The workload leaves a twenty-fourth of its time empty at the end, and few bursts end that late.
                let least = if profile == Profile::W1 { 0.88 } else { 0.99 };
                assert!((least..=1.0).contains(&covered), "{profile:?} {duplicates}: {covered}");
            }
        }
    }

    #[test]
    fn workload_has_whole_bursts_beside_its_duplicates() {
        let share = |text: &str| text.parse::<Share>().expect(text);
        let kinds = Kinds::new(Share::NONE, share("50%"), Share::NONE).expect("not too much");
        let (events, tally) = all(Load { kinds, ..load(Profile::W1, 1) }, 1_000);
        assert_eq!((tally.of(Kind::Sound), tally.of(Kind::Duplicate)), (2_500, 2_500));
        let mut sessions: BTreeMap<String, BTreeSet<&[u8]>> = BTreeMap::new();
        for (_, value, _) in &events {
            let json: serde_json::Value = serde_json::from_slice(value).expect("JSON");
            let session = json["session_id"].as_str().expect("a session").to_owned();
            sessions.entry(session).or_default().insert(value);
        }
        assert_eq!(sessions.len(), 125);
        assert!(sessions.values().all(|events| events.len() == 20), "{sessions:?}");
    }

    #[test]
    fn shares_are_met_and_true() {
        for profile in PROFILES {
            let (events, tally) = all(load(profile, 1), 1_000);
            assert_eq!(Kind::ALL.map(|kind| tally.of(kind)), [4_700, 100, 150, 50], "{profile:?}");
            let user = |value: &[u8]| -> Option<String> {
                let json: serde_json::Value = serde_json::from_slice(value).ok()?;
                let text = json.as_object()?.get("user_id")?.as_str()?;
                (!text.contains('\0')).then(|| text.to_owned())
            };
            let mut bad = 0;
            let mut copies: BTreeMap<&[u8], usize> = BTreeMap::new();
            for (key, value, _) in &events {
                let text = String::from_utf8_lossy(value);
                if text.contains("-13-") || text.contains("\"1969-") || user(value).is_none() {
                    bad += 1;
                } else {
                    assert_eq!(user(value).unwrap().as_bytes(), key, "{text}");
                    *copies.entry(value).or_default() += 1;
                }
                assert!(key.starts_with(b"user") && !value.contains(&b'\n'));
            }
            assert_eq!(bad, 50, "{profile:?}");
            let named =
                matches!(profile, Profile::ClickstreamMinute | Profile::ClickstreamTenMinutes | Profile::W1);
            if named {
                assert_eq!(copies.values().map(|n| n - 1).sum::<usize>(), 150, "{profile:?}");
            }
        }
    }
}
