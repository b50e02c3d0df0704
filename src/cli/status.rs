//! `millstream status`

use std::collections::BTreeMap;
use std::fmt::Write;
use std::slice::from_ref;
use std::thread;
use std::time::Duration;

use clap::Args;
use millstream_core::engine::TaskCounts;
use millstream_core::model::{Offset, Recovery, TopicPartition};
use millstream_core::pipeline::Plan;
use serde::Serialize;

use crate::kafka::{Admin, Consumer, GroupOffset, KafkaError, KafkaSettings};
use crate::postgres::{PostgresError, ProgressRow, Session, Target};
use crate::runtime::RuntimeError;

use super::exit::Exit;
use super::file::FileArgument;
use super::healthcheck::{InstanceArgument, InstanceStatus, Readyz, ask, ask_status, reasons};
use super::output::{
    OutputArgument, OutputFormat, answer, answer_json, grid, indented, number, or_dash, text,
};

/// For each question to a broker.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(4);
/// For an offset of the group, once it is known that some are held back; those that are not come at once.
const HELD_TIMEOUT: Duration = Duration::from_millis(500);
/// For the whole conversation with PostgreSQL.
const POSTGRES_TIMEOUT: Duration = Duration::from_secs(6);
/// What a server calls a table that is not there: nothing has run on this database yet.
const UNDEFINED_TABLE: &str = "42P01";

#[derive(Debug, Args)]
#[command(after_help = "\
Per task (an input partition): P is the next offset of which PostgreSQL has the results, K the one of which Kafka has
the outputs, R the one of which local state has the windows, END the end of the log, LAG = END - P. R, and what a task
waits for, are told by the instance at --http, for its own tasks. Reads only, and joins no group.

Exit codes:
  0 all answered    69 a neighbour did not answer; what the others said is printed")]
pub struct StatusArguments {
    #[command(flatten)]
    file: FileArgument,
    #[command(flatten)]
    instance: InstanceArgument,
    #[command(flatten)]
    output: OutputArgument,
}

/// Where the pipeline stands.
#[derive(Debug, Serialize)]
struct Status {
    application: String,
    semantic_hash: String,
    kafka: Neighbour,
    postgres: Neighbour,
    /// What the instance at `--http` says; none where no instance answers.
    instance: Option<Readyz>,
    tasks: Vec<TaskStatus>,
}

