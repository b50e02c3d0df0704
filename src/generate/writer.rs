//! Events as the JSON of their profile, straight into a buffer.

use std::ops::Range;

use super::event::{Action, Event};
use super::profile::Profile;
use super::text::{TimeText, digits, number, uuid};

const USER_DIGITS: usize = 6;
const PAGES: [&str; 4] = ["/home", "/products", "/dashboard", "/checkout"];
const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
const BROWSERS: [&str; 4] = ["Chrome", "Safari", "Firefox", "Edge"];
const REFERRERS: [&str; 4] = [
    "",
    "https://www.example.org/search?q=item",
    "https://news.example.net/",
    "https://www.example.com/home",
];
const CAMPAIGNS: [&str; 4] =
    ["", "", "?utm_source=newsletter&utm_medium=email", "?utm_source=ads&utm_medium=cpc"];
/// Networks for documentation (RFC 5737).
const NETWORKS: [&str; 3] = ["192.0.2.", "198.51.100.", "203.0.113."];

/// Where things stand in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub value: Range<usize>,
    /// The text of `user_id`, without its quotes.
    pub user: Range<usize>,
    /// The first byte of the event time's text.
    pub time: usize,
}

#[derive(Debug)]
pub struct Writer {
    profile: Profile,
    time: TimeText,
}

impl Writer {
    pub fn new(profile: Profile) -> Writer {
        Writer { profile, time: TimeText::default() }
    }

    /// Appends the event.
    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) -> Written {
        let start = out.len();
        let (user, time) = match self.profile {
            Profile::UserActivity | Profile::EnrichedActivity | Profile::UserSessions => {
                self.activity(event, out)
            }
            Profile::ClickstreamMinute => self.hit(event, out),
            Profile::ClickstreamTenMinutes => self.click(event, out),
            Profile::W1 => self.w1(event, out),
        };
        out.extend_from_slice(b"\"}");
        Written { value: start..out.len(), user, time }
    }

    fn activity(&mut self, event: &Event, out: &mut Vec<u8>) -> (Range<usize>, usize) {
        out.extend_from_slice(b"{\"event_time\":\"");
        let time = self.at(event.at_ms, out);
        out.extend_from_slice(b"\",\"user_id\":\"");
        let user = user(event.user, out);
        out.extend_from_slice(b"\",\"page_url\":\"");
        page(event.page, out);
        out.extend_from_slice(b"\",\"event_type\":\"");
        out.extend_from_slice(event_type(event.action).as_bytes());
        (user, time)
    }

    fn hit(&mut self, event: &Event, out: &mut Vec<u8>) -> (Range<usize>, usize) {
        let chance = event.id as usize;
        out.extend_from_slice(b"{\"event_id\":\"");
        uuid(event.id, out);
        out.extend_from_slice(b"\",\"user_id\":\"");
        let user = user(event.user, out);
        out.extend_from_slice(b"\",\"event_ts\":\"");
        let time = self.at(event.at_ms, out);
        out.extend_from_slice(b"\",\"url\":\"https://shop.example.com");
        page(event.page, out);
        out.extend_from_slice(CAMPAIGNS[event.session as usize % CAMPAIGNS.len()].as_bytes());
        out.extend_from_slice(b"\",\"referrer\":\"");
        out.extend_from_slice(REFERRERS[chance % REFERRERS.len()].as_bytes());
        out.extend_from_slice(b"\",\"ip\":\"");
        out.extend_from_slice(NETWORKS[event.user as usize % NETWORKS.len()].as_bytes());
        number(u64::from(event.user) / 3 % 254 + 1, out);
        out.extend_from_slice(b"\",\"received_at\":\"");
        self.at(event.arrives_ms, out);
        (user, time)
    }

    fn click(&mut self, event: &Event, out: &mut Vec<u8>) -> (Range<usize>, usize) {
        out.extend_from_slice(b"{\"event_id\":\"");
        uuid(event.id, out);
        out.extend_from_slice(b"\",\"user_id\":\"");
        let user = user(event.user, out);
        out.extend_from_slice(b"\",\"url\":\"");
        page(event.page, out);
        out.extend_from_slice(b"\",\"action\":\"");
        out.extend_from_slice(pointer_action(event).as_bytes());
        out.extend_from_slice(b"\",\"timestamp\":\"");
        let time = self.at(event.at_ms, out);
        out.extend_from_slice(b"\",\"session_id\":\"");
        visit(event, out);
        (user, time)
    }

    fn w1(&mut self, event: &Event, out: &mut Vec<u8>) -> (Range<usize>, usize) {
        out.extend_from_slice(b"{\"event_id\":\"");
        uuid(event.id, out);
        out.extend_from_slice(b"\",\"event_time\":\"");
        let time = self.at(event.at_ms, out);
        out.extend_from_slice(b"\",\"user_id\":\"");
        let user = user(event.user, out);
        out.extend_from_slice(b"\",\"page_url\":\"/products/category-");
        number(u64::from(event.page), out);
        out.extend_from_slice(b"/item\",\"event_type\":\"");
        out.extend_from_slice(event_type(event.action).as_bytes());
        out.extend_from_slice(b"\",\"session_id\":\"");
        visit(event, out);
        out.extend_from_slice(b"\",\"referrer\":\"https://www.example.org/search?q=item");
        (user, time)
    }

    fn at(&mut self, ms: i64, out: &mut Vec<u8>) -> usize {
        self.time.write(ms, out);
        out.len() - TimeText::LENGTH
    }
}

