//! A worker: what it believes, where it stands in its protocol, and its disk.

use super::postgres::Row;
use super::world::{Owner, Part, PerPartition, Pos};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    pub producer: Producer,
    /// A copy of a request that succeeded may still be on its way.
    pub in_doubt: bool,
    /// In memory.
    pub tasks: PerPartition<Option<Task>>,
    pub phase: Phase,
    /// R, on this worker's disk: all that a crash leaves.
    pub state: PerPartition<Option<Pos>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Producer {
    /// To be made before a task is taken.
    None,
    Current,
    /// A newer incarnation of its transactional id exists, or the broker timed its transaction out. It does not know.
    Fenced,
}

/// A task that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pub mine: Owner,
    /// Processed and brought into every participant.
    pub at: Pos,
    /// P, as it stood at the start: below it only outputs are missing.
    pub rows_from: Pos,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Idle,
    Taking(Taking),
    Epoch(Epoch),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taking {
    pub part: Part,
    /// As the fencing statement returned it.
    pub row: Option<Row>,
    pub step: TakingStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TakingStep {
    /// Observe anew, beginning with the fence; with a producer, if there is none.
    Again,
    Fenced,
    /// Only in a deliberate fault: the group's offset was read, the fence comes next.
    GroupRead(Option<Pos>),
    InsertDue,
    /// That offset is to be committed to the group.
    StartDue(Pos),
    StartSent,
    StartPermitted,
    StartEnding,
    MarkDue,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    pub shares: PerPartition<Option<Share>>,
    pub step: Step,
}

/// One task's part `[from, to)` of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    pub mine: Owner,
    pub from: Pos,
    pub to: Pos,
    pub remaining: Remaining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remaining {
    Everything,
    Outputs,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Processed; nothing is anywhere.
    Sealed,
    Produced,
    OffsetsSent,
    /// COMMIT was sent to PostgreSQL.
    Deciding,
    /// As many rows as tasks matched.
    Permitted {
        tasks: u8,
        matched: u8,
    },
    /// EndTxn was sent to the broker.
    Ending,
    StateDue,
    /// Something went wrong: a new producer comes first, then the rows, then the group's offsets.
    Recycle,
    LockRows,
    RowsRead(PerPartition<Option<(Owner, Pos)>>),
}

impl Worker {
    pub fn new() -> Worker {
        Worker {
            producer: Producer::None,
            in_doubt: false,
            tasks: PerPartition::default(),
            phase: Phase::Idle,
            state: PerPartition::default(),
        }
    }

    /// The process dies and another begins: the disk stays.
    pub fn crash(&mut self) {
        *self = Worker { state: self.state, ..Worker::new() };
    }

    /// Waits for the reply to an EndTxn.
    pub fn is_ending(&self) -> bool {
        match &self.phase {
            Phase::Taking(taking) => taking.step == TakingStep::StartEnding,
            Phase::Epoch(epoch) => epoch.step == Step::Ending,
            Phase::Idle => false,
        }
    }

    /// Every participant has a task up to there.
    pub fn done(&mut self, part: Part, to: Pos) {
        self.state[part] = self.state[part].max(Some(to));
        if let Some(task) = &mut self.tasks[part] {
            task.at = to;
        }
    }

    pub fn epoch_mut(&mut self) -> &mut Epoch {
        match &mut self.phase {
            Phase::Epoch(epoch) => epoch,
            phase => panic!("no epoch is under way: {phase:?}"),
        }
    }

    pub fn taking_mut(&mut self) -> &mut Taking {
        match &mut self.phase {
            Phase::Taking(taking) => taking,
            phase => panic!("no task is being taken: {phase:?}"),
        }
    }
}

impl Epoch {
    /// The shares of the present attempt: those that lack the same as the first.
    pub fn attempt(&self) -> impl Iterator<Item = (Part, &Share)> {
        let remaining = self.remaining();
        self.shares.present().filter(move |(_, share)| share.remaining == remaining)
    }

    pub fn remaining(&self) -> Remaining {
        self.shares.present().next().expect("an epoch has shares").1.remaining
    }
}
