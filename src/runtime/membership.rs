//! The worker as a member of its consumer group: partitions come, are taken, and go.

use std::time::Duration;

use millstream_core::model::{Recovery, TopicPartition};

use crate::kafka::{GroupEvent, KafkaError};

use super::slot::Slot;
use super::taking::Taker;
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
        let topics: Vec<&str> = self.plan.sources.iter().map(|source| &*source.topic).collect();
        Ok(self.links.consumer.subscribe(&topics).map_err(RuntimeError::from)?)
    }

    /// Another process is this member: end. If no other is, the client fenced itself, and joins anew.
    pub(super) fn fenced(&mut self, error: KafkaError) -> Result<(), Halt> {
        if !self.links.consumer.fenced_itself() {
            return Err(Halt::Duplicate(error));
        }
        tracing::warn!(%error, "the session had ended while the broker was away; joining the group anew");
        self.slots.clear();
        self.pending = 0;
        self.links.reopen_consumer()?;
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
            self.slots.insert(tp.clone(), Slot::fresh(now));
        }
        self.report(true);
        Ok(())
    }

    pub(super) fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Halt> {
        tracing::info!(count = partitions.len(), lost, "partitions revoked");
        if !lost {
            self.commit()?;
        }
        for tp in partitions {
            self.slots.remove(tp);
        }
        self.links.consumer.unassign(partitions).map_err(RuntimeError::from)?;
        self.report(true);
        Ok(())
    }

    pub(super) fn take_waiting(&mut self) -> Result<(), Halt> {
        let now = self.links.clock.monotonic();
        let due: Vec<(TopicPartition, Duration)> = self
            .slots
            .iter()
            .filter_map(|(tp, slot)| match slot {
                Slot::Waiting { retry_at, pause, .. } if *retry_at <= now => Some((tp.clone(), *pause)),
                _ => None,
            })
            .collect();
        for (tp, pause) in due {
            let taker = Taker {
                judge: &self.judges[&tp.topic],
                prepared: &self.prepared,
                state_dir: &self.state_dir,
                window_bytes: self.options.window_bytes,
            };
            match taker.take(&mut self.links, &tp) {
                Ok(running) => {
                    self.slots.insert(tp, Slot::Running(Box::new(running)));
                }
                Err(Halt::Failed(RuntimeError::Refused(refusal))) => self.stop_task(&tp, refusal),
                Err(Halt::Failed(error)) if is_of_the_task(&error) => {
                    tracing::error!(task = %tp, %error, "task not taken");
                    let now = self.links.clock.monotonic();
                    self.slots.insert(tp, Slot::again(now, pause, error.to_string()));
                }
                Err(halt) => return Err(halt),
            }
            self.report(true);
        }
        Ok(())
    }
}

/// Taking it again may mend it, or serving the group does: nothing that ends the worker.
fn is_of_the_task(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::State(_) | RuntimeError::Store(_))
        || matches!(error.recovery(), Recovery::RestartTask | Recovery::Fenced)
}
