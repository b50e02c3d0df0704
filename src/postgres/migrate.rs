//! The versioned schema `millstream`.
//!
//! Why: refinery embeds the files and gives version, name and checksum, but its runner would open a transaction of
//! its own per statement. Here the lock, the history and every change stand in one transaction.

use refinery::Migration;

use super::session::{SEARCH_PATH, bounded, commit};
use super::{Ddl, PostgresError, SCHEMA_LOCK, Session, quote};

mod embedded {
    refinery::embed_migrations!("src/postgres/migrations");
}

const CONTEXT: &str = "schema millstream";

/// The history, in refinery's format.
const HISTORY: &str = "CREATE TABLE IF NOT EXISTS millstream.migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_on text NOT NULL,
    checksum text NOT NULL
)";

impl Session {
    /// Brings schema `millstream` to the version this program knows. A newer one, or one changed by hand, is
    /// refused. With `CheckOnly` a missing version is an error. Two sessions may do this at once.
    pub async fn migrate(&mut self, ddl: Ddl) -> Result<(), PostgresError> {
        let result = self.migrate_inner(ddl).await;
        self.note(result).map_err(PostgresError::of_repeatable)
    }

    async fn migrate_inner(&mut self, ddl: Ddl) -> Result<(), PostgresError> {
        let known = known();
        let missing = missing(&known, &applied(&self.client).await?)?;
        let Some(first) = missing.first() else {
            return Ok(());
        };
        if ddl == Ddl::CheckOnly {
            return Err(PostgresError::SchemaMissing { version: first.version() });
        }
        let transaction = bounded(CONTEXT, self.client.transaction()).await?;
        // Order: settings, lock, look again, then change: whoever waited for the lock finds the work done.
        let lock = format!(
            "SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '300s';
             SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"
        );
        let failed = |error| PostgresError::statement(CONTEXT, &error);
        transaction.batch_execute(&lock).await.map_err(failed)?;
        let applied = applied(&transaction).await?;
        if applied.is_empty() {
            let absent = "SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'millstream')";
            if transaction.query_one(absent, &[]).await.map_err(failed)?.get(0) {
                transaction.batch_execute("CREATE SCHEMA millstream").await.map_err(failed)?;
            }
            transaction.batch_execute(HISTORY).await.map_err(failed)?;
        }
        for migration in self::missing(&known, &applied)? {
            transaction.batch_execute(migration.sql().unwrap_or_default()).await.map_err(failed)?;
            transaction.batch_execute(&history_row(migration)).await.map_err(failed)?;
        }
        commit(transaction).await
    }
}

/// Everything that makes an empty database's schema `millstream`, for `ddl_sql`.
pub(super) fn schema_sql() -> String {
    let path = SEARCH_PATH.replace("false)", "true)");
    let mut sql = format!("SELECT {path};\nCREATE SCHEMA IF NOT EXISTS millstream;\n{HISTORY};\n");
    for migration in known() {
        sql.push_str(&format!("\n-- version {}: {}\n", migration.version(), migration.name()));
        sql.push_str(migration.sql().unwrap_or_default());
        sql.push_str(&history_row(&migration));
        sql.push_str(";\n");
    }
    sql
}

/// A version that stands in the history.
struct Applied {
    version: i32,
    checksum: String,
}

fn known() -> Vec<Migration> {
    let mut known = embedded::migrations::runner().get_migrations().clone();
    known.sort_by_key(Migration::version);
    known
}

/// The history, in order; empty where there is none.
async fn applied(client: &impl tokio_postgres::GenericClient) -> Result<Vec<Applied>, PostgresError> {
    // Why: not to_regclass, which may answer from a cache that is older than the lock we hold.
    let there = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'millstream' AND c.relname = 'migrations')";
    let there: bool = bounded(CONTEXT, client.query_one(there, &[])).await?.get(0);
    if !there {
        return Ok(Vec::new());
    }
    let history = "SELECT version, checksum FROM millstream.migrations ORDER BY version";
    let rows = bounded(CONTEXT, client.query(history, &[])).await?;
    Ok(rows.iter().map(|row| Applied { version: row.get(0), checksum: row.get(1) }).collect())
}

/// What is still to be applied, in order.
fn missing<'m>(known: &'m [Migration], applied: &[Applied]) -> Result<Vec<&'m Migration>, PostgresError> {
    let latest = known.last().map_or(0, Migration::version);
    for row in applied {
        match known.iter().find(|m| m.version() == row.version) {
            None => return Err(PostgresError::SchemaNewer { found: row.version, known: latest }),
            Some(m) if m.checksum().to_string() != row.checksum => {
                return Err(PostgresError::SchemaDiverged { version: row.version });
            }
            Some(_) => {}
        }
    }
    Ok(known.iter().filter(|m| applied.iter().all(|row| row.version != m.version())).collect())
}

fn history_row(migration: &Migration) -> String {
    let format = r#"YYYY-MM-DD"T"HH24:MI:SS"Z""#;
    format!(
        "INSERT INTO millstream.migrations (version, name, applied_on, checksum)
         VALUES ({}, '{}', to_char(now() AT TIME ZONE 'UTC', '{format}'), '{}')",
        migration.version(),
        migration.name().replace('\'', "''"),
        migration.checksum()
    )
}

/// The dead-letter table of a name, made like the standard one.
pub(super) fn dead_letter_table_sql(name: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS millstream.{} (LIKE millstream.dead_letters INCLUDING ALL)",
        quote(name)
    )
}
