//! A topic, a database and a pipeline of one test, and the processes that run it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream::kafka::{Admin, KafkaSettings};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::cli::binary;
use crate::postgres::fixture::Database;
use crate::release::fault_binary;

pub const PARTITIONS: i32 = 4;
/// Beyond any time for which a machine stands still.
pub const LIMIT: Duration = Duration::from_secs(180);

pub struct Arena {
    runtime: tokio::runtime::Runtime,
    database: Database,
    pub name: String,
    pub folder: tempfile::TempDir,
    producer: BaseProducer<Deliveries>,
    sent: i64,
}

/// Counts the records that did not arrive.
#[derive(Default)]
struct Deliveries {
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        self.failed.fetch_add(delivered.is_err().into(), Ordering::Relaxed);
    }
}

pub fn servers() -> String {
    std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "127.0.0.1:29092".into())
}

fn make_topic(name: &str, partitions: i32, config: &[(&str, &str)]) {
    let settings = KafkaSettings {
        client: BTreeMap::from([("bootstrap.servers".to_owned(), servers())]),
        application: "admin".into(),
        instance: name.to_owned(),
        worker: 0,
        max_record_bytes: 1 << 20,
    };
    let admin = Admin::open(&settings).unwrap();
    admin.create_topic(name, partitions, config, LIMIT).unwrap();
    // A broker answers before it knows the topic itself.
    until("the topic", || admin.topic(name, LIMIT).unwrap().is_some());
}

/// A table of counts and a copy of every record.
fn text(name: &str, servers: &str, url: &str) -> String {
    format!(
        r#"version: 1
name: {name}
commit_interval: 50ms
connections:
  kafka: {{ bootstrap.servers: "{servers}" }}
  postgres: {{ url: "{url}" }}
sources:
  clicks:
    topic: {name}
    fields: {{ event_time: timestamp!, page: text!, n: bigint! }}
    event_time: event_time
aggregates:
  views:
    from: clicks
    window: {{ tumble: 1h }}
    by: [page]
    select: {{ views: count(*), total: sum(n) }}
    to: {{ table: views, key: [window_start, page] }}
records:
  copies: {{ from: clicks, set: {{ seen: page }}, to: {{ topic: "{name}.out" }} }}
"#
    )
}

impl Arena {
    pub fn open() -> Arena {
        Arena::with(text)
    }

    /// An arena whose pipeline is `text` of its name, the brokers and the database's URL. Its topic has that name.
    pub fn with(text: impl Fn(&str, &str, &str) -> String) -> Arena {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = runtime.block_on(Database::create());
        let name = format!("instances-{}", uuid::Uuid::new_v4().simple());
        let folder = tempfile::tempdir().unwrap();
        make_topic(&name, PARTITIONS, &[]);
        let producer = ClientConfig::new()
            .set("bootstrap.servers", servers())
            .set("enable.idempotence", "true")
            .create_with_context(Deliveries::default())
            .unwrap();
        let arena = Arena { runtime, database, name, folder, producer, sent: 0 };
        let text = text(&arena.name, &servers(), &arena.database.url(None));
        fs::write(arena.pipeline(), text).unwrap();
        arena
    }

    pub fn pipeline(&self) -> PathBuf {
        self.folder.path().join("pipeline.yaml")
    }

    /// Sends so many more numbered records, spread over all partitions.
    pub fn send(&mut self, count: i64) {
        self.send_to(count, |n| i32::try_from(n).unwrap() % PARTITIONS);
    }

    pub fn send_on(&mut self, partition: i32, count: i64) {
        self.send_to(count, |_| partition);
    }

    pub fn sent(&self) -> i64 {
        self.sent
    }

