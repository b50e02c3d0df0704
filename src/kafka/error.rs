//! What can go wrong with Kafka, by condition.

use millstream_core::model::{Recovery, TopicPartition};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

use super::ffi::Failure;

/// Bytes of a key that an error shows.
const KEY_SHOWN: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    #[error(
        "kafka cannot be reached ({operation}): {detail}; check bootstrap.servers and that a broker runs"
    )]
    Unreachable { operation: &'static str, detail: String },
    #[error("kafka did not answer in time ({operation})")]
    TimedOut { operation: &'static str },
    #[error("kafka is not ready ({operation}): {detail}")]
    NotReady { operation: &'static str, detail: String },
    #[error(
        "the committed offset of {partition} is not stable: a transaction that holds it has not ended yet"
    )]
    Unstable { partition: TopicPartition },
    #[error("this worker is not a member of its consumer group at present")]
    NotAMember,
    #[error("the consumer group has moved on to another generation: {detail}")]
    IllegalGeneration { detail: String },
    #[error("the transaction cannot be committed any more ({operation}): {detail}")]
    Abortable { operation: &'static str, detail: String },
    #[error(
        "another producer has taken over this worker's transactional id, or its transaction outlived its time: {detail}"
    )]
    Fenced { detail: String },
    #[error(
        "another process is this member of the consumer group: {detail}; two processes share one state directory's identity"
    )]
    FencedInstance { detail: String },
    #[error("no such topic or partition: {detail}; create it, or correct its name")]
    UnknownTopic { detail: String },
    #[error("topic {topic} refused a record for partition {partition}{}: {detail}", shown(.key))]
    Refused { topic: String, partition: i32, key: Option<String>, detail: String },
    #[error(
        "kafka does not permit this ({operation}): {detail}; check the credentials and the access control lists"
    )]
    Unauthorised { operation: &'static str, detail: String },
    #[error("the next offset of {partition} is not in its log any more: {detail}")]
    OffsetOutOfRange { partition: TopicPartition, detail: String },
    #[error("{partition} holds a batch that cannot be read: {detail}")]
    CorruptLog { partition: TopicPartition, detail: String },
    #[error("the kafka client cannot go on ({operation}): {detail}")]
    Fatal { operation: &'static str, detail: String },
    #[error("kafka settings: {detail}")]
    Config { detail: String },
}

impl KafkaError {
    /// Everything that only the transaction or the membership lost is `Retry`: the one path of recovery takes it,
    /// with a new producer. A record that left its log is `RestartTask`: taking the task names the range.
    pub fn recovery(&self) -> Recovery {
        match self {
            KafkaError::Unreachable { .. }
            | KafkaError::TimedOut { .. }
            | KafkaError::NotReady { .. }
            | KafkaError::Unstable { .. }
            | KafkaError::NotAMember
            | KafkaError::IllegalGeneration { .. }
            | KafkaError::Abortable { .. } => Recovery::Retry,
            KafkaError::OffsetOutOfRange { .. } | KafkaError::Fatal { .. } => Recovery::RestartTask,
            KafkaError::Fenced { .. } | KafkaError::FencedInstance { .. } => Recovery::Fenced,
            KafkaError::CorruptLog { .. } => Recovery::Corrupt,
            KafkaError::UnknownTopic { .. }
            | KafkaError::Refused { .. }
            | KafkaError::Unauthorised { .. }
            | KafkaError::Config { .. } => Recovery::Invalid,
        }
    }

    /// What a code means where no partition or record is known.
    pub(super) fn of_code(operation: &'static str, code: Code, detail: String) -> KafkaError {
        match code {
            Code::BrokerTransportFailure
            | Code::Resolve
            | Code::AllBrokersDown
            | Code::SSL
            | Code::BrokerNotAvailable
            | Code::NetworkException => KafkaError::Unreachable { operation, detail },
            Code::OperationTimedOut | Code::TimedOutQueue | Code::MessageTimedOut | Code::RequestTimedOut => {
                KafkaError::TimedOut { operation }
            }
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => KafkaError::Fenced { detail },
            Code::FencedInstanceId => KafkaError::FencedInstance { detail },
            Code::IllegalGeneration | Code::UnknownMemberId | Code::RebalanceInProgress => {
                KafkaError::IllegalGeneration { detail }
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                KafkaError::UnknownTopic { detail }
            }
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication => KafkaError::Unauthorised { operation, detail },
            Code::InvalidArgument | Code::InvalidConfig | Code::PolicyViolation | Code::InvalidTopic => {
                KafkaError::Config { detail }
            }
            Code::Fatal => KafkaError::Fatal { operation, detail },
            _ => KafkaError::NotReady { operation, detail },
        }
    }

    /// What an error of the wrapping crate means.
    pub(super) fn of_client(operation: &'static str, error: ClientError) -> KafkaError {
        match error {
            ClientError::Transaction(failure) => KafkaError::of_failure(
                operation,
                Failure {
                    code: failure.code(),
                    detail: failure.string(),
                    fatal: failure.is_fatal(),
                    retriable: failure.is_retriable(),
                    abortable: failure.txn_requires_abort(),
                },
            ),
            ClientError::ClientConfig(_, detail, key, value) => {
                KafkaError::Config { detail: format!("{detail}: {key} = {value}") }
            }
            ClientError::ClientCreation(detail) => KafkaError::Config { detail },
            ClientError::AdminOp(code) => KafkaError::of_code(operation, code, code.to_string()),
            other => match other.rdkafka_error_code() {
                Some(code) => KafkaError::of_code(operation, code, code.to_string()),
                None => KafkaError::NotReady { operation, detail: other.to_string() },
            },
        }
    }

    /// What the result of a call on a transaction, a group or an assignment means.
    pub(super) fn of_failure(operation: &'static str, failure: Failure) -> KafkaError {
        let Failure { code, detail, fatal, retriable, abortable } = failure;
        match KafkaError::of_code(operation, code, detail) {
            KafkaError::NotReady { detail, .. } if abortable => KafkaError::Abortable { operation, detail },
            KafkaError::NotReady { detail, .. } if fatal || !retriable => {
                KafkaError::Fatal { operation, detail }
            }
            known => known,
        }
    }

    /// What an error item of a partition's queue means.
    pub(super) fn of_partition(partition: &TopicPartition, code: Code, detail: String) -> KafkaError {
        let partition = partition.clone();
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation | Code::NoOffset => {
                KafkaError::OffsetOutOfRange { partition, detail }
            }
            Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::Underflow => {
                KafkaError::CorruptLog { partition, detail }
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                KafkaError::UnknownTopic { detail: partition.to_string() }
            }
            other => KafkaError::of_code("consume", other, format!("{partition}: {detail}")),
        }
    }

    /// What the failure of one record's delivery means: refused for itself, or one more outage.
    pub(super) fn of_delivery(record: Undelivered<'_>, code: Code) -> KafkaError {
        let refused = matches!(
            code,
            Code::MessageSizeTooLarge
                | Code::MessageBatchTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::InvalidTimestamp
                | Code::InvalidTopic
                | Code::PolicyViolation
                | Code::TopicAuthorizationFailed
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::UnsupportedForMessageFormat
                | Code::UnsupportedCompressionType
        );
        if !refused {
            return KafkaError::of_code("produce", code, format!("{}: {code}", record.topic));
        }
        KafkaError::Refused {
            topic: record.topic.to_owned(),
            partition: record.partition,
            key: record.key.map(|key| key[..key.len().min(KEY_SHOWN)].escape_ascii().to_string()),
            detail: code.to_string(),
        }
    }
}

