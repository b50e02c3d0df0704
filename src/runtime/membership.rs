//! The worker as a member of its consumer group: partitions come, are taken, and go.

use millstream_core::model::{Recovery, TopicPartition};

use crate::fault::{Break, Point, broken, reached};
use crate::kafka::{CommittedOffset, GroupEvent, KafkaError};
use crate::postgres::Owned;

use super::desk::Served;
use super::links::count_retry;
use super::slot::{FIRST_RETRY, Slot};
use super::taking::{Taken, Untaken, commit_start};
use super::worker::Worker;
use super::{Halt, RuntimeError};

impl Worker {
    pub(super) fn serve_group(&mut self) -> Result<(), Halt> {
        loop {
            let event = match self.links.events.pop_front() {
                Some(event) => Some(event),
                None => match self.links.consumer.poll_group() {
                    Err(KafkaError::UnknownTopic { detail }) => {
                        // Why: not every broker knows a topic that was just made; the client asks again by itself.
                        tracing::warn!(topic = detail, "the topic is not known to the broker yet");
                        return Ok(());
                    }
                    polled => polled.map_err(RuntimeError::from)?,
                },
            };
            match event {
                None => return Ok(()),
                Some(GroupEvent::Assigned(partitions)) => self.assigned(&partitions)?,
                Some(GroupEvent::Revoked { partitions, lost }) => self.revoked(&partitions, lost)?,
                Some(GroupEvent::Failed(error)) if error.recovery() == Recovery::Fenced => {
                    self.fenced(error)?
                }
                Some(GroupEvent::Failed(error)) => return Err(RuntimeError::from(error).into()),
            }
        }
    }

    pub(super) fn subscribe(&mut self) -> Result<(), Halt> {
        let topics: Vec<&str> = self.plan.input_topics().map(|topic| &**topic).collect();
        Ok(self.links.consumer.subscribe(&topics).map_err(RuntimeError::from)?)
    }

    /// Another process is this member: end. If no other is, the client fenced itself, and joins anew.
    pub(super) fn fenced(&mut self, error: KafkaError) -> Result<(), Halt> {
        if !self.links.consumer.fenced_itself() {
            return Err(Halt::Duplicate(error));
        }
        tracing::warn!(%error, "the session had ended while the broker was away; joining the group anew");
        self.join_anew(false)
    }

    /// Gives everything back and asks for a share again: the group shares out anew.
    pub(super) fn rejoin(&mut self) -> Result<(), Halt> {
        self.commit()?;
        self.join_anew(true)
    }

    fn join_anew(&mut self, leave: bool) -> Result<(), Halt> {
        for tp in self.slots.keys().cloned().collect::<Vec<_>>() {
            self.forget(&tp);
        }
        self.pending = 0;
        self.joined = false;
        self.watch.rejoined();
        self.links.reopen_consumer(leave)?;
        self.subscribe()?;
        self.report(true);
        Ok(())
    }

    /// The client wants a valid offset at once; where the task really begins is found out later, while it is paused.
    pub(super) fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Halt> {
        let mut at = Vec::with_capacity(partitions.len());
        for tp in partitions {
            let (low, _) = self.links.log_range(tp)?;
            at.push((tp.clone(), low));
        }
        self.links.consumer.assign(&at).map_err(RuntimeError::from)?;
        let now = self.links.clock.monotonic();
        for tp in partitions {
            self.forget(tp);
            self.slots.insert(tp.clone(), Slot::fresh(now));
        }
        self.joined = true;
        self.report(true);
        Ok(())
    }

