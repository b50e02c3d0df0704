//! A task with the in-memory store, against a naive count.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::disk::Disk;
use super::*;
use crate::aggregate::Accumulator;
use crate::codec::{META_KEY, decode_group_key, decode_meta};
use crate::model::{EventTime, Offset, OwnerEpoch, RollingHash, TopicPartition, Value};
use crate::pipeline::{AggregateId, Plan, SourceId, load};
use crate::verdict::Judge;

const FILE: &str = r#"
version: 1
name: engine-tests
connections: { kafka: { bootstrap.servers: "localhost:9092" } }
sources:
  clicks:
    topic: clicks
    fields: { at: timestamp!, page: text!, ms: bigint }
    event_time: at
    watermark: { delay: 60s }
bad_data: { topic: "{source}.dead", table: dead_letters }
late: { allowed_lateness: 2m, topic: "{source}.late" }
aggregates:
  views:
    from: clicks
    window: { tumble: 1m }
    by: [page]
    select: { n: count(*), total: sum(ms), slowest: max(ms), slow: "count(*) filter (where ms > 50)" }
    to: { table: views, key: [window_start, page] }
records:
  copy: { from: clicks, set: { seen: commit_time() }, to: { topic: copies } }
"#;

fn plan() -> Arc<Plan> {
    Arc::new(load(FILE, &|_| None).expect("the file is right"))
}

/// A task that goes on from what `store` holds.
fn task(plan: &Arc<Plan>, store: impl StateStore + Send + 'static, window_bytes: usize) -> Task {
    let identity = TaskIdentity {
        application: plan.application.clone(),
        cluster_id: "cluster".into(),
        partition: TopicPartition::new("clicks", 0),
        topic_id: "topic".into(),
        plan_hash: plan.hash,
    };
    let meta =
        store.get(Family::Meta, META_KEY).expect("memory").map(|b| decode_meta(&b).expect("our bytes"));
    let judge = Arc::new(Judge::new(plan.clone(), SourceId(0)));
    let mut task =
        Task::open(identity, (judge, Role::Whole), Box::new(store), (meta.as_ref(), Offset(0)), window_bytes);
    task.own(OwnerEpoch(1), TaskCounts::default());
    task
}

fn feed(task: &mut Task, offset: usize, value: &[u8], effects: Effects) {
    let record = Record {
        offset: Offset(i64::try_from(offset).expect("small")),
        timestamp_ms: None,
        key: Some(b"k"),
        value: Some(value),
        headers: &Vec::new,
    };
    task.process(&record, effects).expect("memory does not fail");
}

fn click(second: i64, page: u8, ms: Option<i64>) -> Vec<u8> {
    let at = EventTime((1_000_000 + second) * 1_000_000);
    let ms = ms.map_or("null".to_owned(), |v| v.to_string());
    format!("{{\"at\":\"{at}\",\"page\":\"/{page}\",\"ms\":{ms}}}").into_bytes()
}

type Rows = BTreeMap<(EventTime, String), Vec<Value<'static>>>;

/// Adds an epoch's deltas to a result table.
fn merge_into(table: &mut BTreeMap<(EventTime, Vec<u8>), Vec<Accumulator>>, sealed: &SealedEpoch) {
    for row in sealed.deltas.get(&AggregateId(0)).into_iter().flatten() {
        match table.get_mut(&(row.window.start, row.key.to_vec())) {
            Some(kept) => kept.iter_mut().zip(&row.accumulators).for_each(|(a, b)| a.merge(b)),
            None => {
                table.insert((row.window.start, row.key.to_vec()), row.accumulators.clone());
            }
        }
    }
}

fn finish(plan: &Plan, table: BTreeMap<(EventTime, Vec<u8>), Vec<Accumulator>>) -> Rows {
    table
        .into_iter()
        .map(|((start, key), accumulators)| {
            let Value::Text(page) = decode_group_key(&key).expect("our bytes").remove(0) else {
                unreachable!()
            };
            let select = &plan.aggregates[0].select;
            let values = accumulators.iter().zip(select).map(|(a, s)| a.finish(s.function)).collect();
            ((start, page.into_owned()), values)
        })
        .collect()
}

