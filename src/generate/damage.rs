//! Values that no pipeline can take, made from ones that any could.

use std::ops::Range;

use super::chance::Chance;
use super::writer::Written;

/// What is wrong with a value; each is a reason of its own in a pipeline that needs the user and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    Empty,
    CutShort,
    NotUtf8,
    WithoutUser,
    UserIsNumber,
    UserHasNul,
    MonthThirteen,
    BeforeItsTime,
}

impl Damage {
    pub const ALL: [Damage; 8] = [
        Damage::Empty,
        Damage::CutShort,
        Damage::NotUtf8,
        Damage::WithoutUser,
        Damage::UserIsNumber,
        Damage::UserHasNul,
        Damage::MonthThirteen,
        Damage::BeforeItsTime,
    ];

    pub fn pick(chance: &mut Chance) -> Damage {
        Damage::ALL[chance.below(Damage::ALL.len() as u32) as usize]
    }

    /// Spoils the value at the end of the buffer; answers where it is now. No line feed comes into it.
    pub fn strike(self, written: &Written, out: &mut Vec<u8>) -> Range<usize> {
        let (value, user, time) = (written.value.clone(), written.user.clone(), written.time);
        match self {
            Damage::Empty => out.truncate(value.start),
            Damage::CutShort => out.truncate(value.end - 1),
            Damage::NotUtf8 => out[user.start] = 0xff,
            // `"user_id":"` stands before the text; its underscore goes.
            Damage::WithoutUser => out[user.start - 6] = b'-',
            Damage::UserIsNumber => drop(out.splice(user.start - 1..user.end + 1, *b"17")),
            Damage::UserHasNul => out[user.start..user.start + 6].copy_from_slice(b"\\u0000"),
            Damage::MonthThirteen => out[time + 5..time + 7].copy_from_slice(b"13"),
            Damage::BeforeItsTime => out[time..time + 4].copy_from_slice(b"1969"),
        }
        value.start..out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Action, Event};
    use super::super::profile::Profile;
    use super::super::writer::Writer;
    use super::*;

    fn struck(damage: Damage) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let event = Event {
            at_ms: 1_769_735_890_123,
            arrives_ms: 0,
            user: 42,
            page: 0,
            action: Action::Click,
            session: 0,
            device: 0,
            browser: 0,
            id: 0,
        };
        let written = Writer::new(Profile::UserActivity).write(&event, &mut out);
        let value = damage.strike(&written, &mut out);
        assert_eq!(value, 6..out.len());
        out.split_off(6)
    }

    #[test]
    fn each_damage_is_what_its_name_says() {
        for (damage, expect) in [
            (Damage::Empty, &b""[..]),
            (Damage::CutShort, br#"{"event_time":"2026-01-30T01:18:10.123Z","user_id":"user000042","page_url":"/home","event_type":"click""#),
            (Damage::NotUtf8, b"{\"event_time\":\"2026-01-30T01:18:10.123Z\",\"user_id\":\"\xffser000042\",\"page_url\":\"/home\",\"event_type\":\"click\"}"),
            (Damage::WithoutUser, br#"{"event_time":"2026-01-30T01:18:10.123Z","user-id":"user000042","page_url":"/home","event_type":"click"}"#),
            (Damage::UserIsNumber, br#"{"event_time":"2026-01-30T01:18:10.123Z","user_id":17,"page_url":"/home","event_type":"click"}"#),
            (Damage::UserHasNul, br#"{"event_time":"2026-01-30T01:18:10.123Z","user_id":"\u00000042","page_url":"/home","event_type":"click"}"#),
            (Damage::MonthThirteen, br#"{"event_time":"2026-13-30T01:18:10.123Z","user_id":"user000042","page_url":"/home","event_type":"click"}"#),
            (Damage::BeforeItsTime, br#"{"event_time":"1969-01-30T01:18:10.123Z","user_id":"user000042","page_url":"/home","event_type":"click"}"#),
        ] {
            assert_eq!(struck(damage).escape_ascii().to_string(), expect.escape_ascii().to_string(), "{damage:?}");
        }
    }
}
