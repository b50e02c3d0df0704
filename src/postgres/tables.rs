//! Who owns which output, and the tables behind them: made or checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::model::{DataType, Span};
use millstream_core::pipeline::{Column, Plan, ResultTable, Window};
use tokio_postgres::Transaction;

use super::error::{OutputConflict, TableFault};
use super::latest::{claim_latest, latest_view_sql};
use super::migrate::{dead_letter_table_sql, schema_sql};
use super::session::{bounded, commit};
use super::{PostgresError, SCHEMA_LOCK, Session, quote};

const STANDARD_DEAD_LETTERS: &str = "dead_letters";

/// What the log is: a cluster, and the number of partitions of each topic that is read.
#[derive(Clone, Debug)]
pub struct ClusterIdentity {
    pub cluster_id: String,
    pub partitions: BTreeMap<Arc<str>, i32>,
}

/// Whether tables may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ddl {
    Apply,
    /// `--no-ddl`: somebody else makes them.
    CheckOnly,
}

impl Session {
    /// Claims the application and its outputs, and makes or checks their tables: all of it, or nothing and every
    /// fault at once.
    pub async fn claim(&mut self, plan: &Plan, ids: &ClusterIdentity, ddl: Ddl) -> Result<(), PostgresError> {
        let result = self.claim_inner(plan, ids, ddl).await;
        self.note(result)
    }