    /// Closes what is open of a task, and withdraws the order to take it.
    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        if let Some(Slot::Taking { ticket, .. }) = self.slots.remove(tp) {
            ticket.withdraw();
        }
    }

    /// Order: the epoch is finished and stores are closed before the partitions are given back; whoever gets them,
    /// perhaps a worker of this very process, finds them free.
    pub(super) fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Halt> {
        tracing::info!(count = partitions.len(), lost, "partitions revoked");
        reached(Point::GroupRevoking);
        if !lost {
            self.letting_go = true;
            let committed = self.commit();
            self.letting_go = false;
            committed?;
        }
        for tp in partitions {
            self.forget(tp);
        }
        self.links.consumer.unassign(partitions).map_err(RuntimeError::from)?;
        self.report(true);
        Ok(())
    }

    /// Orders what is due, as long as this worker is a member at a live generation.
    ///
    /// Order: the producer is initialised before any offset of the group is read: a transaction that an earlier process
    /// of this identity left open would hold it unstable until its time-out.
    pub(super) fn take_waiting(&mut self) -> Result<(), Halt> {
        let now = self.links.clock.monotonic();
        let is_due = |slot: &Slot| matches!(slot, Slot::Waiting { retry_at, .. } if *retry_at <= now);
        if !self.slots.values().any(is_due) || self.links.consumer.group_metadata().is_err() {
            return Ok(());
        }
        if self.links.kafka_outputs() && !broken(Break::GroupOffsetBeforeFence) {
            self.links.producer()?;
        }
        for (tp, slot) in self.slots.iter_mut().filter(|(_, slot)| is_due(slot)) {
            let pause = slot.pause();
            *slot = Slot::Taking { ticket: self.desk.order(tp), pause };
        }
        self.report(true);
        Ok(())
    }

    /// Carries on with what the taker has served.
    pub(super) fn receive_taken(&mut self) -> Result<(), Halt> {
        while let Some(served) = self.desk.next() {
            self.receive(served)?;
            self.report(true);
        }
        Ok(())
    }

    /// What was taken in vain is dropped, and so closed.
    fn receive(&mut self, served: Served) -> Result<(), Halt> {
        let Served { tp, ticket, result } = served;
        let pause = match self.slots.get(&tp) {
            Some(Slot::Taking { ticket: wanted, pause }) if std::sync::Arc::ptr_eq(wanted, &ticket) => *pause,
            _ => return Ok(()),
        };
        let now = self.links.clock.monotonic();
        let slot = match result {
            Ok(Taken::Ready { mut running, at }) => {
                self.links.retry(|links| links.consumer.seek_and_resume(&tp, at))?;
                running.pause = pause.max(FIRST_RETRY);
                Slot::Running(running)
            }
            Ok(Taken::Unbegun { start, owned }) => {
                self.begin_task(&start, &owned)?;
                Slot::fresh(now)
            }
            Err(Untaken::Refused(refusal)) => {
                self.stop_task(&tp, refusal);
                return Ok(());
            }
            Err(Untaken::Failed(error)) => {
                tracing::error!(task = %tp, %error, "task not taken");
                count_retry(&error);
                Slot::again(now, pause, error.to_string())
            }
            Err(Untaken::Fenced) => Slot::fenced(now, pause),
            Err(Untaken::Withdrawn) => Slot::fresh(now),
            Err(Untaken::Halt(halt)) => return Err(halt),
        };
        self.slots.insert(tp, slot);
        Ok(())
    }

    /// Whatever comes of it, taking the task again finds out; but for what only a person mends.
    fn begin_task(&mut self, start: &CommittedOffset, owned: &Owned) -> Result<(), Halt> {
        match commit_start(&mut self.links, start, owned) {
            Ok(()) => {
                self.links.attempt_ended();
                reached(Point::BootstrapOffsetCommitted);
                self.recycle_doubtful_producer()
            }
            Err(error) => {
                // Order: a producer that failed is never used again.
                self.links.discard_producer();
                match error {
                    Halt::Failed(error)
                        if !matches!(error.recovery(), Recovery::Corrupt | Recovery::Invalid) =>
                    {
                        self.links.retry_once_after(&error)
                    }
                    halt => Err(halt),
                }
            }
        }
    }
}
