//! `millstream doctor` on topics that are as promised, and on such that are not.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::cli::binary;
use super::instances::arena::Arena;

/// Users `u0` to `u9`; the file promises that each has a partition of its own.
fn keyed(name: &str, servers: &str, url: &str) -> String {
    format!(
        r#"version: 1
name: {name}
connections:
  kafka: {{ bootstrap.servers: "{servers}" }}
  postgres: {{ url: "{url}" }}
sources:
  clicks:
    topic: {name}
    fields: {{ event_time: timestamp!, user_id: text! }}
    event_time: event_time
    keyed_by: user_id
bad_data: {{ table: dead_letters }}
aggregates:
  visits:
    from: clicks
    window: {{ session: 30m }}
    by: [user_id]
    select: {{ events: count(*) }}
    to: {{ table: visits, key: [user_id, session_start_time] }}
"#
    )
}

/// A server that is slow may not answer every time.
fn doctor_of_servers(arena: &Arena) -> (Option<i32>, Vec<[String; 4]>) {
    (0..5).map(|_| doctor(arena)).find(|(code, _)| *code != Some(69)).expect("servers that answer")
}

/// The exit code, and the findings by what was looked at: verdict, what was found, what to do.
fn doctor(arena: &Arena) -> (Option<i32>, Vec<[String; 4]>) {
    let done =
        Command::new(binary()).args(["doctor", "--output", "json"]).arg(arena.pipeline()).output().unwrap();
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let of = |finding: &Value| {
        ["what", "verdict", "found", "mend"].map(|key| finding[key].as_str().unwrap_or_default().to_owned())
    };
    (done.status.code(), said["findings"].as_array().unwrap().iter().map(of).collect())
}

fn send(arena: &Arena, partition: i32, user: &str) {
    let event = format!(r#"{{"event_time":"2026-01-30T01:18:10Z","user_id":"{user}"}}"#);
    arena.send_event(partition, &event);
}

#[test]
fn promise_of_a_key_is_held_against_the_newest_records() {
    let arena = Arena::with(keyed);
    let about_key = |findings: Vec<[String; 4]>| {
        let key = "sources.clicks.keyed_by: user_id";
        findings.into_iter().find(|[what, ..]| what == key).unwrap()
    };
    let (code, findings) = doctor_of_servers(&arena);
    assert_eq!(code, Some(0), "{findings:?}");
    assert_eq!(about_key(findings)[1], "unknown", "there is no record yet");

    (0..10).for_each(|n| send(&arena, n % 4, &format!("u{n}")));
    arena.send_event(1, "no JSON");
    arena.flush();
    let (code, findings) = doctor_of_servers(&arena);
    assert_eq!(code, Some(0), "{findings:?}");
    let newest = findings.iter().find(|[what, ..]| what == "sources.clicks: newest records").unwrap();
    assert_eq!(newest[1..3], ["well", "11 looked at, 1 dead: NOT_JSON 1"]);
    let [_, verdict, found, _] = about_key(findings);
    assert_eq!((&*verdict, &*found), ("well", "10 values, each in one partition"));

    send(&arena, 3, "u2");
    arena.flush();
    let (code, findings) = doctor_of_servers(&arena);
    assert_eq!(code, Some(1), "{findings:?}");
    let [_, verdict, found, mend] = about_key(findings);
    assert_eq!(verdict, "wrong");
    assert_eq!(found, "'u2' lies in partitions [2, 3]; so do 1 of 10 values");
    assert!(mend.starts_with("key the topic by user_id at its producer"), "{mend}");
}

#[test]
fn what_a_run_would_be_refused_for_is_told_before() {
    let arena = Arena::with(keyed);
    let text = fs::read_to_string(arena.pipeline()).unwrap();
    let elsewhere = text.replace("    topic: ", "    topic: not-there-");
    fs::write(arena.pipeline(), elsewhere).unwrap();
    let (code, findings) = doctor_of_servers(&arena);
    assert_eq!(code, Some(1), "{findings:?}");
    assert!(findings.iter().any(|[_, verdict, found, _]| verdict == "wrong" && found == "not there"));

    fs::write(arena.pipeline(), text.replace(&*kafka_of(&text), "127.0.0.1:1")).unwrap();
    let (code, findings) = doctor(&arena);
    assert_eq!(code, Some(69), "{findings:?}");
    assert!(findings.iter().any(|[what, verdict, ..]| what == "kafka" && verdict == "wrong"));
    assert!(findings.iter().any(|[what, verdict, ..]| what == "postgres" && verdict == "well"));
}

/// The broker's address as the file has it.
fn kafka_of(text: &str) -> String {
    let (_, rest) = text.split_once("bootstrap.servers: \"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}
