//! The corpus of bad records, each with its verdict, alone and in bursts.
//!
//! `tests/golden/bad-records/records.json` lists them: `value` or `hex`, then `repeat` and `repeat_then` (a text and
//! how often), then `end`. A null value is not among them: no line of a file can be one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::cli::binary;

const BURST: usize = 300;
const BURST_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    hex: String,
    repeat: Option<(String, usize)>,
    repeat_then: Option<(String, usize)>,
    #[serde(default)]
    end: String,
    /// `accepted` or the reason.
    verdict: String,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.value.clone().into_bytes();
        let digits = self.hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
        bytes.extend(digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")));
        for (text, times) in self.repeat.iter().chain(&self.repeat_then) {
            bytes.extend(text.repeat(*times).into_bytes());
        }
        bytes.extend(self.end.bytes());
        bytes
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bad-records")
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("records.json")).expect("the corpus is there");
    serde_json::from_str(&text).expect("the corpus is JSON")
}

/// Runs the lines through `try` and answers its JSON.
fn judge<'l>(lines: impl IntoIterator<Item = &'l [u8]>) -> Value {
    let mut input = Vec::new();
    for line in lines {
        assert!(!line.contains(&b'\n'), "a line feed would end the record");
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&input).expect("written");
    let output = Command::new(binary())
        .args(["try", "--output", "json", "--input"])
        .args([file.path(), &folder().join("pipeline.yaml")])
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Asserts that the one partition has exactly these verdicts, and that nothing else is out of balance.
fn assert_verdicts(json: &Value, expect: &BTreeMap<&str, usize>, name: &str) {
    let verdicts = &json["verdicts"][0];
    let accepted = expect.get("accepted").copied().unwrap_or_default();
    let dead: usize = expect.values().sum::<usize>() - accepted;
    assert_eq!(verdicts["accepted"], accepted, "{name}: {verdicts}");
    assert_eq!(verdicts["dead"], dead, "{name}: {verdicts}");
    assert_eq!(verdicts["read"], accepted + dead, "{name}: {verdicts}");
    let mut reasons: BTreeMap<&str, usize> = expect.clone();
    reasons.remove("accepted");
    assert_eq!(verdicts["dead_by_reason"], serde_json::json!(reasons), "{name}");
    assert_eq!(json["dead_letters"].as_array().map(Vec::len), Some(dead), "{name}");
    for aggregate in ["views", "tenths"] {
        let counts = &json["aggregates"][aggregate];
        let [matched, counted, late] =
            ["matched", "counted", "too_late"].map(|n| counts[n].as_u64().unwrap_or(0));
        assert_eq!(matched, counted + late, "{name}: {aggregate}");
    }
    assert_eq!(json["aggregates"]["views"]["matched"], accepted, "{name}");
}

#[test]
fn every_bad_record_has_its_verdict_alone_and_in_a_burst() {
    for case in cases() {
        let line = case.bytes();
        for times in [1, (BURST_BYTES / (line.len() + 1)).clamp(2, BURST)] {
            let json = judge(std::iter::repeat_n(&*line, times));
            assert_verdicts(&json, &BTreeMap::from([(&*case.verdict, times)]), &case.name);
            if case.verdict != "accepted" {
                let letter = &json["dead_letters"][times - 1];
                assert_eq!(letter["offset"], times - 1, "{}", case.name);
                assert_eq!(letter["value_bytes"], line.len(), "{}", case.name);
                assert!(letter["detail"].as_str().is_some_and(|d| !d.is_empty()), "{}: no detail", case.name);
            }
        }
    }
}

#[test]
fn bad_records_leave_the_good_ones_between_them_alone() {
    let cases = cases();
    let lines: Vec<Vec<u8>> = cases.iter().map(Case::bytes).collect();
    let mut expect: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        *expect.entry(&case.verdict).or_default() += 2;
    }
    let json = judge(lines.iter().chain(&lines).map(Vec::as_slice));
    assert_verdicts(&json, &expect, "all of them twice");
}
