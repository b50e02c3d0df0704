//! One epoch: Kafka, PostgreSQL, Kafka, state; and `commit::resume` where that is disturbed.

use millstream_core::commit::{Attempt, CommitPermit, Resume, Witness, resume};

use super::fault::Fault;
use super::postgres::Compare;
use super::rules::{Arm, Protocol};
use super::worker::{Epoch, Phase, Producer, Remaining, Share, Step, TakingStep};
use super::world::{Part, PerPartition, Pos, Who, World};

impl Protocol {
    /// An epoch of live tasks, up to the ends given.
    pub fn process(&self, world: &mut World, who: Who, ends: PerPartition<Option<Pos>>) {
        let worker = &mut world.workers[who];
        let mut shares = PerPartition::default();
        for (part, to) in ends.present() {
            let task = worker.tasks[part].expect("a live task");
            let remaining = Remaining::Everything;
            shares[part] = Some(Share { mine: task.mine, from: task.at, to: *to, remaining });
        }
        worker.phase = Phase::Epoch(Epoch { shares, step: Step::Sealed });
        self.produce(world, who);
    }

    /// The epoch `[K, P)` of a task, of which PostgreSQL has the rows.
    pub fn process_again(&self, world: &mut World, who: Who, part: Part) {
        let worker = &mut world.workers[who];
        let task = worker.tasks[part].expect("a task that lacks outputs");
        let remaining = Remaining::Outputs;
        let mut shares = PerPartition::default();
        shares[part] = Some(Share { mine: task.mine, from: task.at, to: task.rows_from, remaining });
        worker.phase = Phase::Epoch(Epoch { shares, step: Step::Sealed });
        self.produce(world, who);
    }

    pub fn produce(&self, world: &mut World, who: Who) {
        if !self.rules.kafka_outputs {
            world.workers[who].epoch_mut().step = Step::OffsetsSent;
            return;
        }
        match world.workers[who].producer {
            Producer::None => panic!("a task is taken by a worker that has a producer"),
            Producer::Current => {}
            Producer::Fenced => return self.trouble(world, who),
        }
        let worker = &mut world.workers[who];
        for (part, share) in worker.epoch_mut().clone().attempt() {
            world.kafka.produce(who, part, (share.from, share.to));
            if self.rules.has(Fault::StateFirst) {
                worker.state[part] = worker.state[part].max(Some(share.to));
            }
        }
        worker.epoch_mut().step = Step::Produced;
    }

    pub fn send_offsets(&self, world: &mut World, who: Who) {
        if world.workers[who].producer == Producer::Fenced {
            return self.trouble(world, who);
        }
        let offsets = self.offsets(world, who);
        world.kafka.add_offsets(who, &offsets);
        world.workers[who].epoch_mut().step = Step::OffsetsSent;
    }

    /// The client gives up, the request does not.
    pub fn offsets_late(&self, world: &mut World, who: Who) {
        world.kafka.transactions[who].late_offsets = Some(self.offsets(world, who));
        self.trouble(world, who);
    }

    pub fn offsets_copied(&self, world: &mut World, who: Who) {
        self.send_offsets(world, who);
        world.kafka.transactions[who].late_offsets = Some(self.offsets(world, who));
        world.workers[who].in_doubt = true;
    }

    fn offsets(&self, world: &mut World, who: Who) -> PerPartition<Option<Pos>> {
        let mut offsets = PerPartition::default();
        for (part, share) in world.workers[who].epoch_mut().attempt() {
            offsets[part] = Some(share.to);
        }
        offsets
    }