/// Runs records in epochs of the given sizes; with a restart from the store after each epoch if asked.
fn run(records: &[Vec<u8>], epochs: &[usize], window_bytes: usize) -> (Rows, RollingHash, TaskCounts) {
    let plan = plan();
    let mut task = task(&plan, MemoryStore::default(), window_bytes);
    let (mut table, mut sizes) = (BTreeMap::new(), epochs.iter().cycle());
    let mut due = *sizes.next().expect("an epoch");
    for (offset, value) in records.iter().enumerate() {
        feed(&mut task, offset, value, Effects::LIVE);
        due -= 1;
        if due == 0 || offset + 1 == records.len() {
            let sealed = task.seal();
            merge_into(&mut table, &sealed);
            task.write(sealed.changes).expect("memory");
            due = *sizes.next().expect("an epoch");
        }
    }
    let counts = task.seal().counts;
    (finish(&plan, table), task.hash(), counts)
}

/// The same by one pass over the list.
fn naive(records: &[(i64, u8, Option<i64>)]) -> (Rows, i64) {
    let (mut rows, mut max, mut too_late) = (BTreeMap::<_, (i64, Vec<i64>)>::new(), None, 0);
    for (second, page, ms) in records {
        let second = 1_000_000 + second;
        let start = second - second % 60;
        if max.is_some_and(|m: i64| start + 60 + 120 <= m - 60) {
            too_late += 1;
        } else {
            let row = rows.entry((EventTime(start * 1_000_000), format!("/{page}"))).or_default();
            row.0 += 1;
            row.1.extend(ms);
        }
        max = Some(max.map_or(second, |m| m.max(second)));
    }
    let finish = |(n, ms): (i64, Vec<i64>)| {
        let total =
            ms.iter().map(|v| i128::from(*v)).reduce(|a, b| a + b).map_or(Value::Null, Value::Numeric);
        let slowest = ms.iter().max().map_or(Value::Null, |v| Value::Bigint(*v));
        let slow = i64::try_from(ms.iter().filter(|v| **v > 50).count()).expect("small");
        vec![Value::Bigint(n), total, slowest, Value::Bigint(slow)]
    };
    (rows.into_iter().map(|(key, row)| (key, finish(row))).collect(), too_late)
}

