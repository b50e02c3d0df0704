//! How a task starts: the one recovery path.

use crate::model::Offset;

use super::{Refusal, RefusalCode};

/// The progress row, as returned by the statement that fenced its previous owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub bootstrapped: bool,
    /// Where the task began, resolved once.
    pub start: Offset,
    pub prev: Offset,
    pub next: Offset,
    /// The group offset is known to equal `next`.
    pub settled: bool,
    pub topic_id: String,
    pub plan_hash: u64,
}

/// Local state that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub next: Offset,
    /// Application, cluster, topic, partition and plan are those of this task.
    pub ours: bool,
}

/// Everything that was read about a task, in this order: fence and progress row, group offset, local state, log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub progress: Option<Progress>,
    /// The stable group offset.
    pub group: Option<Offset>,
    pub kafka_outputs: bool,
    pub local: Option<Local>,
    pub topic_id: String,
    pub plan_hash: u64,
    /// First offset of the log.
    pub low: Offset,
    /// The offset after the last stable record.
    pub high: Offset,
}

/// Where a task begins. `state_from <= outputs_from <= rows_from`; a record feeds a participant from its offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStart {
    /// S.next: from local state, or the recorded start where there is none.
    pub state_from: Offset,
    /// K
    pub outputs_from: Offset,
    /// P
    pub rows_from: Offset,
}

/// What to do about a task that was assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// Never seen: resolve its start, insert the row with it, and observe again.
    Bootstrap,
    /// The row is there, its group offset is not, or may not be: commit `start` to the group, mark the row, and observe
    /// again. Also where the broker has forgotten the offset of a settled row: what is known of it is written down
    /// before an epoch rests on it.
    FinishBootstrap {
        start: Offset,
    },
    Start(TaskStart),
    Refuse(Refusal),
}

/// Decides from what was observed.
pub fn take(observed: &Observed) -> Take {
    let Some(row) = &observed.progress else {
        return match observed.group {
            Some(k) if observed.kafka_outputs => refuse(
                RefusalCode::PgWentBack,
                format!("the group stands at {k}, PostgreSQL has no progress row"),
            ),
            _ => Take::Bootstrap,
        };
    };
    if let Some(refusal) = foreign(observed, row) {
        return Take::Refuse(refusal);
    }
    let outputs_from = match group_position(observed, row) {
        Ok(Some(k)) => k,
        Ok(None) if row.bootstrapped => return Take::FinishBootstrap { start: row.next },
        Ok(None) => return Take::FinishBootstrap { start: row.start },
        Err(refusal) => return Take::Refuse(refusal),
    };
    let state_from = match &observed.local {
        None => row.start,
        Some(local) if !local.ours => {
            return refuse(RefusalCode::StateDirForeign, "local state is of another task or pipeline".into());
        }
        Some(local) if local.next > outputs_from => {
            let detail = format!("local state stands at {}, the outputs at {outputs_from}", local.next);
            return refuse(RefusalCode::StateAhead, detail);
        }
        Some(local) => local.next,
    };
    if state_from < observed.low || row.next > observed.high {
        let detail = format!(
            "records [{state_from}, {}) are needed, the log holds [{}, {})",
            row.next, observed.low, observed.high
        );
        return refuse(RefusalCode::ReplayRangeGone, detail);
    }
    Take::Start(TaskStart { state_from, outputs_from, rows_from: row.next })
}

fn foreign(observed: &Observed, row: &Progress) -> Option<Refusal> {
    if row.topic_id != observed.topic_id {
        let detail = format!("the topic has id {}, progress was made on {}", observed.topic_id, row.topic_id);
        return Some(Refusal::new(RefusalCode::LogIdentityChanged, detail));
    }
    if row.plan_hash != observed.plan_hash {
        let detail = format!(
            "the pipeline's hash is {:016x}, progress was made by {:016x}",
            observed.plan_hash, row.plan_hash
        );
        return Some(Refusal::new(RefusalCode::PipelineChanged, detail));
    }
    None
}

/// K, or `None` where the group does not hold it yet, or not any more.
fn group_position(observed: &Observed, row: &Progress) -> Result<Option<Offset>, Refusal> {
    if !observed.kafka_outputs {
        return Ok(row.bootstrapped.then_some(row.next));
    }
    match observed.group {
        None if !row.bootstrapped => Ok(None),
        Some(k) if !row.bootstrapped && k == row.start => Ok(None),
        Some(k) if row.bootstrapped && (k == row.prev || k == row.next) => Ok(Some(k)),
        None if row.settled => Ok(None),
        None => {
            let detail = format!("the group holds no offset, PostgreSQL stands at {}", row.next);
            Err(Refusal::new(RefusalCode::GroupOffsetMissing, detail))
        }
        Some(k) if k > row.next => {
            let detail = format!("the group stands at {k}, PostgreSQL at {}", row.next);
            Err(Refusal::new(RefusalCode::PgWentBack, detail))
        }
        Some(k) => {
            let detail =
                format!("the group stands at {k}, PostgreSQL at {} and before it at {}", row.next, row.prev);
            Err(Refusal::new(RefusalCode::GroupOffsetReset, detail))
        }
    }
}

