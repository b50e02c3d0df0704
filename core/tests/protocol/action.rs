//! What can happen next: a step of a worker, a step of a server, or a mishap.

use super::fault::Fault;
use super::rules::Rules;
use super::worker::{Phase, Producer, Step, Taking, TakingStep, Worker};
use super::world::{Part, PerPartition, Pos, Who, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    // Taking a task.
    Fence(Who, Part),
    ReadGroupFirst(Who, Part),
    InitProducer(Who),
    ReadGroup(Who),
    InsertRow(Who),
    SendStart(Who),
    CheckStart(Who),
    MarkBootstrapped(Who),
    // Epochs. A worker that takes no step is a stopped one.
    Process(Who, PerPartition<Option<Pos>>),
    ProcessAgain(Who, Part),
    Produce(Who),
    SendOffsets(Who),
    Compare(Who),
    SendEnd(Who),
    WriteState(Who),
    Settle(Who, Part),
    // Recovery.
    Recycle(Who),
    LockRows(Who),
    Resume(Who),
    // Servers and network.
    PostgresCommits(Part),
    PostgresRollsBack(Part),
    EndArrives(Who),
    EndRefused(Who),
    LateOffsetsArrive(Who),
    TransactionTimesOut(Who),
    // Mishaps, as many as are left.
    Crash(Who),
    TakeOver(Who, Part),
    CommitReplyLost(Part),
    ConnectionLost(Who),
    OffsetsLate(Who),
    OffsetsCopied(Who),
    EndReplyLost(Who),
    EndLate(Who),
    EndCopied(Who),
    GroupForgotten,
}

impl Action {
    /// Nothing that a calm world does.
    pub fn is_mishap(self) -> bool {
        use Action::*;
        matches!(
            self,
            Crash(_)
                | TakeOver(..)
                | CommitReplyLost(_)
                | ConnectionLost(_)
                | OffsetsLate(_)
                | OffsetsCopied(_)
                | EndReplyLost(_)
                | EndLate(_)
                | EndCopied(_)
                | GroupForgotten
        )
    }
}

impl Rules {
    /// Everything that can happen in a world; what a calm world does comes first, the time-out last of that.
    pub fn actions(&self, world: &World, out: &mut Vec<Action>) {
        if world.refused.is_some() {
            return;
        }
        for who in Who::all() {
            match &world.workers[who].phase {
                Phase::Idle => self.idle(world, who, out),
                Phase::Taking(taking) => self.taking(world, who, taking, out),
                Phase::Epoch(_) => self.epoch(world, who, out),
            }
        }
        self.servers(world, out);
        self.mishaps(world, out);
    }

    fn idle(&self, world: &World, who: Who, out: &mut Vec<Action>) {
        let worker = &world.workers[who];
        let behind = |part: Part| worker.tasks[part].is_some_and(|task| task.at < task.rows_from);
        out.extend(self.parts().filter(|part| behind(*part)).map(|part| Action::ProcessAgain(who, part)));
        self.process(worker, who, out);
        for part in self.parts().filter(|part| worker.tasks[*part].is_none()) {
            if self.lacks_producer(worker) {
                out.push(Action::InitProducer(who));
                break;
            } else if self.has(Fault::GroupReadBeforeFence) {
                if world.kafka.is_stable(part) {
                    out.push(Action::ReadGroupFirst(who, part));
                }
            } else if !world.has_owner(part) && world.postgres.locks[part].is_none() {
                out.push(Action::Fence(who, part));
            }
        }
        for part in self.parts().filter(|part| self.left.forgotten > 0 && self.can_settle(world, who, *part))
        {
            out.push(Action::Settle(who, part));
        }
    }

    /// One epoch of some live tasks, each to some end; the longest comes first.
    fn process(&self, worker: &Worker, who: Who, out: &mut Vec<Action>) {
        let ends = |part: Part| -> Vec<Option<Pos>> {
            let live = worker.tasks[part].filter(|task| task.at >= task.rows_from);
            let ends = live.into_iter().flat_map(|task| (task.at.0 + 1..=self.records).rev());
            ends.map(|end| Some(Pos(end))).chain([None]).collect()
        };
        for first in ends(Part(0)) {
            for second in ends(Part(1)) {
                if first.is_some() || second.is_some() {
                    out.push(Action::Process(who, PerPartition([first, second])));
                }
            }
        }
    }

    fn can_settle(&self, world: &World, who: Who, part: Part) -> bool {
        let (Some(task), Some(row)) = (world.workers[who].tasks[part], &world.postgres.rows[part]) else {
            return false;
        };
        let in_step = task.at >= task.rows_from && row.owner == task.mine && row.next == task.at;
        in_step && !row.settled && world.postgres.locks[part].is_none()
    }

    /// Order: it comes before the fence of a task, so that what an earlier process of this worker left open does not
    /// hold the group's offset.
    fn lacks_producer(&self, worker: &Worker) -> bool {
        self.kafka_outputs && worker.producer == Producer::None
    }

