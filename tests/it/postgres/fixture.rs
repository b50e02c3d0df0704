//! A database for one test, and a pipeline to commit.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millstream::postgres::{
    AggregateDelta, ClusterIdentity, CommitOutcome, Ddl, DeadLetter, EpochCommit, PostgresError, RecordRows,
    ResultDelta, Session, SessionDelta, Step, Target, TaskCommit, TaskCounts,
};
use millstream_core::aggregate::Accumulator;
use millstream_core::model::{
    DataType, Epoch, EventTime, Offset, OwnerEpoch, RollingHash, Span, TopicPartition, Value, WindowSpan,
};
use millstream_core::pipeline::{
    Aggregate, Column, Connections, Field, FieldId, Function, Plan, ResultTable, Selected, Source, SourceId,
    Start, WatermarkSpec, Window,
};
use tokio_postgres::NoTls;

pub const APPLICATION: &str = "web-analytics";
pub const MINUTE: i64 = 60_000_000;

/// An empty database that is dropped with the value.
pub struct Database {
    admin: String,
    pub name: String,
}

impl Database {
    pub async fn create() -> Database {
        let admin = std::env::var("DATABASE_URL")
            .unwrap_or_else(|_| "postgres://millstream:millstream@127.0.0.1:25432/stream_data".to_owned());
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        raw(&admin).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database { admin, name }
    }

    /// The URL of this database, as the administrator or as another role whose password is its name.
    pub fn url(&self, role: Option<&str>) -> String {
        let (login, rest) = self.admin.rsplit_once('@').unwrap();
        let (host, _) = rest.split_once('/').unwrap();
        match role {
            None => format!("{login}@{host}/{}", self.name),
            Some(role) => format!("postgres://{role}:{role}@{host}/{}", self.name),
        }
    }

    pub async fn connect(&self) -> Session {
        self.try_connect(None).await.unwrap()
    }

    pub async fn try_connect(&self, role: Option<&str>) -> Result<Session, PostgresError> {
        let target =
            Target::resolve(Some(&self.url(role)), &|_| None, &|path| std::fs::read_to_string(path)).unwrap();
        Session::connect(&target, &uuid::Uuid::new_v4().to_string()).await
    }

    /// A connection that knows nothing of millstream.
    pub async fn raw(&self) -> tokio_postgres::Client {
        raw(&self.url(None)).await
    }

    /// The one text that a query returns.
    pub async fn text(&self, sql: &str) -> String {
        let rows = self.raw().await.query(sql, &[]).await.unwrap();
        let column = |row: &tokio_postgres::Row| row.get::<_, Option<String>>(0).unwrap_or("null".to_owned());
        rows.iter().map(column).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let admin = self.admin.clone();
        let drop = on_thread(move || async move { raw(&admin).await.batch_execute(&sql).await.unwrap() });
        if drop.join().is_err() {
            eprintln!("database {} is left behind", self.name);
        }
    }
}

async fn raw(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs a future on a thread and a runtime of its own, as a worker does.
pub fn on_thread<F: Future<Output = T>, T: Send + 'static>(
    work: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work())
    })
}

/// Longer than any session may wait for a lock, or hold one.
const WAITERS_LIMIT: Duration = Duration::from_secs(60);

/// A worker whose commit stands at a step until it is let go.
pub struct Held {
    watcher: tokio_postgres::Client,
    go: mpsc::Sender<()>,
    worker: JoinHandle<Result<CommitOutcome, PostgresError>>,
}

/// Commits on a thread and in a session of its own, with the hook that holds it at a step. Returns once it stands there.
/// What the test needs besides is to be connected before: PostgreSQL ends a transaction that stands for some seconds.
pub async fn hold_commit<F>(database: &Arc<Database>, at: Step, commit: F) -> Held
where
    F: AsyncFnOnce(&mut Session, &mut dyn FnMut(Step)) -> Result<CommitOutcome, PostgresError>
        + Send
        + 'static,
{
    let watcher = database.raw().await;
    let (reached, wait) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let database = Arc::clone(database);
    let worker = on_thread(move || async move {
        let mut session = database.connect().await;
        let mut hook = |now: Step| {
            if now == at {
                reached.send(()).unwrap();
                let _ = gone.recv();
            }
        };
        commit(&mut session, &mut hook).await
    });
    wait.recv().unwrap();
    Held { watcher, go, worker }
}

impl Held {
    /// Lets it go on to its end.
    pub fn finish(self) -> Result<CommitOutcome, PostgresError> {
        self.go.send(()).unwrap();
        self.worker.join().unwrap()
    }

    /// The same, once another session waits for what it holds.
    pub async fn finish_once_waited_for(self) -> Result<CommitOutcome, PostgresError> {
        self.waited_for().await;
        self.finish()
    }

    /// Waits until another session waits for what it holds.
    pub async fn waited_for(&self) {
        let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock')";
        let before = Instant::now();
        while !self.watcher.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(before.elapsed() < WAITERS_LIMIT, "no session waits; was this machine too slow for it?");
            tokio::task::yield_now().await;
        }
    }
}

pub fn task(partition: i32) -> TopicPartition {
    TopicPartition::new("user_activity", partition)
}

pub fn ids() -> ClusterIdentity {
    ClusterIdentity {
        cluster_id: "cluster-1".to_owned(),
        partitions: BTreeMap::from([(Arc::from("user_activity"), 2)]),
        written: BTreeSet::new(),
    }
}

