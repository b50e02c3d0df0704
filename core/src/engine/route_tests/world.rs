//! Routers, the internal topic they write, and the tables that come of it: as they are run, and by the words of the contract.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::disk::Disk;
use super::super::sliding_tests::Manner;
use super::super::*;
use crate::aggregate::{Accumulator, Sketch};
use crate::codec::{META_KEY, decode_group_key, decode_meta, partition_for};
use crate::model::{Offset, OwnerEpoch, Partition, RollingHash, TopicPartition, Value};
use crate::pipeline::{AggregateId, Plan, SourceId, load};
use crate::verdict::Judge;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const ALLOWED: i64 = 30;
pub(super) const GAP: i64 = 12;
pub(super) const SIZE: i64 = 20;
pub(super) const SLIDE: i64 = 7;
pub(super) const INTERNAL: i32 = 2;
pub(super) const VISITS: AggregateId = AggregateId(0);
pub(super) const VIEWS: AggregateId = AggregateId(1);

pub(super) fn plan(delay: i64, more: &str) -> Arc<Plan> {
    let text = format!(
        r#"
version: 1
name: app
connections: {{ kafka: {{ bootstrap.servers: "localhost:9092" }} }}
sources:
  clicks:
    topic: clicks
    fields: {{ at: timestamp_s!, who: text!, id: bigint! }}
    event_time: at
    watermark: {{ delay: {delay}s }}
    repartition_by: who
    {more}
late: {{ allowed_lateness: {ALLOWED}s, topic: late }}
bad_data: {{ topic: dead, table: dead_letters }}
aggregates:
  visits:
    from: clicks
    window: {{ session: {GAP}s }}
    by: [who]
    select: {{ n: count(*), late: late_rows() }}
    to: {{ table: visits, key: [who, session_start_time] }}
  views:
    from: clicks
    window: {{ slide: {SLIDE}s, size: {SIZE}s }}
    select: {{ n: count(*), late: late_rows(), users: approx_distinct(who) }}
    to: {{ table: views, key: [window_start] }}
records:
  copies: {{ from: clicks, to: {{ topic: copies }} }}
"#
    );
    Arc::new(load(&text, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")))
}

#[derive(Clone, Debug)]
pub(super) struct Click {
    pub(super) second: i64,
    pub(super) user: u8,
    pub(super) id: usize,
}

impl Click {
    pub(super) fn json(&self) -> Vec<u8> {
        format!(r#"{{"at":{},"who":"u{}","id":{}}}"#, self.second, self.user, self.id).into_bytes()
    }
}

/// A message of the internal topic.
pub(super) struct Message {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    pub(super) headers: Vec<Header>,
}

pub(super) fn open(
    plan: &Arc<Plan>,
    disk: &Disk,
    (role, partition): (Role, i32),
    window_bytes: usize,
) -> Task {
    let source = &plan.sources[0];
    let topic = if role == Role::Internal { source.state_topic() } else { &source.topic };
    let identity = TaskIdentity {
        application: plan.application.clone(),
        cluster_id: "cluster".into(),
        partition: TopicPartition::new(topic.clone(), partition),
        topic_id: "topic".into(),
        plan_hash: plan.hash,
    };
    let stored = disk.get(Family::Meta, META_KEY).expect("memory");
    let meta = stored.map(|bytes| decode_meta(&bytes).expect("our bytes"));
    let judge = Arc::new(Judge::new(plan.clone(), SourceId(0)));
    let resume = (meta.as_ref(), Offset(0));
    let mut task = Task::open(identity, (judge, role), Box::new(disk.clone()), resume, window_bytes);
    task.load(1 << 20).expect("our bytes");
    task.own(OwnerEpoch(1), TaskCounts::default());
    task
}

pub(super) fn record<'r>(
    offset: i64,
    key: Option<&'r [u8]>,
    value: &'r [u8],
    headers: &'r dyn Fn() -> Vec<Header>,
) -> Record<'r> {
    Record { offset: Offset(offset), timestamp_ms: None, key, value: Some(value), headers }
}

/// The routers of a source, and the internal topic they write.
pub(super) struct Routers {
    pub(super) plan: Arc<Plan>,
    pub(super) routers: Vec<(Task, Disk, i64)>,
    pub(super) log: Vec<Vec<Message>>,
    pub(super) read: i64,
    pub(super) routed: i64,
}

impl Routers {
    pub(super) fn open(plan: &Arc<Plan>, sources: usize) -> Routers {
        let router = |number: usize| {
            let disk = Disk::default();
            (open(plan, &disk, (Role::Router { partitions: sources as i32 }, number as i32), 0), disk, 0)
        };
        let log = (0..INTERNAL).map(|_| Vec::new()).collect();
        Routers { plan: plan.clone(), routers: (0..sources).map(router).collect(), log, read: 0, routed: 0 }
    }

    /// One epoch of one router: these records, and perhaps a tick.
    pub(super) fn epoch(&mut self, source: usize, values: &[Vec<u8>], tick: Option<bool>) -> SealedEpoch {
        let count = self.routers.len() as i32;
        let (task, disk, next) = &mut self.routers[source];
        for value in values {
            task.process(&record(*next, None, value, &Vec::new), Effects::LIVE).expect("memory");
            *next += 1;
        }
        if let Some(idle) = tick {
            task.tick(idle);
        }
        let mut sealed = task.seal();
        task.write(std::mem::take(&mut sealed.changes)).expect("memory");
        self.read += sealed.counts.read;
        self.routed += sealed.counts.routed;
        // A router is taken anew after every epoch.
        *task = open(&self.plan, disk, (Role::Router { partitions: count }, source as i32), 0);
        let Outputs { bytes, routed, tick, .. } = &sealed.outputs;
        for copy in routed {
            let key = bytes[copy.key.clone()].to_vec();
            let at = partition_for(Some(&key), Partition(0), INTERNAL).0 as usize;
            let (value, headers) = (bytes[copy.value.clone()].to_vec(), copy.headers.clone());
            self.log[at].push(Message { key: Some(key), value, headers });
        }
        if let Some(value) = tick {
            for log in &mut self.log {
                log.push(Message { key: None, value: value.clone(), headers: Vec::new() });
            }
        }
        sealed
    }

    pub(super) fn hashes(&self) -> Vec<RollingHash> {
        self.routers.iter().map(|(task, ..)| task.hash()).collect()
    }
}

pub(super) type Visits = BTreeMap<(String, i64), (i64, i64, i64)>;
pub(super) type Views = BTreeMap<i64, (i64, i64, i64)>;

/// What the tables hold in the end.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tables {
    /// By user and start: end, records, late ones.
    pub(super) visits: Visits,
    /// By start: records, late ones, users.
    pub(super) views: Views,
    pub(super) counts: BTreeMap<String, AggregateCounts>,
}

