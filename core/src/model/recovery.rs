//! The one question every error answers.

/// What the supervisor does about an error. Exit codes follow from it where a command ends on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// An outage or a conflict: the same again, with backoff.
    Retry,
    /// Drop what is in memory and take the task anew.
    RestartTask,
    /// Somebody else owns it now.
    Fenced,
    /// An invariant does not hold: this task stops with a named error, the others go on.
    Corrupt,
    /// A person must change the pipeline, a permission or a setting first.
    Invalid,
}
