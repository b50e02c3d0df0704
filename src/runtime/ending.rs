//! When `run --until-end` has come to its end.
//!
//! A worker cannot tell: a partition may be another instance's, or nobody's at the moment. So the end of every log is
//! recorded at the start, and what PostgreSQL and the group hold tells when all of it is done, whoever did it.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::model::{Offset, Recovery, TopicPartition};

use crate::clock::Deadline;
use crate::kafka::{BatchItem, Consumer, GroupOffset, KafkaError};
use crate::postgres::ProgressRow;

use super::board::Stage;
use super::boards::InstanceState;
use super::links::Links;
use super::{Halt, Prepared, RuntimeError};

/// While a transaction holds an offset the end is not reached; asked again soon.
const GROUP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a look at the rest of a log may take.
const REST_TIMEOUT: Duration = Duration::from_secs(2);
const REST_WAIT: Duration = Duration::from_millis(20);
const REST_RECORDS: usize = 16;

/// Where every log ended when the instance started; those of internal topics where they ended when everything had been copied
/// that the sources held then.
pub struct Ending {
    ends: BTreeMap<TopicPartition, Offset>,
    /// Partitions of internal topics, until their ends are recorded.
    internal: Vec<TopicPartition>,
    /// Where others stood before their ends when they were asked about last.
    short: BTreeMap<TopicPartition, Offset>,
}

impl Ending {
    pub fn record(links: &mut Links, prepared: &Prepared) -> Result<Ending, Halt> {
        let (internal, outside) =
            prepared.partitions().into_iter().partition(|tp| prepared.outputs.contains_key(&tp.topic));
        let mut ending = Ending { ends: BTreeMap::new(), internal, short: BTreeMap::new() };
        ending.add(links, outside)?;
        Ok(ending)
    }

    fn add(&mut self, links: &mut Links, partitions: Vec<TopicPartition>) -> Result<(), Halt> {
        for tp in partitions {
            let (_, end) = links.log_range(&tp)?;
            self.ends.insert(tp, end);
        }
        Ok(())
    }

    /// Whether everything below the recorded ends is in PostgreSQL and in Kafka, and what routers made of it too. Partitions
    /// that this instance's own workers have refused are not waited for.
    ///
    /// Order: what a router has copied stands in the internal topic once its offset stands in the group.
    pub fn is_reached(&mut self, links: &mut Links, state: &InstanceState) -> Result<bool, Halt> {
        if !self.are_reached(links, state)? {
            return Ok(false);
        }
        let all = self.internal.is_empty();
        self.add(links, self.internal.clone())?;
        self.internal.clear();
        Ok(all)
    }

    fn are_reached(&mut self, links: &mut Links, state: &InstanceState) -> Result<bool, Halt> {
        let Some(wanted) = self.wanted(state) else { return Ok(false) };
        let application = links.application().to_owned();
        let rows = links.ask_postgres(async |session| session.read_application(&application).await)?;
        let short: Vec<_> = wanted.iter().filter(|(tp, to)| !rows_reach(&rows, tp, *to)).cloned().collect();
        if !short.is_empty() {
            self.look_at_rests(links, &rows, &short)?;
            return Ok(false);
        }
        if !links.kafka_outputs() {
            return Ok(true);
        }
        let tasks: Vec<TopicPartition> = wanted.iter().map(|(tp, _)| tp.clone()).collect();
        match links.consumer.stable_offsets(&tasks, GROUP_TIMEOUT) {
            Ok(offsets) => Ok(wanted.iter().all(|(tp, to)| group_reaches(&offsets, tp, *to))),
            Err(error) if error.recovery() == Recovery::Retry => Ok(false),
            Err(error) => Err(RuntimeError::from(error).into()),
        }
    }

    /// Which partition must be processed to where; `None` while the instance's own workers are not done. They know of
    /// control records, which end a log but are read by nobody.
    fn wanted(&self, state: &InstanceState) -> Option<Vec<(TopicPartition, Offset)>> {
        if !state.joined.iter().all(|joined| *joined) {
            return None;
        }
        let mut wanted = Vec::new();
        for (tp, end) in &self.ends {
            match state.tasks.get(tp).map(|(_, report)| report) {
                Some(report) if matches!(report.stage, Stage::Stopped(_)) => {}
                Some(report)
                    if report.stage == Stage::Running && report.read_to >= *end && !report.pending =>
                {
                    wanted.push((tp.clone(), report.next.min(*end)));
                }
                Some(_) => return None,
                None => wanted.push((tp.clone(), *end)),
            }
        }
        Some(wanted)
    }

