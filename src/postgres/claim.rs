//! Who owns which output: claimed with the application, their tables made or checked, all of it or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::model::Span;
use millstream_core::pipeline::{Aggregate, LatestView, Plan, ResultTable, Window};
use tokio_postgres::Transaction;

use super::error::{OutputConflict, TableFault};
use super::latest::{latest_view_sql, make_or_check};
use super::migrate::{dead_letter_table_sql, schema_sql};
use super::session::{bounded, commit};
use super::tables::{Ddl, Existing, check_table, describe, find_table, is_empty, table_sql};
use super::{PostgresError, SCHEMA_LOCK, Session, quote};

const STANDARD_DEAD_LETTERS: &str = "dead_letters";

/// What the log is: a cluster, and the number of partitions of each topic that is read.
#[derive(Clone, Debug)]
pub struct ClusterIdentity {
    pub cluster_id: String,
    pub partitions: BTreeMap<Arc<str>, i32>,
    /// Internal topics that hold records.
    pub written: BTreeSet<Arc<str>>,
}

impl Session {
    /// Claims the application and its outputs, and makes or checks their tables: all of it, or nothing and every
    /// fault at once.
    pub async fn claim(&mut self, plan: &Plan, ids: &ClusterIdentity, ddl: Ddl) -> Result<(), PostgresError> {
        let result = self.claim_inner(plan, ids, ddl).await;
        self.note(result).map_err(PostgresError::of_repeatable)
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
        for topic in topics(plan) {
            let name = format!("{}/{topic}", ids.cluster_id);
            let owned = claim_output(&transaction, plan, "topic", &name).await?;
            if owned == Ok(Claim::First) && ids.written.contains(&topic) {
                conflicts.push(OutputConflict::TopicNotEmpty { topic: topic.to_string() });
            }
            conflicts.extend(owned.err());
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
        for (aggregate, latest) in latest_views(plan) {
            let found = find_table(&transaction, &latest.name).await?;
            match claim_output(&transaction, plan, "table", &found.qualified).await? {
                Ok(_) => faults.extend(make_or_check(&transaction, (aggregate, latest), found, ddl).await?),
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

    /// Over how many partitions an internal topic's keys are spread: as many as it had when this was asked first.
    /// `topic` is one that `plan` has claimed.
    pub async fn spread_over(
        &mut self,
        plan: &Plan,
        ids: &ClusterIdentity,
        topic: &str,
    ) -> Result<i32, PostgresError> {
        let name = format!("{}/{topic}", ids.cluster_id);
        let sql = "UPDATE millstream.outputs SET partitions = coalesce(partitions, $3)
             WHERE kind = 'topic' AND name = $1 AND application = $2 RETURNING partitions";
        let found = ids.partitions.get(topic).copied().unwrap_or(0);
        let context = "millstream.outputs";
        let asked = bounded(context, self.client.query_one(sql, &[&name, &&*plan.application, &found])).await;
        self.note(asked.map(|row| row.get(0)))
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
    for (aggregate, latest) in latest_views(plan) {
        sql.push_str(&format!("\n{};\n", latest_view_sql(aggregate, latest)));
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

fn latest_views(plan: &Plan) -> impl Iterator<Item = (&Aggregate, &LatestView)> {
    plan.aggregates.iter().filter_map(|aggregate| Some((aggregate, aggregate.table.latest.as_ref()?)))
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
    let internal = plan.sources.iter().filter_map(|source| source.repartition.as_ref());
    let outside = records.chain(dead).chain(late);
    let mut topics: Vec<Arc<str>> = outside.chain(internal.map(|hop| &hop.topic)).cloned().collect();
    topics.sort();
    topics.dedup();
    topics
}

/// Whether an output is taken for the first time or was this application's before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    First,
    Again,
}

async fn claim_output(
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
        let partitions_of = |topic: &Arc<str>| ids.partitions.get(topic).copied().unwrap_or(0);
        let partitions = partitions_of(source.state_topic());
        let routed = source.repartition.as_ref().map(|_| (&*source.topic, partitions_of(&source.topic)));
        let (routed_from, routed_partitions) = routed.unzip();
        let gap = match aggregate.window {
            Window::Session { gap, .. } => Some(micros(gap)),
            Window::Tumbling { .. } | Window::Sliding { .. } => None,
        };
        let sql = "INSERT INTO millstream.aggregates (application, aggregate, table_name, topic, partitions,
                allowed_lateness, idle_after, session_gap, routed_from, routed_partitions)
             VALUES ($1, $2, $3, $4, $5, $6::bigint * interval '1 us', $7::bigint * interval '1 us',
                $8::bigint * interval '1 us', $9, $10)
             ON CONFLICT (application, aggregate) DO UPDATE SET table_name = excluded.table_name,
                topic = excluded.topic, partitions = excluded.partitions,
                allowed_lateness = excluded.allowed_lateness, idle_after = excluded.idle_after,
                session_gap = excluded.session_gap, routed_from = excluded.routed_from,
                routed_partitions = excluded.routed_partitions";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 10] = [
            &&*plan.application,
            &&*aggregate.name,
            &aggregate.table.name,
            &&**source.state_topic(),
            &partitions,
            &micros(aggregate.allowed_lateness),
            &micros(source.watermark.idle_after),
            &gap,
            &routed_from,
            &routed_partitions,
        ];
        bounded(context, transaction.execute(sql, &parameters)).await?;
    }
    Ok(())
}
