//! What remembering ids costs: records with distinct ids, and some copies, through one task and its store on disk.
//!
//! No Kafka and no PostgreSQL: records are made in memory, judged, and written in a worker's epochs under backlog. Each
//! record has about 100 bytes and an id of 32 hex digits; all fall within the day for which ids are remembered, so none is
//! forgotten. A copy is of any earlier record, drawn evenly: most are far older than what memory holds. The same records
//! pass a pipeline without `dedup` first; the difference is what dedup costs. Then the task is opened again, as after a
//! restart. Usage: `dedup IDS BUDGET_MIB COPIES_PERCENT FOLDER`; the folder must be empty and is left with the store in it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::runtime::EPOCH_RECORDS;
use millstream::state::TaskStore;
use millstream_core::codec::{META_KEY, decode_meta};
use millstream_core::engine::{
    Effects, Family, ProcessError, Record, Role, StateStore, StoreError, Task, TaskCounts, TaskIdentity,
};
use millstream_core::model::{EventTime, Offset, OwnerEpoch, TopicPartition};
use millstream_core::pipeline::{SourceId, load};
use millstream_core::verdict::Judge;

/// 23 h in microseconds, from 2026-01-01T00:00Z.
const SPAN: u64 = 82_800_000_000;
const START: u64 = 1_767_225_600_000_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ids, budget, copies, folder] = &arguments[..] else {
        eprintln!("usage: dedup IDS BUDGET_MIB COPIES_PERCENT FOLDER");
        std::process::exit(2);
    };
    let load = Load { ids: ids.parse()?, copies: copies.parse()? };
    let budget = budget.parse::<usize>()? << 20;
    let folder = Path::new(folder);

    let mut without = open(&folder.join("without"), "", budget)?;
    let plain = load.run(&mut without)?;
    drop(without);
    let before = resident("VmRSS")?;

    let store = folder.join("with");
    let mut task = open(&store, "dedup: { key: [event_id], within: 24h }", budget)?;
    let with = load.run(&mut task)?;
    let (kept, peak) = (resident("VmRSS")?, resident("VmHWM")?);
    drop(task);
    let opening = Stopwatch::start();
    let mut again = open(&store, "dedup: { key: [event_id], within: 24h }", budget)?;
    let opening = opening.elapsed();
    let last = load.first_ids(10_000, &mut again)?;

    let records = load.records();
    let exact = with.counts.duplicate == (records - load.ids).cast_signed() && last.duplicate == 10_000;
    println!("ids {}, copies {}, budget {} MiB", load.ids, records - load.ids, budget >> 20);
    println!("found {} duplicates: {}", with.counts.duplicate, if exact { "exact" } else { "WRONG" });
    println!("without dedup {}, with {}", rate(records, plain.took), rate(records, with.took));
    println!("resident {before} MiB before, {kept} MiB after, {peak} MiB at most");
    println!("on disk {} MiB", bytes(&store)? >> 20);
    println!("opened again in {:.1} s", opening.as_secs_f64());
    if exact { Ok(()) } else { Err("duplicates were missed or made up".into()) }
}

/// Every hundred records as many copies as asked for, spread evenly.
struct Load {
    ids: u64,
    copies: u64,
}

struct Outcome {
    took: Duration,
    counts: TaskCounts,
}

impl Load {
    fn records(&self) -> u64 {
        self.ids + self.ids * self.copies / (100 - self.copies)
    }

    fn run(&self, task: &mut Task) -> Result<Outcome, ProcessError> {
        let (mut fresh, mut text, mut counts) = (0, Vec::new(), TaskCounts::default());
        let started = Stopwatch::start();
        for n in 0..self.records() {
            let due = ((n + 1) * self.ids).div_ceil(self.records());
            let number = if fresh < due { fresh } else { mixed(n) % fresh };
            fresh = fresh.max(number + 1);
            self.event(number, &mut text);
            feed(task, n, &text)?;
            if (n + 1) % EPOCH_RECORDS as u64 == 0 || n + 1 == self.records() {
                counts = write(task)?;
            }
        }
        Ok(Outcome { took: started.elapsed(), counts })
    }

    fn first_ids(&self, count: u64, task: &mut Task) -> Result<TaskCounts, ProcessError> {
        let mut text = Vec::new();
        for number in 0..count {
            self.event(number, &mut text);
            feed(task, self.records() + number, &text)?;
        }
        Ok(write(task)?)
    }

    fn event(&self, number: u64, text: &mut Vec<u8>) {
        use std::io::Write;
        let at = EventTime((START + SPAN / self.ids.max(1) * number).cast_signed());
        text.clear();
        let (high, low) = (mixed(number), mixed(number ^ 1 << 63));
        write!(
            text,
            r#"{{"event_id":"{high:016x}{low:016x}","event_ts":"{at}","url":"/page/{}"}}"#,
            number % 200
        )
        .expect("a vector takes every write");
    }
}

fn feed(task: &mut Task, offset: u64, value: &[u8]) -> Result<(), ProcessError> {
    let record = Record {
        offset: Offset(offset.cast_signed()),
        timestamp_ms: None,
        key: None,
        value: Some(value),
        headers: &Vec::new,
    };
    task.process(&record, Effects::LIVE)
}

fn write(task: &mut Task) -> Result<TaskCounts, StoreError> {
    let sealed = task.seal();
    task.write(sealed.changes)?;
    Ok(sealed.counts)
}

/// SplitMix64: a bijection, so that numbers give distinct ids.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn open(folder: &Path, dedup: &str, budget: usize) -> Result<Task, Failure> {
    let file = format!(
        r#"
version: 1
name: bench-dedup
connections: {{ kafka: {{ bootstrap.servers: "localhost:9092" }} }}
sources:
  clicks:
    topic: clicks
    fields: {{ event_id: text!, event_ts: timestamp!, url: text! }}
    event_time: event_ts
    {dedup}
aggregates:
  whole:
    from: clicks
    window: {{ tumble: 366d }}
    select: {{ hits: count(*) }}
    to: {{ table: whole, key: [window_start] }}
"#
    );
    let plan = Arc::new(load(&file, &|_| None).map_err(|problems| format!("{problems:?}"))?);
    let store = TaskStore::open(folder)?;
    let meta = store.get(Family::Meta, META_KEY)?.map(|bytes| decode_meta(&bytes)).transpose()?;
    let identity = TaskIdentity {
        application: plan.application.clone(),
        cluster_id: "bench".to_owned(),
        partition: TopicPartition::new("clicks", 0),
        topic_id: "bench".to_owned(),
        plan_hash: plan.hash,
    };
    let judge = Arc::new(Judge::new(plan, SourceId(0)));
    let mut task =
        Task::open(identity, (judge, Role::Whole), Box::new(store), (meta.as_ref(), Offset(0)), 1 << 20);
    task.load(budget)?;
    task.own(OwnerEpoch(1), TaskCounts::default());
    Ok(task)
}

fn rate(records: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    format!("{:.0} records/s ({:.2} us each)", records as f64 / seconds, seconds * 1e6 / records as f64)
}

/// A size of this process in MiB, as the kernel names it.
fn resident(name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such size")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()? >> 10)
}

fn bytes(folder: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
