//! `millstream doctor`

mod sample;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millstream_core::pipeline::{Plan, Source, SourceId};
use serde::Serialize;

use crate::kafka::{Admin, Consumer, KafkaSettings};
use crate::runtime::RuntimeError;

use super::exit::Exit;
use super::file::FileArgument;
use super::output::{OutputArgument, OutputFormat, answer, answer_json, grid, indented, plural, text};
use super::status::ask_postgres;
use sample::{Sample, sample};

/// For each question to a broker.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
#[command(after_help = "\
Looks at what a run would meet, and changes nothing: whether Kafka and PostgreSQL answer, whether the topics are there
and keep their records, whether recorded progress is that of this file, and, from the newest records of each partition,
whether they are dead and whether `keyed_by` holds: a key that lies in two partitions has sessions that are torn apart,
and copies that no dedup finds. What a sample does not show it cannot rule out.

Exit codes:
  0 nothing is wrong    1 something is    69 a neighbour did not answer

Example:
  millstream doctor pipeline.yaml --sample 100000")]
pub struct DoctorArguments {
    #[command(flatten)]
    file: FileArgument,
    /// Newest records of each source to look at
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sample: u32,
    #[command(flatten)]
    output: OutputArgument,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Well,
    /// There is nothing to tell from.
    Unknown,
    Wrong,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    application: &'a str,
    findings: &'a [Finding],
}

impl Finding {
    fn well(what: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding { what: what.into(), verdict: Verdict::Well, found: found.into(), mend: None }
    }

    fn unknown(what: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Unknown, ..Finding::well(what, found) }
    }

    fn wrong(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Wrong, mend: Some(mend.into()), ..Finding::well(what, found) }
    }
}

/// Looks at everything and tells what was found.
pub fn doctor(arguments: &DoctorArguments) -> Exit {
    let plan = match arguments.file.load() {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    let mut findings = Vec::new();
    let mut unanswered = None;
    match look_at_kafka(&plan, arguments.sample, &mut findings) {
        Ok(()) => {}
        Err(error) => unanswered = Some(silent("kafka", &error, &mut findings)),
    }
    match look_at_postgres(&plan, &mut findings) {
        Ok(()) => {}
        Err(error) => unanswered = unanswered.or(Some(silent("postgres", &error, &mut findings))),
    }
    let wrong = findings.iter().any(|finding| finding.verdict == Verdict::Wrong);
    let exit = unanswered.unwrap_or(if wrong { Exit::Negative } else { Exit::Ok });
    match arguments.output.output {
        OutputFormat::Json => {
            answer_json(&Answer { application: &plan.application, findings: &findings }, exit)
        }
        OutputFormat::Table => answer(&table(&findings), exit),
    }
}

fn silent(neighbour: &str, error: &RuntimeError, findings: &mut Vec<Finding>) -> Exit {
    findings.push(Finding::wrong(neighbour, error.to_string(), "see docs/operators.md, connections"));
    Exit::of_error(error)
}

fn look_at_kafka(plan: &Arc<Plan>, records: u32, findings: &mut Vec<Finding>) -> Result<(), RuntimeError> {
    let settings = KafkaSettings {
        client: plan.connections.kafka.clone(),
        application: plan.application.to_string(),
        instance: "doctor".to_owned(),
        worker: 0,
        max_record_bytes: plan.largest_record(),
    };
    let admin = Admin::open(&settings)?;
    findings.push(Finding::well("kafka", format!("cluster {}", admin.cluster_id(KAFKA_TIMEOUT)?)));
    for (index, source) in plan.sources.iter().enumerate() {
        let what = format!("sources.{}: topic {}", source.name, source.topic);
        let Some(topic) = admin.topic(&source.topic, KAFKA_TIMEOUT)? else {
            findings.push(missing(what, source));
            continue;
        };
        let count = plural(usize::try_from(topic.partitions).unwrap_or_default(), "partition");
        findings.push(match topic.cleanup_policy.contains("compact") {
            true => Finding::wrong(
                what,
                format!("cleanup.policy={}", topic.cleanup_policy),
                "a replay must find every record: set cleanup.policy=delete, or read another topic",
            ),
            false => Finding::well(what, count),
        });
        let mut consumer = Consumer::open(&settings)?;
        let sample = sample(&mut consumer, plan, SourceId(index), (topic.partitions, records))?;
        findings.extend(of_sample(source, &sample));
    }
    Ok(())
}

fn missing(what: String, source: &Source) -> Finding {
    match source.create_partitions {
        Some(count) => Finding::well(
            what,
            format!(
                "not there; a run makes it, of {}",
                plural(usize::try_from(count).unwrap_or(0), "partition")
            ),
        ),
        None => Finding::wrong(
            what,
            "not there",
            "create it, or let the pipeline: topic: { name, create: { partitions } }",
        ),
    }
}

fn of_sample(source: &Source, sample: &Sample) -> Vec<Finding> {
    let name = &source.name;
    let what = format!("sources.{name}: newest records");
    let reasons: Vec<String> = sample.dead.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    let dead: u64 = sample.dead.values().sum();
    let found = match dead {
        0 => format!("{} looked at, none dead", sample.records),
        _ => format!("{} looked at, {dead} dead: {}", sample.records, reasons.join(", ")),
    };
    let mut findings = vec![match sample.records {
        0 => Finding::unknown(what, "there are none"),
        all if dead == all => Finding::wrong(
            what,
            found,
            "no record fits the file's fields and checks; try some with `millstream try --input`",
        ),
        _ => Finding::well(what, found),
    }];
    let Some(field) = source.keyed_by.map(|id| &source.fields[id.0].name) else { return findings };
    let what = format!("sources.{name}.keyed_by: {field}");
    findings.push(match sample.torn() {
        Some((value, partitions)) => Finding::wrong(
            what,
            format!(
                "'{value}' lies in partitions {partitions:?}; so do {} of {} values",
                sample.torn_values(),
                sample.values()
            ),
            format!("key the topic by {field} at its producer, or leave keyed_by out"),
        ),
        None if sample.values() == 0 => Finding::unknown(what, "no record to tell from"),
        None => Finding::well(what, format!("{} values, each in one partition", sample.values())),
    });
    findings
}

fn look_at_postgres(plan: &Plan, findings: &mut Vec<Finding>) -> Result<(), RuntimeError> {
    let rows = ask_postgres(plan)?;
    findings.push(match rows.iter().find(|row| row.plan_hash != plan.hash) {
        Some(row) => Finding::wrong(
            "postgres",
            format!(
                "progress of {} was made by a file of another meaning, {:016x}",
                plan.application, row.plan_hash
            ),
            "a run is refused with PIPELINE_CHANGED; see docs/refusals.md",
        ),
        None if rows.is_empty() => Finding::well("postgres", "answers; no progress is recorded yet"),
        None => {
            Finding::well("postgres", format!("progress of {} is recorded", plural(rows.len(), "partition")))
        }
    });
    Ok(())
}

fn table(findings: &[Finding]) -> String {
    let mut table = grid(&["", "what", "found"]);
    for finding in findings {
        let sign = match finding.verdict {
            Verdict::Well => "well",
            Verdict::Unknown => "?",
            Verdict::Wrong => "WRONG",
        };
        table.add_row([text(sign), text(&finding.what), text(&finding.found)]);
    }
    let mends = findings.iter().filter_map(|f| Some(format!("\n{}: {}\n", f.what, f.mend.as_ref()?)));
    indented(&table) + &mends.collect::<String>()
}
