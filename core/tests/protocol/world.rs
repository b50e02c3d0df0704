//! Everything that exists: PostgreSQL, Kafka, the workers with their disks, and how much may still go wrong.

use std::ops::{Index, IndexMut};

use millstream_core::commit::RefusalCode;
use millstream_core::model::{Offset, OwnerEpoch};

use super::kafka::Kafka;
use super::postgres::Postgres;
use super::worker::{Phase, Producer, Step, Worker};

pub const WORKERS: usize = 2;
/// At most; `Rules` says how many are used.
pub const PARTITIONS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Who(pub u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part(pub u8);

/// An offset of the model's short log, which begins at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos(pub u8);

/// An owner epoch; `World::renumber` keeps them small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u8);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerPartition<T>(pub [T; PARTITIONS]);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PerWorker<T>(pub [T; WORKERS]);

/// What was written in a participant that must hold each record once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    Twice,
    Skipped,
}

/// How much may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// Crashes, and tasks taken from an owner that lives.
    pub incidents: u8,
    /// Messages lost, late or copied.
    pub messages: u8,
    /// Times that the broker forgets the group's offsets.
    pub forgotten: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub postgres: Postgres,
    pub kafka: Kafka,
    pub workers: PerWorker<Worker>,
    pub left: Left,
    pub refused: Option<RefusalCode>,
}

impl Left {
    pub const NOTHING: Left = Left { incidents: 0, messages: 0, forgotten: 0 };
}

impl World {
    /// The producer of this worker's name is initialised or timed out: whatever it had under way is aborted, and no
    /// request of the older incarnation is obeyed any more.
    pub fn fence_producer(&mut self, who: Who) {
        self.kafka.abort(who);
        self.kafka.drop_requests(who);
        let worker = &mut self.workers[who];
        if worker.producer == Producer::Current {
            worker.producer = Producer::Fenced;
        }
    }

    /// A producer that nothing of its forerunners can disturb.
    pub fn new_producer(&mut self, who: Who) {
        self.fence_producer(who);
        self.workers[who].producer = Producer::Current;
        self.workers[who].in_doubt = false;
    }

    /// Whether a worker that has not been told otherwise carries the row's owner epoch.
    pub fn has_owner(&self, part: Part) -> bool {
        let Some(row) = &self.postgres.rows[part] else { return false };
        self.workers.0.iter().any(|worker| {
            let taking = match &worker.phase {
                Phase::Taking(taking) if taking.part == part => taking.row.as_ref().map(|row| row.owner),
                _ => None,
            };
            worker.tasks[part].map(|task| task.mine).or(taking) == Some(row.owner)
        })
    }

    /// Gives owner epochs their rank among those that somebody still knows: the model stays finite, and nothing but
    /// their equality and order is ever asked for.
    pub fn renumber(&mut self) {
        for part in Part::all() {
            let mut used = 0_u64;
            self.owners(part, &mut |owner| used |= 1 << owner.0);
            self.owners(part, &mut |owner| {
                let below = used & ((1 << owner.0) - 1);
                owner.0 = u8::try_from(below.count_ones()).expect("at most 64");
            });
        }
    }

    fn owners(&mut self, part: Part, visit: &mut dyn FnMut(&mut Owner)) {
        self.postgres.rows[part].iter_mut().for_each(|row| visit(&mut row.owner));
        for worker in &mut self.workers.0 {
            worker.tasks[part].iter_mut().for_each(|task| visit(&mut task.mine));
            match &mut worker.phase {
                Phase::Idle => {}
                Phase::Taking(taking) if taking.part == part => {
                    taking.row.iter_mut().for_each(|row| visit(&mut row.owner));
                }
                Phase::Taking(_) => {}
                Phase::Epoch(epoch) => {
                    epoch.shares[part].iter_mut().for_each(|share| visit(&mut share.mine));
                    if let Step::RowsRead(rows) = &mut epoch.step {
                        rows[part].iter_mut().for_each(|(owner, _)| visit(owner));
                    }
                }
            }
        }
    }
}

impl Who {
    pub fn all() -> impl Iterator<Item = Who> {
        [Who(0), Who(1)].into_iter()
    }
}

impl Part {
    pub fn all() -> impl Iterator<Item = Part> {
        [Part(0), Part(1)].into_iter()
    }
}

impl<T> PerPartition<Option<T>> {
    pub fn present(&self) -> impl Iterator<Item = (Part, &T)> {
        Part::all().filter_map(|part| Some((part, self[part].as_ref()?)))
    }
}

impl From<Pos> for Offset {
    fn from(pos: Pos) -> Offset {
        Offset(i64::from(pos.0))
    }
}

/// Offsets that a decision returns come from those it was given.
impl From<Offset> for Pos {
    fn from(offset: Offset) -> Pos {
        Pos(u8::try_from(offset.0).expect("an offset of the model's log"))
    }
}

impl From<Owner> for OwnerEpoch {
    fn from(owner: Owner) -> OwnerEpoch {
        OwnerEpoch(i64::from(owner.0))
    }
}

impl<T> Index<Part> for PerPartition<T> {
    type Output = T;
    fn index(&self, part: Part) -> &T {
        &self.0[usize::from(part.0)]
    }
}

impl<T> IndexMut<Part> for PerPartition<T> {
    fn index_mut(&mut self, part: Part) -> &mut T {
        &mut self.0[usize::from(part.0)]
    }
}

impl<T> Index<Who> for PerWorker<T> {
    type Output = T;
    fn index(&self, who: Who) -> &T {
        &self.0[usize::from(who.0)]
    }
}

impl<T> IndexMut<Who> for PerWorker<T> {
    fn index_mut(&mut self, who: Who) -> &mut T {
        &mut self.0[usize::from(who.0)]
    }
}