/// Everything that the tasks of the internal topic make of it.
pub(super) struct Arrived {
    pub(super) tables: Tables,
    pub(super) accepted: i64,
    pub(super) duplicate: i64,
    pub(super) hashes: Vec<RollingHash>,
    pub(super) disks: Vec<Disk>,
    pub(super) epochs: Vec<SealedEpoch>,
}

pub(super) fn number(value: &Value<'_>) -> i64 {
    match value {
        Value::Bigint(v) => *v,
        Value::Timestamp(at) => at.0 / SECOND,
        _ => panic!("{value:?}"),
    }
}

/// Reads an internal topic to its end.
pub(super) fn arrive(plan: &Arc<Plan>, log: &[Vec<Message>], manner: &Manner) -> Arrived {
    let (mut epochs, mut hashes, mut disks) = (Vec::new(), Vec::new(), Vec::new());
    for (partition, log) in log.iter().enumerate() {
        let disk = Disk::default();
        let reopen = || open(plan, &disk, (Role::Internal, partition as i32), manner.window_bytes);
        let mut task = reopen();
        let mut sizes = manner.epochs.iter().cycle();
        let mut due = *sizes.next().expect("an epoch");
        let mut counts = TaskCounts::default();
        for (offset, message) in log.iter().enumerate() {
            let headers = || message.headers.clone();
            let record = record(offset as i64, message.key.as_deref(), &message.value, &headers);
            task.process(&record, Effects::LIVE).expect("memory");
            due -= 1;
            if due == 0 || offset + 1 == log.len() {
                let mut sealed = task.seal();
                task.write(std::mem::take(&mut sealed.changes)).expect("memory");
                assert!(sealed.counts.conserved());
                due = *sizes.next().expect("an epoch");
                counts = sealed.counts.clone();
                epochs.push(sealed);
                if manner.restart {
                    task = reopen();
                    task.own(OwnerEpoch(2), counts.clone());
                }
            }
        }
        hashes.push((task.hash(), counts));
        disks.push(disk);
    }
    let sum = |of: fn(&TaskCounts) -> i64| hashes.iter().map(|(_, counts)| of(counts)).sum();
    let (accepted, duplicate) = (sum(|c| c.accepted), sum(|c| c.duplicate));
    let mut tables = tables(plan, &epochs);
    for (name, counts) in hashes.iter().flat_map(|(_, counts)| &counts.aggregates) {
        let total = tables.counts.entry(name.clone()).or_default();
        total.matched += counts.matched;
        total.counted += counts.counted;
        total.too_late += counts.too_late;
        total.partly_late += counts.partly_late;
    }
    let hashes = hashes.into_iter().map(|(hash, _)| hash).collect();
    Arrived { tables, accepted, duplicate, hashes, disks, epochs }
}