    /// The statement that compares, and COMMIT; or the check of an epoch whose rows are committed.
    pub fn compare(&self, world: &mut World, who: Who) {
        let epoch = world.workers[who].epoch_mut().clone();
        let remaining = epoch.remaining();
        let nothing = self.rules.has(Fault::NothingCompared);
        let compare = Compare {
            owner: !nothing && !self.rules.has(Fault::OwnerNotCompared),
            next: !nothing,
            decided: remaining == Remaining::Outputs,
        };
        let shares: Vec<(Part, Share)> = epoch.attempt().map(|(part, share)| (part, share.clone())).collect();
        let matched: Vec<(Part, Share)> = shares
            .iter()
            .filter(|(part, share)| world.postgres.matches((*part, share), compare))
            .cloned()
            .collect();
        let mut tasks = shares.len();
        if self.rules.has(Fault::FencedTaskCommitted) && !matched.is_empty() {
            tasks = matched.len();
        }
        if CommitPermit::after_compare(tasks, matched.len()).is_none() {
            self.coverage.note(Arm::PermitRefused);
            return self.trouble(world, who);
        }
        let epoch = world.workers[who].epoch_mut();
        match remaining {
            Remaining::Everything => {
                epoch.step = Step::Deciding;
                world.postgres.commit_sent(who, &matched);
            }
            Remaining::Outputs => epoch.step = permitted(tasks),
        }
    }

    /// PostgreSQL has committed and said so.
    pub fn decided(&self, world: &mut World, who: Who) {
        let epoch = world.workers[who].epoch_mut();
        let tasks = epoch.attempt().count();
        epoch.step = if self.rules.kafka_outputs { permitted(tasks) } else { Step::StateDue };
    }

    /// PostgreSQL was told to commit; what it did with that is not known.
    pub fn decision_unknown(&self, world: &mut World, who: Who) {
        self.trouble(world, who);
        if self.rules.has(Fault::LostReplyIsFailure) {
            world.new_producer(who);
            world.workers[who].phase = Phase::Idle;
        }
    }

    pub fn send_end(&self, world: &mut World, who: Who) {
        let worker = &mut world.workers[who];
        let fenced = worker.producer != Producer::Current;
        let (tasks, matched) = match &worker.phase {
            Phase::Epoch(Epoch { step: Step::Permitted { tasks, matched }, .. }) => (*tasks, *matched),
            _ => (1, 1),
        };
        match &mut worker.phase {
            _ if fenced => return self.trouble(world, who),
            Phase::Epoch(epoch) => epoch.step = Step::Ending,
            Phase::Taking(taking) => taking.step = TakingStep::StartEnding,
            Phase::Idle => panic!("nothing to commit"),
        }
        let permit = CommitPermit::after_compare(tasks.into(), matched.into()).expect("compared before");
        world.kafka.send_end(who, permit);
    }

    /// The broker says that the transaction is committed.
    pub fn ended(&self, world: &mut World, who: Who) {
        match &mut world.workers[who].phase {
            Phase::Epoch(epoch) => epoch.step = Step::StateDue,
            Phase::Taking(taking) => {
                // What the group holds now is read before the row is marked, under the fence.
                (taking.row, taking.step) = (None, TakingStep::Again);
                self.recycle_doubtful(world, who);
            }
            Phase::Idle => panic!("nobody waits"),
        }
    }

    /// A copy that is still on its way must not meet the next transaction.
    fn recycle_doubtful(&self, world: &mut World, who: Who) {
        if world.workers[who].in_doubt && !self.rules.has(Fault::DoubtfulProducerKept) {
            world.new_producer(who);
        }
    }

    pub fn write_state(&self, world: &mut World, who: Who) {
        let worker = &mut world.workers[who];
        let epoch = worker.epoch_mut();
        let done: Vec<(Part, Pos)> = epoch.attempt().map(|(part, share)| (part, share.to)).collect();
        for (part, to) in done {
            worker.epoch_mut().shares[part] = None;
            worker.done(part, to);
        }
        self.recycle_doubtful(world, who);
        self.go_on(world, who);
    }

    fn go_on(&self, world: &mut World, who: Who) {
        let worker = &mut world.workers[who];
        let epoch = worker.epoch_mut();
        if epoch.shares == PerPartition::default() {
            worker.phase = Phase::Idle;
        } else {
            epoch.step = Step::Sealed;
        }
    }

