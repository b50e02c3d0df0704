//! Windows of any size and slide, with lateness and distinct counts, against one naive pass over the records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::disk::Disk;
use super::*;
use crate::aggregate::Sketch;
use crate::codec::{META_KEY, decode_group_key, decode_meta};
use crate::model::{EventTime, Offset, OwnerEpoch, Partition, RollingHash, TopicPartition, Value};
use crate::pipeline::{AggregateId, Plan, SourceId, load};
use crate::verdict::Judge;

const SECOND: i64 = 1_000_000;
const DELAY: i64 = 20;
const ALLOWED: i64 = 30;

fn plan(size: i64, slide: i64) -> Arc<Plan> {
    let text = format!(
        r#"
version: 1
name: sliding-tests
connections: {{ kafka: {{ bootstrap.servers: "localhost:9092" }} }}
sources:
  clicks:
    topic: clicks
    fields: {{ at: timestamp_s!, page: text!, who: text, ms: bigint }}
    event_time: at
    watermark: {{ delay: {DELAY}s }}
late: {{ allowed_lateness: {ALLOWED}s }}
aggregates:
  views:
    from: clicks
    window: {{ slide: {slide}s, size: {size}s }}
    by: [page]
    select:
      n: count(*)
      slowest: max(ms)
      users: approx_distinct(who)
      quick: "approx_distinct(who) filter (where ms < 50)"
      late: late_rows()
    to: {{ table: views, key: [window_start, page] }}
"#
    );
    Arc::new(load(&text, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")))
}

#[derive(Clone, Debug)]
struct Click {
    second: i64,
    page: u8,
    user: Option<u8>,
    ms: Option<i64>,
}

impl Click {
    fn json(&self) -> Vec<u8> {
        let user = self.user.map_or("null".to_owned(), |u| format!("\"u{u}\""));
        let ms = self.ms.map_or("null".to_owned(), |v| v.to_string());
        format!("{{\"at\":{},\"page\":\"/{}\",\"who\":{user},\"ms\":{ms}}}", self.second, self.page)
            .into_bytes()
    }
}

/// How a task is run: epochs of these sizes in turn, memory for windows, and whether it starts anew after each epoch.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub epochs: Vec<usize>,
    pub window_bytes: usize,
    pub restart: bool,
}

pub(super) fn open(plan: &Arc<Plan>, disk: &Disk, partition: i32, window_bytes: usize) -> Task {
    let identity = TaskIdentity {
        application: plan.application.clone(),
        cluster_id: "cluster".into(),
        partition: TopicPartition::new("clicks", partition),
        topic_id: "topic".into(),
        plan_hash: plan.hash,
    };
    let stored = disk.get(Family::Meta, META_KEY).expect("memory");
    let meta = stored.map(|bytes| decode_meta(&bytes).expect("our bytes"));
    let judge = Arc::new(Judge::new(plan.clone(), SourceId(0)));
    let mut task = Task::open(
        identity,
        (judge, Role::Whole),
        Box::new(disk.clone()),
        (meta.as_ref(), Offset(0)),
        window_bytes,
    );
    task.own(OwnerEpoch(1), TaskCounts::default());
    task
}

/// Everything that one partition's records come to, in epochs. Those before `muted` feed state alone, as in a replay.
fn run(
    plan: &Arc<Plan>,
    partition: i32,
    clicks: &[Click],
    manner: &Manner,
    muted: usize,
) -> (Vec<SealedEpoch>, AggregateCounts) {
    let disk = Disk::default();
    let mut task = open(plan, &disk, partition, manner.window_bytes);
    let mut sizes = manner.epochs.iter().cycle();
    let (mut due, mut sealed, mut counts) =
        (*sizes.next().expect("an epoch"), Vec::new(), AggregateCounts::default());
    for (offset, click) in clicks.iter().enumerate() {
        let value = click.json();
        let record = Record {
            offset: Offset(offset as i64),
            timestamp_ms: None,
            key: None,
            value: Some(&value),
            headers: &Vec::new,
        };
        let live = offset >= muted;
        task.process(&record, Effects { outputs: live, rows: live }).expect("memory does not fail");
        due -= 1;
        if due == 0 || offset + 1 == clicks.len() || offset + 1 == muted {
            let mut epoch = task.seal();
            task.write(std::mem::take(&mut epoch.changes)).expect("memory");
            let found = epoch.counts.aggregates["views"];
            counts = if manner.restart { sum(counts, found) } else { found };
            sealed.push(epoch);
            due = *sizes.next().expect("an epoch");
            if manner.restart {
                task = open(plan, &disk, partition, manner.window_bytes);
            }
        }
    }
    (sealed, counts)
}

fn sum(a: AggregateCounts, b: AggregateCounts) -> AggregateCounts {
    AggregateCounts {
        matched: a.matched + b.matched,
        counted: a.counted + b.counted,
        too_late: a.too_late + b.too_late,
        partly_late: a.partly_late + b.partly_late,
    }
}

type Rows = BTreeMap<(i64, String), (i64, Option<i64>, i64, i64, i64)>;

/// The result table as the database keeps it: deltas are added, a partition's sketch replaces its last one.
fn table(plan: &Plan, partitions: &[Vec<SealedEpoch>]) -> Rows {
    let mut rows = BTreeMap::new();
    let mut sketches: BTreeMap<_, Sketch> = BTreeMap::new();
    for delta in partitions.iter().flatten().flat_map(|epoch| epoch.deltas.get(&AggregateId(0))).flatten() {
        assert_eq!(delta.window.end.0 - delta.window.start.0, {
            let crate::pipeline::Window::Sliding { size, .. } = plan.aggregates[0].window else {
                panic!("sliding")
            };
            size.0
        });
        let Value::Text(page) = decode_group_key(&delta.key).expect("our bytes").remove(0) else {
            panic!("a text")
        };
        let key = (delta.window.start.0 / SECOND, page.into_owned());
        for part in &delta.sketches {
            sketches.insert((key.clone(), part.column, part.partition), part.sketch.clone());
        }
        rows.entry(key)
            .and_modify(|sum: &mut Vec<crate::aggregate::Accumulator>| {
                sum.iter_mut().zip(&delta.accumulators).for_each(|(into, from)| into.merge(from));
            })
            .or_insert_with(|| delta.accumulators.clone());
    }
    let select = &plan.aggregates[0].select;
    rows.into_iter()
        .map(|(key, sums)| {
            let value = |i: usize| match sums[i].finish(select[i].function) {
                Value::Bigint(v) => Some(v),
                _ => None,
            };
            let distinct = |i: usize| {
                let all = (0..9).filter_map(|p| sketches.get(&(key.clone(), i, Partition(p))));
                Sketch::estimate_of_all(all)
            };
            let row =
                (value(0).expect("a count"), value(1), distinct(2), distinct(3), value(4).expect("a count"));
            (key, row)
        })
        .collect()
}

/// What one window and page have seen.
#[derive(Default)]
struct Seen {
    n: i64,
    slowest: Option<i64>,
    users: BTreeSet<u8>,
    quick: BTreeSet<u8>,
    late: i64,
}

/// The same by the words of the contract: every start k * slide in (t - size, t], each judged by its own end.
fn naive(partitions: &[Vec<Click>], size: i64, slide: i64) -> (Rows, AggregateCounts) {
    let (mut rows, mut counts) = (BTreeMap::<_, Seen>::new(), AggregateCounts::default());
    for clicks in partitions {
        let mut watermark = i64::MIN;
        for click in clicks {
            let starts: Vec<i64> = (-size..=click.second)
                .filter(|s| s % slide == 0 && click.second - size < *s && *s <= click.second)
                .collect();
            let live: Vec<i64> = starts.iter().copied().filter(|s| s + size + ALLOWED > watermark).collect();
            counts.matched += 1;
            counts.counted += i64::from(!live.is_empty());
            counts.too_late += i64::from(live.is_empty());
            counts.partly_late += i64::from(!live.is_empty() && live.len() < starts.len());
            for start in live {
                let seen = rows.entry((start, format!("/{}", click.page))).or_default();
                seen.n += 1;
                seen.slowest = seen.slowest.max(click.ms);
                seen.users.extend(click.user);
                seen.quick.extend(click.user.filter(|_| click.ms.is_some_and(|ms| ms < 50)));
                seen.late += i64::from(start + size <= watermark);
            }
            watermark = watermark.max(click.second - DELAY);
        }
    }
    let finish = |s: Seen| (s.n, s.slowest, s.users.len() as i64, s.quick.len() as i64, s.late);
    (rows.into_iter().map(|(key, seen)| (key, finish(seen))).collect(), counts)
}

fn clicks(most: usize) -> impl Strategy<Value = Vec<Click>> {
    let click = (0i64..400, 0u8..3, prop::option::weighted(0.9, 0u8..25), prop::option::of(0i64..100))
        .prop_map(|(second, page, user, ms)| Click { second, page, user, ms });
    // Half of them come about in order.
    (prop::collection::vec((click, any::<bool>()), 1..most)).prop_map(|clicks| {
        let count = clicks.len() as i64;
        let place = |(i, (click, ordered)): (usize, (Click, bool))| match ordered {
            true => Click { second: i as i64 * 400 / count + click.second % 20, ..click },
            false => click,
        };
        clicks.into_iter().enumerate().map(place).collect()
    })
}

pub(super) fn manner() -> impl Strategy<Value = Manner> {
    let bytes = prop_oneof![Just(0usize), Just(3_000), Just(usize::MAX)];
    (prop::collection::vec(1usize..20, 1..6), bytes, any::<bool>())
        .prop_map(|(epochs, window_bytes, restart)| Manner { epochs, window_bytes, restart })
}

const WHOLE: [usize; 1] = [usize::MAX];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_windows_in_any_manner_are_those_of_the_contract(
        (size, slide) in (1i64..90, 1i64..90).prop_map(|(a, b)| (a.max(b), a.min(b))),
        partitions in prop::collection::vec((clicks(100), manner()), 1..4),
    ) {
        let plan = plan(size, slide);
        let (mut epochs, mut counts) = (Vec::new(), AggregateCounts::default());
        for (partition, (clicks, manner)) in partitions.iter().enumerate() {
            let (sealed, found) = run(&plan, partition as i32, clicks, manner, 0);
            epochs.push(sealed);
            counts = sum(counts, found);
        }
        let inputs: Vec<Vec<Click>> = partitions.into_iter().map(|(clicks, _)| clicks).collect();
        let (expected, expected_counts) = naive(&inputs, size, slide);
        prop_assert_eq!(table(&plan, &epochs), expected);
        prop_assert_eq!(counts, expected_counts);
        prop_assert_eq!(counts.matched, counts.counted + counts.too_late);
    }

    #[test]
    fn a_replay_goes_on_with_the_rows_that_are_there(
        (size, slide) in (1i64..60, 1i64..60).prop_map(|(a, b)| (a.max(b), a.min(b))),
        clicks in clicks(100),
        (first, second) in (manner(), manner()),
        share in 0usize..=100,
    ) {
        let plan = plan(size, slide);
        let held = clicks.len() * share / 100;
        let (mut epochs, _) = run(&plan, 0, &clicks[..held], &first, 0);
        // A machine without the state of the first one.
        let (rest, _) = run(&plan, 0, &clicks, &second, held);
        epochs.extend(rest);
        prop_assert_eq!(table(&plan, &[epochs]), naive(&[clicks], size, slide).0);
    }

    #[test]
    fn no_manner_changes_the_hash(
        (size, slide) in (1i64..60, 1i64..60).prop_map(|(a, b)| (a.max(b), a.min(b))),
        clicks in clicks(80),
        manner in manner(),
    ) {
        let plan = plan(size, slide);
        let last = |manner: &Manner| -> RollingHash {
            run(&plan, 0, &clicks, manner, 0).0.last().expect("an epoch").hash
        };
        let whole = Manner { epochs: WHOLE.to_vec(), window_bytes: usize::MAX, restart: false };
        prop_assert_eq!(last(&manner), last(&whole));
    }
}

