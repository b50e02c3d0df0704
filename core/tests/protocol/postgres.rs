//! PostgreSQL: progress rows, row locks, transactions whose end nobody has heard of yet.

use super::worker::Share;
use super::world::{Flaw, Owner, Part, PerPartition, Pos, Who};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Postgres {
    pub rows: PerPartition<Option<Row>>,
    pub locks: PerPartition<Option<Lock>>,
    pub flaw: Option<Flaw>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub bootstrapped: bool,
    pub owner: Owner,
    pub prev: Pos,
    pub next: Pos,
    pub settled: bool,
    /// Records below it stand in the result rows once; `Postgres::flaw` says if one ever did not.
    pub counted: Pos,
}

/// A row that an epoch has updated, from its UPDATE until the server has ended the transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lock {
    /// The transaction, named after the first partition it has locked.
    pub transaction: Part,
    pub client: Who,
    /// Whether the client is there to hear of the end.
    pub connected: bool,
    pub from: Pos,
    pub to: Pos,
}

/// What a statement compares.
#[derive(Clone, Copy)]
pub struct Compare {
    pub owner: bool,
    pub next: bool,
    /// The row stands at the end of the epoch, not at its beginning.
    pub decided: bool,
}

impl Postgres {
    pub fn insert(&mut self, part: Part) {
        self.rows[part].get_or_insert(Row {
            bootstrapped: false,
            owner: Owner(0),
            prev: Pos(0),
            next: Pos(0),
            settled: false,
            counted: Pos(0),
        });
    }

    /// The statement that fences: the owner epoch moves on, the row is returned.
    pub fn take(&mut self, part: Part) -> Option<Row> {
        let row = self.rows[part].as_mut()?;
        row.owner.0 += 1;
        Some(row.clone())
    }

    pub fn is_free<'s>(&self, mut shares: impl Iterator<Item = (Part, &'s Share)>) -> bool {
        shares.all(|(part, _)| self.locks[part].is_none())
    }

    /// Whether the row of a share carries what its owner believes.
    pub fn matches(&self, (part, share): (Part, &Share), compare: Compare) -> bool {
        self.rows[part].as_ref().is_some_and(|row| {
            let expected = if compare.decided { share.to } else { share.from };
            (!compare.next || row.next == expected) && (!compare.owner || row.owner == share.mine)
        })
    }

    /// The client has sent COMMIT: the rows stay locked until the server has done it or rolled back.
    pub fn commit_sent(&mut self, client: Who, shares: &[(Part, Share)]) {
        let transaction = shares.first().expect("a transaction has rows").0;
        for (part, Share { from, to, .. }) in shares {
            let (from, to) = (*from, *to);
            self.locks[*part] = Some(Lock { transaction, client, connected: true, from, to });
        }
    }

    /// Commits a transaction, its rows `settled` or not, or rolls it back; answers the client that waits for it.
    pub fn end(&mut self, transaction: Part, commit: Option<bool>) -> Option<Who> {
        let mut waiting = None;
        for part in Part::all() {
            let Some(lock) = self.locks[part].take_if(|lock| lock.transaction == transaction) else {
                continue;
            };
            if lock.connected {
                waiting = Some(lock.client);
            }
            let Some(settled) = commit else { continue };
            let row = self.rows[part].as_mut().expect("an epoch updates a row that is there");
            if lock.from != row.counted {
                self.flaw = Some(if lock.from < row.counted { Flaw::Twice } else { Flaw::Skipped });
            }
            row.counted = row.counted.max(lock.to);
            (row.prev, row.next, row.settled) = (row.next, lock.to, settled);
        }
        waiting
    }

    /// The client is gone or has given up; what it sent may still be carried out.
    pub fn disconnect(&mut self, client: Who) {
        for lock in self.locks.0.iter_mut().flatten().filter(|lock| lock.client == client) {
            lock.connected = false;
        }
    }
}
