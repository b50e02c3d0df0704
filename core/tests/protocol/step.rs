//! Carries an action out.

use super::action::Action;
use super::rules::Protocol;
use super::world::{Part, PerPartition, Who, World};

impl Protocol {
    pub fn step(&self, world: &mut World, action: Action) {
        use Action::*;
        match action {
            Fence(who, part) => self.fence(world, who, part),
            ReadGroupFirst(who, part) => self.read_group_first(world, who, part),
            InitProducer(who) => world.new_producer(who),
            ReadGroup(who) => self.read_group(world, who),
            InsertRow(who) => self.insert_row(world, who),
            SendStart(who) => self.send_start(world, who),
            CheckStart(who) => self.check_start(world, who),
            MarkBootstrapped(who) => self.mark_bootstrapped(world, who),
            Process(who, ends) => self.process(world, who, ends),
            ProcessAgain(who, part) => self.process_again(world, who, part),
            Produce(who) => self.produce(world, who),
            SendOffsets(who) => self.send_offsets(world, who),
            Compare(who) => self.compare(world, who),
            SendEnd(who) => self.send_end(world, who),
            WriteState(who) => self.write_state(world, who),
            Settle(_, part) => self.settle(world, part),
            Recycle(who) => self.recycle(world, who),
            LockRows(who) => self.lock_rows(world, who),
            Resume(who) => self.resume(world, who),
            PostgresCommits(transaction) => self.postgres_commits(world, transaction),
            PostgresRollsBack(transaction) => self.postgres_rolls_back(world, transaction),
            EndArrives(who) => self.end_arrives(world, who),
            EndRefused(who) => self.trouble(world, who),
            LateOffsetsArrive(who) => late_offsets_arrive(world, who),
            TransactionTimesOut(who) => world.fence_producer(who),
            mishap => self.mishap(world, mishap),
        }
        world.renumber();
    }

    fn mishap(&self, world: &mut World, action: Action) {
        use Action::*;
        match action {
            Crash(_) | TakeOver(..) => world.left.incidents -= 1,
            GroupForgotten => world.left.forgotten -= 1,
            _ => world.left.messages -= 1,
        }
        match action {
            Crash(who) => {
                world.workers[who].crash();
                world.postgres.disconnect(who);
            }
            TakeOver(who, part) => {
                // The server process that holds the row is ended; a COMMIT that came first is a step of its own.
                if let Some(lock) = &world.postgres.locks[part] {
                    let transaction = lock.transaction;
                    self.postgres_rolls_back(world, transaction);
                }
                self.fence(world, who, part);
            }
            CommitReplyLost(transaction) => {
                if let Some(client) = world.postgres.end(transaction, Some(self.rules.settled())) {
                    self.decision_unknown(world, client);
                }
            }
            ConnectionLost(who) => {
                world.postgres.disconnect(who);
                self.decision_unknown(world, who);
            }
            OffsetsLate(who) => self.offsets_late(world, who),
            OffsetsCopied(who) => self.offsets_copied(world, who),
            EndReplyLost(who) => {
                world.kafka.transactions[who].ending = false;
                world.kafka.commit(who);
                self.trouble(world, who);
            }
            EndLate(who) => self.trouble(world, who),
            EndCopied(who) => {
                world.kafka.commit(who);
                world.workers[who].in_doubt = true;
                self.ended(world, who);
            }
            GroupForgotten => world.kafka.group = PerPartition::default(),
            step => panic!("{step:?} is no mishap"),
        }
    }

    fn postgres_commits(&self, world: &mut World, transaction: Part) {
        if let Some(client) = world.postgres.end(transaction, Some(self.rules.settled())) {
            self.decided(world, client);
        }
    }

    fn postgres_rolls_back(&self, world: &mut World, transaction: Part) {
        if let Some(client) = world.postgres.end(transaction, None) {
            self.trouble(world, client);
        }
    }

    fn end_arrives(&self, world: &mut World, who: Who) {
        let transaction = &mut world.kafka.transactions[who];
        transaction.ending = false;
        if transaction.open {
            world.kafka.commit(who);
            if world.workers[who].is_ending() {
                self.ended(world, who);
            }
        }
    }
}

/// Outside a transaction the coordinator refuses them.
fn late_offsets_arrive(world: &mut World, who: Who) {
    let late = world.kafka.transactions[who].late_offsets.take();
    if let (Some(offsets), true) = (late, world.kafka.transactions[who].open) {
        world.kafka.add_offsets(who, &offsets);
    }
}
