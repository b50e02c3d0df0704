//! `millstream healthcheck`, and how an instance is asked.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::exit::Exit;
use super::output::answer;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For each read and write.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// More is no answer of ours.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// Where an instance is asked.
#[derive(Clone, Debug, Args)]
pub struct InstanceArgument {
    /// Where the instance serves /readyz, as `run --http` says
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4040", env = "MILLSTREAM_HTTP")]
    pub http: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0 ready    1 not ready    69 no instance answers")]
pub struct HealthcheckArguments {
    #[command(flatten)]
    instance: InstanceArgument,
}

/// The answer of `/readyz`, as far as it is read here.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Readyz {
    pub ready: bool,
    pub waiting_for: Vec<String>,
    #[serde(default)]
    pub tasks: Vec<ReadyzTask>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ReadyzTask {
    pub task: String,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer of `/status`, as far as it is read here.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct InstanceStatus {
    pub instance: String,
    pub tasks: Vec<InstanceTask>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct InstanceTask {
    pub task: String,
    pub state: String,
    pub reason: Option<String>,
    pub state_next: Option<i64>,
}

/// Why an instance gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no instance answers at {addr}: {problem}")]
    Silent { addr: String, problem: io::Error },
    #[error("what answers at {addr} is no millstream instance: {what}")]
    Foreign { addr: String, what: String },
}

/// Asks and says whether the instance is ready, else what it waits for.
pub fn healthcheck(arguments: &HealthcheckArguments) -> Exit {
    match ask(&arguments.instance.http) {
        Ok(readyz) if readyz.ready => answer("ready", Exit::Ok),
        Ok(readyz) => answer(&format!("not ready: {}", reasons(&readyz)), Exit::Negative),
        Err(error) => {
            eprintln!("{error}");
            Exit::Unreachable
        }
    }
}

/// What keeps an instance from being ready: what it waits for, and what tasks wait for beside that.
pub fn reasons(readyz: &Readyz) -> String {
    let tasks = readyz.tasks.iter().filter_map(|task| {
        let reason = task.reason.as_ref().filter(|reason| !readyz.waiting_for.contains(reason));
        reason.map(|reason| format!("{} {}: {reason}", task.task, task.state))
    });
    let all: Vec<String> = readyz.waiting_for.iter().cloned().chain(tasks).collect();
    if all.is_empty() { "it does not say for what it waits".to_owned() } else { all.join("; ") }
}

/// Asks `/readyz` once.
pub fn ask(addr: &str) -> Result<Readyz, AskError> {
    ask_path(addr, "/readyz")
}

/// Asks `/status` once.
pub fn ask_status(addr: &str) -> Result<InstanceStatus, AskError> {
    ask_path(addr, "/status")
}

fn ask_path<T: DeserializeOwned>(addr: &str, path: &str) -> Result<T, AskError> {
    let text = exchange(addr, path).map_err(|problem| AskError::Silent { addr: addr.to_owned(), problem })?;
    read_answer(path, &text).map_err(|what| AskError::Foreign { addr: addr.to_owned(), what })
}

fn exchange(addr: &str, path: &str) -> io::Result<String> {
    let mut problem = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for socket in addr.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, CONNECT_TIMEOUT) {
            Ok(stream) => return converse(stream, addr, path),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

/// Why HTTP/1.0: the answer then comes whole and ends with the connection.
fn converse(mut stream: TcpStream, host: &str, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn read_answer<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, String> {
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !["200", "503"].contains(&status) {
        return Err(format!("{path} has status {status}"));
    }
    serde_json::from_str(body).map_err(|error| format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_tells_what_is_waited_for() {
        let body = r#"{"ready":false,"waiting_for":["kafka: no broker answers"],"since":"x","tasks":[
            {"task":"a-0","state":"running","reason":"kafka: no broker answers"},{"task":"a-1","state":"stopped","reason":"SINK_REFUSED"}]}"#;
        let text =
            format!("HTTP/1.0 503 Service Unavailable\r\ncontent-type: application/json\r\n\r\n{body}");
        let readyz: Readyz = read_answer("/readyz", &text).expect("an answer");
        assert!(!readyz.ready);
        assert_eq!(reasons(&readyz), "kafka: no broker answers; a-1 stopped: SINK_REFUSED");
    }

    #[test]
    fn what_is_no_answer_of_ours_is_told() {
        for (text, what) in [
            ("SSH-2.0", "no HTTP answer"),
            ("HTTP/1.1 404 Not Found\r\n\r\n", "/readyz has status 404"),
            ("HTTP/1.1 200 OK\r\n\r\nhello", "/readyz: expected value"),
        ] {
            let error = read_answer::<Readyz>("/readyz", text).expect_err(text);
            assert!(error.starts_with(what), "{text}: {error}");
        }
    }

    #[test]
    fn nobody_at_the_port_is_told() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let error = ask(&free.to_string()).expect_err("nobody listens");
        assert!(error.to_string().starts_with(&format!("no instance answers at {free}")), "{error}");
    }
}
