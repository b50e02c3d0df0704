//! The one path when anything goes wrong in an epoch: recycle the producer, ask the witnesses, decide per task.

use millstream_core::commit::{Attempt, Refusal, Resume, Witness, resume};
use millstream_core::model::TopicPartition;

use crate::fault::{Break, Point, broken, reached};
use crate::postgres::ProgressRow;

use super::Halt;
use super::epoch::{Remaining, Share};
use super::links::Links;

/// What became of the shares of an epoch.
#[derive(Default)]
pub struct Recovered {
    /// To be attempted again.
    pub open: Vec<Share>,
    /// In every participant but local state.
    pub done: Vec<Share>,
    pub fenced: Vec<Share>,
    pub refused: Vec<(Share, Refusal)>,
}

/// Asks and decides. Outages are waited for. `in_doubt`: it is not known whether Kafka has committed.
///
/// Order: the old producer is fenced before the rows are read, the rows before the group's offsets (I5, I6).
pub fn recover(links: &mut Links, shares: Vec<Share>, in_doubt: bool) -> Result<Recovered, Halt> {
    if !(in_doubt && broken(Break::ProducerKept) && links.abort()) {
        links.discard_producer();
    }
    if links.kafka_outputs() {
        links.producer()?;
    }
    reached(Point::RecoveryProducerRecreated);
    let tasks: Vec<TopicPartition> = shares.iter().map(|s| s.tp.clone()).collect();
    let rows = links.lock_progress(&tasks)?;
    reached(Point::RecoveryProgressRead);
    let offsets = links.stable_offsets(&tasks)?;
    reached(Point::RecoveryGroupOffsetRead);
    let mut recovered = Recovered::default();
    for mut share in shares {
        let group = offsets.iter().find(|o| o.partition == share.tp).and_then(|o| o.offset);
        let decision = match row_of(&rows, &share.tp) {
            None => Resume::Fenced,
            Some(row) => {
                let attempt =
                    Attempt { mine: share.owner_epoch, from: share.sealed.from, to: share.sealed.to };
                let blind = broken(Break::NoOwnerEpochInRecovery);
                let owner_epoch = if blind { share.owner_epoch } else { row.owner_epoch };
                let witness = Witness { owner_epoch, next: row.next, group };
                resume(attempt, witness, links.kafka_outputs())
            }
        };
        tracing::info!(
            task = %share.tp, from = %share.sealed.from, to = %share.sealed.to, ?decision, "epoch recovered"
        );
        match decision {
            Resume::Fenced => recovered.fenced.push(share),
            Resume::WholeEpoch => {
                share.remaining = Remaining::Everything;
                recovered.open.push(share);
            }
            Resume::OutputsOnly => {
                share.remaining = Remaining::Outputs;
                recovered.open.push(share);
            }
            Resume::Done if broken(Break::OutputsAgain) => {
                share.remaining = Remaining::Outputs;
                recovered.open.push(share);
            }
            Resume::Done => recovered.done.push(share),
            Resume::Refuse(refusal) if still_owned(links, &share)? => {
                recovered.refused.push((share, refusal))
            }
            Resume::Refuse(_) => recovered.fenced.push(share),
        }
    }
    reached(Point::RecoveryDecided);
    Ok(recovered)
}

/// A stale reader must not refuse what it no longer owns.
fn still_owned(links: &mut Links, share: &Share) -> Result<bool, Halt> {
    let rows = links.lock_progress(std::slice::from_ref(&share.tp))?;
    Ok(row_of(&rows, &share.tp).is_some_and(|row| row.owner_epoch == share.owner_epoch))
}

fn row_of<'r>(rows: &'r [ProgressRow], tp: &TopicPartition) -> Option<&'r ProgressRow> {
    rows.iter().find(|row| row.tp == *tp)
}