    fn taking(&self, world: &World, who: Who, taking: &Taking, out: &mut Vec<Action>) {
        let free = world.postgres.locks[taking.part].is_none();
        let action = match taking.step {
            TakingStep::Again if self.lacks_producer(&world.workers[who]) => Some(Action::InitProducer(who)),
            TakingStep::Again => free.then_some(Action::Fence(who, taking.part)),
            TakingStep::GroupRead(_) => {
                (free && !world.has_owner(taking.part)).then_some(Action::Fence(who, taking.part))
            }
            TakingStep::Fenced => world.kafka.is_stable(taking.part).then_some(Action::ReadGroup(who)),
            TakingStep::InsertDue => Some(Action::InsertRow(who)),
            TakingStep::StartDue(_) => Some(Action::SendStart(who)),
            TakingStep::StartSent => free.then_some(Action::CheckStart(who)),
            TakingStep::StartPermitted => Some(Action::SendEnd(who)),
            TakingStep::StartEnding => None,
            TakingStep::MarkDue => free.then_some(Action::MarkBootstrapped(who)),
        };
        out.extend(action);
    }

    fn epoch(&self, world: &World, who: Who, out: &mut Vec<Action>) {
        let Phase::Epoch(epoch) = &world.workers[who].phase else { return };
        let action = match &epoch.step {
            Step::Sealed => Some(Action::Produce(who)),
            Step::Produced => Some(Action::SendOffsets(who)),
            Step::OffsetsSent => world.postgres.is_free(epoch.attempt()).then_some(Action::Compare(who)),
            Step::Deciding | Step::Ending => None,
            Step::Permitted { .. } => Some(Action::SendEnd(who)),
            Step::StateDue => Some(Action::WriteState(who)),
            Step::Recycle => Some(Action::Recycle(who)),
            Step::LockRows => world.postgres.is_free(epoch.shares.present()).then_some(Action::LockRows(who)),
            Step::RowsRead(_) => {
                let stable = epoch.shares.present().all(|(part, _)| world.kafka.is_stable(part));
                stable.then_some(Action::Resume(who))
            }
        };
        out.extend(action);
    }

    fn servers(&self, world: &World, out: &mut Vec<Action>) {
        for (part, lock) in world.postgres.locks.present().filter(|(part, lock)| lock.transaction == *part) {
            out.push(Action::PostgresCommits(part));
            if !lock.connected {
                out.push(Action::PostgresRollsBack(part));
            }
        }
        for who in Who::all() {
            let transaction = &world.kafka.transactions[who];
            if transaction.ending {
                out.push(Action::EndArrives(who));
            } else if world.workers[who].is_ending() {
                out.push(Action::EndRefused(who));
            }
            if transaction.late_offsets.is_some() {
                out.push(Action::LateOffsetsArrive(who));
            }
        }
        for who in Who::all().filter(|who| world.kafka.transactions[*who].open) {
            out.push(Action::TransactionTimesOut(who));
        }
    }

    fn mishaps(&self, world: &World, out: &mut Vec<Action>) {
        if world.left.incidents > 0 {
            for who in Who::all() {
                let worker = &world.workers[who];
                if worker.phase != Phase::Idle || worker.tasks != PerPartition::default() {
                    out.push(Action::Crash(who));
                }
                let movable = self.parts().filter(|part| self.can_take_over(world, who, *part));
                out.extend(movable.map(|part| Action::TakeOver(who, part)));
            }
        }
        if world.left.messages > 0 {
            lost_messages(world, out);
        }
        let gone = |worker: &Worker| worker.phase == Phase::Idle && worker.tasks == PerPartition::default();
        // No transaction outlives the days that this takes.
        let quiet = world.workers.0.iter().all(gone)
            && world.kafka.transactions.0.iter().all(|transaction| !transaction.open)
            && world.postgres.locks == PerPartition::default();
        let settled = world.postgres.rows.present().all(|(_, row)| row.settled);
        if world.left.forgotten > 0 && quiet && settled {
            out.push(Action::GroupForgotten);
        }
    }

    /// A rebalance that the owner has not heard of: it lives, or has stopped.
    fn can_take_over(&self, world: &World, who: Who, part: Part) -> bool {
        let worker = &world.workers[who];
        let ready = match &worker.phase {
            Phase::Idle => worker.tasks[part].is_none() && !self.lacks_producer(worker),
            Phase::Taking(taking) => taking.part == part && matches!(taking.step, TakingStep::GroupRead(_)),
            Phase::Epoch(_) => false,
        };
        ready && world.has_owner(part)
    }
}

fn lost_messages(world: &World, out: &mut Vec<Action>) {
    for (part, lock) in world.postgres.locks.present() {
        if lock.transaction == part && lock.connected {
            out.push(Action::CommitReplyLost(part));
            out.push(Action::ConnectionLost(lock.client));
        }
    }
    for who in Who::all() {
        let worker = &world.workers[who];
        let sending = matches!(&worker.phase, Phase::Epoch(epoch) if epoch.step == Step::Produced);
        if sending && worker.producer == Producer::Current {
            out.extend([Action::OffsetsLate(who), Action::OffsetsCopied(who)]);
        }
        let transaction = &world.kafka.transactions[who];
        if worker.is_ending() && transaction.ending {
            out.push(Action::EndLate(who));
            if transaction.open {
                out.extend([Action::EndReplyLost(who), Action::EndCopied(who)]);
            }
        }
    }
}
