//! Sessions in any order, any epochs and after any restart, against a sort per user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::disk::Disk;
use super::sliding_tests::{Manner, manner, open};
use super::*;
use crate::aggregate::Quantiles;
use crate::codec::{decode_group_key, session_prefix};
use crate::model::{EventTime, Offset, RollingHash, Value};
use crate::pipeline::{AggregateId, Plan, load};

const SECOND: i64 = 1_000_000;
const DELAY: i64 = 20;
const ALLOWED: i64 = 30;

fn plan(gap: i64, max_duration: Option<i64>) -> Arc<Plan> {
    let most = max_duration.map_or_else(String::new, |most| format!(", max_duration: {most}s"));
    let text = format!(
        r#"
version: 1
name: session-tests
connections: {{ kafka: {{ bootstrap.servers: "localhost:9092" }} }}
sources:
  clicks:
    topic: clicks
    fields: {{ at: timestamp_s!, who: text!, page: text, ms: bigint }}
    event_time: at
    watermark: {{ delay: {DELAY}s }}
    keyed_by: who
late: {{ allowed_lateness: {ALLOWED}s, topic: "{{source}}.late" }}
aggregates:
  visits:
    from: clicks
    window: {{ session: {gap}s{most} }}
    by: [who]
    select:
      n: count(*)
      slowest: max(ms)
      mean: avg(ms)
      pages: approx_distinct(page)
      exact: count(distinct page)
      half: approx_percentile(ms, 0.5)
      late: late_rows()
    to: {{ table: visits, key: [who, session_start_time] }}
"#
    );
    Arc::new(load(&text, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")))
}

#[derive(Clone, Debug)]
struct Click {
    second: i64,
    user: u8,
    page: Option<u8>,
    ms: Option<i64>,
}

impl Click {
    fn json(&self) -> Vec<u8> {
        let page = self.page.map_or("null".to_owned(), |p| format!("\"/{p}\""));
        let ms = self.ms.map_or("null".to_owned(), |v| v.to_string());
        format!("{{\"at\":{},\"who\":\"u{}\",\"page\":{page},\"ms\":{ms}}}", self.second, self.user)
            .into_bytes()
    }
}

/// A result table as PostgreSQL would have it: the columns behind the key's by user and start.
type Table = BTreeMap<(String, i64), Vec<Value<'static>>>;

/// Applies an epoch. What it removes must be there.
fn apply(table: &mut Table, sealed: &SealedEpoch) {
    let changes = sealed.sessions.get(&AggregateId(0)).map_or(&[][..], Vec::as_slice);
    assert!(changes.is_sorted_by(|a, b| (&a.key, a.start) < (&b.key, b.start)), "{changes:?}");
    for change in changes {
        let Value::Text(user) = decode_group_key(&change.key).expect("our bytes").remove(0) else {
            unreachable!()
        };
        let place = (user.into_owned(), change.start.0 / SECOND);
        match &change.row {
            Some(row) => drop(table.insert(place, row.clone())),
            None => assert!(table.remove(&place).is_some(), "{place:?} is removed and was never there"),
        }
    }
}

/// What a run leaves behind.
struct Outcome {
    table: Table,
    counts: AggregateCounts,
    hash: RollingHash,
    disk: Disk,
}

/// Runs the records from `muted` on; those before feed state alone, as in a replay.
fn run(plan: &Arc<Plan>, clicks: &[Click], manner: &Manner, muted: usize, mut table: Table) -> Outcome {
    let disk = Disk::default();
    let mut task = open(plan, &disk, 0, manner.window_bytes);
    let mut sizes = manner.epochs.iter().cycle();
    let mut due = *sizes.next().expect("an epoch");
    let (mut counts, mut hash) = (AggregateCounts::default(), RollingHash::default());
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
            assert!(live || epoch.sessions.is_empty());
            apply(&mut table, &epoch);
            hash = epoch.hash;
            let found = epoch.counts.aggregates["visits"];
            counts = if manner.restart { sum(counts, found) } else { found };
            due = *sizes.next().expect("an epoch");
            if manner.restart {
                task = open(plan, &disk, 0, manner.window_bytes);
            }
        }
    }
    Outcome { table, counts, hash, disk }
}

fn sum(a: AggregateCounts, b: AggregateCounts) -> AggregateCounts {
    AggregateCounts {
        matched: a.matched + b.matched,
        counted: a.counted + b.counted,
        too_late: a.too_late + b.too_late,
        partly_late: a.partly_late + b.partly_late,
    }
}

fn whole() -> Manner {
    Manner { epochs: vec![usize::MAX], window_bytes: usize::MAX, restart: false }
}

