//! The boards of an instance, read as one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millstream_core::model::{EventTime, TopicPartition};

use super::board::{Board, BoardState, TaskReport};

/// One board for the instance itself, and one a worker. Workers come once it is known what there is to do.
#[derive(Debug)]
pub struct Boards {
    instance: String,
    own: Arc<Board>,
    workers: Mutex<Vec<Arc<Board>>>,
}

/// A moment of an instance.
#[derive(Clone, Debug)]
pub struct InstanceState {
    /// The UUID of its state directory.
    pub instance: String,
    /// Its own loop and those of its workers: when each last came round.
    pub beats: Vec<Instant>,
    /// Neighbours that do not answer somebody: name, what they said.
    pub waiting_for: BTreeMap<&'static str, String>,
    pub ready: bool,
    /// Since when `ready` has been what it is.
    pub since: EventTime,
    /// By worker that has not ended for good, whether the group has told what is its own.
    pub joined: Vec<bool>,
    /// Which worker has a task, and how it is.
    pub tasks: BTreeMap<TopicPartition, (usize, TaskReport)>,
}

impl Boards {
    pub fn new(instance: impl Into<String>, beat: Instant, since: EventTime) -> Boards {
        let own = Arc::new(Board::new(beat, since));
        Boards { instance: instance.into(), own, workers: Mutex::default() }
    }

    /// Of the instance itself, which makes ready and supervises.
    pub fn own(&self) -> Arc<Board> {
        self.own.clone()
    }

    /// A board for the next worker.
    pub fn add(&self, beat: Instant, since: EventTime) -> Arc<Board> {
        let board = Arc::new(Board::new(beat, since));
        self.lock().push(board.clone());
        board
    }

    /// What all of them say together.
    pub fn read(&self) -> InstanceState {
        let workers: Vec<BoardState> = self.lock().iter().map(|board| board.read()).collect();
        merge(&self.instance, &self.own.read(), workers)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Board>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ready since the last one came to be, not ready since the first one ceased.
fn merge(instance: &str, own: &BoardState, workers: Vec<BoardState>) -> InstanceState {
    let all = || std::iter::once(own).chain(&workers);
    let ready = all().all(|board| board.ready);
    let since = if ready {
        all().map(|board| board.since).max()
    } else {
        all().filter(|board| !board.ready).map(|board| board.since).min()
    };
    let waiting_for = all()
        .flat_map(|board| board.waiting_for.iter().map(|((_, neighbour), said)| (*neighbour, said.clone())))
        .collect();
    InstanceState {
        instance: instance.to_owned(),
        beats: all().map(|board| board.beat).collect(),
        waiting_for,
        ready,
        since: since.unwrap_or(own.since),
        joined: workers.iter().filter(|board| !board.ended).map(|board| board.joined).collect(),
        tasks: workers
            .into_iter()
            .enumerate()
            .flat_map(|(worker, board)| {
                board.tasks.into_iter().map(move |(tp, report)| (tp, (worker, report)))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::{Stage, Waiter};
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn boards(workers: usize) -> (Boards, Vec<Arc<Board>>) {
        let boards = Boards::new("i", SystemClock.monotonic(), EventTime(1));
        let added = (0..workers).map(|_| boards.add(SystemClock.monotonic(), EventTime(1))).collect();
        (boards, added)
    }

    #[test]
    fn instance_is_ready_once_its_last_worker_is() {
        let (boards, workers) = boards(2);
        for (at, board) in [(2, boards.own()), (3, workers[0].clone()), (4, workers[1].clone())] {
            assert!(!boards.read().ready);
            board.update(EventTime(at), |b| b.joined = true);
        }
        let state = boards.read();
        assert_eq!((state.ready, state.since), (true, EventTime(4)), "a worker may have no task");
    }

    #[test]
    fn one_worker_that_waits_makes_the_instance_wait_since_then() {
        let (boards, workers) = boards(2);
        [boards.own(), workers[0].clone(), workers[1].clone()]
            .iter()
            .for_each(|board| board.update(EventTime(2), |b| b.joined = true));
        workers[1].update(EventTime(5), |b| {
            b.waiting_for.insert((Waiter::Taker, "postgres"), "no answer".into());
        });
        let state = boards.read();
        assert_eq!((state.ready, state.since), (false, EventTime(5)));
        assert_eq!(state.waiting_for["postgres"], "no answer");
    }

    #[test]
    fn a_running_task_says_what_its_worker_waits_for_while_it_does() {
        let (boards, workers) = boards(1);
        let tp = TopicPartition::new("t", 0);
        let reason = || boards.read().tasks[&tp].1.reason();
        workers[0].update(EventTime(2), |b| {
            b.tasks.insert(tp.clone(), TaskReport::idle(Stage::Running));
            b.waiting_for.insert((Waiter::Taker, "kafka"), "an unstable offset".into());
        });
        assert_eq!(reason(), None, "the taker waits for another task");
        workers[0].update(EventTime(3), |b| {
            b.waiting_for.insert((Waiter::Worker, "postgres"), "no answer".into());
        });
        assert_eq!(reason().as_deref(), Some("postgres: no answer"));
        workers[0].update(EventTime(4), |b| b.waiting_for.clear());
        assert_eq!(reason(), None);
    }

    #[test]
    fn every_task_is_named_with_its_worker() {
        let (boards, workers) = boards(2);
        for (partition, board) in workers.iter().enumerate() {
            let tp = TopicPartition::new("t", i32::try_from(partition).unwrap());
            board.update(EventTime(2), |b| {
                b.tasks.insert(tp, TaskReport::idle(Stage::Running));
            });
        }
        let owners: Vec<usize> = boards.read().tasks.values().map(|(worker, _)| *worker).collect();
        assert_eq!(owners, [0, 1]);
    }
}