fn clicks() -> impl Strategy<Value = Vec<(i64, u8, Option<i64>)>> {
    prop::collection::vec((0i64..1_200, 0u8..3, prop::option::of(-5i64..100)), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_split_into_epochs_and_no_eviction_changes_a_row(
        records in clicks(),
        epochs in prop::collection::vec(1usize..20, 1..8),
        window_bytes in prop_oneof![Just(0usize), Just(2_000), Just(usize::MAX)],
    ) {
        let values: Vec<Vec<u8>> = records.iter().map(|(s, p, ms)| click(*s, *p, *ms)).collect();
        let (rows, hash, counts) = run(&values, &epochs, window_bytes);
        let (expected, too_late) = naive(&records);
        prop_assert_eq!(rows, expected);
        prop_assert_eq!(counts.aggregates["views"].too_late, too_late);
        prop_assert!(counts.conserved());
        let (_, whole, _) = run(&values, &[usize::MAX], usize::MAX);
        prop_assert_eq!(hash, whole);
    }
}

#[test]
fn window_that_every_epoch_touches_is_read_once_however_small_the_budget() {
    let disk = Disk::default();
    let mut task = task(&plan(), disk.clone(), 0);
    let mut offset = 0..;
    let mut epoch = |seconds: &[i64]| {
        for second in seconds {
            feed(&mut task, offset.next().expect("endless"), &click(*second, 1, None), Effects::LIVE);
        }
        let sealed = task.seal();
        task.write(sealed.changes).expect("memory");
        disk.scans()
    };
    let first = epoch(&[0, 1]);
    assert_eq!([epoch(&[2]), epoch(&[3])], [first, first], "a window in use stays");
    assert_eq!(epoch(&[60]), first + 1, "another window");
    assert_eq!(epoch(&[4, 61]), first + 2, "what an epoch left alone was evicted, and is read back");
}

#[test]
fn a_muted_replay_comes_to_the_same_hash_and_the_same_bytes() {
    let values: Vec<Vec<u8>> = (0..50)
        .map(|i| if i % 7 == 0 { b"not json".to_vec() } else { click(i * 13 % 400, (i % 3) as u8, Some(i)) })
        .collect();
    let plan = plan();
    let live = |records: &[Vec<u8>]| {
        let mut task = task(&plan, MemoryStore::default(), usize::MAX);
        records.iter().enumerate().for_each(|(i, v)| feed(&mut task, i, v, Effects::LIVE));
        task.seal()
    };
    let expected = live(&values);
    // Records [0, 30) feed state alone; [30, 50) outputs too, but no rows.
    let mut replay = task(&plan, MemoryStore::default(), usize::MAX);
    for (i, value) in values.iter().enumerate() {
        feed(&mut replay, i, value, Effects { outputs: i >= 30, rows: false });
    }
    let mut sealed = replay.seal();
    assert_eq!(sealed.hash, expected.hash);
    assert!(sealed.deltas.is_empty());
    assert_eq!(sealed.counts.read, 0, "PostgreSQL holds these records already");
    let last = live(&values).outputs;
    let tail: Vec<&[u8]> = last.records.iter().map(|r| &last.bytes[r.value.clone()]).collect();
    let again: Vec<&[u8]> =
        sealed.outputs.records.iter().map(|r| &sealed.outputs.bytes[r.value.clone()]).collect();
    assert_eq!(again, tail[tail.len() - again.len()..]);
    let dead = sealed.outputs.side.iter().filter(|m| &*m.topic == "clicks.dead").count();
    assert_eq!(dead, (30..50).filter(|i| i % 7 == 0).count());

    sealed.outputs.stamp(EventTime(1_700_000_000_000_000));
    let first = &sealed.outputs.bytes[sealed.outputs.records[0].value.clone()];
    let text = std::str::from_utf8(first).expect("JSON");
    assert!(text.ends_with(",\"seen\":\"2023-11-14T22:13:20.000000Z\"}"), "{text}");
}

#[test]
fn a_restart_goes_on_from_the_store_and_forgets_windows_past_lateness() {
    let plan = plan();
    let mut first = task(&plan, MemoryStore::default(), usize::MAX);
    feed(&mut first, 0, &click(0, 1, Some(1)), Effects::LIVE);
    feed(&mut first, 1, &click(600, 1, Some(1)), Effects::LIVE);
    let sealed = first.seal();
    let mut store = MemoryStore::default();
    store.write(sealed.changes).expect("memory");
    let mut kept = Vec::new();
    store.scan(Family::Windows, &[], &mut |key, _| kept.push(key.to_vec())).expect("memory");
    assert_eq!(kept.len(), 1, "the window of the first record is past its lateness");

    let mut second = task(&plan, store, usize::MAX);
    assert_eq!((second.next(), second.hash()), (Offset(2), sealed.hash));
    assert_eq!(second.fingerprint(), sealed.fingerprint);
    feed(&mut second, 2, &click(0, 1, Some(1)), Effects::LIVE);
    let sealed = second.seal();
    assert_eq!(sealed.counts.aggregates["views"].too_late, 1);
    let late = &sealed.outputs.side[0];
    let header = |name: &str| {
        let value = late.headers.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.clone());
        String::from_utf8(value.expect("a header")).expect("text")
    };
    assert_eq!(&*late.topic, "clicks.late");
    assert_eq!(header("aggregate"), "views");
    assert_eq!(header("late_by_ms"), "520000", "its window ended at second 20 of the minute");
    assert_eq!(header("watermark"), EventTime(1_000_540_000_000).to_string());
}
