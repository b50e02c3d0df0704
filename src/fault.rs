//! Crash points and deliberate faults, for tests only.
//!
//! Owns the names of the places where a test may kill the process, and the faults that a test may switch on to see
//! that the referee notices. Must never reach a release: without the cargo feature `fault` every function here is
//! empty and no name is in the binary. The code calls `reached` where a crash would be interesting; the environment
//! says what happens there. Tested here, and used by every kill test.
//!
//! | variable | value | effect |
//! |---|---|---|
//! | `MILLSTREAM_PHASE_FILE` | a path | each arrival is written there, as the 64 bytes of its worker: `<point> <arrival>\n`, padded |
//! | `MILLSTREAM_CRASH` | `<point>:<arrival>` | the process kills itself at that arrival |
//! | `MILLSTREAM_PANIC` | `<point>:<arrival>` | the thread panics at that arrival |
//! | `MILLSTREAM_DWELL` | `<point>:<arrival>:<ms>` | it stays at that arrival for so long |
//! | `MILLSTREAM_LOSE` | `<reply>:<n>` | every n-th reply of that kind is taken for lost, though what was asked for is done |
//! | `MILLSTREAM_BREAK` | names of faults, with commas | switches on these deliberate faults |

#[cfg(feature = "fault")]
mod armed;

#[cfg(feature = "fault")]
pub use armed::{arm, broken, lost, reached};

/// Declares an enum whose names exist only in a build with the feature `fault`.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$about:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$about])* $variant,)+
        }

        #[cfg(feature = "fault")]
        impl $type {
            /// Every one, in the order of their declaration.
            pub const ALL: &[$type] = &[$($type::$variant,)+];

            /// As the environment spells it.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)+
                }
            }
        }
    };
}

named! {
    /// A place at which a process may die, in the order in which a task passes them.
    Point {
        BootstrapRowInserted = "bootstrap-row-inserted",
        BootstrapOffsetCommitted = "bootstrap-offset-committed",
        BootstrapMarked = "bootstrap-marked",
        TakeFenced = "take-fenced",
        TakeGroupOffsetRead = "take-group-offset-read",
        TakeStateOpened = "take-state-opened",
        TakeDecided = "take-decided",
        EpochProcessed = "epoch-processed",
        KafkaBegun = "kafka-begun",
        KafkaProduced = "kafka-produced",
        KafkaDrained = "kafka-drained",
        KafkaOffsetsSent = "kafka-offsets-sent",
        PostgresBegun = "postgres-begun",
        PostgresProgressUpdated = "postgres-progress-updated",
        PostgresRowsMerged = "postgres-rows-merged",
        PostgresDeadLettersWritten = "postgres-dead-letters-written",
        PostgresCommitting = "postgres-committing",
        PostgresCommitted = "postgres-committed",
        KafkaCommitting = "kafka-committing",
        KafkaCommitted = "kafka-committed",
        StateWriting = "state-writing",
        StateWritten = "state-written",
        ReplayStateWritten = "replay-state-written",
        RecoveryProducerRecreated = "recovery-producer-recreated",
        RecoveryProgressRead = "recovery-progress-read",
        RecoveryGroupOffsetRead = "recovery-group-offset-read",
        RecoveryDecided = "recovery-decided",
        OutputsOnlyProduced = "outputs-only-produced",
        OutputsOnlyChecked = "outputs-only-checked",
        OutputsOnlyCommitted = "outputs-only-committed",
        GroupRevoking = "group-revoking",
    }
}

named! {
    /// A deliberate fault in the commit protocol. Each breaks one rule.
    Break {
        NoProgressCompare = "no-progress-compare",
        TwoTransactions = "two-transactions",
        DeadLettersOutside = "dead-letters-outside",
        OutputsAgain = "outputs-again",
        StateFirst = "state-first",
        /// A commit does not compare the progress rows' owner epoch.
        NoOwnerEpoch = "no-owner-epoch",
        /// Recovery takes each row for its own. What is another's stays unharmed, since a commit compares all the same;
        /// but the fenced task is tried for ever, and the worker's others wait for it.
        NoOwnerEpochInRecovery = "no-owner-epoch-in-recovery",
        /// A commit does not compare at which offset the progress rows stand. Alone it does no harm: an owner sends no
        /// epoch twice, and who is none any more is told by the owner epoch. See `LostReplyIsFailure`.
        NoNextCompare = "no-next-compare",
        /// Outputs are sent again after an indefinite Kafka commit, without asking what came of it.
        KafkaCommitRetried = "kafka-commit-retried",
        /// After an indefinite Kafka commit the producer aborts and goes on, with the same id and epoch: the request, which
        /// may still be on its way, is obeyed in the midst of its next transaction.
        ProducerKept = "producer-kept",
        /// K is read before anybody is fenced, be it stable or not.
        GroupOffsetBeforeFence = "group-offset-before-fence",
        /// The Kafka transaction of all tasks is committed though some of them were fenced.
        FencedTaskCommitted = "fenced-task-committed",
        /// A lost reply to COMMIT is taken for a rollback, and the same transaction run again. Alone it does no harm: the
        /// compare finds the rows at the end of the epoch. With `NoNextCompare` they are counted twice.
        LostReplyIsFailure = "lost-reply-is-failure",
    }
}

named! {
    /// A reply that can be lost on purpose; a correct program finds out what came of its question.
    Reply {
        PostgresCommit = "postgres-commit",
        KafkaCommit = "kafka-commit",
        /// Nothing was done either: the request is still on its way, and a test may let it arrive.
        KafkaCommitLate = "kafka-commit-late",
    }
}

/// Reads the environment; a name nobody knows ends the program with exit code 2. To be called first of all.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub fn arm() {}

/// Says that this process has arrived at a point.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub fn reached(_point: Point) {}

/// Whether a deliberate fault is switched on.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub const fn broken(_fault: Break) -> bool {
    false
}

/// Whether this reply, which has come, is to be taken for lost.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub const fn lost(_reply: Reply) -> bool {
    false
}
