//! Tables of the database: whether they are there, what they are like, how they are made.

use millstream_core::model::DataType;
use millstream_core::pipeline::{Column, ResultTable};
use tokio_postgres::Transaction;

use super::error::TableFault;
use super::session::bounded;
use super::{PostgresError, quote};

/// Whether tables may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ddl {
    Apply,
    /// `--no-ddl`: somebody else makes them.
    CheckOnly,
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

pub(super) async fn is_empty(transaction: &Transaction<'_>, name: &str) -> Result<bool, PostgresError> {
    let sql = format!("SELECT NOT EXISTS (SELECT FROM {})", quote(name));
    Ok(bounded(name, transaction.query_one(&sql, &[])).await?.get(0))
}

pub(super) fn table_sql(table: &ResultTable, storage: &str) -> String {
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
    pub data_type: String,
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
pub(super) async fn check_table(
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
