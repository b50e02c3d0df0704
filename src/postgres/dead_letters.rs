//! Dead records as rows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_core::model::{EventTime, Offset, TopicPartition};
use serde_json::{Value as JsonValue, json};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

use super::columns::SqlTime;
use super::session::bounded;
use super::{PostgresError, quote};

/// Bytes of keys, values and headers per statement, whatever the number of rows.
const BYTES_PER_STATEMENT: usize = 8 << 20;

/// A record that was judged dead, as it came.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub tp: TopicPartition,
    pub offset: Offset,
    pub reason: String,
    pub detail: String,
    pub key: Option<Vec<u8>>,
    /// The value, or a prefix of it.
    pub value: Option<Vec<u8>>,
    /// Length of the whole value; `None`: the record has none.
    pub value_bytes: Option<i64>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub record_timestamp: Option<EventTime>,
}

impl DeadLetter {
    fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }

    /// `[[name, base64 or null], ...]`
    fn headers(&self) -> JsonValue {
        let pair = |(name, value): &(String, Option<Vec<u8>>)| {
            json!([printable(name), value.as_ref().map(|value| STANDARD.encode(value))])
        };
        JsonValue::Array(self.headers.iter().map(pair).collect())
    }
}

/// Text and jsonb hold no U+0000.
fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Why: no `ON CONFLICT`. The transaction makes each letter exactly-once; a second one is a fault to be seen.
pub(super) fn dead_letter_sql(table: &str) -> String {
    format!(
        "INSERT INTO millstream.{} (application, topic, partition, \"offset\", reason, detail, key, value,
            value_bytes, headers, record_timestamp, commit_time)
         SELECT $1, u.topic, u.partition, u.\"offset\", u.reason, u.detail, u.key, u.value, u.value_bytes, u.headers,
            u.record_timestamp, $2
         FROM unnest($3::text[], $4::int[], $5::bigint[], $6::text[], $7::text[], $8::bytea[], $9::bytea[],
            $10::bigint[], $11::jsonb[], $12::timestamptz[])
            u (topic, partition, \"offset\", reason, detail, key, value, value_bytes, headers, record_timestamp)",
        quote(table)
    )
}

/// Writes letters into a table, `of` an application's epoch with this commit time.
pub(super) async fn write_dead_letters(
    transaction: &Transaction<'_>,
    to: (&str, &Statement),
    of: (&str, EventTime),
    letters: &[DeadLetter],
) -> Result<(), PostgresError> {
    let mut rest = letters;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|letter| {
            bytes += letter.bytes();
            bytes <= BYTES_PER_STATEMENT
        });
        let (chunk, after) = rest.split_at(fitting.count().max(1));
        write_chunk(transaction, to, of, chunk).await?;
        rest = after;
    }
    Ok(())
}

async fn write_chunk(
    transaction: &Transaction<'_>,
    (table, statement): (&str, &Statement),
    (application, commit_time): (&str, EventTime),
    letters: &[DeadLetter],
) -> Result<(), PostgresError> {
    let topics: Vec<&str> = letters.iter().map(|l| &*l.tp.topic).collect();
    let partitions: Vec<i32> = letters.iter().map(|l| l.tp.partition.0).collect();
    let offsets: Vec<i64> = letters.iter().map(|l| l.offset.0).collect();
    let reasons: Vec<String> = letters.iter().map(|l| printable(&l.reason)).collect();
    let details: Vec<String> = letters.iter().map(|l| printable(&l.detail)).collect();
    let keys: Vec<Option<&[u8]>> = letters.iter().map(|l| l.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = letters.iter().map(|l| l.value.as_deref()).collect();
    let lengths: Vec<Option<i64>> = letters.iter().map(|l| l.value_bytes).collect();
    let headers: Vec<JsonValue> = letters.iter().map(DeadLetter::headers).collect();
    let times: Vec<Option<SqlTime>> = letters.iter().map(|l| l.record_timestamp.map(SqlTime)).collect();
    let commit_time = SqlTime(commit_time);
    let parameters: [&(dyn ToSql + Sync); 12] = [
        &application,
        &commit_time,
        &topics,
        &partitions,
        &offsets,
        &reasons,
        &details,
        &keys,
        &values,
        &lengths,
        &headers,
        &times,
    ];
    let context = format!("millstream.{table}");
    bounded(&context, transaction.execute(statement, &parameters)).await.map(drop)
}
