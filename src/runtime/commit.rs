//! The worker's epochs: sealed, carried into every participant, and sorted out when something goes wrong.

use std::time::Duration;

use millstream_core::commit::{Refusal, RefusalCode};
use millstream_core::model::{EventTime, Recovery};

use crate::fault::{Break, Point, broken, reached};
use crate::kafka::{COMMIT, GroupEvent, KafkaError};

use super::epoch::{EpochContext, Remaining, Share, Trouble};
use super::hop::Hop;
use super::recovery::recover;
use super::slot::{FIRST_RETRY, Running, Slot};
use super::worker::Worker;
use super::{Halt, RuntimeError};

/// Before what was refused is tried once more.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

impl Worker {
    /// Commits everything that live tasks have gathered, as one epoch.
    pub(super) fn commit(&mut self) -> Result<(), Halt> {
        self.pending = 0;
        self.epoch_cut = self.links.clock.monotonic();
        let ticks_alone = self.say_ticks(self.epoch_cut)?;
        let mut shares = Vec::new();
        for (tp, slot) in &mut self.slots {
            let records = !ticks_alone.contains(tp);
            let due = |r: &&mut Running| !records || r.task.is_dirty() && r.is_live() && !r.at_cut();
            let Some(running) = slot.running_mut().filter(due) else { continue };
            let high = self.links.consumer.known_end(tp);
            running.high = high.unwrap_or(running.high).max(running.task.next());
            let caught_up = running.has_read_to(running.high);
            shares.push(Share {
                tp: tp.clone(),
                owner_epoch: running.task.owner_epoch(),
                // An epoch of ticks alone changes nothing in PostgreSQL: it is compared there, and no more.
                epoch: if records { running.epoch.next() } else { running.epoch },
                sealed: running.task.seal(),
                caught_up,
                remaining: if records { Remaining::Everything } else { Remaining::Outputs },
            });
        }
        if shares.is_empty() {
            return Ok(());
        }
        reached(Point::EpochProcessed);
        let started = self.links.clock.monotonic();
        let commit_time = self.links.clock.now();
        for share in &mut shares {
            share.sealed.outputs.stamp(commit_time);
        }
        self.carry_out(shares, commit_time)?;
        let seconds = (self.links.clock.monotonic() - started).as_secs_f64();
        metrics::histogram!("millstream_epoch_seconds").record(seconds);
        metrics::counter!("millstream_epochs_total").increment(1);
        Ok(())
    }

    /// Brings shares into every participant, through whatever happens on the way.
    pub(super) fn carry_out(&mut self, mut open: Vec<Share>, commit_time: EventTime) -> Result<(), Halt> {
        let mut one_by_one = false;
        while let Some(first) = open.first() {
            let remaining = first.remaining;
            let (mut now, later): (Vec<Share>, Vec<Share>) =
                open.into_iter().partition(|s| s.remaining == remaining);
            open = later;
            if one_by_one {
                open.extend(now.drain(1..));
            }
            if broken(Break::StateFirst) {
                now.iter_mut().for_each(|share| self.write_state(share));
            }
            let attempted = self.attempt(&now, (remaining, commit_time));
            let in_doubt = attempted.as_ref().is_err_and(Attempted::is_commit_in_doubt);
            match attempted {
                Ok(()) => {
                    self.links.attempt_ended();
                    now.into_iter().for_each(|share| self.share_done(share));
                    self.recycle_doubtful_producer()?;
                    continue;
                }
                Err(Attempted::Halt(halt)) => return Err(halt),
                Err(Attempted::Trouble(Trouble::Refused(error))) if one_by_one && now.len() == 1 => {
                    let refusal = Refusal::new(RefusalCode::SinkRefused, error.to_string());
                    self.stop_task(&now[0].tp, refusal);
                    self.links.discard_producer();
                    continue;
                }
                Err(Attempted::Trouble(Trouble::Refused(error))) => {
                    tracing::warn!(%error, "an output was refused; committing the tasks again, one by one");
                    // Why: a broker that has just come back may not know a topic for a moment.
                    self.links.pause(REFUSED_PAUSE)?;
                    one_by_one = true;
                }
                Err(_) if in_doubt && broken(Break::KafkaCommitRetried) => {
                    self.links.discard_producer();
                    now.iter_mut().for_each(|share| share.remaining = Remaining::Outputs);
                    open.append(&mut now);
                    continue;
                }
                Err(Attempted::Trouble(Trouble::Indefinite(error))) if self.is_cast_out(&error) => {
                    self.links.discard_producer();
                    for share in now.into_iter().chain(open) {
                        self.drop_task(&share.tp, error.to_string());
                    }
                    break;
                }
                Err(Attempted::Trouble(Trouble::Indefinite(error))) => self.links.retry_once_after(&error)?,
            }
            open.append(&mut now);
            open = self.sort_out(open, in_doubt)?;
        }
        self.links.attempt_ended();
        Ok(())
    }