    fn send_to(&mut self, count: i64, partition: impl Fn(i64) -> i32) {
        for n in self.sent..self.sent + count {
            let value = format!(r#"{{"event_time":"2026-01-30T01:18:10Z","page":"/{}","n":{n}}}"#, n % 7);
            let partition = partition(n);
            let record = BaseRecord::<(), _>::to(&self.name).partition(partition).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.flush();
        self.sent += count;
    }

    /// Sends one record of another shape; it is not waited for.
    pub fn send_event(&self, partition: i32, value: &str) {
        self.send_elsewhere(&self.name, partition, value);
    }

    /// The same to any topic.
    pub fn send_elsewhere(&self, topic: &str, partition: i32, value: &str) {
        let record = BaseRecord::<(), _>::to(topic).partition(partition).payload(value);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    pub fn make_topic(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        make_topic(topic, partitions, config);
    }

    pub fn flush(&self) {
        self.producer.flush(LIMIT).unwrap();
        assert_eq!(self.producer.context().failed.load(Ordering::Relaxed), 0, "records were not delivered");
    }

    pub fn query(&self, sql: &str) -> String {
        self.runtime.block_on(self.database.text(sql))
    }

    /// The partitions and owner epochs whose owner's name contains `instance`.
    pub fn owned(&self, instance: &str) -> String {
        self.query(&format!(
            "SELECT partition || ' ' || owner_epoch FROM millstream.progress WHERE owner LIKE '%.{instance}.%' ORDER BY 1"
        ))
    }

    /// Waits until everything sent stands in the table, once.
    pub fn wait_for_rows(&self) {
        let there = "SELECT to_regclass('views')::text";
        until("the table", || self.query(there) != "null");
        let expect = format!("{} {}", self.sent, self.sent * (self.sent - 1) / 2);
        let sums = "SELECT coalesce(sum(views), 0) || ' ' || coalesce(sum(total), 0) FROM views";
        let before = Instant::now();
        let mut found = String::new();
        while found != expect {
            found = self.query(sums);
            breathe();
            assert!(before.elapsed() < LIMIT, "{found} instead of {expect}");
        }
    }

    /// How many records the table counts.
    pub fn rows(&self) -> i64 {
        self.query("SELECT coalesce(sum(views), 0)::text FROM views").parse().unwrap()
    }

    /// The offsets that PostgreSQL holds beside the rows, summed; the input has no gaps.
    pub fn offsets(&self) -> i64 {
        self.query("SELECT coalesce(sum(next), 0)::text FROM millstream.progress").parse().unwrap()
    }

    /// Everything sent stands in the output topic, once.
    pub fn assert_outputs(&self) {
        let began = Instant::now();
        let mut seen = self.outputs();
        while i64::try_from(seen.len()).unwrap() < self.sent {
            assert!(began.elapsed() < LIMIT, "{} of {} outputs", seen.len(), self.sent);
            seen = self.outputs();
        }
        let twice: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    /// Stops these instances in order, and looks once more: nothing came twice while somebody looked elsewhere.
    pub fn assert_ended(&self, processes: impl IntoIterator<Item = Process>) {
        for mut process in processes {
            process.terminate();
            assert_eq!(process.wait_exit(), 0, "{}", process.said());
        }
        assert_eq!([self.rows(), self.offsets()], [self.sent; 2]);
        self.assert_outputs();
    }

    /// How often each record stands in the output topic, as a reader of committed records sees it at present.
    pub fn outputs(&self) -> BTreeMap<i64, usize> {
        let topic = format!("{}.out", self.name);
        let consumer = consumer("none");
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        let mut seen: BTreeMap<i64, usize> = BTreeMap::new();
        let mut ended = BTreeSet::new();
        let before = Instant::now();
        while ended.len() < all.count() {
            assert!(before.elapsed() < LIMIT, "only partitions {ended:?} were read to their end");
            match consumer.poll(Duration::from_secs(1)) {
                // An error of this kind passes, or the time does.
                None | Some(Err(KafkaError::MessageConsumption(_))) => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(message) => {
                    let value: Value = serde_json::from_slice(message.unwrap().payload().unwrap()).unwrap();
                    *seen.entry(value["n"].as_i64().unwrap()).or_default() += 1;
                }
            }
        }
        seen
    }

    /// A consumer that reads this application's group without belonging to it.
    pub fn onlooker(&self) -> BaseConsumer {
        consumer(&self.name)
    }

    /// Starts an instance with the state directory of that name.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Process {
        self.spawn(&binary(), (name, arguments), &[])
    }

    /// The same with the fault build, under variables that arm it.
    pub fn start_fault(&self, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
        self.spawn(Path::new(&fault_binary()), (name, arguments), variables)
    }

    fn spawn(
        &self,
        program: &Path,
        (name, arguments): (&str, &[&str]),
        variables: &[(&str, &str)],
    ) -> Process {
        let state = self.folder.path().join(name);
        let path = self.folder.path().join(format!("{name}-{}.log", uuid::Uuid::new_v4().simple()));
        let log = File::create(&path).unwrap();
        let child = Command::new(program)
            .env("MILLSTREAM_PHASE_FILE", path.with_extension("phase"))
            .envs(variables.iter().copied())
            .args(["run", "--http", "127.0.0.1:0", "--state-dir"])
            .arg(&state)
            .args(arguments)
            .arg(self.pipeline())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Process { child, state, log: path }
    }

    /// Starts an instance and waits until it is ready.
    pub fn start_ready(&self, name: &str, arguments: &[&str]) -> Process {
        let process = self.start(name, arguments);
        process.wait_ready();
        process
    }
}

/// One instance; killed with the value.
pub struct Process {
    child: Child,
    pub state: PathBuf,
    log: PathBuf,
}

impl Process {
    pub fn instance(&self) -> String {
        fs::read_to_string(self.state.join("INSTANCE")).unwrap().trim().to_owned()
    }

    /// Where it answers, once it has said so: the system chose the port.
    fn address(&self) -> Option<String> {
        let said = self.everything_said();
        let line = said.lines().find(|line| line.contains("http server listens"))?;
        Some(serde_json::from_str::<Value>(line).ok()?["addr"].as_str()?.to_owned())
    }

    fn ask(&self, path: &str) -> Option<Value> {
        let mut connection = TcpStream::connect(self.address()?).ok()?;
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// The partitions that run, and which worker has each.
    pub fn running(&self) -> BTreeMap<String, i64> {
        let status = self.ask("/status").unwrap_or_default();
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        tasks
            .iter()
            .filter(|task| task["state"] == "running")
            .map(|task| (task["task"].as_str().unwrap().to_owned(), task["worker"].as_i64().unwrap()))
            .collect()
    }

    /// Of each partition what PostgreSQL, Kafka and local state hold, and the end of its log; unknown is -1.
    pub fn witnesses(&self) -> Vec<[i64; 4]> {
        let status = self.ask("/status").unwrap_or_default();
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        let names = ["rows_next", "outputs_next", "state_next", "log_end"];
        tasks.iter().map(|task| names.map(|name| task[name].as_i64().unwrap_or(-1))).collect()
    }

    /// How many partitions each worker that has any runs.
    pub fn shares(&self) -> Vec<usize> {
        let running = self.running();
        let workers: BTreeSet<i64> = running.values().copied().collect();
        workers.iter().map(|worker| running.values().filter(|w| *w == worker).count()).collect()
    }

    pub fn wait_ready(&self) {
        self.until("ready", |process| process.ask("/readyz").is_some_and(|said| said["ready"] == true));
    }

    pub fn until(&self, what: &str, condition: impl Fn(&Process) -> bool) {
        let before = Instant::now();
        while !condition(self) {
            assert!(before.elapsed() < LIMIT, "not {what}:\n{}", self.said());
            breathe();
        }
    }

    /// The partitions that stopped, and why.
    pub fn stopped(&self) -> BTreeMap<String, String> {
        let status = self.ask("/status").unwrap_or_default();
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        let stopped = tasks.iter().filter(|task| task["state"] == "stopped");
        stopped.map(|task| (task["task"].to_string(), task["reason"].to_string())).collect()
    }

    /// Whether the fault build says that a worker stands at this point, at this arrival or a later one.
    pub fn has_reached(&self, point: &str, arrival: u64) -> bool {
        let lines = fs::read_to_string(self.log.with_extension("phase")).unwrap_or_default();
        lines.split(['\n', '\0']).any(|line| {
            let arrived =
                line.trim().strip_prefix(point).and_then(|number| number.trim().parse::<u64>().ok());
            arrived.is_some_and(|number| number >= arrival)
        })
    }

    pub fn signal(&self, name: &str) {
        // Why a shell: `kill` as a program is not on every machine, as a builtin it is.
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn wait_exit(&mut self) -> i32 {
        self.wait_end().code().expect("no signal")
    }

    pub fn wait_end(&mut self) -> ExitStatus {
        let before = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(before.elapsed() < LIMIT, "it runs on:\n{}", self.said());
            breathe();
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn everything_said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How often this stands in its log.
    pub fn times_said(&self, what: &str) -> usize {
        self.everything_said().matches(what).count()
    }

    /// The end of its log, for a person.
    pub fn said(&self) -> String {
        let text = self.everything_said();
        text.chars().skip(text.chars().count().saturating_sub(6_000)).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn until(what: &str, condition: impl Fn() -> bool) {
    let before = Instant::now();
    while !condition() {
        assert!(before.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        breathe();
    }
}

/// How many members a group has at present.
pub fn members(group: &str) -> usize {
    let list = consumer(group).fetch_group_list(Some(group), LIMIT).unwrap();
    list.groups().iter().map(|group| group.members().len()).sum()
}

fn consumer(group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", servers())
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// Leaves the machine to whom it is waited for.
pub fn breathe() {
    std::thread::park_timeout(Duration::from_millis(50));
}

/// A state directory as a careless person copies it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
