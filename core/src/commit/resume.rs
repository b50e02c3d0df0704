//! How an epoch ends whose outcome is unknown.

use crate::model::{Offset, OwnerEpoch};

use super::{Refusal, RefusalCode};

/// The epoch `[from, to)` of one task that was under way. An empty one has ticks alone, and PostgreSQL holds its offset
/// already: whatever became of it, they are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub mine: OwnerEpoch,
    pub from: Offset,
    pub to: Offset,
}

/// What was read under the fence: the progress row for update, then the stable group offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    pub owner_epoch: OwnerEpoch,
    pub next: Offset,
    /// `None`: the group holds none. Without Kafka outputs it is not consulted.
    pub group: Option<Offset>,
}

/// What to do about the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Somebody else owns the task.
    Fenced,
    /// Nothing became visible: run the whole epoch again.
    WholeEpoch,
    /// PostgreSQL has it, Kafka has not: produce the outputs again.
    OutputsOnly,
    /// Both have it: go on to the state write.
    Done,
    Refuse(Refusal),
}

/// Decides from the witness. A refusal must be confirmed by reading the owner epoch once more: a stale reader must
/// not refuse what it no longer owns.
pub fn resume(attempt: Attempt, witness: Witness, kafka_outputs: bool) -> Resume {
    let Attempt { mine, from, to } = attempt;
    assert!(from <= to, "an epoch does not go back");
    if witness.owner_epoch != mine {
        return Resume::Fenced;
    }
    if witness.next != from && witness.next != to {
        let detail = format!("the progress row stands at {}, the epoch was [{from}, {to})", witness.next);
        return Resume::Refuse(Refusal::new(RefusalCode::PgWentBack, detail));
    }
    let decided = witness.next == to;
    if !kafka_outputs {
        return if decided { Resume::Done } else { Resume::WholeEpoch };
    }
    match witness.group {
        Some(k) if k == from && decided => Resume::OutputsOnly,
        Some(k) if k == from => Resume::WholeEpoch,
        Some(k) if k == to && decided => Resume::Done,
        Some(k) if k > witness.next => {
            let detail = format!("the group stands at {k}, PostgreSQL at {}", witness.next);
            Resume::Refuse(Refusal::new(RefusalCode::PgWentBack, detail))
        }
        Some(k) => {
            let detail = format!("the group stands at {k}, the epoch was [{from}, {to})");
            Resume::Refuse(Refusal::new(RefusalCode::GroupOffsetReset, detail))
        }
        None => {
            let detail = format!("the group holds no offset during the epoch [{from}, {to})");
            Resume::Refuse(Refusal::new(RefusalCode::GroupOffsetMissing, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(owner: i64, next: i64, group: Option<i64>, kafka: bool) -> String {
        check_epoch((10, 20), owner, next, group, kafka)
    }

    fn check_epoch((from, to): (i64, i64), owner: i64, next: i64, group: Option<i64>, kafka: bool) -> String {
        let attempt = Attempt { mine: OwnerEpoch(7), from: Offset(from), to: Offset(to) };
        let witness =
            Witness { owner_epoch: OwnerEpoch(owner), next: Offset(next), group: group.map(Offset) };
        match resume(attempt, witness, kafka) {
            Resume::Refuse(refusal) => refusal.code.name().to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_arm() {
        let rows: [(i64, i64, Option<i64>, bool, &str); 12] = [
            (8, 20, Some(20), true, "Fenced"),
            (8, 35, None, false, "Fenced"),
            (7, 10, Some(10), true, "WholeEpoch"),
            (7, 20, Some(10), true, "OutputsOnly"),
            (7, 20, Some(20), true, "Done"),
            (7, 10, Some(20), true, "PG_WENT_BACK"),
            (7, 15, Some(10), true, "PG_WENT_BACK"),
            (7, 20, Some(5), true, "GROUP_OFFSET_RESET"),
            (7, 10, Some(5), true, "GROUP_OFFSET_RESET"),
            (7, 20, None, true, "GROUP_OFFSET_MISSING"),
            (7, 10, None, false, "WholeEpoch"),
            (7, 20, None, false, "Done"),
        ];
        for (owner, next, group, kafka, expect) in rows {
            assert_eq!(check(owner, next, group, kafka), expect, "owner {owner} next {next} group {group:?}");
        }
    }

    /// Of ticks alone. Nobody can tell whether it was committed, and to say a tick twice is no harm.
    #[test]
    fn epoch_without_records_is_said_again() {
        let rows: [(i64, i64, Option<i64>, &str); 5] = [
            (8, 10, Some(10), "Fenced"),
            (7, 10, Some(10), "OutputsOnly"),
            (7, 12, Some(10), "PG_WENT_BACK"),
            (7, 10, Some(12), "PG_WENT_BACK"),
            (7, 10, Some(8), "GROUP_OFFSET_RESET"),
        ];
        for (owner, next, group, expect) in rows {
            let found = check_epoch((10, 10), owner, next, group, true);
            assert_eq!(found, expect, "owner {owner} next {next} group {group:?}");
        }
    }
}