    fn attempt(
        &mut self,
        shares: &[Share],
        (remaining, commit_time): (Remaining, EventTime),
    ) -> Result<(), Attempted> {
        let shares: Vec<&Share> = shares.iter().collect();
        let context = EpochContext { plan: &self.plan, prepared: &self.prepared, commit_time };
        let parts = self.links.parts().map_err(Attempted::Halt)?;
        match remaining {
            Remaining::Everything => context.commit_everything(parts, &shares),
            Remaining::Outputs => context.commit_outputs(parts, &shares),
        }
        .map_err(Attempted::Trouble)
    }

    /// Whether this worker lost its membership while it lets go of partitions.
    ///
    /// Why: the client joins again only once it was told that they are let go, and that waits for this epoch. Dropping
    /// the epoch from memory is what a crash would do.
    fn is_cast_out(&self, error: &RuntimeError) -> bool {
        self.letting_go && matches!(error, RuntimeError::Kafka(KafkaError::NotAMember))
    }

    /// Asks the witnesses about shares whose attempt failed; answers those to attempt again.
    fn sort_out(&mut self, mut shares: Vec<Share>, in_doubt: bool) -> Result<Vec<Share>, Halt> {
        // Order: every event stays in the queue until its turn; a consumer that is closed must answer the rest.
        for _ in 0..self.links.events.len() {
            let Some(event) = self.links.events.pop_front() else { break };
            match event {
                GroupEvent::Revoked { partitions, lost: true } => {
                    shares.retain(|share| !partitions.contains(&share.tp));
                    self.revoked(&partitions, true)?;
                }
                GroupEvent::Failed(error) if error.recovery() == Recovery::Fenced => {
                    self.links.discard_producer();
                    self.fenced(error)?;
                    return Ok(Vec::new());
                }
                GroupEvent::Failed(error) => return Err(RuntimeError::from(error).into()),
                other => self.links.events.push_back(other),
            }
        }
        let recovered = recover(&mut self.links, shares, in_doubt)?;
        recovered.done.into_iter().for_each(|share| self.share_done(share));
        for share in recovered.fenced {
            self.fence_task(&share.tp);
        }
        for (share, refusal) in recovered.refused {
            self.stop_task(&share.tp, refusal);
        }
        Ok(recovered.open)
    }

    /// Order: state last. Until here a crash leaves it behind the outputs, which it can then derive again.
    fn share_done(&mut self, mut share: Share) {
        reached(Point::StateWriting);
        self.write_state(&mut share);
        reached(Point::StateWritten);
        if let Some(running) = self.slots.get_mut(&share.tp).and_then(Slot::running_mut) {
            running.epoch = share.epoch;
            running.pause = FIRST_RETRY;
            running.hop.iter_mut().for_each(Hop::heard);
            let records = share.sealed.to.0 - share.sealed.from.0;
            metrics::counter!("millstream_offsets_total").increment(records.unsigned_abs());
        }
    }

    fn write_state(&mut self, share: &mut Share) {
        let Some(running) = self.slots.get_mut(&share.tp).and_then(Slot::running_mut) else { return };
        match running.task.write(std::mem::take(&mut share.sealed.changes)) {
            Ok(()) => running.state = share.sealed.to,
            Err(error) => self.lose_state(&share.tp, error),
        }
    }

    /// A delayed copy of a request that succeeded must not meet the next transaction.
    pub(super) fn recycle_doubtful_producer(&mut self) -> Result<(), Halt> {
        if self.links.producer_in_doubt() {
            tracing::warn!("a connection was lost or a broker was slow; making a new producer");
            self.links.discard_producer();
            self.links.producer()?;
        }
        Ok(())
    }
}

/// How an attempt ended that did not succeed.
enum Attempted {
    Halt(Halt),
    Trouble(Trouble),
}

impl Attempted {
    /// Whether Kafka was told to commit, and did not say what it did.
    fn is_commit_in_doubt(&self) -> bool {
        let Attempted::Trouble(Trouble::Indefinite(RuntimeError::Kafka(error))) = self else { return false };
        matches!(error, KafkaError::TimedOut { operation: COMMIT })
    }
}
