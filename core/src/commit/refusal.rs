//! The named reasons for which a task stops and waits for a person.

use std::fmt;

/// Each code has one cause and one operator action; see `docs/refusals.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    PgWentBack,
    GroupOffsetReset,
    GroupOffsetMissing,
    ReplayRangeGone,
    LogIdentityChanged,
    FingerprintMismatch,
    Nondeterminism,
    CompactedInput,
    PartitionCountChanged,
    PipelineChanged,
    StateAhead,
    StateDirForeign,
    AppIdConflict,
    SinkRefused,
    InternalTopicForeign,
}

/// A refusal with the facts that led to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}; {}", .code.action())]
pub struct Refusal {
    pub code: RefusalCode,
    pub detail: String,
}

impl Refusal {
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Refusal {
        Refusal { code, detail: detail.into() }
    }
}

impl RefusalCode {
    pub const ALL: [RefusalCode; 15] = [
        RefusalCode::PgWentBack,
        RefusalCode::GroupOffsetReset,
        RefusalCode::GroupOffsetMissing,
        RefusalCode::ReplayRangeGone,
        RefusalCode::LogIdentityChanged,
        RefusalCode::FingerprintMismatch,
        RefusalCode::Nondeterminism,
        RefusalCode::CompactedInput,
        RefusalCode::PartitionCountChanged,
        RefusalCode::PipelineChanged,
        RefusalCode::StateAhead,
        RefusalCode::StateDirForeign,
        RefusalCode::AppIdConflict,
        RefusalCode::SinkRefused,
        RefusalCode::InternalTopicForeign,
    ];

    /// The code as operators see it.
    pub fn name(self) -> &'static str {
        match self {
            RefusalCode::PgWentBack => "PG_WENT_BACK",
            RefusalCode::GroupOffsetReset => "GROUP_OFFSET_RESET",
            RefusalCode::GroupOffsetMissing => "GROUP_OFFSET_MISSING",
            RefusalCode::ReplayRangeGone => "REPLAY_RANGE_GONE",
            RefusalCode::LogIdentityChanged => "LOG_IDENTITY_CHANGED",
            RefusalCode::FingerprintMismatch => "FINGERPRINT_MISMATCH",
            RefusalCode::Nondeterminism => "NONDETERMINISM",
            RefusalCode::CompactedInput => "COMPACTED_INPUT",
            RefusalCode::PartitionCountChanged => "PARTITION_COUNT_CHANGED",
            RefusalCode::PipelineChanged => "PIPELINE_CHANGED",
            RefusalCode::StateAhead => "STATE_AHEAD",
            RefusalCode::StateDirForeign => "STATE_DIR_FOREIGN",
            RefusalCode::AppIdConflict => "APP_ID_CONFLICT",
            RefusalCode::SinkRefused => "SINK_REFUSED",
            RefusalCode::InternalTopicForeign => "INTERNAL_TOPIC_FOREIGN",
        }
    }

    /// What a person does about it.
    pub fn action(self) -> &'static str {
        match self {
            RefusalCode::PgWentBack => "restore the newer PostgreSQL, or start a new application",
            RefusalCode::GroupOffsetReset => "set the group's offset back to what PostgreSQL holds",
            RefusalCode::GroupOffsetMissing => {
                "set the group's offset to what PostgreSQL holds after checking the outputs"
            }
            RefusalCode::ReplayRangeGone => {
                "restore the records or the state directory, or start a new application"
            }
            RefusalCode::LogIdentityChanged => {
                "point the pipeline at the original cluster and topic, or rename the application"
            }
            RefusalCode::FingerprintMismatch => {
                "the topic was recreated: rename the application to read the new one"
            }
            RefusalCode::Nondeterminism => {
                "run the version that wrote the last epoch and report the difference"
            }
            RefusalCode::CompactedInput => "set cleanup.policy=delete on the topic",
            RefusalCode::PartitionCountChanged => {
                "start a new application, and add no partitions to its internal topic"
            }
            RefusalCode::PipelineChanged => {
                "run the pipeline file that this application was started with, or rename the application"
            }
            RefusalCode::StateAhead => "remove the task's state directory: it is built again from the log",
            RefusalCode::StateDirForeign => {
                "use another state directory, or remove this one: it is built again from the log"
            }
            RefusalCode::AppIdConflict => "give every application its own name and its own tables",
            RefusalCode::SinkRefused => "mend the table, topic or permission that is named, then restart",
            RefusalCode::InternalTopicForeign => {
                "let nobody else write to the topic that is named, and start a new application"
            }
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
