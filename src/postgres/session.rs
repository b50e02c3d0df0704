//! One connection and its settings.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::Duration;

use millstream_core::model::{EventTime, OwnerEpoch, TopicPartition};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Statement};

use super::columns::SqlTime;
use super::progress::Backend;
use super::{PostgresError, Target, tls};

/// Longest wait for a session to be ready, all addresses and the login included.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for a reply. Above `statement_timeout`, so that a live server speaks first; it catches a server
/// that is frozen or cut off.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why: the time-outs stay below the Kafka transaction's (10 s), so a stopped owner's locks go first. Read
/// committed is what makes `FOR UPDATE` wait and return the new row. The shapes of our statements are fixed, so
/// one generic plan serves them, and compiling them would cost more than running them.
const SETTINGS: &str = "set_config('idle_in_transaction_session_timeout', '5s', false),
    set_config('statement_timeout', '8s', false), set_config('lock_timeout', '5s', false),
    set_config('TimeZone', 'UTC', false), set_config('default_transaction_isolation', 'read committed', false),
    set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false),
    set_config('synchronous_commit', case current_setting('synchronous_commit')
        when 'remote_apply' then 'remote_apply' else 'on' end, false)";

/// Why: `"$user"` leads the default search path, and for a role named millstream it would put result tables into
/// the schema that is ours.
pub(super) const SEARCH_PATH: &str = r#"set_config('search_path', case current_user when 'millstream'
    then regexp_replace(current_setting('search_path'), '"\$user"(, *)?', '') else current_setting('search_path') end, false)"#;

/// What the server shows of a session's name: more bytes it would cut, with a notice at each login.
const NAME_BYTES: usize = 63;

const IDENTITY: &str = "select pid, backend_start, current_setting('server_encoding') encoding,
    current_setting('synchronous_commit') synchronous_commit
    from pg_stat_activity where pid = pg_backend_pid()";

/// One connection of one worker. Its futures must run on the runtime that `connect` ran on.
pub struct Session {
    pub(super) client: Client,
    pub(super) backend: Backend,
    /// Tasks in whose progress rows this backend stands recorded.
    pub(super) recorded: HashSet<(TopicPartition, OwnerEpoch)>,
    /// Per aggregate, the start of the windows before which nothing stands behind rows any more.
    pub(super) swept: HashMap<String, EventTime>,
    driver: JoinHandle<()>,
    statements: HashMap<String, Statement>,
    broken: bool,
}

impl Session {
    /// Connects to a server that can write and sets the session up.
    pub async fn connect(target: &Target, application_name: &str) -> Result<Session, PostgresError> {
        let login = Session::login(target, application_name);
        match tokio::time::timeout(LOGIN_TIMEOUT, login).await {
            Ok(session) => session,
            Err(_) => Err(PostgresError::Unavailable {
                context: target.to_string(),
                cause: format!("no session within {} s", LOGIN_TIMEOUT.as_secs()),
            }),
        }
    }

    async fn login(target: &Target, application_name: &str) -> Result<Session, PostgresError> {
        let name = target.to_string();
        let mut config = target.config.clone();
        config.application_name(&application_name[..application_name.floor_char_boundary(NAME_BYTES)]);
        let connector = tls::connector(&target.verify)?;
        let (client, connection) =
            config.connect(connector).await.map_err(|error| PostgresError::connect(&name, &error))?;
        let driver = tokio::spawn(async move {
            // Why: a lost connection is reported by the statement that meets it.
            let _ = connection.await;
        });
        let failed = |error| PostgresError::statement(&name, &error);
        let settings = format!("select {SETTINGS}, {SEARCH_PATH}");
        client.query_one(&settings, &[]).await.map_err(failed)?;
        let row = client.query_one(IDENTITY, &[]).await.map_err(failed)?;
        let encoding: String = row.get("encoding");
        if encoding != "UTF8" {
            return Err(PostgresError::Settings(format!("{name} has encoding {encoding}; it must be UTF8")));
        }
        let synchronous: String = row.get("synchronous_commit");
        if synchronous == "off" {
            return Err(PostgresError::Settings(format!("{name} does not let synchronous_commit be on")));
        }
        let backend = Backend { pid: row.get("pid"), start: row.get::<_, SqlTime>("backend_start").0 };
        Ok(Session {
            client,
            backend,
            recorded: HashSet::new(),
            driver,
            swept: HashMap::new(),
            statements: HashMap::new(),
            broken: false,
        })
    }

    /// The server process behind this session.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Whether the connection is lost, or a reply is missing; connect again then.
    pub fn is_broken(&self) -> bool {
        self.broken || self.client.is_closed()
    }

    /// Remembers from a result whether the session can go on.
    pub(super) fn note<T>(&mut self, result: Result<T, PostgresError>) -> Result<T, PostgresError> {
        if let Err(PostgresError::Unavailable { .. } | PostgresError::CommitUnknown { .. }) = &result {
            self.broken = true;
        }
        result
    }

    /// The statement for a text, prepared once per session.
    pub(super) async fn prepared(&mut self, context: &str, sql: &str) -> Result<Statement, PostgresError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = bounded(context, self.client.prepare(sql)).await?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl Drop for Session {
    /// Closes the socket, so that the server rolls back what is open and frees its locks.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Runs a statement, waiting for its reply no longer than `REPLY_TIMEOUT`; classes its failure.
pub(super) async fn bounded<T>(
    context: &str,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, PostgresError> {
    match tokio::time::timeout(REPLY_TIMEOUT, statement).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(PostgresError::statement(context, &error)),
        Err(_) => Err(PostgresError::Unavailable { context: context.to_owned(), cause: no_reply() }),
    }
}

/// Commits. Whatever is not a definite answer is `CommitUnknown`.
pub(super) async fn commit(transaction: tokio_postgres::Transaction<'_>) -> Result<(), PostgresError> {
    match tokio::time::timeout(REPLY_TIMEOUT, transaction.commit()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(PostgresError::commit(&error)),
        Err(_) => Err(PostgresError::CommitUnknown { cause: no_reply() }),
    }
}

fn no_reply() -> String {
    format!("no reply within {} s", REPLY_TIMEOUT.as_secs())
}
