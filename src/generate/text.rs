//! Numbers and times as text, without going through a formatter.

use chrono::DateTime;

const MS_PER_DAY: i64 = 86_400_000;

/// `count` digits, with zeros in front.
pub fn digits(mut number: u64, count: usize, out: &mut Vec<u8>) {
    let end = out.len() + count;
    out.resize(end, b'0');
    for place in out[end - count..].iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

pub fn number(number: u64, out: &mut Vec<u8>) {
    digits(number, number.checked_ilog10().map_or(1, |log| log as usize + 1), out);
}

/// 8-4-4-4-12.
pub fn uuid(id: u128, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in id.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Writes times, and remembers the day: the next is mostly on the same.
#[derive(Clone, Debug, Default)]
pub struct TimeText {
    day: i64,
    date: Vec<u8>,
}

impl TimeText {
    pub const LENGTH: usize = "2026-01-30T01:18:10.123Z".len();

    /// `2026-01-30T01:18:10.123Z`
    pub fn write(&mut self, ms: i64, out: &mut Vec<u8>) {
        let (day, rest) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY) as u64);
        if self.date.is_empty() || day != self.day {
            self.turn_to(day);
        }
        out.extend_from_slice(&self.date);
        digits(rest / 3_600_000, 2, out);
        out.push(b':');
        digits(rest / 60_000 % 60, 2, out);
        out.push(b':');
        digits(rest / 1_000 % 60, 2, out);
        out.push(b'.');
        digits(rest % 1_000, 3, out);
        out.push(b'Z');
    }

    fn turn_to(&mut self, day: i64) {
        let date = DateTime::from_timestamp_millis(day * MS_PER_DAY).expect("a day of the calendar");
        self.day = day;
        self.date = date.format("%Y-%m-%dT").to_string().into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn numbers_have_their_digits() {
        assert_eq!(written(|out| digits(42, 6, out)), "000042");
        for n in [0, 1, 9, 10, 99, 100, 4_294_967_295] {
            assert_eq!(written(|out| number(n, out)), n.to_string());
        }
        assert_eq!(
            written(|out| uuid(0x0123_4567_89ab_cdef_0011_2233_4455_6677, out)),
            "01234567-89ab-cdef-0011-223344556677"
        );
    }

    #[test]
    fn times_read_as_chrono_writes_them() {
        let mut text = TimeText::default();
        for ms in [0, 1, 86_399_999, 86_400_000, 1_769_735_890_123, 1_709_164_800_000, 951_782_399_999, -1] {
            let expect = DateTime::from_timestamp_millis(ms).expect("in range");
            let expect = expect.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            assert_eq!(written(|out| text.write(ms, out)), expect);
        }
    }
}
