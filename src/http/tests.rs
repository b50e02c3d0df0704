use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use millstream_core::model::{EventTime, Recovery, TopicPartition};
use serde_json::{Value, json};

use super::{Health, HttpError, HttpServer, Metrics, Readiness, TaskReadiness, serve};

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::install().expect("the first recorder"));

/// Alive and ready as long as `well`.
struct Patient {
    well: AtomicBool,
}

impl Health for Patient {
    fn alive(&self) -> bool {
        self.well.load(Ordering::SeqCst)
    }

    fn readiness(&self) -> Readiness {
        let ready = self.alive();
        let reason = (!ready).then(|| "SINK_REFUSED".to_string());
        let state = if ready { "running" } else { "stopped" }.to_string();
        Readiness {
            ready,
            waiting_for: if ready { vec![] } else { vec!["kafka: no broker answers".to_string()] },
            since: EventTime(1_769_735_890_000_000),
            tasks: vec![TaskReadiness { task: TopicPartition::new("page-views", 3), state, reason }],
        }
    }

    fn status(&self) -> Value {
        json!({ "application": "clicks" })
    }
}

fn start() -> (HttpServer, Arc<Patient>) {
    let patient = Arc::new(Patient { well: AtomicBool::new(true) });
    let server = serve("127.0.0.1:0", patient.clone(), METRICS.clone()).expect("a free port");
    (server, patient)
}

/// Status code, head and body of the answer to a GET.
fn ask(addr: SocketAddr, path: &str) -> (u16, String, String) {
    let mut connection = TcpStream::connect(addr).expect("the server accepts");
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").expect("the server reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("the server answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a blank line after the head");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    (code, head.to_lowercase(), body.to_string())
}

fn ask_json(addr: SocketAddr, path: &str) -> (u16, Value) {
    let (code, head, body) = ask(addr, path);
    assert!(head.contains("content-type: application/json"), "{head}");
    (code, serde_json::from_str(&body).expect("a body of JSON"))
}

#[test]
fn healthy_instance_is_alive_and_ready() {
    let (server, _patient) = start();
    assert_eq!(ask_json(server.local_addr(), "/livez"), (200, json!({ "alive": true })));
    let ready = json!({
        "ready": true,
        "waiting_for": [],
        "since": "2026-01-30T01:18:10.000000Z",
        "tasks": [{ "task": "page-views-3", "state": "running" }],
    });
    assert_eq!(ask_json(server.local_addr(), "/readyz"), (200, ready));
    assert_eq!(ask_json(server.local_addr(), "/status"), (200, json!({ "application": "clicks" })));
}

#[test]
fn sick_instance_answers_503_and_says_why() {
    let (server, patient) = start();
    patient.well.store(false, Ordering::SeqCst);
    assert_eq!(ask_json(server.local_addr(), "/livez"), (503, json!({ "alive": false })));
    let (code, said) = ask_json(server.local_addr(), "/readyz");
    assert_eq!(code, 503);
    assert_eq!(said["waiting_for"], json!(["kafka: no broker answers"]));
    assert_eq!(said["tasks"][0]["reason"], "SINK_REFUSED");
}

#[test]
fn metrics_are_prometheus_text_with_buckets_for_seconds() {
    let (server, _patient) = start();
    ::metrics::counter!("millstream_records_total", "task" => "page-views-3").increment(7);
    ::metrics::histogram!("millstream_epoch_seconds").record(0.03);
    let (code, head, body) = ask(server.local_addr(), "/metrics");
    assert_eq!(code, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("millstream_records_total{task=\"page-views-3\"} 7"), "{body}");
    assert!(body.contains("millstream_epoch_seconds_bucket{le=\"0.05\"} 1"), "{body}");
}

#[test]
fn unknown_path_lists_the_known_ones() {
    let (server, _patient) = start();
    let (code, head, body) = ask(server.local_addr(), "/nowhere");
    assert_eq!(code, 404);
    assert!(body.contains("/readyz"), "{body}");
    assert!(head.contains("connection: close") && head.contains("cache-control: no-store"), "{head}");
}

#[test]
fn taken_port_is_named_with_the_option_that_changes_it() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = holder.local_addr().expect("an address");
    let patient = Arc::new(Patient { well: AtomicBool::new(true) });
    let refused = serve(&addr.to_string(), patient, METRICS.clone()).err().expect("the port is taken");
    assert!(matches!(refused, HttpError::PortTaken { .. }), "{refused}");
    assert_eq!(refused.recovery(), Recovery::Retry);
    let text = refused.to_string();
    assert!(text.contains(&addr.port().to_string()) && text.contains("--http"), "{text}");
}

#[test]
fn address_without_a_port_is_refused() {
    let patient = Arc::new(Patient { well: AtomicBool::new(true) });
    let refused = serve("127.0.0.1", patient, METRICS.clone()).err().expect("no port");
    assert!(matches!(refused, HttpError::Address { .. }), "{refused}");
}

#[test]
fn shutdown_frees_the_port_even_with_a_silent_client() {
    let (server, _patient) = start();
    let addr = server.local_addr();
    let silent = TcpStream::connect(addr).expect("the server accepts");
    assert_eq!(ask(addr, "/livez").0, 200);
    server.shutdown();
    TcpListener::bind(addr).expect("the port is free");
    drop(silent);
}

#[test]
fn second_recorder_is_refused() {
    let first = METRICS.clone();
    assert!(matches!(Metrics::install(), Err(HttpError::RecorderTaken)));
    assert!(first.render().is_ascii());
}
