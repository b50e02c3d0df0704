//! Connections: Kafka settings and PostgreSQL's URL.

use std::collections::BTreeMap;

use super::keys::{CONNECTIONS, POSTGRES};
use super::names::Name;
use super::open::{Fields, named};
use super::plan::Connections;
use super::problem::Problems;
use super::raw::{Item, join};
use super::scalar::{Plain, expected, text};
use super::source::optional;

/// Most Kafka settings of one file.
const MAX_SETTINGS: usize = 200;

pub(super) fn connections(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Connections> {
    let keys = Fields::open(item, &CONNECTIONS, problems)?;
    let kafka = keys.get("kafka").and_then(|item| kafka(&item, problems));
    let postgres_url = optional(keys.get("postgres"), |item| {
        let keys = Fields::open(item, &POSTGRES, problems)?;
        optional(keys.get("url"), |item| url(item, problems))
    });
    if keys.unsupported {
        return None;
    }
    Some(Connections { kafka: kafka?, postgres_url: postgres_url?.flatten().filter(|url| !url.is_empty()) })
}

fn kafka(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for (name, item) in named(item, Name::Setting, (0, MAX_SETTINGS), problems)? {
        if let Some((_, reason)) = OWNED_SETTINGS.iter().find(|(owned, _)| *owned == name) {
            problems
                .add(item.named, &item.path, format!("`{name}` is millstream's own: {reason}"))
                .hint("remove it");
            continue;
        }
        match item.scalar() {
            Some(scalar) if scalar.resolve() != Plain::Null => {
                settings.insert(name.to_owned(), scalar.text.clone());
            }
            _ => {
                expected(&item, "a value", problems);
            }
        }
    }
    let unknown = problems.is_unknown(&join(&item.path, "bootstrap.servers"));
    if !unknown && settings.get("bootstrap.servers").is_none_or(|servers| servers.trim().is_empty()) {
        problems
            .add(item.named, &item.path, "`bootstrap.servers` is missing or empty")
            .hint("bootstrap.servers: \"${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}\"");
    }
    Some(settings)
}

/// Never shown in a message: it holds a password.
fn url(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let url = text(item, problems)?;
    if url.is_empty() || url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Some(url.to_owned());
    }
    problems
        .add(item.node.at, &item.path, "not a PostgreSQL URL")
        .hint("postgres://user:password@host:5432/database, or leave it out to use PG* or DB_*");
    None
}

/// Kafka settings a file may not name, and why.
pub(super) static OWNED_SETTINGS: &[(&str, &str)] = &[
    ("group.id", "the consumer group is the pipeline's `name`"),
    ("group.instance.id", "it derives from the instance's identity"),
    ("group.protocol", "partitions move by the classic protocol"),
    ("group.protocol.type", "partitions move by the classic protocol"),
    ("group.remote.assignor", "partitions move by the classic protocol"),
    ("client.id", "it derives from the pipeline's `name`"),
    ("transactional.id", "it derives from the pipeline's `name` and is a fence"),
    ("transaction.timeout.ms", "it must stay below the session's time-out"),
    ("session.timeout.ms", "it must stay above the transaction's time-out"),
    ("partition.assignment.strategy", "mixing strategies stops the group"),
    ("enable.auto.commit", "offsets are committed with their results"),
    ("auto.commit.interval.ms", "offsets are committed with their results"),
    ("auto.commit.enable", "offsets are committed with their results"),
    ("enable.auto.offset.store", "offsets are committed with their results"),
    ("auto.offset.reset", "say `start` in the source; nothing resets by itself"),
    ("isolation.level", "only committed records are read"),
    ("enable.idempotence", "outputs are transactional"),
    ("acks", "outputs are transactional"),
    ("request.required.acks", "outputs are transactional"),
    ("delivery.report.only.error", "the commit counts on it"),
    ("partitioner", "a key's partition is that of Java's client"),
    ("fetch.queue.backoff.ms", "the default would add a second of delay"),
    ("enable.partition.eof", "the consumer's loop counts on it"),
    ("statistics.interval.ms", "metrics set it"),
    ("metadata.broker.list", "say bootstrap.servers"),
];
