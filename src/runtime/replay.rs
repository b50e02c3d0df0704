//! Cuts of a replay: up to K state alone follows, and `[K, P)` is one epoch of outputs only.

use millstream_core::commit::{Refusal, RefusalCode};
use millstream_core::engine::SealedEpoch;
use millstream_core::model::{EventTime, TopicPartition};

use crate::fault::{Point, reached};

use super::Halt;
use super::epoch::{Remaining, Share};
use super::slot::Running;
use super::worker::Worker;

/// A replay writes its state at least this often.
pub const REPLAY_RECORDS: usize = 100_000;

impl Worker {
    /// Ends the part of a replay that a task has come to.
    pub(super) fn cut(&mut self, tp: &TopicPartition) -> Result<(), Halt> {
        let Some(running) = self.slots.get_mut(tp).and_then(|slot| slot.running_mut()) else {
            return Ok(());
        };
        let mut sealed = running.task.seal();
        if let Some(refusal) = contradiction(running, &sealed) {
            self.stop_task(tp, refusal);
            return Ok(());
        }
        let read_again = std::mem::take(&mut running.left_out).then_some(sealed.to);
        if sealed.to <= running.start.outputs_from {
            let written = running.task.write(std::mem::take(&mut sealed.changes));
            running.state = sealed.to;
            reached(Point::ReplayStateWritten);
            if let Err(error) = written {
                self.lose_state(tp, error);
                return Ok(());
            }
        } else {
            let commit_time = running.taken.commit_time.unwrap_or(EventTime::MIN);
            sealed.outputs.stamp(commit_time);
            let share = Share {
                tp: tp.clone(),
                owner_epoch: running.task.owner_epoch(),
                epoch: running.taken.epoch,
                sealed,
                caught_up: false,
                remaining: Remaining::Outputs,
            };
            self.carry_out(vec![share], commit_time)?;
        }
        match read_again {
            Some(at) if self.is_running(tp) => {
                self.links.retry(|links| links.consumer.seek_and_resume(tp, at))
            }
            _ => Ok(()),
        }
    }
}

/// Invariant: a replay that reaches K or P comes to the hash that was recorded there (I3).
fn contradiction(running: &Running, sealed: &SealedEpoch) -> Option<Refusal> {
    let recorded = if sealed.to == running.start.rows_from {
        Some(running.taken.hash)
    } else if sealed.to == running.start.outputs_from {
        running.outputs_hash
    } else {
        None
    };
    recorded.filter(|hash| *hash != sealed.hash).map(|hash| {
        let detail = format!(
            "records [{}, {}) came to hash {}, {hash} was recorded at offset {}",
            sealed.from, sealed.to, sealed.hash, sealed.to
        );
        Refusal::new(RefusalCode::Nondeterminism, detail)
    })
}