pub(super) fn tables(plan: &Plan, epochs: &[SealedEpoch]) -> Tables {
    let mut tables = Tables::default();
    let mut sums: BTreeMap<i64, Vec<Accumulator>> = BTreeMap::new();
    let mut sketches: BTreeMap<(i64, Partition), Sketch> = BTreeMap::new();
    for epoch in epochs {
        for change in epoch.sessions.get(&VISITS).into_iter().flatten() {
            let user = match decode_group_key(&change.key).expect("our bytes").remove(0) {
                Value::Text(user) => user.into_owned(),
                other => panic!("{other:?}"),
            };
            let place = (user, change.start.0 / SECOND);
            match &change.row {
                Some(row) => {
                    tables.visits.insert(place, (number(&row[1]), number(&row[3]), number(&row[4])));
                }
                None => assert!(tables.visits.remove(&place).is_some(), "{place:?} was never there"),
            }
        }
        // As an epoch's rows are merged before they are written.
        for delta in merge_deltas([epoch]).remove(&VIEWS).unwrap_or_default() {
            let start = delta.window.start.0 / SECOND;
            for part in &delta.sketches {
                sketches.insert((start, part.partition), part.sketch.clone());
            }
            match sums.get_mut(&start) {
                Some(sum) => sum.iter_mut().zip(&delta.accumulators).for_each(|(a, b)| a.merge(b)),
                None => drop(sums.insert(start, delta.accumulators.clone())),
            }
        }
    }
    let select = &plan.aggregates[VIEWS.0].select;
    for (start, sum) in sums {
        let value = |i: usize| number(&sum[i].finish(select[i].function));
        let all = sketches.range((start, Partition(0))..(start + 1, Partition(0))).map(|(_, sketch)| sketch);
        tables.views.insert(start, (value(0), value(1), Sketch::estimate_of_all(all)));
    }
    tables
}

/// The same by the words of the contract: each record judged by the watermark of its own source partition.
pub(super) fn naive(sources: &[Vec<Click>], delay: i64) -> Tables {
    let mut tables = Tables::default();
    let mut users: BTreeMap<u8, Vec<(i64, bool)>> = BTreeMap::new();
    let mut seen: BTreeMap<i64, (i64, i64, BTreeSet<u8>)> = BTreeMap::new();
    for clicks in sources {
        let mut watermark = i64::MIN;
        for Click { second, user, .. } in clicks {
            let visits = tables.counts.entry("visits".to_owned()).or_default();
            let too_late = second + GAP + ALLOWED <= watermark;
            visits.matched += 1;
            visits.too_late += i64::from(too_late);
            visits.counted += i64::from(!too_late);
            if !too_late {
                users.entry(*user).or_default().push((*second, second + GAP <= watermark));
            }
            let starts = (-SIZE..=*second).filter(|s| s.rem_euclid(SLIDE) == 0 && second - SIZE < *s);
            let (dead, live): (Vec<i64>, Vec<i64>) = starts.partition(|s| s + SIZE + ALLOWED <= watermark);
            let views = tables.counts.entry("views".to_owned()).or_default();
            views.matched += 1;
            views.too_late += i64::from(live.is_empty());
            views.counted += i64::from(!live.is_empty());
            views.partly_late += i64::from(!live.is_empty() && !dead.is_empty());
            for start in live {
                let row = seen.entry(start).or_default();
                row.0 += 1;
                row.1 += i64::from(start + SIZE <= watermark);
                row.2.insert(*user);
            }
            watermark = watermark.max(second - delay);
        }
    }
    for (user, mut records) in users {
        records.sort_unstable();
        for visit in records.chunk_by(|a, b| b.0 - a.0 <= GAP) {
            let late = visit.iter().filter(|(_, late)| *late).count() as i64;
            let (start, end) = (visit[0].0, visit[visit.len() - 1].0);
            tables.visits.insert((format!("u{user}"), start), (end, visit.len() as i64, late));
        }
    }
    let row =
        |(start, (n, late, users)): (i64, (i64, i64, BTreeSet<u8>))| (start, (n, late, users.len() as i64));
    tables.views = seen.into_iter().map(row).collect();
    tables
}

/// Clicks of some source partitions, each about in order, and the epochs of their routers: source, records, tick.
pub(super) type Story = (Vec<Vec<Click>>, Vec<(usize, usize, bool)>);

pub(super) fn story() -> impl Strategy<Value = Story> {
    let click = (0i64..300, 0u8..5, prop::bool::weighted(0.7));
    let source = prop::collection::vec(click, 0..50).prop_map(|clicks| {
        let count = clicks.len() as i64;
        let place = |(i, (second, user, ordered)): (usize, (i64, u8, bool))| {
            let second = if ordered { i as i64 * 300 / count + second % 20 } else { second };
            Click { second, user, id: i }
        };
        clicks.into_iter().enumerate().map(place).collect::<Vec<Click>>()
    });
    prop::collection::vec(source, 1..4).prop_flat_map(|sources| {
        let step = (0..sources.len(), 1usize..15, any::<bool>());
        (Just(sources), prop::collection::vec(step, 0..30))
    })
}

/// Lets routers work in these steps, and then to the ends of their logs.
pub(super) fn route(plan: &Arc<Plan>, (sources, steps): &Story) -> Routers {
    let mut routers = Routers::open(plan, sources.len());
    let mut fed = vec![0; sources.len()];
    let rest = (0..sources.len()).map(|source| (source, usize::MAX, true));
    for (source, count, tick) in steps.iter().copied().chain(rest) {
        let clicks = &sources[source][fed[source]..];
        let values: Vec<Vec<u8>> = clicks.iter().take(count).map(Click::json).collect();
        fed[source] += values.len();
        routers.epoch(source, &values, tick.then_some(false));
    }
    routers
}
