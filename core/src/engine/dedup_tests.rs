//! Duplicates in any manner of running, against one list of what was accepted.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::dedup::Dedup;
use super::disk::Disk;
use super::*;
use crate::codec::{META_KEY, decode_meta};
use crate::model::{EventTime, Offset, OwnerEpoch, RollingHash, Span, TopicPartition};
use crate::pipeline::{Plan, SourceId, load};
use crate::verdict::Judge;
use crate::window::Marks;

const SECOND: i64 = 1_000_000;
const DELAY: i64 = 10;

fn plan(within: i64) -> Arc<Plan> {
    let text = format!(
        r#"
version: 1
name: dedup-tests
connections: {{ kafka: {{ bootstrap.servers: "localhost:9092" }} }}
sources:
  clicks:
    topic: clicks
    fields: {{ at: timestamp_s!, id: text, part: bigint!, n: bigint! }}
    event_time: at
    watermark: {{ delay: {DELAY}s }}
    dedup: {{ key: ["coalesce(id, '')", part], within: {within}s }}
    checks: [ {{ name: even, expect: n % 2 = 0, on_fail: count }} ]
aggregates:
  all:
    from: clicks
    window: {{ tumble: 366d }}
    select: {{ n: count(*) }}
    to: {{ table: whole, key: [window_start] }}
records:
  copy: {{ from: clicks, to: {{ topic: copies }} }}
  rows: {{ from: clicks, to: {{ table: rows, key: [n] }} }}
"#
    );
    Arc::new(load(&text, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")))
}

#[derive(Clone, Debug)]
struct Click {
    second: i64,
    id: Option<u8>,
    part: u8,
}

impl Click {
    fn json(&self, n: usize) -> Vec<u8> {
        let id = self.id.map_or("null".to_owned(), |id| format!("\"id{id}\""));
        format!(r#"{{"at":{},"id":{id},"part":{},"n":{n}}}"#, self.second, self.part).into_bytes()
    }
}

/// Epochs of these sizes in turn, memory for ids, and whether the task starts anew after each epoch.
#[derive(Clone, Debug)]
struct Manner {
    epochs: Vec<usize>,
    id_bytes: usize,
    restart: bool,
}

fn open(plan: &Arc<Plan>, disk: &Disk, id_bytes: usize) -> Task {
    let identity = TaskIdentity {
        application: plan.application.clone(),
        cluster_id: "cluster".into(),
        partition: TopicPartition::new("clicks", 0),
        topic_id: "topic".into(),
        plan_hash: plan.hash,
    };
    let stored = disk.get(Family::Meta, META_KEY).expect("memory");
    let meta = stored.map(|bytes| decode_meta(&bytes).expect("our bytes"));
    let judge = Arc::new(Judge::new(plan.clone(), SourceId(0)));
    let mut task =
        Task::open(identity, (judge, Role::Whole), Box::new(disk.clone()), (meta.as_ref(), Offset(0)), 0);
    task.load(id_bytes).expect("our bytes");
    task.own(OwnerEpoch(1), TaskCounts::default());
    task
}

/// The numbers of the accepted records, what was counted, and the hash at the end.
#[derive(Debug, PartialEq)]
struct Outcome {
    accepted: Vec<usize>,
    duplicates: i64,
    odd: i64,
    hash: RollingHash,
}

fn run(plan: &Arc<Plan>, clicks: &[Click], manner: &Manner) -> Outcome {
    let disk = Disk::default();
    let mut task = open(plan, &disk, manner.id_bytes);
    let mut sizes = manner.epochs.iter().cycle();
    let mut due = *sizes.next().expect("an epoch");
    let mut outcome = Outcome { accepted: Vec::new(), duplicates: 0, odd: 0, hash: RollingHash::default() };
    let mut before = TaskCounts::default();
    for (n, click) in clicks.iter().enumerate() {
        feed(&mut task, n, &click.json(n));
        due -= 1;
        if due == 0 || n + 1 == clicks.len() {
            let mut sealed = task.seal();
            outcome.accepted.extend(copies(&sealed.outputs));
            outcome.duplicates += sealed.counts.duplicate - before.duplicate;
            outcome.odd += odd(&sealed.counts) - odd(&before);
            assert!(sealed.counts.conserved());
            let counted = sealed.counts.aggregates["all"].matched - all(&before);
            assert_eq!(counted, sealed.counts.accepted - before.accepted, "no duplicate feeds an aggregate");
            before = sealed.counts.clone();
            task.write(std::mem::take(&mut sealed.changes)).expect("memory");
            due = *sizes.next().expect("an epoch");
            if manner.restart {
                task = open(plan, &disk, manner.id_bytes);
                before = TaskCounts::default();
            }
        }
    }
    outcome.hash = task.hash();
    outcome
}

fn feed(task: &mut Task, offset: usize, value: &[u8]) {
    feed_muted(task, offset, value, Effects::LIVE);
}

fn feed_muted(task: &mut Task, offset: usize, value: &[u8], effects: Effects) {
    let record = Record {
        offset: Offset(offset as i64),
        timestamp_ms: None,
        key: None,
        value: Some(value),
        headers: &Vec::new,
    };
    task.process(&record, effects).expect("memory does not fail");
}

fn odd(counts: &TaskCounts) -> i64 {
    counts.checks.get("even").copied().unwrap_or_default()
}

fn all(counts: &TaskCounts) -> i64 {
    counts.aggregates.get("all").map_or(0, |counts| counts.matched)
}

/// The numbers in the records that are passed on.
fn copies(outputs: &Outputs) -> Vec<usize> {
    let number = |message: &RecordMessage| {
        let text = std::str::from_utf8(&outputs.bytes[message.value.clone()]).expect("JSON");
        let (_, number) = text.trim_end_matches('}').rsplit_once(':').expect("its last field");
        number.parse().expect("a number")
    };
    outputs.records.iter().map(number).collect()
}

/// The same by the words of the contract.
fn naive(clicks: &[Click], within: i64) -> (Vec<usize>, i64) {
    let grain = ((within * SECOND + 23) / 24).max(SECOND);
    let (mut seen, mut watermark, mut accepted) = (Vec::new(), None, Vec::new());
    for (n, click) in clicks.iter().enumerate() {
        let (key, at) = ((click.id, click.part), click.second * SECOND);
        let expired = |bucket: i64| watermark.is_some_and(|w| (bucket + 1) * grain + within * SECOND <= w);
        if !seen.iter().any(|(other, bucket)| *other == key && !expired(*bucket)) {
            accepted.push(n);
            seen.push((key, at / grain));
        }
        watermark = watermark.max(Some(at - DELAY * SECOND));
    }
    let duplicates = (clicks.len() - accepted.len()) as i64;
    (accepted, duplicates)
}

fn clicks() -> impl Strategy<Value = Vec<Click>> {
    let click = (0i64..300, prop::option::weighted(0.9, 0u8..40), 0u8..2, any::<bool>());
    // Half of them come about in order, over some lifetimes of an id.
    prop::collection::vec(click, 1..250).prop_map(|clicks| {
        let count = clicks.len() as i64;
        let place = |(i, (second, id, part, ordered)): (usize, (i64, Option<u8>, u8, bool))| {
            let second = if ordered { i as i64 * 300 / count + second % 15 } else { second };
            Click { second, id, part }
        };
        clicks.into_iter().enumerate().map(place).collect()
    })
}

fn manner() -> impl Strategy<Value = Manner> {
    // A generation has 56 ids at least: nothing in memory, some filters, some tables, everything.
    let bytes = prop_oneof![Just(0usize), Just(2_200), Just(4_000), Just(usize::MAX)];
    (prop::collection::vec(1usize..60, 1..6), bytes, any::<bool>())
        .prop_map(|(epochs, id_bytes, restart)| Manner { epochs, id_bytes, restart })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn duplicates_in_any_manner_are_those_of_the_contract(
        within in 1i64..80,
        clicks in clicks(),
        manner in manner(),
    ) {
        let plan = plan(within);
        let found = run(&plan, &clicks, &manner);
        let (accepted, duplicates) = naive(&clicks, within);
        prop_assert_eq!(found.odd, accepted.iter().filter(|n| *n % 2 == 1).count() as i64, "counted if accepted");
        prop_assert_eq!(&found.accepted, &accepted);
        prop_assert_eq!(found.duplicates, duplicates);
        let whole = Manner { epochs: vec![usize::MAX], id_bytes: usize::MAX, restart: false };
        prop_assert_eq!(found.hash, run(&plan, &clicks, &whole).hash);
    }
}

/// Ids of one bucket in a row of epochs; answers how many of the ids were new, and how often the store was asked.
fn see(dedup: &mut Dedup, disk: &mut Disk, ids: impl Iterator<Item = u32>) -> (usize, usize) {
    let (mut new, before) = (0, disk.gets());
    for ids in ids.collect::<Vec<_>>().chunks(1_000) {
        for id in ids {
            let place = (xxh3_128(&id.to_le_bytes()), EventTime(0));
            new += usize::from(!dedup.is_duplicate(disk, place, Marks::default()).expect("memory"));
        }
        let mut changes = Vec::new();
        dedup.seal(None, &mut changes);
        disk.write(changes).expect("memory");
        dedup.evict();
    }
    (new, disk.gets() - before)
}

#[test]
fn beyond_the_budget_a_new_id_seldom_costs_a_read_and_a_copy_costs_one() {
    let budget = 1 << 20;
    let within = Span::from_secs(60);
    let (mut dedup, mut disk) = (Dedup::new(within, budget), Disk::default());
    let (new, gets) = see(&mut dedup, &mut disk, 0..100_000);
    assert_eq!(new, 100_000);
    assert!(gets < 4_000, "{gets} reads for 100,000 new ids");
    let (new, gets) = see(&mut dedup, &mut disk, 0..5_000);
    assert_eq!(new, 0);
    assert!((5_000..5_500).contains(&gets), "{gets} reads for 5,000 old ids");
    let (new, gets) = see(&mut dedup, &mut disk, 99_000..100_000);
    assert_eq!((new, gets), (0, 0), "the youngest stand in memory");

    let mut restarted = Dedup::new(within, budget);
    let (new, gets) = see(&mut restarted, &mut disk, 0..110_000);
    assert_eq!(new, 10_000);
    assert!(gets < 105_000, "{gets}");
}

#[test]
fn ids_are_forgotten_by_whole_generations() {
    let plan = plan(24);
    let disk = Disk::default();
    let mut task = open(&plan, &disk, 0);
    let mut numbers = 0..;
    let mut epoch = |second: i64, ids: std::ops::Range<u8>| {
        for id in ids {
            let click = Click { second, id: Some(id), part: 0 };
            let n = numbers.next().expect("endless");
            feed(&mut task, n, &click.json(n));
        }
        let sealed = task.seal();
        let deleted: BTreeSet<Family> = sealed
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::DeleteRange { family, .. } => Some(*family),
                Change::Put { .. } | Change::Delete { .. } => None,
            })
            .collect();
        task.write(sealed.changes).expect("memory");
        let mut kept = 0;
        disk.scan(Family::Dedup, &[], &mut |_, _| kept += 1).expect("memory");
        (kept, deleted.contains(&Family::Dedup))
    };
    assert_eq!(epoch(100, 0..56), (56, false), "one full generation");
    assert_eq!(epoch(134, 0..1), (56, false), "bucket 100 is kept until 101 + 24 + 10");
    assert_eq!(epoch(135, 0..1), (0, true), "a copy still, and with it the watermark has come there");
    assert_eq!(epoch(135, 0..1), (1, false), "new again");
}

#[test]
fn a_muted_replay_judges_as_before_and_counts_nothing_again() {
    let plan = plan(30);
    let clicks: Vec<Click> =
        (0..60).map(|i| Click { second: i * 2, id: Some((i % 13) as u8), part: 0 }).collect();
    let disk = Disk::default();
    let mut task = open(&plan, &disk, 0);
    clicks[..20].iter().enumerate().for_each(|(n, click)| feed(&mut task, n, &click.json(n)));
    let sealed = task.seal();
    task.write(sealed.changes).expect("memory");
    clicks.iter().enumerate().skip(20).for_each(|(n, click)| feed(&mut task, n, &click.json(n)));
    let first = task.seal();
    assert!(first.counts.duplicate > 10 && first.outputs.rows.len() > 10);

    // State stands at 20, Kafka has the records below 40, PostgreSQL all of them.
    let mut again = open(&plan, &disk, 0);
    assert_eq!(again.next(), Offset(20));
    for (n, click) in clicks.iter().enumerate().skip(20) {
        feed_muted(&mut again, n, &click.json(n), Effects { outputs: n >= 40, rows: false });
    }
    let second = again.seal();
    assert_eq!(second.hash, first.hash);
    assert_eq!((second.counts.read, second.counts.duplicate, second.outputs.rows.len()), (0, 0, 0));
    let late: Vec<usize> = copies(&first.outputs).into_iter().filter(|n| *n >= 40).collect();
    assert_eq!(copies(&second.outputs), late);
    let ids = |sealed: &SealedEpoch| {
        let of_ids = |c: &&Change| matches!(c, Change::Put { family: Family::Dedup, .. });
        sealed.changes.iter().filter(of_ids).cloned().collect::<Vec<_>>()
    };
    assert_eq!(ids(&second), ids(&first));
}