fn refuse(code: RefusalCode, detail: String) -> Take {
    Take::Refuse(Refusal::new(code, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Progress {
        Progress {
            bootstrapped: true,
            start: Offset(5),
            prev: Offset(10),
            next: Offset(20),
            settled: false,
            topic_id: "t".into(),
            plan_hash: 1,
        }
    }

    fn observed() -> Observed {
        Observed {
            progress: Some(row()),
            group: Some(Offset(20)),
            kafka_outputs: true,
            local: Some(Local { next: Offset(20), ours: true }),
            topic_id: "t".into(),
            plan_hash: 1,
            low: Offset(0),
            high: Offset(100),
        }
    }

    fn check(name: &str, change: impl FnOnce(&mut Observed), expect: &str) {
        let mut facts = observed();
        change(&mut facts);
        let found = match take(&facts) {
            Take::Bootstrap => "bootstrap".to_owned(),
            Take::FinishBootstrap { start } => format!("finish at {start}"),
            Take::Start(s) => format!("start {} {} {}", s.state_from, s.outputs_from, s.rows_from),
            Take::Refuse(r) => r.code.name().to_owned(),
        };
        assert_eq!(found, expect, "{name}");
    }

    fn with_row(change: impl FnOnce(&mut Progress)) -> impl FnOnce(&mut Observed) {
        |o| change(o.progress.as_mut().expect("a row"))
    }

    #[test]
    fn a_task_that_was_never_seen_is_bootstrapped() {
        check(
            "neither row nor group offset",
            |o| {
                o.progress = None;
                o.group = None;
            },
            "bootstrap",
        );
        check("group without a row", |o| o.progress = None, "PG_WENT_BACK");
        check(
            "group without a row, but the group is no witness",
            |o| {
                o.progress = None;
                o.kafka_outputs = false;
            },
            "bootstrap",
        );
        let fresh = |o: &mut Observed| {
            let row = o.progress.as_mut().expect("a row");
            row.bootstrapped = false;
            row.prev = row.start;
            row.next = row.start;
            o.local = None;
        };
        check(
            "row, no group offset yet",
            |o| {
                fresh(o);
                o.group = None;
            },
            "finish at 5",
        );
        check(
            "row and group offset, not marked",
            |o| {
                fresh(o);
                o.group = Some(Offset(5));
            },
            "finish at 5",
        );
        check(
            "row not marked, group elsewhere",
            |o| {
                fresh(o);
                o.group = Some(Offset(6));
            },
            "PG_WENT_BACK",
        );
        check(
            "row not marked, group behind",
            |o| {
                fresh(o);
                o.group = Some(Offset(4));
            },
            "GROUP_OFFSET_RESET",
        );
        check(
            "no kafka outputs, not marked",
            |o| {
                fresh(o);
                o.kafka_outputs = false;
            },
            "finish at 5",
        );
    }

    #[test]
    fn every_crash_of_the_matrix_starts_where_it_must() {
        check("all agree", |_| {}, "start 20 20 20");
        check(
            "state write lost",
            |o| o.local = Some(Local { next: Offset(10), ours: true }),
            "start 10 20 20",
        );
        check(
            "kafka commit lost",
            |o| {
                o.group = Some(Offset(10));
                o.local = Some(Local { next: Offset(10), ours: true });
            },
            "start 10 10 20",
        );
        check("no local state: replay from the recorded start", |o| o.local = None, "start 5 20 20");
        check(
            "no kafka outputs: K is P",
            |o| {
                o.kafka_outputs = false;
                o.group = None;
            },
            "start 20 20 20",
        );
    }

    #[test]
    fn contradictions_are_refused() {
        check("group beyond PostgreSQL", |o| o.group = Some(Offset(21)), "PG_WENT_BACK");
        check("group between", |o| o.group = Some(Offset(15)), "GROUP_OFFSET_RESET");
        check("group far behind", |o| o.group = Some(Offset(3)), "GROUP_OFFSET_RESET");
        check("group gone", |o| o.group = None, "GROUP_OFFSET_MISSING");
        check(
            "group gone, but settled",
            |o| {
                with_row(|r| r.settled = true)(o);
                o.group = None;
            },
            "finish at 20",
        );
        check("topic recreated", |o| o.topic_id = "u".into(), "LOG_IDENTITY_CHANGED");
        check("other pipeline", |o| o.plan_hash = 2, "PIPELINE_CHANGED");
        check(
            "state of another task",
            |o| o.local = Some(Local { next: Offset(5), ours: false }),
            "STATE_DIR_FOREIGN",
        );
        check("state ahead", |o| o.local = Some(Local { next: Offset(21), ours: true }), "STATE_AHEAD");
        check("state ahead of the outputs only", |o| o.group = Some(Offset(10)), "STATE_AHEAD");
        check(
            "retention passed the state",
            |o| {
                o.low = Offset(6);
                o.local = None;
            },
            "REPLAY_RANGE_GONE",
        );
        check("log cut off below progress", |o| o.high = Offset(19), "REPLAY_RANGE_GONE");
        check("retention passed the start only", |o| o.low = Offset(20), "start 20 20 20");
    }
}
