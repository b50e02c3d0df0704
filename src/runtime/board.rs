//! What a worker says about itself, for the page, metrics and a person.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millstream_core::commit::Refusal;
use millstream_core::model::{EventTime, Offset, OwnerEpoch, TopicPartition};

/// The worker, its taker and the supervisor write, everybody else reads; nobody waits for long.
#[derive(Debug)]
pub struct Board {
    state: Mutex<BoardState>,
}

/// Who waits for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiter {
    Worker,
    Taker,
    Supervisor,
}

/// A moment of a worker.
#[derive(Clone, Debug)]
pub struct BoardState {
    /// When the loop last came round.
    pub beat: Instant,
    /// Neighbours that do not answer: who asks, the neighbour's name, what it said.
    pub waiting_for: BTreeMap<(Waiter, &'static str), String>,
    /// The group has told what is this worker's, be it nothing.
    pub joined: bool,
    /// The worker has ended for good, and left its partitions to the others.
    pub ended: bool,
    pub ready: bool,
    /// Since when `ready` has been what it is.
    pub since: EventTime,
    pub tasks: BTreeMap<TopicPartition, TaskReport>,
}

/// One task's line.
#[derive(Clone, Debug)]
pub struct TaskReport {
    pub stage: Stage,
    /// The neighbour that its worker waits for; the board fills it in.
    pub waits_for: Option<String>,
    /// P
    pub next: Offset,
    /// K
    pub outputs: Offset,
    /// R
    pub state: Offset,
    /// Everything below was read.
    pub read_to: Offset,
    /// What was read is not committed yet.
    pub pending: bool,
    /// The end of the log, where it is known.
    pub high: Option<Offset>,
    pub owner_epoch: OwnerEpoch,
    pub watermark: Option<EventTime>,
}

/// Where a task stands in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Assigned; being taken, with what it waits for.
    Taking(String),
    /// Reads again what its participants hold.
    Replaying,
    Running,
    Stopped(Refusal),
}

impl Board {
    pub fn new(beat: Instant, since: EventTime) -> Board {
        let state = BoardState {
            beat,
            waiting_for: BTreeMap::new(),
            joined: false,
            ended: false,
            ready: false,
            since,
            tasks: BTreeMap::new(),
        };
        Board { state: Mutex::new(state) }
    }

    /// A copy of the moment.
    pub fn read(&self) -> BoardState {
        self.lock().clone()
    }

    /// Changes the moment; `ready`, and what tasks wait for, follow from what is written.
    pub fn update(&self, now: EventTime, change: impl FnOnce(&mut BoardState)) {
        let mut state = self.lock();
        change(&mut state);
        let waits_for = state.worker_waits_for();
        state.tasks.values_mut().for_each(|task| task.waits_for.clone_from(&waits_for));
        let ready = state.is_ready();
        if ready != state.ready {
            state.ready = ready;
            state.since = now;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskReport {
    /// Records between P and the end of the log, where that is known.
    pub fn lag(&self) -> Option<i64> {
        self.high.map(|high| (high.0 - self.next.0).max(0))
    }

    /// Why it does not go on.
    pub fn reason(&self) -> Option<String> {
        match &self.stage {
            Stage::Taking(reason) => Some(reason.clone()),
            Stage::Stopped(refusal) => Some(refusal.to_string()),
            Stage::Replaying | Stage::Running => self.waits_for.clone(),
        }
    }

    /// A task that does not run.
    pub fn idle(stage: Stage) -> TaskReport {
        TaskReport {
            stage,
            waits_for: None,
            next: Offset(0),
            outputs: Offset(0),
            state: Offset(0),
            read_to: Offset(0),
            pending: false,
            high: None,
            owner_epoch: OwnerEpoch(0),
            watermark: None,
        }
    }
}

impl BoardState {
    fn is_ready(&self) -> bool {
        self.joined && self.waiting_for.is_empty() && self.tasks.values().all(|t| t.stage == Stage::Running)
    }

    /// A taker that waits does not keep the tasks that run.
    fn worker_waits_for(&self) -> Option<String> {
        let mut waiting = self.waiting_for.iter().filter(|((waiter, _), _)| *waiter == Waiter::Worker);
        waiting.next().map(|((_, neighbour), said)| format!("{neighbour}: {said}"))
    }
}

impl Stage {
    pub fn name(&self) -> &'static str {
        match self {
            Stage::Taking(_) => "taking",
            Stage::Replaying => "replaying",
            Stage::Running => "running",
            Stage::Stopped(_) => "stopped",
        }
    }
}
