//! Taking a task: a producer, the fence, what the participants hold; and `commit::take` decides.

use millstream_core::commit::{CommitPermit, Local, Observed, Progress, Take, TaskStart, take};

use super::fault::Fault;
use super::postgres::Row;
use super::rules::{Arm, Protocol};
use super::worker::{Phase, Producer, Taking, TakingStep, Task};
use super::world::{Part, PerPartition, Pos, Who, World};

const TOPIC: &str = "t";
const PLAN: u64 = 1;

impl Protocol {
    pub fn read_group_first(&self, world: &mut World, who: Who, part: Part) {
        let step = TakingStep::GroupRead(world.kafka.group[part]);
        world.workers[who].phase = Phase::Taking(Taking { part, row: None, step });
    }

    pub fn fence(&self, world: &mut World, who: Who, part: Part) {
        let before = match &world.workers[who].phase {
            Phase::Taking(Taking { step: TakingStep::GroupRead(group), .. }) => Some(*group),
            _ => None,
        };
        let row = world.postgres.take(part);
        world.workers[who].phase = Phase::Taking(Taking { part, row, step: TakingStep::Fenced });
        if let Some(group) = before {
            self.decide(world, who, group);
        }
    }

    pub fn read_group(&self, world: &mut World, who: Who) {
        let part = world.workers[who].taking_mut().part;
        let group = world.kafka.group[part];
        self.decide(world, who, group);
    }

    fn decide(&self, world: &mut World, who: Who, group: Option<Pos>) {
        let worker = &mut world.workers[who];
        let Taking { part, row, .. } = worker.taking_mut().clone();
        let facts = self.observed(row.as_ref(), group, worker.state[part]);
        let taking = worker.taking_mut();
        match take(&facts) {
            Take::Bootstrap => {
                self.coverage.note(Arm::Bootstrap);
                taking.step = TakingStep::InsertDue;
            }
            Take::FinishBootstrap { start } => {
                let known = row.is_some_and(|row| row.bootstrapped);
                self.coverage.note(if known { Arm::GroupRestored } else { Arm::FinishBootstrap });
                let start = Pos::from(start);
                let stands = !self.rules.kafka_outputs || group == Some(start);
                taking.step = if stands { TakingStep::MarkDue } else { TakingStep::StartDue(start) };
            }
            Take::Start(start) => {
                let row = row.expect("a task starts from its row");
                self.note_start(&row, start);
                self.start(world, who, (part, row), start);
            }
            Take::Refuse(refusal) => {
                let owner = world.postgres.rows[part].as_ref().map(|row| row.owner);
                let mine = owner == row.map(|row| row.owner);
                world.workers[who].phase = Phase::Idle;
                if mine || self.rules.has(Fault::StaleTakeRefuses) {
                    world.refused = Some(refusal.code);
                } else {
                    self.coverage.note(Arm::StaleTake);
                }
            }
        }
    }

    fn observed(&self, row: Option<&Row>, group: Option<Pos>, local: Option<Pos>) -> Observed {
        Observed {
            progress: row.map(|row| Progress {
                bootstrapped: row.bootstrapped,
                start: Pos(0).into(),
                prev: row.prev.into(),
                next: row.next.into(),
                settled: row.settled,
                topic_id: TOPIC.into(),
                plan_hash: PLAN,
            }),
            group: group.map(Into::into),
            kafka_outputs: self.rules.kafka_outputs,
            local: local.map(|next| Local { next: next.into(), ours: true }),
            topic_id: TOPIC.into(),
            plan_hash: PLAN,
            low: Pos(0).into(),
            high: self.rules.end().into(),
        }
    }

    fn note_start(&self, row: &Row, start: TaskStart) {
        let arm = if start.outputs_from < start.rows_from {
            Arm::StartWithOutputsMissing
        } else if start.state_from < start.outputs_from {
            let from_start = start.state_from == Pos(0).into();
            if from_start && row.prev > Pos(0) { Arm::StartWithoutState } else { Arm::StartBehindOutputs }
        } else {
            Arm::StartLevel
        };
        self.coverage.note(arm);
    }

    /// Up to K only local state follows: that is done at once, since nobody else sees it.
    fn start(&self, world: &mut World, who: Who, (part, row): (Part, Row), start: TaskStart) {
        let worker = &mut world.workers[who];
        let rows_from = Pos::from(start.rows_from);
        let mut at = Pos::from(start.outputs_from);
        if self.rules.has(Fault::OutputsAgain) && at == rows_from {
            at = row.prev;
        }
        worker.state[part] = worker.state[part].max(Some(at));
        worker.tasks[part] = Some(Task { mine: row.owner, at, rows_from });
        worker.phase = Phase::Idle;
    }

    pub fn insert_row(&self, world: &mut World, who: Who) {
        let taking = world.workers[who].taking_mut();
        taking.step = TakingStep::Again;
        world.postgres.insert(taking.part);
    }

    /// Begins the transaction that commits the start to the group.
    pub fn send_start(&self, world: &mut World, who: Who) {
        let worker = &mut world.workers[who];
        if worker.producer != Producer::Current {
            return self.start_failed(world, who);
        }
        let taking = worker.taking_mut();
        let TakingStep::StartDue(start) = taking.step else { panic!("no start is due") };
        taking.step = TakingStep::StartSent;
        let mut offsets = PerPartition::default();
        offsets[taking.part] = Some(start);
        world.kafka.add_offsets(who, &offsets);
    }

    pub fn check_start(&self, world: &mut World, who: Who) {
        let taking = world.workers[who].taking_mut();
        let mine = taking.row.as_ref().map(|row| (row.owner, row.next));
        let theirs = world.postgres.rows[taking.part].as_ref().map(|row| (row.owner, row.next));
        match CommitPermit::after_compare(1, usize::from(mine == theirs)) {
            Some(_permit) => taking.step = TakingStep::StartPermitted,
            None => {
                self.coverage.note(Arm::PermitRefused);
                self.start_failed(world, who);
            }
        }
    }

    /// The producer is discarded; observing anew tells what came of it.
    pub fn start_failed(&self, world: &mut World, who: Who) {
        let worker = &mut world.workers[who];
        worker.producer = Producer::None;
        let taking = worker.taking_mut();
        (taking.row, taking.step) = (None, TakingStep::Again);
    }

    pub fn mark_bootstrapped(&self, world: &mut World, who: Who) {
        let taking = world.workers[who].taking_mut();
        let mine = taking.row.take().map(|row| row.owner);
        taking.step = TakingStep::Again;
        if let Some(row) = world.postgres.rows[taking.part].as_mut().filter(|row| Some(row.owner) == mine) {
            row.bootstrapped = true;
        }
    }
}