fn user(user: u32, out: &mut Vec<u8>) -> Range<usize> {
    let start = out.len();
    out.extend_from_slice(b"user");
    if user < 10_u32.pow(USER_DIGITS as u32) {
        digits(u64::from(user), USER_DIGITS, out);
    } else {
        number(u64::from(user), out);
    }
    start..out.len()
}

fn page(page: u32, out: &mut Vec<u8>) {
    match PAGES.get(page as usize) {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => {
            out.extend_from_slice(b"/products/");
            number(u64::from(page), out);
        }
    }
}

/// Session, device and browser.
fn visit(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(b"sess-");
    digits(u64::from(event.session), 8, out);
    out.extend_from_slice(b"\",\"device\":\"");
    out.extend_from_slice(DEVICES[usize::from(event.device)].as_bytes());
    out.extend_from_slice(b"\",\"browser\":\"");
    out.extend_from_slice(BROWSERS[usize::from(event.browser)].as_bytes());
}

fn event_type(action: Action) -> &'static str {
    match action {
        Action::View => "page_view",
        Action::Click => "click",
        Action::SessionStart => "session_start",
        Action::SessionEnd => "session_end",
    }
}

/// A view may end in a scroll or a hover.
fn pointer_action(event: &Event) -> &'static str {
    match (event.action, event.id % 4) {
        (Action::Click | Action::SessionEnd, _) => "click",
        (Action::View, 2) => "scroll",
        (Action::View, 3) => "hover",
        (Action::View | Action::SessionStart, _) => "view",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Event = Event {
        at_ms: 1_769_735_890_123,
        arrives_ms: 1_769_735_891_000,
        user: 42,
        page: 7,
        action: Action::View,
        session: 13,
        device: 1,
        browser: 2,
        id: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
    };

    fn check(profile: Profile, expect: &str) {
        let mut out = b"before".to_vec();
        let written = Writer::new(profile).write(&EVENT, &mut out);
        let text = |range: Range<usize>| String::from_utf8(out[range].to_vec()).expect("UTF-8");
        assert_eq!(text(written.value.clone()), expect);
        assert_eq!(text(written.user.clone()), "user000042");
        assert_eq!(text(written.time..written.time + 24), "2026-01-30T01:18:10.123Z");
        assert_eq!(written.value, 6..out.len());
        let json: serde_json::Value = serde_json::from_slice(&out[6..]).expect("JSON");
        assert_eq!(json["user_id"], "user000042");
    }

    #[test]
    fn profiles_have_their_fields() {
        for profile in [Profile::UserActivity, Profile::EnrichedActivity, Profile::UserSessions] {
            check(
                profile,
                r#"{"event_time":"2026-01-30T01:18:10.123Z","user_id":"user000042","page_url":"/products/7","event_type":"page_view"}"#,
            );
        }
        check(
            Profile::ClickstreamMinute,
            r#"{"event_id":"01234567-89ab-cdef-0011-223344556677","user_id":"user000042","event_ts":"2026-01-30T01:18:10.123Z","url":"https://shop.example.com/products/7","referrer":"https://www.example.com/home","ip":"192.0.2.15","received_at":"2026-01-30T01:18:11.000Z"}"#,
        );
        check(
            Profile::ClickstreamTenMinutes,
            r#"{"event_id":"01234567-89ab-cdef-0011-223344556677","user_id":"user000042","url":"/products/7","action":"hover","timestamp":"2026-01-30T01:18:10.123Z","session_id":"sess-00000013","device":"desktop","browser":"Firefox"}"#,
        );
        check(
            Profile::W1,
            r#"{"event_id":"01234567-89ab-cdef-0011-223344556677","event_time":"2026-01-30T01:18:10.123Z","user_id":"user000042","page_url":"/products/category-7/item","event_type":"page_view","session_id":"sess-00000013","device":"desktop","browser":"Firefox","referrer":"https://www.example.org/search?q=item"}"#,
        );
    }

    #[test]
    fn users_beyond_six_digits_keep_theirs() {
        let mut out = Vec::new();
        assert_eq!(user(9_999_999, &mut out), 0..11);
        assert_eq!(out, b"user9999999");
    }
}