/// The record that a delivery error is about.
pub(super) struct Undelivered<'r> {
    pub topic: &'r str,
    pub partition: i32,
    pub key: Option<&'r [u8]>,
}

fn shown(key: &Option<String>) -> String {
    key.as_ref().map(|key| format!(" with key \"{key}\"")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, fatal: bool, retriable: bool, abortable: bool) -> KafkaError {
        KafkaError::of_failure("commit", Failure { code, detail: "d".into(), fatal, retriable, abortable })
    }

    #[test]
    fn fenced_producer_is_fenced_whatever_its_flags() {
        assert_eq!(failure(Code::Fenced, true, false, false).recovery(), Recovery::Fenced);
        assert_eq!(failure(Code::InvalidProducerEpoch, false, false, true).recovery(), Recovery::Fenced);
    }

    #[test]
    fn stale_generation_takes_the_path_of_recovery() {
        let error = failure(Code::IllegalGeneration, false, false, true);
        assert_eq!(error, KafkaError::IllegalGeneration { detail: "d".into() });
        assert_eq!(error.recovery(), Recovery::Retry);
    }

    #[test]
    fn unclassed_error_without_a_flag_is_fatal() {
        assert!(matches!(failure(Code::State, false, false, false), KafkaError::Fatal { .. }));
        assert!(matches!(failure(Code::State, false, false, true), KafkaError::Abortable { .. }));
        assert!(matches!(failure(Code::State, false, true, false), KafkaError::NotReady { .. }));
    }

    #[test]
    fn refused_record_names_topic_partition_and_key() {
        let record = Undelivered { topic: "out", partition: 3, key: Some(b"user-\xff") };
        let error = KafkaError::of_delivery(record, Code::MessageSizeTooLarge);
        assert_eq!(error.recovery(), Recovery::Invalid);
        let text = error.to_string();
        assert!(
            text.starts_with("topic out refused a record for partition 3 with key \"user-\\xff\""),
            "{text}"
        );
    }
}
