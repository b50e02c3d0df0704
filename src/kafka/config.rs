//! The settings of every client: the user's, and those that the guarantees rest on.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use super::error::KafkaError;

/// A transaction that is not ended by then is aborted by the broker: below the session time-out, so that it is gone
/// before the partitions of a dead worker move.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What a message may hold beside twice its record.
const MESSAGE_SPARE: usize = 64 << 10;

/// Keys that a guarantee rests on: a user's value is refused.
const FIXED: [&str; 13] = [
    "group.id",
    "group.instance.id",
    "group.protocol",
    "partition.assignment.strategy",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "isolation.level",
    "transactional.id",
    "enable.idempotence",
    "enable.partition.eof",
    "delivery.report.only.error",
    "transaction.timeout.ms",
];

/// Who must have a record before a plain producer calls it delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nobody: it was sent.
    None,
    Leader,
    /// All replicas in sync; each record then is in the log once, whatever is repeated on the way.
    All,
}

/// What identifies a worker's clients, and the user's librdkafka settings.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// The user's keys, `bootstrap.servers` among them; they win over our defaults.
    pub client: BTreeMap<String, String>,
    /// The application's name: the consumer group.
    pub application: String,
    /// The UUID of the state directory.
    pub instance: String,
    /// The number of the worker in its instance, from 0.
    pub worker: usize,
    /// The largest value of an accepted record, in bytes.
    pub max_record_bytes: usize,
}

impl KafkaSettings {
    /// The worker's `group.instance.id` and `transactional.id`.
    pub fn identity(&self) -> String {
        format!("{}.{}.{}", self.application, self.instance, self.worker)
    }

    /// The largest message that may be produced. A record grows by its enrichment or by a dead letter's headers, and is
    /// measured before it is compressed.
    pub fn max_message_bytes(&self) -> usize {
        2 * self.max_record_bytes + MESSAGE_SPARE
    }

    /// How long the client waits for any one answer, and may repeat a request by itself.
    pub(super) fn socket_timeout(&self) -> Duration {
        let set = self.client.get("socket.timeout.ms").and_then(|ms| ms.parse().ok());
        set.map_or(TRANSACTION_TIMEOUT, Duration::from_millis)
    }

    pub(super) fn consumer(&self) -> Result<ClientConfig, KafkaError> {
        self.build(
            &[
                ("session.timeout.ms", "30000"),
                // Why: a worker that was frozen learns by its next heartbeat that its partitions are gone.
                ("heartbeat.interval.ms", "1000"),
                // Why: its default of a second costs two thirds of the throughput.
                ("fetch.queue.backoff.ms", "5"),
                // Why: a question to a broker waits behind a fetch that waits for records.
                ("fetch.wait.max.ms", "100"),
                // Why: one queue serves all partitions, so this bounds the worker's prefetch as a whole.
                ("queued.max.messages.kbytes", "16384"),
                ("queued.min.messages", "50000"),
                ("check.crcs", "true"),
            ],
            &[
                ("group.id", &self.application),
                ("group.instance.id", &self.identity()),
                ("group.protocol", "classic"),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                // Why: librdkafka 2.12 takes the event of an end for a record and skips the next one after a rebalance.
                ("enable.partition.eof", "false"),
                ("auto.offset.reset", "error"),
                ("isolation.level", "read_committed"),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }

    pub(super) fn producer(&self) -> Result<ClientConfig, KafkaError> {
        self.build(
            &[
                ("compression.type", "lz4"),
                ("linger.ms", "5"),
                ("queue.buffering.max.messages", "1000000"),
                ("queue.buffering.max.kbytes", "262144"),
                ("message.max.bytes", &self.max_message_bytes().to_string()),
                // Why: output topics exist before anything is produced; the default waits longer than a transaction.
                ("topic.metadata.propagation.max.ms", "5000"),
            ],
            &[
                ("transactional.id", &self.identity()),
                ("transaction.timeout.ms", &TRANSACTION_TIMEOUT.as_millis().to_string()),
                ("enable.idempotence", "true"),
                ("delivery.report.only.error", "true"),
            ],
        )
    }

    /// For a producer without transactions, which waits out an outage.
    pub(super) fn plain_producer(&self, acks: Acks) -> Result<ClientConfig, KafkaError> {
        let (acks, idempotent) = match acks {
            Acks::None => ("0", "false"),
            Acks::Leader => ("1", "false"),
            Acks::All => ("all", "true"),
        };
        self.build(
            &[
                ("compression.type", "lz4"),
                ("linger.ms", "5"),
                ("queue.buffering.max.messages", "500000"),
                ("queue.buffering.max.kbytes", "131072"),
                ("topic.metadata.propagation.max.ms", "5000"),
            ],
            &[("acks", acks), ("enable.idempotence", idempotent), ("delivery.report.only.error", "true")],
        )
    }

    /// For a client that belongs to no group and writes nothing.
    pub(super) fn admin(&self) -> Result<ClientConfig, KafkaError> {
        self.build(&[], &[])
    }

    fn build(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Result<ClientConfig, KafkaError> {
        if let Some(key) = FIXED.iter().find(|key| self.client.contains_key(**key)) {
            return Err(KafkaError::Config {
                detail: format!("{key} is not for the pipeline to set: exactly-once processing rests on it"),
            });
        }
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("client.id", self.identity());
        config.set("socket.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.client {
            config.set(key, value);
        }
        for (key, value) in fixed {
            config.set(*key, *value);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(client: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            client: client.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            application: "clicks".into(),
            instance: "0b9f".into(),
            worker: 2,
            max_record_bytes: 1 << 20,
        }
    }

    #[test]
    fn identity_names_application_instance_and_worker() {
        let config = settings(&[]).producer().unwrap();
        assert_eq!(config.get("transactional.id"), Some("clicks.0b9f.2"));
        assert_eq!(settings(&[]).consumer().unwrap().get("group.instance.id"), Some("clicks.0b9f.2"));
    }

    #[test]
    fn user_overrides_a_default_but_not_a_guarantee() {
        let config = settings(&[("linger.ms", "0")]).producer().unwrap();
        assert_eq!(config.get("linger.ms"), Some("0"));
        let error = settings(&[("isolation.level", "read_uncommitted")]).consumer().unwrap_err();
        assert!(error.to_string().contains("isolation.level"), "{error}");
    }

    #[test]
    fn plain_producer_is_idempotent_where_all_acknowledge() {
        for (acks, expect) in
            [(Acks::None, ("0", "false")), (Acks::Leader, ("1", "false")), (Acks::All, ("all", "true"))]
        {
            let config = settings(&[]).plain_producer(acks).unwrap();
            assert_eq!(config.get("transactional.id"), None);
            assert_eq!(
                (config.get("acks"), config.get("enable.idempotence")),
                (Some(expect.0), Some(expect.1))
            );
        }
    }

    #[test]
    fn socket_timeout_is_the_users_where_given() {
        assert_eq!(settings(&[("socket.timeout.ms", "2500")]).socket_timeout(), Duration::from_millis(2500));
        assert_eq!(settings(&[]).socket_timeout(), TRANSACTION_TIMEOUT);
    }
}
