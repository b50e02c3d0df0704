//! Faults on purpose, to prove that the referee notices them. Compiled only with the feature `fault`.

use tokio_postgres::Transaction;

use super::PostgresError;
use super::session::bounded;

/// Which parts of the protocol an epoch keeps; the default keeps all.
#[derive(Clone, Copy, Debug)]
pub struct Deliberate {
    /// False: neither owner epoch nor offset is compared.
    pub compare: bool,
    /// False: the owner epoch is not compared.
    pub compare_owner: bool,
    /// False: the offset is not compared.
    pub compare_next: bool,
    /// False: result rows are committed apart from the offsets, after them.
    pub one_transaction: bool,
    /// False: dead letters are committed apart, after everything else.
    pub dead_letters_inside: bool,
}

impl Default for Deliberate {
    fn default() -> Deliberate {
        Deliberate {
            compare: true,
            compare_owner: true,
            compare_next: true,
            one_transaction: true,
            dead_letters_inside: true,
        }
    }
}

pub(super) fn progress_sql(sql: &str, deliberate: &Deliberate) -> String {
    const OWNER: &str = "AND p.owner_epoch = u.owner_epoch";
    const NEXT: &str = "AND p.next = u.prev";
    let mut sql = sql.to_owned();
    for (kept, compare) in [
        (deliberate.compare && deliberate.compare_owner, OWNER),
        (deliberate.compare && deliberate.compare_next, NEXT),
    ] {
        assert!(sql.contains(compare), "{compare} is not in the statement");
        if !kept {
            sql = sql.replace(compare, "");
        }
    }
    sql
}

pub(super) async fn after_progress(
    transaction: &Transaction<'_>,
    deliberate: &Deliberate,
) -> Result<(), PostgresError> {
    split(transaction, deliberate.one_transaction).await
}

pub(super) async fn before_dead_letters(
    transaction: &Transaction<'_>,
    deliberate: &Deliberate,
) -> Result<(), PostgresError> {
    split(transaction, deliberate.dead_letters_inside).await
}

async fn split(transaction: &Transaction<'_>, whole: bool) -> Result<(), PostgresError> {
    match whole {
        true => Ok(()),
        false => bounded("deliberate fault", transaction.batch_execute("COMMIT; BEGIN")).await,
    }
}