    /// Another's partition that stays short of its end may have nothing but control records left: then it ends where it
    /// stands.
    fn look_at_rests(
        &mut self,
        links: &mut Links,
        rows: &[ProgressRow],
        short: &[(TopicPartition, Offset)],
    ) -> Result<(), Halt> {
        for (tp, end) in short {
            let Some(row) = rows.iter().find(|row| row.tp == *tp && row.bootstrapped) else { continue };
            if self.short.insert(tp.clone(), row.next) != Some(row.next) {
                continue;
            }
            if links.retry(|links| is_empty(links, tp, (row.next, *end)))? {
                self.ends.insert(tp.clone(), row.next);
            }
        }
        Ok(())
    }
}

/// Whether a log has no record in `[from, end)`.
fn is_empty(links: &Links, tp: &TopicPartition, (from, end): (Offset, Offset)) -> Result<bool, KafkaError> {
    let mut consumer = Consumer::open(&links.settings().kafka)?;
    consumer.assign(&[(tp.clone(), from)])?;
    consumer.seek_and_resume(tp, from)?;
    let deadline = Deadline::after(REST_TIMEOUT);
    while !deadline.passed() {
        consumer.poll_group()?;
        for item in consumer.poll_batch(REST_RECORDS).items() {
            if let BatchItem::Records(run) = item {
                return Ok(run.iter().all(|record| record.offset() >= end));
            }
        }
        if consumer.positions().iter().any(|(_, at)| *at >= end) {
            return Ok(true);
        }
        consumer.wait(REST_WAIT);
    }
    Ok(false)
}

fn rows_reach(rows: &[ProgressRow], tp: &TopicPartition, end: Offset) -> bool {
    rows.iter().any(|row| row.tp == *tp && row.bootstrapped && row.next >= end)
}

/// A group that has forgotten its offset has nothing left to say: PostgreSQL has settled it, or the task is refused.
fn group_reaches(offsets: &[GroupOffset], tp: &TopicPartition, end: Offset) -> bool {
    let of = |offset: &&GroupOffset| offset.partition == *tp;
    offsets.iter().find(of).and_then(|found| found.offset).is_none_or(|offset| offset >= end)
}

#[cfg(test)]
mod tests {
    use millstream_core::commit::{Refusal, RefusalCode};
    use millstream_core::model::EventTime;

    use super::super::board::TaskReport;
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn task(stage: Stage, next: i64, read_to: i64) -> (usize, TaskReport) {
        let (next, read_to) = (Offset(next), Offset(read_to));
        (0, TaskReport { next, read_to, ..TaskReport::idle(stage) })
    }

    /// Which partitions must be processed to where, of two that end at 10.
    fn check(joined: bool, tasks: Vec<(i32, (usize, TaskReport))>, expect: Option<Vec<(i32, i64)>>) {
        let ends = [0, 1].map(|p| (tp(p), Offset(10))).into();
        let ending = Ending { ends, internal: Vec::new(), short: BTreeMap::new() };
        let state = InstanceState {
            instance: String::new(),
            beats: vec![SystemClock.monotonic()],
            waiting_for: BTreeMap::new(),
            ready: false,
            since: EventTime(0),
            joined: vec![true, joined],
            tasks: tasks.into_iter().map(|(p, task)| (tp(p), task)).collect(),
        };
        let wanted = ending.wanted(&state);
        let wanted = wanted.map(|wanted| wanted.iter().map(|(tp, to)| (tp.partition.0, to.0)).collect());
        assert_eq!(wanted, expect);
    }

    #[test]
    fn own_tasks_come_first() {
        let at = |next| task(Stage::Running, next, next);
        check(true, vec![(0, at(10)), (1, at(9))], None);
        check(true, vec![(0, at(10)), (1, at(11))], Some(vec![(0, 10), (1, 10)]));
        check(true, vec![(0, at(10)), (1, task(Stage::Replaying, 10, 10))], None);
    }

    #[test]
    fn control_records_at_the_end_are_nobodys() {
        let marker = task(Stage::Running, 9, 10);
        check(true, vec![(0, marker.clone()), (1, marker.clone())], Some(vec![(0, 9), (1, 9)]));
        let pending = (0, TaskReport { pending: true, ..marker.1.clone() });
        check(true, vec![(0, marker), (1, pending)], None);
    }

    #[test]
    fn partition_that_nobody_here_has_is_not_forgotten() {
        check(true, vec![], Some(vec![(0, 10), (1, 10)]));
        check(false, vec![], None);
    }

    #[test]
    fn refused_partition_is_not_waited_for() {
        let refused = Stage::Stopped(Refusal::new(RefusalCode::SinkRefused, ""));
        check(true, vec![(0, task(refused, 3, 3))], Some(vec![(1, 10)]));
    }

    #[test]
    fn group_must_hold_the_outputs_unless_it_holds_nothing() {
        let offset = |offset| GroupOffset { partition: tp(0), offset, metadata: String::new() };
        for (held, expect) in [(Some(Offset(9)), false), (Some(Offset(10)), true), (None, true)] {
            assert_eq!(group_reaches(&[offset(held)], &tp(0), Offset(10)), expect);
        }
    }
}
