//! The text form of `inet`.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An address or address/prefix as PostgreSQL prints an `inet`: no prefix where it is the whole address, IPv6
/// compressed and in lower case. `None` for anything else.
///
/// Why: an address is written out in full and without leading zeros. PostgreSQL also reads `10.1/16` and
/// `010.0.0.1`, whose meaning differs between programs.
pub fn canonical_inet(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text.as_ref(), None),
    };
    let whole = if address.contains(':') { 128 } else { 32 };
    let bits = prefix.map_or(Some(whole), |digits| prefix_length(digits, whole))?;
    let mut spelled = String::with_capacity(text.len());
    if whole == 128 {
        write_ipv6(address.parse::<Ipv6Addr>().ok()?.segments(), &mut spelled);
    } else {
        address.parse::<Ipv4Addr>().ok()?;
        spelled.push_str(address);
    }
    if bits != whole {
        let _ = write!(spelled, "/{bits}");
    }
    Some(if spelled == text { text } else { Cow::Owned(spelled) })
}

fn prefix_length(digits: &str, most: u8) -> Option<u8> {
    let plain = digits == "0" || (digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0'));
    let bits: u8 = digits.parse().ok()?;
    (plain && bits <= most).then_some(bits)
}

/// PostgreSQL's `inet_net_ntop_ipv6`: the first longest run of two or more zero groups becomes `::`, and
/// addresses that embed an IPv4 one (`::a.b.c.d`, `::ffff:a.b.c.d`) end in dots.
fn write_ipv6(groups: [u16; 8], out: &mut String) {
    let (start, len) = longest_zero_run(groups);
    let embeds_ipv4 = start == 0 && (len == 6 || (len == 5 && groups[5] == 0xffff));
    for (i, group) in groups.into_iter().enumerate() {
        if (start..start + len).contains(&i) {
            if i == start {
                out.push(':');
            }
            continue;
        }
        if i != 0 {
            out.push(':');
        }
        if i == 6 && embeds_ipv4 {
            let [a, b] = group.to_be_bytes();
            let [c, d] = groups[7].to_be_bytes();
            let _ = write!(out, "{a}.{b}.{c}.{d}");
            return;
        }
        let _ = write!(out, "{group:x}");
    }
    if len > 0 && start + len == groups.len() {
        out.push(':');
    }
}

/// Start and length; length 0 where no two zero groups stand together.
fn longest_zero_run(groups: [u16; 8]) -> (usize, usize) {
    let mut best = (0, 1);
    let mut run = 0;
    for (i, group) in groups.into_iter().enumerate() {
        run = if group == 0 { run + 1 } else { 0 };
        if run > best.1 {
            best = (i + 1 - run, run);
        }
    }
    if best.1 >= 2 { best } else { (0, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second column is what PostgreSQL 15's `inet` prints for the first.
    #[test]
    fn addresses_are_kept_as_postgresql_prints_them() {
        let cases = [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("10.0.0.1/8", "10.0.0.1/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::0001", "2001:db8::1"),
            ("::1", "::1"),
            ("::", "::"),
            ("::2", "::2"),
            ("1::", "1::"),
            ("::1/128", "::1"),
            ("::1/0", "::1/0"),
            ("fe80::1/64", "fe80::1/64"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("0:0:0:0:0:0:1:2", "::0.1.0.2"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::FFFF:0:0", "::ffff:0.0.0.0"),
            ("::ffff:10.0.0.1/96", "::ffff:10.0.0.1/96"),
            ("64:ff9b::1.2.3.4", "64:ff9b::102:304"),
            ("0:0:0:0:1:ffff:0:1", "::1:ffff:0:1"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("1:0:0:3:4:0:0:8", "1::3:4:0:0:8"),
            ("1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"),
            ("0:1:0:1:0:1:0:1", "0:1:0:1:0:1:0:1"),
            ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
            ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ];
        for (text, printed) in cases {
            assert_eq!(canonical_inet(text.into()).as_deref(), Some(printed), "{text}");
            assert!(
                matches!(canonical_inet(printed.into()), Some(Cow::Borrowed(_))),
                "{printed} is canonical"
            );
        }
    }

    #[test]
    fn anything_else_is_no_inet() {
        let cases = [
            "",
            "/",
            "/8",
            "10",
            "10.0.0",
            "10.0.0.256",
            "10.0.0.1.2",
            "010.0.0.1",
            "10.1/16",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0.1/08",
            "10.0.0.1/+8",
            "10.0.0.1/-1",
            "10.0.0.1/8/8",
            "10.0.0.1/255.0.0.0",
            " 10.0.0.1",
            "10.0.0.1 ",
            "10.0.0.1\0",
            "::1/129",
            "::1/",
            "::1/08",
            ":1",
            ":",
            "1::2::3",
            "12345::",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7:8::",
            "fe80::1%eth0",
            "[::1]",
            "::g",
            "::1.2.3",
            "localhost",
            "1\u{e9}",
        ];
        for text in cases {
            assert_eq!(canonical_inet(text.into()), None, "{text}");
        }
    }
}