#[derive(Debug, Serialize)]
struct Neighbour {
    answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One input partition. What a neighbour did not say is null.
#[derive(Debug, Default, Serialize)]
struct TaskStatus {
    topic: String,
    partition: i32,
    next: Option<i64>,
    group_offset: Option<i64>,
    log_start: Option<i64>,
    log_end: Option<i64>,
    lag: Option<i64>,
    watermark: Option<String>,
    owner: Option<String>,
    /// The two halves of `owner`: who has the task, and which of its workers.
    instance: Option<String>,
    worker: Option<usize>,
    /// Of the asked instance's own tasks: the next offset of local state, the stage, and what is waited for.
    state_offset: Option<i64>,
    stage: Option<String>,
    waits_for: Option<String>,
    owner_epoch: Option<i64>,
    epoch: Option<i64>,
    settled: Option<bool>,
    /// Whether the recorded progress is that of this very file.
    same_plan: Option<bool>,
    updated_at: Option<String>,
    counts: Option<TaskCounts>,
}

/// What Kafka says of one partition.
struct LogPosition {
    group: Option<Offset>,
    start: Offset,
    end: Offset,
}

pub type Answer<T> = Result<T, RuntimeError>;

/// Asks all neighbours at once and prints what they say.
pub fn status(arguments: &StatusArguments) -> Exit {
    let plan = match arguments.file.load() {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    let (kafka, postgres, instance, own) = thread::scope(|scope| {
        let kafka = scope.spawn(|| ask_kafka(&plan));
        let postgres = scope.spawn(|| ask_postgres(&plan));
        let instance = ask(&arguments.instance.http).ok();
        let own = instance.as_ref().and_then(|_| ask_status(&arguments.instance.http).ok());
        (kafka.join(), postgres.join(), instance, own)
    });
    let (Ok(kafka), Ok(postgres)) = (kafka, postgres) else {
        return Exit::Internal;
    };
    let exit = worst(kafka.as_ref().err(), postgres.as_ref().err());
    let (kafka_said, postgres_said) = (neighbour(&kafka), neighbour(&postgres));
    let mut tasks = tasks(&plan, &kafka.unwrap_or_default(), &postgres.unwrap_or_default());
    if let Some(own) = &own {
        add_own(&mut tasks, own);
    }
    let status = Status {
        application: plan.application.to_string(),
        semantic_hash: format!("{:016x}", plan.hash),
        kafka: kafka_said,
        postgres: postgres_said,
        instance,
        tasks,
    };
    match arguments.output.output {
        OutputFormat::Json => answer_json(&status, exit),
        OutputFormat::Table => answer(&tables(&status), exit),
    }
}

fn neighbour<T>(answer: &Answer<T>) -> Neighbour {
    Neighbour { answers: answer.is_ok(), error: answer.as_ref().err().map(ToString::to_string) }
}

/// An outage goes before a refusal: it may hide one.
fn worst(kafka: Option<&RuntimeError>, postgres: Option<&RuntimeError>) -> Exit {
    let errors = || kafka.into_iter().chain(postgres);
    match errors().find(|error| error.recovery() == Recovery::Retry).or_else(|| errors().next()) {
        Some(error) => Exit::of_error(error),
        None => Exit::Ok,
    }
}

fn ask_kafka(plan: &Plan) -> Answer<BTreeMap<TopicPartition, LogPosition>> {
    let settings = KafkaSettings {
        client: plan.connections.kafka.clone(),
        application: plan.application.to_string(),
        instance: "status".to_owned(),
        worker: 0,
        max_record_bytes: plan.largest_record(),
    };
    let mut partitions = Vec::new();
    let admin = Admin::open(&settings)?;
    for name in plan.input_topics() {
        if let Some(topic) = admin.topic(name, KAFKA_TIMEOUT)? {
            partitions.extend((0..topic.partitions).map(|p| TopicPartition::new(name.clone(), p)));
        }
    }
    let consumer = Consumer::open(&settings)?;
    let group = match consumer.stable_offsets(&partitions, KAFKA_TIMEOUT) {
        Err(KafkaError::Unstable { .. }) => stable_ones(&consumer, &partitions)?,
        answered => answered?,
    };
    let mut positions = BTreeMap::new();
    for partition in partitions {
        let (start, end) = consumer.log_range(&partition, KAFKA_TIMEOUT)?;
        let group =
            group.iter().find(|GroupOffset { partition: of, .. }| *of == partition).and_then(|g| g.offset);
        positions.insert(partition, LogPosition { group, start, end });
    }
    Ok(positions)
}

/// The group's offsets that no open transaction holds back, asked for one by one.
fn stable_ones(consumer: &Consumer, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, KafkaError> {
    let mut stable = Vec::new();
    for partition in partitions {
        match consumer.stable_offsets(from_ref(partition), HELD_TIMEOUT) {
            Err(KafkaError::Unstable { .. }) => {}
            answered => stable.extend(answered?),
        }
    }
    Ok(stable)
}

/// The recorded progress; none where nothing has run on this database yet.
pub fn ask_postgres(plan: &Plan) -> Answer<Vec<ProgressRow>> {
    let target = Target::from_environment(plan.connections.postgres_url.as_deref())?;
    let unavailable = |cause: String| PostgresError::Unavailable { context: target.to_string(), cause };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| unavailable(error.to_string()))?;
    let conversation = async {
        let mut session = Session::connect(&target, "millstream status").await?;
        session.read_application(&plan.application).await
    };
    let answered = runtime.block_on(async { tokio::time::timeout(POSTGRES_TIMEOUT, conversation).await });
    match answered {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(PostgresError::Refused { sqlstate, .. })) if sqlstate == UNDEFINED_TABLE => Ok(Vec::new()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(unavailable(format!("no answer within {} s", POSTGRES_TIMEOUT.as_secs())).into()),
    }
}

fn tasks(
    plan: &Plan,
    kafka: &BTreeMap<TopicPartition, LogPosition>,
    rows: &[ProgressRow],
) -> Vec<TaskStatus> {
    let mut tasks: BTreeMap<TopicPartition, TaskStatus> = BTreeMap::new();
    for tp in kafka.keys().chain(rows.iter().map(|row| &row.tp)) {
        let task =
            TaskStatus { topic: tp.topic.to_string(), partition: tp.partition.0, ..TaskStatus::default() };
        tasks.insert(tp.clone(), task);
    }
    for (tp, task) in &mut tasks {
        if let Some(row) = rows.iter().find(|row| row.tp == *tp) {
            task.next = Some(row.next.0);
            task.watermark = row.watermark.map(|w| w.to_string());
            task.owner.clone_from(&row.owner);
            if let Some((instance, worker)) = row.owner.as_deref().and_then(|owner| of_owner(plan, owner)) {
                (task.instance, task.worker) = (Some(instance.to_owned()), Some(worker));
            }
            task.owner_epoch = Some(row.owner_epoch.0);
            task.epoch = Some(row.epoch.0);
            task.settled = Some(row.settled);
            task.same_plan = Some(row.plan_hash == plan.hash);
            task.updated_at = Some(row.updated_at.to_string());
            task.counts = Some(row.counts.clone());
        }
        if let Some(position) = kafka.get(tp) {
            task.group_offset = position.group.map(|offset| offset.0);
            task.log_start = Some(position.start.0);
            task.log_end = Some(position.end.0);
            task.lag = task.next.map(|next| (position.end.0 - next).max(0));
        }
    }
    tasks.into_values().collect()
}

/// Instance and worker of `application.instance.worker`, as a progress row names its owner.
fn of_owner<'o>(plan: &Plan, owner: &'o str) -> Option<(&'o str, usize)> {
    let (instance, worker) = owner.strip_prefix(&*plan.application)?.strip_prefix('.')?.rsplit_once('.')?;
    Some((instance, worker.parse().ok()?))
}

/// An instance knows more of the tasks that it owns, and that only while it does.
fn add_own(tasks: &mut [TaskStatus], own: &InstanceStatus) {
    for task in tasks.iter_mut().filter(|task| task.instance.as_ref() == Some(&own.instance)) {
        let name = task_name(task);
        if let Some(found) = own.tasks.iter().find(|found| found.task == name) {
            task.stage = Some(found.state.clone());
            task.waits_for.clone_from(&found.reason);
            task.state_offset = found.state_next;
        }
    }
}

fn tables(status: &Status) -> String {
    let mut out = format!("{}: semantic hash {}\n", status.application, status.semantic_hash);
    for (name, neighbour) in [("kafka", &status.kafka), ("postgres", &status.postgres)] {
        if let Some(error) = &neighbour.error {
            let _ = writeln!(out, "{name} does not answer: {error}");
        }
    }
    let instance = match &status.instance {
        Some(readyz) if readyz.ready => "ready".to_owned(),
        Some(readyz) => format!("not ready: {}", reasons(readyz)),
        None => "none answers".to_owned(),
    };
    let _ = writeln!(out, "instance: {instance}\n");
    out.push_str(&positions(&status.tasks));
    if status.tasks.iter().any(|task| task.counts.is_some()) {
        out.push('\n');
        out.push_str(&verdicts(&status.tasks));
        out.push_str(&checks(&status.tasks));
        out.push_str(&aggregates(&status.tasks));
    } else {
        let _ = writeln!(out, "\nno progress is recorded yet");
    }
    out
}

fn task_name(task: &TaskStatus) -> String {
    format!("{}-{}", task.topic, task.partition)
}

fn positions(tasks: &[TaskStatus]) -> String {
    let headers = [
        "task",
        "p",
        "k",
        "r",
        "end",
        "lag",
        "watermark",
        "settled",
        "instance",
        "worker",
        "stage",
        "updated",
    ];
    let mut table = grid(&headers);
    for task in tasks {
        let offsets = [task.next, task.group_offset, task.state_offset, task.log_end, task.lag];
        let settled = or_dash(task.settled.map(|settled| if settled { "yes" } else { "no" }));
        let stage = task.stage.as_ref().map(|stage| match &task.waits_for {
            Some(reason) => format!("{stage}: {reason}"),
            None => stage.clone(),
        });
        let rest = [
            or_dash(task.watermark.as_deref()),
            settled,
            or_dash(task.instance.as_deref()),
            or_dash(task.worker),
            or_dash(stage),
            or_dash(task.updated_at.as_deref()),
        ];
        let offsets = offsets.map(|n| number(or_dash(n)));
        table.add_row([text(task_name(task))].into_iter().chain(offsets).chain(rest.map(text)));
    }
    if tasks.is_empty() { String::new() } else { indented(&table) }
}

fn verdicts(tasks: &[TaskStatus]) -> String {
    let mut table = grid(&["task", "routed", "read", "accepted", "duplicate", "dead", "reasons"]);
    for (task, counts) in tasks.iter().filter_map(|task| task.counts.as_ref().map(|counts| (task, counts))) {
        let numbers =
            [counts.routed, counts.read, counts.accepted, counts.duplicate, counts.dead].map(number);
        let reasons: Vec<String> = counts.dead_by_reason.iter().map(|(r, n)| format!("{r} {n}")).collect();
        let row = [text(task_name(task))].into_iter().chain(numbers);
        table.add_row(row.chain([text(reasons.join(", "))]));
    }
    indented(&table)
}

/// Accepted records that failed a check which only counts.
fn checks(tasks: &[TaskStatus]) -> String {
    let mut table = grid(&["task", "check", "failed"]);
    for task in tasks {
        for (name, failed) in task.counts.iter().flat_map(|counts| &counts.checks) {
            table.add_row([text(task_name(task)), text(name), number(failed)]);
        }
    }
    if table.is_empty() { String::new() } else { format!("\n{}", indented(&table)) }
}

fn aggregates(tasks: &[TaskStatus]) -> String {
    let mut table = grid(&["task", "aggregate", "matched", "counted", "too late", "partly late"]);
    for task in tasks {
        for (name, counts) in task.counts.iter().flat_map(|counts| &counts.aggregates) {
            let numbers = [counts.matched, counts.counted, counts.too_late, counts.partly_late].map(number);
            table.add_row([text(task_name(task)), text(name)].into_iter().chain(numbers));
        }
    }
    if table.is_empty() { String::new() } else { format!("\n{}", indented(&table)) }
}
