//! When `run --until-end` has come to its end.
//!
//! A worker cannot tell: a partition may be another instance's, or nobody's at the moment. So the end of every log is
//! recorded at the start, and what PostgreSQL and the group hold tells when all of it is done, whoever did it.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::model::{Offset, Recovery, TopicPartition};

use crate::kafka::GroupOffset;
use crate::postgres::ProgressRow;

use super::board::Stage;
use super::boards::InstanceState;
use super::links::Links;
use super::{Halt, Prepared, RuntimeError};

/// While a transaction holds an offset the end is not reached; asked again soon.
const GROUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Where every log ended when the instance started.
pub struct Ending {
    ends: BTreeMap<TopicPartition, Offset>,
}

impl Ending {
    pub fn record(links: &mut Links, prepared: &Prepared) -> Result<Ending, Halt> {
        let mut ends = BTreeMap::new();
        for tp in prepared.partitions() {
            let (_, end) = links.log_range(&tp)?;
            ends.insert(tp, end);
        }
        Ok(Ending { ends })
    }

    /// Whether everything below the recorded ends is in PostgreSQL and in Kafka. Partitions that this instance's own
    /// workers have refused are not waited for.
    pub fn is_reached(&self, links: &mut Links, state: &InstanceState) -> Result<bool, Halt> {
        let Some(open) = self.open(state) else { return Ok(false) };
        let application = links.application().to_owned();
        let rows = links.ask_postgres(async |session| session.read_application(&application).await)?;
        if !open.iter().all(|(tp, end)| rows_reach(&rows, tp, *end)) {
            return Ok(false);
        }
        if !links.kafka_outputs() {
            return Ok(true);
        }
        let tasks: Vec<TopicPartition> = open.iter().map(|(tp, _)| (*tp).clone()).collect();
        match links.consumer.stable_offsets(&tasks, GROUP_TIMEOUT) {
            Ok(offsets) => Ok(open.iter().all(|(tp, end)| group_reaches(&offsets, tp, *end))),
            Err(error) if error.recovery() == Recovery::Retry => Ok(false),
            Err(error) => Err(RuntimeError::from(error).into()),
        }
    }

    /// What others must be asked about; `None` while the instance's own workers are not done.
    fn open(&self, state: &InstanceState) -> Option<Vec<(&TopicPartition, Offset)>> {
        if !state.joined.iter().all(|joined| *joined) {
            return None;
        }
        let mut open = Vec::new();
        for (tp, end) in &self.ends {
            match state.tasks.get(tp).map(|(_, report)| report) {
                Some(report) if matches!(report.stage, Stage::Stopped(_)) => {}
                Some(report) if report.stage != Stage::Running || report.next < *end => return None,
                Some(_) | None => open.push((tp, *end)),
            }
        }
        Some(open)
    }
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

    fn task(stage: Stage, next: i64) -> (usize, TaskReport) {
        (0, TaskReport { next: Offset(next), ..TaskReport::idle(stage) })
    }

    /// The partitions that others are asked about, of two that end at 10.
    fn check(joined: bool, tasks: Vec<(i32, (usize, TaskReport))>, expect: Option<Vec<i32>>) {
        let ending = Ending { ends: [0, 1].map(|p| (tp(p), Offset(10))).into() };
        let state = InstanceState {
            instance: String::new(),
            beats: vec![SystemClock.monotonic()],
            waiting_for: BTreeMap::new(),
            ready: false,
            since: EventTime(0),
            joined: vec![true, joined],
            tasks: tasks.into_iter().map(|(p, task)| (tp(p), task)).collect(),
        };
        let open = ending.open(&state).map(|open| open.iter().map(|(tp, _)| tp.partition.0).collect());
        assert_eq!(open, expect);
    }

    #[test]
    fn own_tasks_come_first() {
        let at = |next| task(Stage::Running, next);
        check(true, vec![(0, at(10)), (1, at(9))], None);
        check(true, vec![(0, at(10)), (1, at(11))], Some(vec![0, 1]));
        check(true, vec![(0, at(10)), (1, task(Stage::Replaying, 10))], None);
    }

    #[test]
    fn partition_that_nobody_here_has_is_not_forgotten() {
        check(true, vec![], Some(vec![0, 1]));
        check(false, vec![], None);
    }

    #[test]
    fn refused_partition_is_not_waited_for() {
        let refused = Stage::Stopped(Refusal::new(RefusalCode::SinkRefused, ""));
        check(true, vec![(0, task(refused, 3))], Some(vec![1]));
    }

    #[test]
    fn group_must_hold_the_outputs_unless_it_holds_nothing() {
        let offset =
            |offset| GroupOffset { partition: tp(0), offset, metadata: String::new() };
        for (held, expect) in [(Some(Offset(9)), false), (Some(Offset(10)), true), (None, true)] {
            assert_eq!(group_reaches(&[offset(held)], &tp(0), Offset(10)), expect);
        }
    }
}
