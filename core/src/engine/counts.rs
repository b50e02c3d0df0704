//! What became of a task's records, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pipeline::{AggregateId, Plan};
use crate::verdict::Judge;

/// Totals over all records of a partition that PostgreSQL holds.
///
/// Invariant: `read = accepted + duplicate + dead`. A router gives a verdict to the dead alone and passes the others on: these
/// are `routed`, and read where they get theirs. So the equation holds for each partition, and what all partitions of a source
/// and of its internal topic have read is what came, once it has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    pub read: i64,
    pub accepted: i64,
    pub duplicate: i64,
    pub dead: i64,
    /// Copied to the internal topic.
    #[serde(default)]
    pub routed: i64,
    /// By reason code.
    pub dead_by_reason: BTreeMap<String, i64>,
    /// Accepted records that failed a check with `on_fail: count`, by check.
    pub checks: BTreeMap<String, i64>,
    /// By aggregate.
    pub aggregates: BTreeMap<String, AggregateCounts>,
}

/// Invariant: `matched = counted + too_late`. `partly_late` of the counted ones were too late for some windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateCounts {
    pub matched: i64,
    pub counted: i64,
    pub too_late: i64,
    pub partly_late: i64,
}

impl TaskCounts {
    /// Whether the conservation equations hold.
    pub fn conserved(&self) -> bool {
        self.read == self.accepted + self.duplicate + self.dead
            && self.dead == self.dead_by_reason.values().sum::<i64>()
            && self.aggregates.values().all(|a| a.matched == a.counted + a.too_late)
            && (self.routed == 0 || self.read == self.dead)
    }
}

/// The same while records are counted: by index, and named only when an epoch is sealed.
#[derive(Debug)]
pub(super) struct Tally {
    base: TaskCounts,
    accepted: i64,
    duplicate: i64,
    dead: i64,
    routed: i64,
    dead_by_reason: BTreeMap<String, i64>,
    checks: BTreeMap<usize, i64>,
    aggregates: Vec<AggregateCounts>,
}

impl Tally {
    pub fn new(plan: &Plan) -> Tally {
        Tally {
            base: TaskCounts::default(),
            accepted: 0,
            duplicate: 0,
            dead: 0,
            routed: 0,
            dead_by_reason: BTreeMap::new(),
            checks: BTreeMap::new(),
            aggregates: vec![AggregateCounts::default(); plan.aggregates.len()],
        }
    }

    pub fn continue_from(&mut self, counts: TaskCounts) {
        self.base = counts;
    }

    pub fn accepted(&mut self, failed_checks: &[usize]) {
        self.accepted += 1;
        for check in failed_checks {
            *self.checks.entry(*check).or_default() += 1;
        }
    }

    pub fn duplicate(&mut self) {
        self.duplicate += 1;
    }

    pub fn routed(&mut self) {
        self.routed += 1;
    }

    pub fn dead(&mut self, reason: &str) {
        self.dead += 1;
        match self.dead_by_reason.get_mut(reason) {
            Some(n) => *n += 1,
            None => {
                self.dead_by_reason.insert(reason.to_owned(), 1);
            }
        }
    }

    pub fn matched(&mut self, aggregate: AggregateId, (too_late, partly_late): (bool, bool)) {
        let counts = &mut self.aggregates[aggregate.0];
        counts.matched += 1;
        counts.too_late += i64::from(too_late);
        counts.counted += i64::from(!too_late);
        counts.partly_late += i64::from(partly_late);
    }

    /// Adds what was counted to the totals and answers them; a router has no aggregates.
    pub fn totals(&mut self, judge: &Judge, aggregates: bool) -> TaskCounts {
        let base = &mut self.base;
        base.read += self.accepted + self.duplicate + self.dead;
        base.accepted += std::mem::take(&mut self.accepted);
        base.duplicate += std::mem::take(&mut self.duplicate);
        base.dead += std::mem::take(&mut self.dead);
        base.routed += std::mem::take(&mut self.routed);
        for (reason, n) in std::mem::take(&mut self.dead_by_reason) {
            *base.dead_by_reason.entry(reason).or_default() += n;
        }
        for (check, n) in std::mem::take(&mut self.checks) {
            *base.checks.entry(judge.source().checks[check].name.to_string()).or_default() += n;
        }
        for (aggregate, counts) in judge.plan().aggregates.iter().zip(&mut self.aggregates) {
            if aggregates && aggregate.source == judge.source_id() {
                let total = base.aggregates.entry(aggregate.name.to_string()).or_default();
                let AggregateCounts { matched, counted, too_late, partly_late } = std::mem::take(counts);
                total.matched += matched;
                total.counted += counted;
                total.too_late += too_late;
                total.partly_late += partly_late;
            }
        }
        base.clone()
    }
}