    async fn claim_inner(
        &mut self,
        plan: &Plan,
        ids: &ClusterIdentity,
        ddl: Ddl,
    ) -> Result<(), PostgresError> {
        let transaction = bounded("claim", self.client.transaction()).await?;
        // Order: one claim at a time in a database, so two applications never both find a table unowned.
        bounded("claim", transaction.query("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK])).await?;
        claim_application(&transaction, plan, ids).await?;
        let mut faults = Vec::new();
        let mut conflicts = Vec::new();
        for name in topics(plan) {
            let name = format!("{}/{name}", ids.cluster_id);
            conflicts.extend(claim_output(&transaction, plan, "topic", &name).await?.err());
        }
        for (table, storage) in owned_tables(plan) {
            let found = find_table(&transaction, &table.name).await?;
            let owned = claim_output(&transaction, plan, "table", &found.qualified).await?;
            if owned == Ok(Claim::First) && found.exists && !is_empty(&transaction, &table.name).await? {
                conflicts.push(OutputConflict::NotEmpty { table: found.qualified.clone() });
            }
            conflicts.extend(owned.err());
            match (found.exists, ddl) {
                (true, _) => faults.extend(check_table(&transaction, table, &found.qualified).await?),
                (false, Ddl::Apply) => {
                    bounded(&table.name, transaction.batch_execute(&table_sql(table, storage))).await?;
                }
                (false, Ddl::CheckOnly) => {
                    faults.push(TableFault { table: found.qualified, fault: "does not exist".to_owned() });
                }
            }
        }
        for aggregate in &plan.aggregates {
            match claim_latest(&transaction, plan, aggregate, ddl).await? {
                Ok(found) => faults.extend(found),
                Err(conflict) => conflicts.push(conflict),
            }
        }
        faults.extend(claim_dead_letters(&transaction, plan, ddl).await?);
        if !conflicts.is_empty() {
            return Err(PostgresError::AppIdConflict(conflicts));
        }
        if !faults.is_empty() {
            return Err(PostgresError::Tables(faults));
        }
        record_aggregates(&transaction, plan, ids).await?;
        commit(transaction).await
    }
}

/// The SQL for a database administrator: schema, tables, and the privileges a running pipeline needs. To be run
/// by psql with `-v role=NAME`, in the schema where the result tables belong.
pub fn ddl_sql(plan: &Plan) -> String {
    let mut sql = String::from("BEGIN;\n");
    sql.push_str(&schema_sql());
    let dead_letters = plan.dead_letter_table.as_deref().unwrap_or(STANDARD_DEAD_LETTERS);
    if dead_letters != STANDARD_DEAD_LETTERS {
        sql.push_str(&format!("\n{};\n", dead_letter_table_sql(dead_letters)));
    }
    for (table, storage) in owned_tables(plan) {
        sql.push_str(&format!("\n{};\n", table_sql(table, storage)));
    }
    for aggregate in &plan.aggregates {
        if let Some(latest) = &aggregate.table.latest {
            sql.push_str(&format!("\n{};\n", latest_view_sql(aggregate, latest)));
        }
    }
    sql.push_str(&format!(
        "\nGRANT USAGE ON SCHEMA millstream TO :\"role\";
GRANT SELECT ON ALL TABLES IN SCHEMA millstream TO :\"role\";
GRANT INSERT, UPDATE ON millstream.application, millstream.outputs, millstream.progress, millstream.partials,
    millstream.aggregates, millstream.sketches, millstream.distinct_values, millstream.quantiles TO :\"role\";
GRANT DELETE ON millstream.aggregates, millstream.sketches, millstream.partials, millstream.distinct_values,
    millstream.quantiles TO :\"role\";
GRANT INSERT ON millstream.{} TO :\"role\";\n",
        quote(dead_letters)
    ));
    for aggregate in &plan.aggregates {
        let table = quote(&aggregate.table.name);
        let sessions = matches!(aggregate.window, Window::Session { .. });
        let remove = if sessions { ", DELETE" } else { "" };
        sql.push_str(&format!("GRANT SELECT, INSERT, UPDATE{remove} ON {table} TO :\"role\";\n"));
    }
    for output in &plan.record_tables {
        let table = quote(&output.table.name);
        sql.push_str(&format!("GRANT SELECT, INSERT ON {table} TO :\"role\";\n"));
    }
    sql.push_str("COMMIT;\n");
    sql
}

/// The tables that this pipeline writes, and how they are stored.
///
/// Why: a result row changes with every epoch of its window; room in its page keeps the change out of the index. Rows of
/// records never change.
fn owned_tables(plan: &Plan) -> impl Iterator<Item = (&ResultTable, &'static str)> {
    let results = plan.aggregates.iter().map(|aggregate| (&aggregate.table, " WITH (fillfactor = 70)"));
    results.chain(plan.record_tables.iter().map(|output| (&output.table, "")))
}

async fn claim_application(
    transaction: &Transaction<'_>,
    plan: &Plan,
    ids: &ClusterIdentity,
) -> Result<(), PostgresError> {
    let sql =
        "INSERT INTO millstream.application AS a (application, cluster_id, plan_hash) VALUES ($1, $2, $3)
         ON CONFLICT (application) DO UPDATE SET plan_hash = excluded.plan_hash RETURNING cluster_id";
    let plan_hash = plan.hash.cast_signed();
    let row = bounded(
        "millstream.application",
        transaction.query_one(sql, &[&&*plan.application, &ids.cluster_id, &plan_hash]),
    )
    .await?;
    let recorded: String = row.get(0);
    if recorded == ids.cluster_id {
        return Ok(());
    }
    Err(PostgresError::LogIdentityChanged {
        application: plan.application.to_string(),
        recorded,
        found: ids.cluster_id.clone(),
    })
}

/// The topics this pipeline writes.
fn topics(plan: &Plan) -> Vec<Arc<str>> {
    let records = plan.records.iter().map(|output| &output.topic);
    let dead = plan.sources.iter().filter_map(|source| source.dead_letter_topic.as_ref());
    let late = plan.sources.iter().filter_map(|source| source.late_topic.as_ref());
    let mut topics: Vec<Arc<str>> = records.chain(dead).chain(late).cloned().collect();
    topics.sort();
    topics.dedup();
    topics
}

/// Whether an output is taken for the first time or was this application's before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    First,
    Again,
}

pub(super) async fn claim_output(
    transaction: &Transaction<'_>,
    plan: &Plan,
    kind: &'static str,
    name: &str,
) -> Result<Result<Claim, OutputConflict>, PostgresError> {
    let context = "millstream.outputs";
    let insert = "INSERT INTO millstream.outputs (kind, name, application) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING";
    let first = bounded(context, transaction.execute(insert, &[&kind, &name, &&*plan.application])).await?;
    if first == 1 {
        return Ok(Ok(Claim::First));
    }
    let owner = "SELECT application FROM millstream.outputs WHERE kind = $1 AND name = $2";
    let owner: String = bounded(context, transaction.query_one(owner, &[&kind, &name])).await?.get(0);
    if owner == *plan.application {
        return Ok(Ok(Claim::Again));
    }
    Ok(Err(OutputConflict::Owned { kind, name: name.to_owned(), owner }))
}

/// A table as the search path finds it, or where it would be made.
pub(super) struct Found {
    /// `schema.table`
    pub qualified: String,
    pub exists: bool,
}

pub(super) async fn find_table(transaction: &Transaction<'_>, name: &str) -> Result<Found, PostgresError> {
    let sql = "SELECT coalesce(n.nspname, current_schema()) AS schema, c.oid IS NOT NULL AS there
         FROM (SELECT to_regclass($1) AS oid) AS wanted
         LEFT JOIN pg_class c ON c.oid = wanted.oid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace";
    let row = bounded(name, transaction.query_one(sql, &[&quote(name)])).await?;
    let Some(schema) = row.get::<_, Option<String>>("schema") else {
        return Err(PostgresError::Settings("search_path names no schema that exists".to_owned()));
    };
    if schema == "millstream" {
        let text = format!("table {name} would be one of schema millstream; give another search_path");
        return Err(PostgresError::Settings(text));
    }
    Ok(Found { qualified: format!("{schema}.{name}"), exists: row.get("there") })
}

async fn is_empty(transaction: &Transaction<'_>, name: &str) -> Result<bool, PostgresError> {
    let sql = format!("SELECT NOT EXISTS (SELECT FROM {})", quote(name));
    Ok(bounded(name, transaction.query_one(&sql, &[])).await?.get(0))
}

fn table_sql(table: &ResultTable, storage: &str) -> String {
    let mut lines: Vec<String> = table
        .columns
        .iter()
        .map(|column| {
            let null = if column.nullable { "" } else { " NOT NULL" };
            format!("    {} {}{null}", quote(&column.name), column.data_type.sql())
        })
        .collect();
    if !table.key.is_empty() {
        let key: Vec<String> = table.key.iter().map(|name| quote(name)).collect();
        lines.push(format!("    PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {} (\n{}\n){storage}", quote(&table.name), lines.join(",\n"))
}

/// One column of an existing table.
pub(super) struct Existing {
    pub name: String,
    data_type: String,
    not_null: bool,
    /// A default, an identity or a generated value: a row may leave the column out.
    filled: bool,
    generated: bool,
    in_key: bool,
    /// False for a collation in which different texts are equal.
    deterministic: bool,
}

/// Every way in which an existing table does not fit. Columns may stand in any order, and more of them may be
/// there if a row may leave them out; `timestamp` without zone is as good as with it and holds UTC.
async fn check_table(
    transaction: &Transaction<'_>,
    table: &ResultTable,
    qualified: &str,
) -> Result<Vec<TableFault>, PostgresError> {
    let existing = describe(transaction, &quote(&table.name)).await?;
    let mut faults = Vec::new();
    for column in &table.columns {
        match existing.iter().find(|e| e.name == *column.name) {
            None => faults.push(format!("column {} {} is missing", column.name, column.data_type.sql())),
            Some(found) => faults.extend(column_faults(column, found)),
        }
    }
    for extra in &existing {
        let known = table.columns.iter().any(|column| *column.name == extra.name);
        if !known && extra.not_null && !extra.filled {
            faults
                .push(format!("column {} is not of this pipeline, not null and has no default", extra.name));
        }
    }
    let mut key: Vec<&str> = existing.iter().filter(|e| e.in_key).map(|e| e.name.as_str()).collect();
    let mut wanted: Vec<&str> = table.key.iter().map(|name| &**name).collect();
    key.sort_unstable();
    wanted.sort_unstable();
    // Without a key of ours any other will do, as long as rows get one by themselves.
    if !wanted.is_empty() && key != wanted {
        faults.push(format!("primary key is ({}), not ({})", key.join(", "), wanted.join(", ")));
    }
    Ok(faults.into_iter().map(|fault| TableFault { table: qualified.to_owned(), fault }).collect())
}

fn column_faults(column: &Column, found: &Existing) -> Vec<String> {
    let mut faults = Vec::new();
    if !fits(column.data_type, &found.data_type) {
        let wanted = column.data_type.sql();
        faults.push(format!("column {} is {}, not {wanted}", column.name, found.data_type));
    }
    if found.generated {
        faults.push(format!("column {} is generated", column.name));
    }
    if column.nullable && found.not_null {
        faults.push(format!("column {} is not null, but its value can be null", column.name));
    }
    if !found.deterministic {
        faults.push(format!("column {} has a nondeterministic collation", column.name));
    }
    faults
}

fn fits(wanted: DataType, found: &str) -> bool {
    match wanted {
        DataType::Timestamp => {
            matches!(found, "timestamp with time zone" | "timestamp without time zone")
        }
        DataType::Text => matches!(found, "text" | "character varying"),
        other => found == other.sql(),
    }
}

pub(super) async fn describe(
    transaction: &Transaction<'_>,
    table: &str,
) -> Result<Vec<Existing>, PostgresError> {
    let sql = "SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS data_type, a.attnotnull AS not_null,
            a.atthasdef OR a.attidentity <> '' AS filled, a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
            coalesce(i.indkey @> ARRAY[a.attnum], false) AS in_key, coalesce(l.collisdeterministic, true) AS deterministic
         FROM pg_attribute a
         LEFT JOIN LATERAL (SELECT string_to_array(x.indkey::text, ' ')::smallint[] AS indkey FROM pg_index x
            WHERE x.indrelid = a.attrelid AND x.indisprimary AND x.indimmediate) i ON true
         LEFT JOIN pg_collation l ON l.oid = a.attcollation
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let rows = bounded(table, transaction.query(sql, &[&table])).await?;
    let existing = rows.iter().map(|row| Existing {
        name: row.get("name"),
        data_type: row.get("data_type"),
        not_null: row.get("not_null"),
        filled: row.get("filled"),
        generated: row.get("generated"),
        in_key: row.get("in_key"),
        deterministic: row.get("deterministic"),
    });
    Ok(existing.collect())
}

/// Makes a dead-letter table of another name, or checks that a table of that name is one.
async fn claim_dead_letters(
    transaction: &Transaction<'_>,
    plan: &Plan,
    ddl: Ddl,
) -> Result<Vec<TableFault>, PostgresError> {
    let Some(name) = plan.dead_letter_table.as_deref() else {
        return Ok(Vec::new());
    };
    let qualified = format!("millstream.{}", quote(name));
    let mut existing = describe(transaction, &qualified).await?;
    if existing.is_empty() && ddl == Ddl::Apply {
        bounded(&qualified, transaction.batch_execute(&dead_letter_table_sql(name))).await?;
        existing = describe(transaction, &qualified).await?;
    }
    let standard = describe(transaction, "millstream.dead_letters").await?;
    let shape = |columns: &[Existing]| {
        columns.iter().map(|c| (c.name.clone(), c.data_type.clone())).collect::<Vec<_>>()
    };
    let fault = match existing.is_empty() {
        true => "does not exist",
        false if shape(&existing) != shape(&standard) => "is no dead-letter table; choose another name",
        false => return Ok(Vec::new()),
    };
    Ok(vec![TableFault { table: qualified, fault: fault.to_owned() }])
}

/// Writes down what the view `finality` needs.
async fn record_aggregates(
    transaction: &Transaction<'_>,
    plan: &Plan,
    ids: &ClusterIdentity,
) -> Result<(), PostgresError> {
    let context = "millstream.aggregates";
    let names: Vec<&str> = plan.aggregates.iter().map(|aggregate| &*aggregate.name).collect();
    let gone = "DELETE FROM millstream.aggregates WHERE application = $1 AND aggregate <> ALL ($2)";
    bounded(context, transaction.execute(gone, &[&&*plan.application, &names])).await?;
    let micros = |span: Span| span.0;
    for aggregate in &plan.aggregates {
        let source = &plan.sources[aggregate.source.0];
        let partitions = ids.partitions.get(&source.topic).copied().unwrap_or(0);
        let gap = match aggregate.window {
            Window::Session { gap, .. } => Some(micros(gap)),
            Window::Tumbling { .. } | Window::Sliding { .. } => None,
        };
        let sql = "INSERT INTO millstream.aggregates (application, aggregate, table_name, topic, partitions,
                allowed_lateness, idle_after, session_gap)
             VALUES ($1, $2, $3, $4, $5, $6::bigint * interval '1 us', $7::bigint * interval '1 us',
                $8::bigint * interval '1 us')
             ON CONFLICT (application, aggregate) DO UPDATE SET table_name = excluded.table_name,
                topic = excluded.topic, partitions = excluded.partitions,
                allowed_lateness = excluded.allowed_lateness, idle_after = excluded.idle_after,
                session_gap = excluded.session_gap";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] = [
            &&*plan.application,
            &&*aggregate.name,
            &aggregate.table.name,
            &&*source.topic,
            &partitions,
            &micros(aggregate.allowed_lateness),
            &micros(source.watermark.idle_after),
            &gap,
        ];
        bounded(context, transaction.execute(sql, &parameters)).await?;
    }
    Ok(())
}
