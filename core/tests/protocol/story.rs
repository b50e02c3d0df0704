//! A path through the model in words.

use std::fmt::{self, Display};

use super::action::Action;
use super::worker::{Phase, Worker};
use super::world::{Part, PerPartition, Pos, Who, World};

/// One numbered line a step: what happened, and where P, K, the reader and the disks stand after it.
pub fn story(path: &[(World, Option<Action>)]) -> String {
    let mut lines = String::new();
    for (number, ((before, action), (after, _))) in path.iter().zip(path.iter().skip(1)).enumerate() {
        let action = action.as_ref().expect("all but the last world have an action");
        let changes = changes(before, after);
        lines.push_str(&format!("  {:2}. {}{changes}\n", number + 1, Told(before, *action)));
    }
    lines
}

struct Told<'w>(&'w World, Action);

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Action::*;
        let Told(world, action) = self;
        match *action {
            Fence(who, part) => write!(f, "{who} takes {part}: the fence moves on"),
            TakeOver(who, part) => {
                write!(f, "{part} is moved: {who} takes it, and its owner has not heard of that")
            }
            ReadGroupFirst(who, part) => write!(f, "{who} reads K of {part}, before any fence"),
            InitProducer(who) => write!(f, "{who} initialises a producer"),
            ReadGroup(who) => write!(f, "{who} reads K and its disk, and decides how to start"),
            InsertRow(who) => write!(f, "{who} inserts the row of a partition never seen before"),
            SendStart(who) => write!(f, "{who} adds the start to a Kafka transaction"),
            CheckStart(who) => write!(f, "{who} checks that it still owns the row"),
            MarkBootstrapped(who) => write!(f, "{who} marks the row as bootstrapped"),
            Process(who, ends) => {
                write!(f, "{who} processes and produces {}", Epoch(&world.workers[who], ends))
            }
            ProcessAgain(who, part) => write!(f, "{who} produces again what {part} lacks in outputs"),
            Produce(who) => write!(f, "{who} produces the epoch again"),
            SendOffsets(who) => write!(f, "{who} adds the offsets to its Kafka transaction"),
            Compare(who) => write!(f, "{who} compares the rows in PostgreSQL"),
            SendEnd(who) => write!(f, "{who} asks Kafka to commit"),
            WriteState(who) => write!(f, "{who} writes its local state"),
            Settle(who, part) => write!(f, "{who} says that {part} is settled"),
            Recycle(who) => write!(f, "{who} recovers: its producer first"),
            LockRows(who) => write!(f, "{who} reads the rows for update"),
            Resume(who) => write!(f, "{who} reads K, and decides how to go on"),
            PostgresCommits(_) => f.write_str("PostgreSQL commits"),
            PostgresRollsBack(_) => f.write_str("PostgreSQL rolls the transaction of a lost client back"),
            EndArrives(who) => write!(f, "{who}'s request to commit reaches Kafka"),
            EndRefused(who) => write!(f, "Kafka refuses {who}'s request to commit"),
            LateOffsetsArrive(who) => write!(f, "a late copy of {who}'s offsets reaches Kafka"),
            TransactionTimesOut(who) => write!(f, "Kafka times {who}'s transaction out"),
            Crash(who) => write!(f, "{who} dies and is started again"),
            CommitReplyLost(_) => f.write_str("PostgreSQL commits, and its reply is lost"),
            ConnectionLost(who) => write!(f, "{who} loses its connection while PostgreSQL commits"),
            OffsetsLate(who) => write!(f, "{who}'s offsets are late: it gives up waiting"),
            OffsetsCopied(who) => {
                write!(f, "{who} adds the offsets to its Kafka transaction; a copy is still on its way")
            }
            EndReplyLost(who) => write!(f, "Kafka commits, and its reply to {who} is lost"),
            EndLate(who) => write!(f, "{who}'s request to commit is late: it gives up waiting"),
            EndCopied(who) => write!(f, "Kafka commits for {who}; a copy of the request is still on its way"),
            GroupForgotten => f.write_str("the group was away for long: the broker forgets its offsets"),
        }
    }
}

/// The tasks of an epoch with their records.
struct Epoch<'w>(&'w Worker, PerPartition<Option<Pos>>);

impl Display for Epoch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Epoch(worker, ends) = self;
        for (count, (part, end)) in ends.present().enumerate() {
            let from = worker.tasks[part].expect("a live task").at;
            let and = if count == 0 { "" } else { " and " };
            write!(f, "{and}[{from}, {end}) of {part}")?;
        }
        Ok(())
    }
}

/// What a step has changed for others to see.
fn changes(before: &World, after: &World) -> String {
    let mut changes = Vec::new();
    for part in Part::all() {
        let rows = |world: &World| world.postgres.rows[part].as_ref().map(|row| row.next);
        let group = |world: &World| world.kafka.group[part];
        let seen = |world: &World| Some(world.kafka.outputs[part].visible);
        for (name, old, new) in [
            ("P", rows(before), rows(after)),
            ("K", group(before), group(after)),
            ("the reader", seen(before), seen(after)),
        ] {
            if let (true, Some(new)) = (old != new, new) {
                changes.push(format!("{name} of {part} = {new}"));
            }
        }
        for who in Who::all() {
            let (old, new) = (before.workers[who].state[part], after.workers[who].state[part]);
            if let (true, Some(new)) = (old != new, new) {
                changes.push(format!("R of {part} at {who} = {new}"));
            }
            if before.workers[who].tasks[part].is_some()
                && after.workers[who].tasks[part].is_none()
                && matches!(before.workers[who].phase, Phase::Epoch(_))
                && after.refused.is_none()
                && before.left.incidents == after.left.incidents
            {
                changes.push(format!("{who} is fenced from {part}"));
            }
        }
    }
    if before.postgres.flaw != after.postgres.flaw {
        changes.push("ROWS WRITTEN AT THE WRONG PLACE".into());
    }
    if before.kafka.flaw != after.kafka.flaw {
        let flaw = after.kafka.flaw.expect("flaws stay");
        changes.push(format!("THE READER SEES RECORDS {flaw:?}").to_uppercase());
    }
    if let Some(code) = after.refused {
        changes.push(format!("REFUSED: {code}"));
    }
    if changes.is_empty() { String::new() } else { format!("   -> {}", changes.join("; ")) }
}

impl Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["A", "B"][usize::from(self.0)])
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

impl Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