    /// Nothing is known: the one path of recovery begins.
    pub fn trouble(&self, world: &mut World, who: Who) {
        let ending = world.workers[who].is_ending();
        match &mut world.workers[who].phase {
            Phase::Taking(_) => self.start_failed(world, who),
            Phase::Epoch(epoch) => {
                epoch.step = Step::Recycle;
                if ending && self.rules.has(Fault::CommitRetriedBlindly) {
                    let remaining = epoch.remaining();
                    for share in epoch.shares.0.iter_mut().flatten().filter(|s| s.remaining == remaining) {
                        share.remaining = Remaining::Outputs;
                    }
                    epoch.step = Step::Sealed;
                    world.new_producer(who);
                }
            }
            Phase::Idle => panic!("nothing was under way"),
        }
    }

    pub fn recycle(&self, world: &mut World, who: Who) {
        let current = world.workers[who].producer == Producer::Current;
        if current && self.rules.has(Fault::ProducerNotRecycled) {
            world.kafka.abort(who);
        } else if self.rules.kafka_outputs {
            world.new_producer(who);
        }
        world.workers[who].epoch_mut().step = Step::LockRows;
    }

    pub fn lock_rows(&self, world: &mut World, who: Who) {
        let epoch = world.workers[who].epoch_mut();
        let mut read = PerPartition::default();
        for (part, _) in epoch.shares.present() {
            read[part] = world.postgres.rows[part].as_ref().map(|row| (row.owner, row.next));
        }
        epoch.step = Step::RowsRead(read);
    }

    pub fn resume(&self, world: &mut World, who: Who) {
        let Epoch { shares, step } = world.workers[who].epoch_mut().clone();
        let Step::RowsRead(rows) = step else { panic!("the rows come first") };
        for (part, share) in shares.present() {
            let (owner, next) = rows[part].expect("the row of a task that was taken");
            let group = if self.rules.kafka_outputs { world.kafka.group[part] } else { None };
            let attempt = Attempt { mine: share.mine.into(), from: share.from.into(), to: share.to.into() };
            let witness =
                Witness { owner_epoch: owner.into(), next: next.into(), group: group.map(Into::into) };
            let decision = resume(attempt, witness, self.rules.kafka_outputs);
            self.carry_out(world, who, (part, share), decision);
        }
        self.go_on(world, who);
    }

    fn carry_out(&self, world: &mut World, who: Who, (part, share): (Part, &Share), decision: Resume) {
        let worker = &mut world.workers[who];
        let open = &mut worker.epoch_mut().shares[part];
        let again = |remaining| Some(Share { remaining, ..share.clone() });
        match decision {
            Resume::WholeEpoch => {
                self.coverage.note(Arm::WholeEpoch);
                *open = again(Remaining::Everything);
            }
            Resume::OutputsOnly => {
                self.coverage.note(Arm::OutputsOnly);
                *open = again(Remaining::Outputs);
            }
            Resume::Done if self.rules.has(Fault::OutputsAgain) => *open = again(Remaining::Outputs),
            Resume::Done => {
                self.coverage.note(Arm::Done);
                *open = None;
                worker.done(part, share.to);
            }
            Resume::Fenced if self.rules.has(Fault::FencedTaskKept) => *open = again(Remaining::Everything),
            Resume::Fenced => {
                self.coverage.note(Arm::Fenced);
                *open = None;
                worker.tasks[part] = None;
            }
            Resume::Refuse(refusal) => {
                *open = None;
                worker.tasks[part] = None;
                let mine = world.postgres.rows[part].as_ref().map(|row| row.owner) == Some(share.mine);
                if mine || self.rules.has(Fault::StaleResumeRefuses) {
                    world.refused = Some(refusal.code);
                } else {
                    self.coverage.note(Arm::StaleResume);
                }
            }
        }
    }

    pub fn settle(&self, world: &mut World, part: Part) {
        world.postgres.rows[part].as_mut().expect("a row in step").settled = true;
    }
}

fn permitted(tasks: usize) -> Step {
    let tasks = u8::try_from(tasks).expect("a few tasks");
    Step::Permitted { tasks, matched: tasks }
}
