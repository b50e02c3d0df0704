//! Why a record is dead.

use std::fmt;
use std::sync::Arc;

/// The reason codes of dead letters, in the order in which they are looked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadReason {
    NullValue,
    TooLarge,
    NotUtf8,
    NotJson,
    MissingField,
    WrongType,
    BadTimestamp,
    OutOfRange,
    NulCharacter,
    FutureEvent,
    CheckFailed(Arc<str>),
    ExpressionError,
    KeyTooLong,
}

/// A dead record's reason and what a person needs to find the fault: field name, expected and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    pub reason: DeadReason,
    pub detail: String,
}

impl Dead {
    pub fn new(reason: DeadReason, detail: impl Into<String>) -> Dead {
        Dead { reason, detail: detail.into() }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self {
            DeadReason::NullValue => "NULL_VALUE",
            DeadReason::TooLarge => "TOO_LARGE",
            DeadReason::NotUtf8 => "NOT_UTF8",
            DeadReason::NotJson => "NOT_JSON",
            DeadReason::MissingField => "MISSING_FIELD",
            DeadReason::WrongType => "WRONG_TYPE",
            DeadReason::BadTimestamp => "BAD_TIMESTAMP",
            DeadReason::OutOfRange => "OUT_OF_RANGE",
            DeadReason::NulCharacter => "NUL_CHARACTER",
            DeadReason::FutureEvent => "FUTURE_EVENT",
            DeadReason::CheckFailed(name) => return write!(f, "CHECK_FAILED:{name}"),
            DeadReason::ExpressionError => "EXPRESSION_ERROR",
            DeadReason::KeyTooLong => "KEY_TOO_LONG",
        };
        f.write_str(code)
    }
}