#[test]
fn rows_of_an_epoch_are_sorted_by_window_and_key() {
    let plan = plan(50, 10);
    let clicks: Vec<Click> = (0..200)
        .map(|i| Click { second: i * 2 + i % 7 * 3, page: (i % 3) as u8, user: Some(1), ms: None })
        .collect();
    let manner = Manner { epochs: WHOLE.to_vec(), window_bytes: usize::MAX, restart: false };
    let (sealed, _) = run(&plan, 0, &clicks, &manner, 0);
    let rows = &sealed[0].deltas[&AggregateId(0)];
    assert!(rows.len() > 100);
    assert!(rows.is_sorted_by(|a, b| (a.window.start, &a.key) < (b.window.start, &b.key)));
}

#[test]
fn a_slice_is_kept_until_its_last_window_is_closed() {
    let plan = plan(50, 20);
    let disk = Disk::default();
    let mut task = open(&plan, &disk, 0, usize::MAX);
    let mut feed = |offset: i64, second: i64| {
        let value = Click { second, page: 0, user: Some(1), ms: None }.json();
        let record = Record {
            offset: Offset(offset),
            timestamp_ms: None,
            key: None,
            value: Some(&value),
            headers: &Vec::new,
        };
        task.process(&record, Effects::LIVE).expect("memory");
        let sealed = task.seal();
        task.write(sealed.changes).expect("memory");
        let mut kept = 0;
        disk.scan(Family::Windows, &[], &mut |_, _| kept += 1).expect("memory");
        kept
    };
    // Second 65 lies in the slice [60, 70) of windows [20, 70), [40, 90), [60, 110).
    assert_eq!(feed(0, 65), 1);
    assert_eq!(feed(1, 159), 2, "watermark 139: window [60, 110) is open until 140");
    assert_eq!(feed(2, 160), 2, "the slice at 60 is gone, those at 150 and 160 are there");
    let at = |second: i64| EventTime(second * SECOND);
    let mut starts = Vec::new();
    disk.scan(Family::Windows, &[], &mut |key, _| starts.push(key[10..18].to_vec())).expect("memory");
    let start = |second: i64| (at(second).0.cast_unsigned() ^ (1 << 63)).to_be_bytes().to_vec();
    assert_eq!(starts, [start(150), start(160)]);
}

/// The rows of one key in one slice, with a hundred records in it or with one.
#[test]
fn an_epoch_knows_how_many_bytes_of_rows_it_has_come_to() {
    let plan = plan(3_600, 60);
    let disk = Disk::default();
    let mut task = open(&plan, &disk, 0, usize::MAX);
    let mut feed = |offset: i64, page: u8| {
        let value = Click { second: 100_000, page, user: Some(1), ms: None }.json();
        let record = Record {
            offset: Offset(offset),
            timestamp_ms: None,
            key: None,
            value: Some(&value),
            headers: &Vec::new,
        };
        task.process(&record, Effects::LIVE).expect("memory");
        task.pending_bytes()
    };
    let one = feed(0, 1);
    assert!(one > 60 * (100 + 2 * 1_024), "sixty rows with two sketches each: {one}");
    assert_eq!((1..100).map(|offset| feed(offset, 1)).last(), Some(one), "the same rows");
    let two = feed(100, 2);
    assert_eq!(two, 2 * one);
    task.seal();
    assert_eq!(task.pending_bytes(), 0);
}