/// A pipeline of one source and the given aggregates.
pub fn plan(aggregates: Vec<Aggregate>) -> Plan {
    let event_time = Field {
        name: "event_time".into(),
        data_type: DataType::Timestamp,
        encoding: millstream_core::pipeline::Encoding::Plain,
        required: true,
    };
    let source = Source {
        name: "activity".into(),
        topic: "user_activity".into(),
        create_partitions: None,
        fields: vec![event_time],
        event_time: FieldId(0),
        watermark: WatermarkSpec {
            delay: Span::from_secs(120),
            max_future: Span::from_secs(300),
            idle_after: Span::from_secs(30),
        },
        keyed_by: None,
        repartition: None,
        start: Start::Earliest,
        checks: Vec::new(),
        dedup: None,
        max_record_bytes: 1 << 20,
        dead_letter_topic: None,
        late_topic: None,
    };
    Plan {
        application: APPLICATION.into(),
        commit_interval: Span::from_millis(100),
        connections: Connections::default(),
        sources: vec![source],
        dead_letter_table: Some("dead_letters".to_owned()),
        aggregates,
        records: Vec::new(),
        record_tables: Vec::new(),
        tests: Vec::new(),
        hash: u64::MAX - 1,
    }
}

/// An aggregate per minute and page into a table of its name. The `by` expressions play no part here.
pub fn per_page(table: &str, selected: &[(&str, Function, DataType)]) -> Aggregate {
    let column = |name: &str, data_type, nullable| Column { name: name.into(), data_type, nullable };
    let mut columns = vec![
        column("window_start", DataType::Timestamp, false),
        column("window_end", DataType::Timestamp, false),
        column("page_url", DataType::Text, false),
    ];
    columns.extend(selected.iter().map(|(name, f, t)| column(name, *t, !f.counts())));
    let select = selected.iter().map(|(name, function, data_type)| Selected {
        name: (*name).into(),
        function: *function,
        argument: None,
        filter: None,
        data_type: *data_type,
    });
    Aggregate {
        name: table.into(),
        source: SourceId(0),
        condition: None,
        window: Window::Tumbling { size: Span(MINUTE) },
        allowed_lateness: Span::from_secs(3_600),
        by: Vec::new(),
        select: select.collect(),
        table: ResultTable {
            name: table.to_owned(),
            key: vec!["window_start".into(), "page_url".into()],
            columns,
            latest: None,
        },
    }
}

pub fn page_views() -> Aggregate {
    per_page("page_view_counts", &[("view_count", Function::Count, DataType::Bigint)])
}

/// What a minute and page gain.
pub fn delta(minute: i64, page: &str, accumulators: Vec<Accumulator>) -> ResultDelta {
    let start = EventTime(minute * MINUTE);
    let mut row_key = start.0.to_be_bytes().to_vec();
    row_key.extend_from_slice(page.as_bytes());
    ResultDelta {
        window: WindowSpan { start, end: start.plus(Span(MINUTE)) },
        row_key,
        key: vec![Value::Text(page.to_owned().into())],
        accumulators,
        sketches: Vec::new(),
    }
}

/// A task's step from one offset to another.
pub fn step(partition: i32, owner_epoch: OwnerEpoch, prev: i64, next: i64) -> TaskCommit {
    TaskCommit {
        tp: task(partition),
        owner_epoch,
        prev: Offset(prev),
        next: Offset(next),
        epoch: Epoch(1),
        hash: RollingHash(u64::MAX),
        watermark: Some(EventTime(10 * MINUTE)),
        max_event_time: Some(EventTime(12 * MINUTE)),
        fingerprint: None,
        counts: TaskCounts { read: next, accepted: next, ..TaskCounts::default() },
        settled: false,
        caught_up: false,
    }
}

/// An epoch of some tasks, with the rows it adds.
#[derive(Default)]
pub struct TestEpoch<'a> {
    pub tasks: Vec<TaskCommit>,
    pub results: Vec<AggregateDelta<'a>>,
    pub sessions: Vec<SessionDelta<'a>>,
    pub dead_letters: Vec<DeadLetter>,
    pub records: Vec<RecordRows<'a>>,
}

impl<'a> TestEpoch<'a> {
    pub fn of(tasks: Vec<TaskCommit>) -> TestEpoch<'a> {
        TestEpoch { tasks, ..TestEpoch::default() }
    }

    pub fn add(mut self, aggregate: &'a Aggregate, rows: Vec<ResultDelta>) -> TestEpoch<'a> {
        self.results.push(AggregateDelta { aggregate, rows });
        self
    }

    pub fn commit(&self) -> EpochCommit<'_> {
        EpochCommit {
            application: APPLICATION,
            plan_hash: 7,
            commit_time: EventTime(20 * MINUTE),
            tasks: &self.tasks,
            results: &self.results,
            sessions: &self.sessions,
            records: &self.records,
            dead_letters: &self.dead_letters,
            dead_letter_table: Some("dead_letters"),
            #[cfg(feature = "fault")]
            deliberate: Default::default(),
        }
    }

    pub async fn run(&self, session: &mut Session) -> Result<CommitOutcome, PostgresError> {
        session.commit_epoch(&self.commit(), &mut |_| {}).await
    }
}

/// A session that has made the schema, claimed the plan and taken the tasks, each starting at 0.
pub async fn started(database: &Database, plan: &Plan, partitions: &[i32]) -> (Session, Vec<OwnerEpoch>) {
    let mut session = database.connect().await;
    session.migrate(Ddl::Apply).await.unwrap();
    session.claim(plan, &ids(), Ddl::Apply).await.unwrap();
    let mut epochs = Vec::new();
    for partition in partitions {
        let tp = task(*partition);
        session.insert_bootstrap(APPLICATION, &tp, "topic-id", Offset(0), plan.hash).await.unwrap();
        let row = session.take(APPLICATION, &tp, "worker").await.unwrap().unwrap();
        epochs.push(row.owner_epoch);
    }
    (session, epochs)
}
