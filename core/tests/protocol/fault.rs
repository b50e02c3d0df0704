//! Deliberate faults: each breaks one rule of the protocol, and the checker must find where that leads.

use super::property::{ENDS, ORDER, OUTPUTS, REFUSAL, ROWS, SETTLED};
use super::world::Left;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NothingCompared,
    OwnerNotCompared,
    CommitRetriedBlindly,
    ProducerNotRecycled,
    DoubtfulProducerKept,
    GroupReadBeforeFence,
    FencedTaskCommitted,
    LostReplyIsFailure,
    OutputsAgain,
    StateFirst,
    StaleTakeRefuses,
    StaleResumeRefuses,
    SettledEarly,
    FencedTaskKept,
}

impl Fault {
    pub const ALL: [Fault; 14] = [
        Fault::NothingCompared,
        Fault::OwnerNotCompared,
        Fault::CommitRetriedBlindly,
        Fault::ProducerNotRecycled,
        Fault::DoubtfulProducerKept,
        Fault::GroupReadBeforeFence,
        Fault::FencedTaskCommitted,
        Fault::LostReplyIsFailure,
        Fault::OutputsAgain,
        Fault::StateFirst,
        Fault::StaleTakeRefuses,
        Fault::StaleResumeRefuses,
        Fault::SettledEarly,
        Fault::FencedTaskKept,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Fault::NothingCompared => "a commit compares neither owner epoch nor offset",
            Fault::OwnerNotCompared => "a commit compares the offset, but not the owner epoch",
            Fault::CommitRetriedBlindly => "an error of the Kafka commit is taken for \"not committed\"",
            Fault::ProducerNotRecycled => {
                "after an indefinite reply the producer aborts and goes on, instead of a new one taking its place"
            }
            Fault::DoubtfulProducerKept => {
                "a producer is kept after a success of which a copy may still be on its way"
            }
            Fault::GroupReadBeforeFence => "K is read before the fence",
            Fault::FencedTaskCommitted => "an epoch is committed although one of its tasks was fenced",
            Fault::LostReplyIsFailure => {
                "a lost reply to COMMIT is taken for a failure: the records are read again"
            }
            Fault::OutputsAgain => "outputs are produced again although K = b",
            Fault::StateFirst => "local state is written before the Kafka commit",
            Fault::StaleTakeRefuses => "taking a task refuses without reading the owner epoch once more",
            Fault::StaleResumeRefuses => "recovery refuses without reading the owner epoch once more",
            Fault::SettledEarly => "an epoch's rows are settled before Kafka has it",
            Fault::FencedTaskKept => "a fenced task is tried again instead of dropped",
        }
    }

    /// The properties that it must be seen to break.
    pub fn breaks(self) -> &'static [&'static str] {
        match self {
            Fault::NothingCompared => &[ROWS],
            Fault::OwnerNotCompared
            | Fault::LostReplyIsFailure
            | Fault::StaleTakeRefuses
            | Fault::StaleResumeRefuses => &[REFUSAL],
            Fault::StateFirst => &[ORDER, REFUSAL],
            Fault::SettledEarly => &[SETTLED],
            Fault::FencedTaskKept => &[ENDS],
            Fault::CommitRetriedBlindly
            | Fault::ProducerNotRecycled
            | Fault::DoubtfulProducerKept
            | Fault::GroupReadBeforeFence
            | Fault::FencedTaskCommitted
            | Fault::OutputsAgain => &[OUTPUTS],
        }
    }

    /// Mishaps that are enough to see it.
    pub fn needs(self) -> Left {
        let (incidents, messages) = match self {
            Fault::SettledEarly => (0, 0),
            Fault::CommitRetriedBlindly | Fault::LostReplyIsFailure | Fault::OutputsAgain => (0, 1),
            Fault::ProducerNotRecycled | Fault::DoubtfulProducerKept => (1, 1),
            Fault::NothingCompared
            | Fault::OwnerNotCompared
            | Fault::GroupReadBeforeFence
            | Fault::FencedTaskCommitted
            | Fault::StateFirst
            | Fault::StaleTakeRefuses
            | Fault::StaleResumeRefuses
            | Fault::FencedTaskKept => (1, 0),
        };
        Left { incidents, messages, forgotten: 0 }
    }

    pub fn partitions(self) -> u8 {
        if self == Fault::FencedTaskCommitted { 2 } else { 1 }
    }
}