/// All entries of local state that hold sessions.
fn state(disk: &Disk) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut keep = |key: &[u8], value: &[u8]| entries.push((key.to_vec(), value.to_vec()));
    disk.scan(Family::Sessions, &[], &mut keep).expect("memory");
    entries
}

/// A record that counts, with whether it is late.
type Counted<'c> = (&'c Click, bool);

/// The row of some records that are one session.
fn row(records: &[Counted<'_>]) -> ((String, i64), Vec<Value<'static>>) {
    let seconds = records.iter().map(|(click, _)| click.second);
    let (start, end) = (seconds.clone().min().expect("one"), seconds.max().expect("one"));
    let ms: Vec<i64> = records.iter().filter_map(|(click, _)| click.ms).collect();
    let pages: BTreeSet<u8> = records.iter().filter_map(|(click, _)| click.page).collect();
    let mut half = Quantiles::default();
    ms.iter().for_each(|ms| half.add(*ms as f64));
    let time = |second: i64| Value::Timestamp(EventTime(second * SECOND));
    let mean = ms.iter().sum::<i64>() as f64 / ms.len() as f64;
    let values = vec![
        time(start),
        time(end),
        Value::Bigint(end - start),
        Value::Bigint(records.len() as i64),
        ms.iter().max().map_or(Value::Null, |v| Value::Bigint(*v)),
        if ms.is_empty() { Value::Null } else { Value::Double(mean) },
        Value::Bigint(pages.len() as i64),
        Value::Bigint(pages.len() as i64),
        half.value_at(0.5).map_or(Value::Null, Value::Double),
        Value::Bigint(records.iter().filter(|(_, late)| *late).count() as i64),
    ];
    ((format!("u{}", records[0].0.user), start), values)
}

/// Each user's records that are not too late, in the order of the log.
fn counted(clicks: &[Click], gap: i64) -> (BTreeMap<u8, Vec<Counted<'_>>>, i64) {
    let (mut users, mut too_late, mut watermark) = (BTreeMap::<u8, Vec<_>>::new(), 0, i64::MIN);
    for click in clicks {
        match click.second + gap {
            end if end + ALLOWED <= watermark => too_late += 1,
            end => users.entry(click.user).or_default().push((click, end <= watermark)),
        }
        watermark = watermark.max(click.second - DELAY);
    }
    (users, too_late)
}

/// Without a longest duration: each user's records sorted, and cut where the pause is too long.
fn by_sorting(clicks: &[Click], gap: i64) -> (Table, i64) {
    let (users, too_late) = counted(clicks, gap);
    let mut table = Table::new();
    for mut records in users.into_values() {
        records.sort_by_key(|(click, _)| click.second);
        table.extend(records.chunk_by(|(a, _), (b, _)| b.second - a.second <= gap).map(row));
    }
    (table, too_late)
}

/// With a longest duration the order matters: the rules word by word, on heaps of records.
fn by_the_rules(clicks: &[Click], gap: i64, most: i64) -> Table {
    let (users, _) = counted(clicks, gap);
    let mut table = Table::new();
    for records in users.into_values() {
        let mut heaps: Vec<Vec<Counted<'_>>> = Vec::new();
        let first = |heap: &[Counted<'_>]| heap.iter().map(|(c, _)| c.second).min().expect("one");
        let last = |heap: &[Counted<'_>]| heap.iter().map(|(c, _)| c.second).max().expect("one");
        for record in records {
            let at = record.0.second;
            let near = |heap: &Vec<Counted<'_>>| at - last(heap) <= gap && first(heap) - at <= gap;
            let joinable: Vec<usize> = (0..heaps.len()).filter(|i| near(&heaps[*i])).collect();
            let earlier = joinable
                .iter()
                .copied()
                .filter(|i| first(&heaps[*i]) <= at)
                .max_by_key(|i| first(&heaps[*i]));
            let later =
                joinable.iter().copied().filter(|i| first(&heaps[*i]) > at).min_by_key(|i| first(&heaps[*i]));
            let length = |of: &[Option<usize>]| {
                let heaps = of.iter().flatten().map(|i| &heaps[*i]);
                let (firsts, lasts) = (heaps.clone().map(|h| first(h)), heaps.map(|h| last(h)));
                lasts.chain([at]).max().expect("one") - firsts.chain([at]).min().expect("one")
            };
            match (earlier, later) {
                (Some(e), Some(l)) if length(&[Some(e), Some(l)]) <= most => {
                    let mut merged = heaps.remove(e.max(l));
                    merged.push(record);
                    heaps[e.min(l)].extend(merged);
                }
                (Some(e), _) if length(&[Some(e)]) <= most => heaps[e].push(record),
                (_, Some(l)) if length(&[Some(l)]) <= most => heaps[l].push(record),
                _ => heaps.push(vec![record]),
            }
        }
        table.extend(heaps.iter().map(|heap| row(heap)));
    }
    table
}

fn clicks(most: usize) -> impl Strategy<Value = Vec<Click>> {
    let click = (0i64..900, 0u8..4, prop::option::of(0u8..9), prop::option::of(0i64..100))
        .prop_map(|(second, user, page, ms)| Click { second, user, page, ms });
    // Most of them come about in order: else nearly all would be too late.
    prop::collection::vec((click, prop::bool::weighted(0.8)), 1..most).prop_map(|clicks| {
        let count = clicks.len() as i64;
        let place = |(i, (click, ordered)): (usize, (Click, bool))| match ordered {
            true => Click { second: i as i64 * 900 / count + click.second % 60, ..click },
            false => click,
        };
        clicks.into_iter().enumerate().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_manner_gives_the_sessions_of_a_sort(gap in 1i64..60, clicks in clicks(120), manner in manner()) {
        let found = run(&plan(gap, None), &clicks, &manner, 0, Table::new());
        let (expected, too_late) = by_sorting(&clicks, gap);
        prop_assert_eq!(found.table, expected);
        let matched = clicks.len() as i64;
        let counts = AggregateCounts { matched, counted: matched - too_late, too_late, partly_late: 0 };
        prop_assert_eq!(found.counts, counts);
    }

    #[test]
    fn a_longest_duration_cuts_by_the_rules(
        gap in 1i64..60, most in 1i64..200, clicks in clicks(120), manner in manner(),
    ) {
        let found = run(&plan(gap, Some(most)), &clicks, &manner, 0, Table::new());
        prop_assert_eq!(&found.table, &by_the_rules(&clicks, gap, most));
        let seconds = |row: &Vec<Value<'_>>| matches!(row[2], Value::Bigint(seconds) if seconds <= most);
        prop_assert!(found.table.values().all(seconds));
    }

    #[test]
    fn records_that_are_in_time_make_the_same_sessions_in_any_order(
        gap in 1i64..60, clicks in clicks(60), order in prop::collection::vec(any::<u32>(), 60), manner in manner(),
    ) {
        // So close together that none of them is late, whichever comes first.
        let near = |click: &Click| Click { second: click.second % (DELAY + gap), ..click.clone() };
        let clicks: Vec<Click> = clicks.iter().map(near).collect();
        let mut shuffled: Vec<(u32, Click)> = order.into_iter().zip(clicks.clone()).collect();
        shuffled.sort_by_key(|(place, _)| *place);
        let shuffled: Vec<Click> = shuffled.into_iter().map(|(_, click)| click).collect();
        let plan = plan(gap, None);
        let (one, other) = (
            run(&plan, &clicks, &whole(), 0, Table::new()),
            run(&plan, &shuffled, &manner, 0, Table::new()),
        );
        prop_assert_eq!(one.table, other.table);
    }

    #[test]
    fn no_manner_changes_the_hash_or_the_state(
        gap in 1i64..60, most in prop::option::of(1i64..200), clicks in clicks(100), manner in manner(),
    ) {
        let plan = plan(gap, most);
        let (one, other) = (
            run(&plan, &clicks, &whole(), 0, Table::new()),
            run(&plan, &clicks, &manner, 0, Table::new()),
        );
        prop_assert_eq!(one.hash, other.hash);
        prop_assert_eq!(state(&one.disk), state(&other.disk));
    }

    #[test]
    fn a_replay_goes_on_with_the_rows_that_are_there(
        gap in 1i64..60, most in prop::option::of(1i64..200), clicks in clicks(100), part in 0usize..100,
        before in manner(), after in manner(),
    ) {
        let plan = plan(gap, most);
        let held = part * clicks.len() / 100;
        let first = run(&plan, &clicks[..held], &before, 0, Table::new());
        let replay = run(&plan, &clicks, &after, held, first.table);
        let straight = run(&plan, &clicks, &whole(), 0, Table::new());
        prop_assert_eq!(replay.table, straight.table);
        prop_assert_eq!(replay.hash, straight.hash);
    }
}

fn click(second: i64) -> Click {
    Click { second, user: 0, page: None, ms: None }
}

/// The changes that each epoch of these records makes: start, and end where the row stays.
fn changes(plan: &Arc<Plan>, epochs: &[&[i64]]) -> Vec<Vec<(i64, Option<i64>)>> {
    let mut task = open(plan, &Disk::default(), 0, usize::MAX);
    let mut offset = 0;
    let mut sealed = |seconds: &[i64]| {
        for second in seconds {
            let value = click(*second).json();
            let record = Record {
                offset: Offset(offset),
                timestamp_ms: None,
                key: None,
                value: Some(&value),
                headers: &Vec::new,
            };
            task.process(&record, Effects::LIVE).expect("memory");
            offset += 1;
        }
        let mut epoch = task.seal();
        task.write(std::mem::take(&mut epoch.changes)).expect("memory");
        let end = |row: &Vec<Value<'_>>| match row[1] {
            Value::Timestamp(end) => end.0 / SECOND,
            _ => unreachable!("{row:?}"),
        };
        let rows = epoch.sessions.remove(&AggregateId(0)).unwrap_or_default();
        rows.iter().map(|change| (change.start.0 / SECOND, change.row.as_ref().map(end))).collect()
    };
    epochs.iter().map(|seconds| sealed(seconds)).collect()
}

#[test]
fn a_merge_removes_the_rows_that_are_there_and_no_others() {
    let plan = plan(10, None);
    assert_eq!(
        changes(&plan, &[&[100, 120], &[110]]),
        [vec![(100, Some(100)), (120, Some(120))], vec![(100, Some(120)), (120, None)]],
        "a bridge"
    );
    assert_eq!(
        changes(&plan, &[&[100, 120, 110], &[130]]),
        [vec![(100, Some(120))], vec![(100, Some(130))]],
        "created and merged away within one epoch"
    );
    assert_eq!(
        changes(&plan, &[&[100], &[95], &[90, 85]]),
        [vec![(100, Some(100))], vec![(95, Some(100)), (100, None)], vec![(85, Some(100)), (95, None)]],
        "an earlier start is another row, and one in between is never seen"
    );
    assert_eq!(
        changes(&plan, &[&[100, 120], &[121]])[1],
        [(120, Some(121))],
        "what did not change is not written"
    );
}

#[test]
fn state_is_kept_while_a_record_in_time_may_join_and_not_for_ever() {
    let plan = plan(10, None);
    let disk = Disk::default();
    let mut task = open(&plan, &disk, 0, usize::MAX);
    let mut feed = |offset: i64, user: u8, second: i64| {
        let value = Click { user, ..click(second) }.json();
        let record = Record {
            offset: Offset(offset),
            timestamp_ms: None,
            key: None,
            value: Some(&value),
            headers: &Vec::new,
        };
        task.process(&record, Effects::LIVE).expect("memory");
        let mut sealed = task.seal();
        task.write(std::mem::take(&mut sealed.changes)).expect("memory");
        let mut kept = 0;
        disk.scan(Family::Sessions, &session_prefix("visits"), &mut |_, _| kept += 1).expect("memory");
        (kept, state(&disk).len(), sealed.counts.aggregates["visits"].too_late)
    };
    // Over at 100 + 2 * 10 + 30 = 150, in the slot [150, 160); the watermark is 20 behind.
    assert_eq!(feed(0, 1, 100), (1, 2, 0));
    assert_eq!(feed(1, 2, 179), (2, 4, 0), "watermark 159");
    assert_eq!(feed(2, 3, 180), (2, 4, 0), "watermark 160: the slot is over");
    assert_eq!(feed(3, 1, 120), (2, 4, 1), "120 + 10 + 30 is 160 too");
    assert_eq!(feed(4, 1, 121), (3, 6, 1), "and 121 is in time");
}

#[test]
fn of_two_owners_of_one_row_the_last_wins_and_a_row_goes_only_if_nobody_has_it() {
    let id = AggregateId(0);
    let change = |start: i64, row: Option<i64>| SessionChange {
        key: Arc::from(*b"k"),
        start: EventTime(start),
        row: row.map(|n| vec![Value::Bigint(n)]),
    };
    let sealed = |changes: Vec<SessionChange>| SealedEpoch {
        from: Offset(0),
        to: Offset(1),
        hash: Default::default(),
        max_event_time: None,
        watermark: None,
        fingerprint: None,
        outputs: Default::default(),
        deltas: Default::default(),
        sessions: [(id, changes)].into(),
        counts: Default::default(),
        changes: Vec::new(),
    };
    let tasks = [
        sealed(vec![change(1, Some(1)), change(2, Some(1)), change(3, None), change(4, None)]),
        sealed(vec![change(1, None), change(2, Some(2)), change(3, Some(2)), change(4, None)]),
    ];
    let expected = vec![change(1, Some(1)), change(2, Some(2)), change(3, Some(2)), change(4, None)];
    assert_eq!(merge_sessions(&tasks)[&id], expected);
}
