//! The worker: one thread that polls, processes and commits, and shares nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::commit::{Refusal, RefusalCode};
use millstream_core::model::{EventTime, Recovery, TopicPartition};
use millstream_core::pipeline::{Plan, SourceId};
use millstream_core::verdict::Judge;

use crate::fault::{Break, Point, broken, reached};
use crate::kafka::{BatchItem, GroupEvent, KafkaError};
use crate::postgres::Owned;
use crate::state::StateDir;

use super::board::{Stage, TaskReport};
use super::epoch::{EpochContext, Remaining, Share, Trouble};
use super::links::Links;
use super::recovery::recover;
use super::replay::REPLAY_RECORDS;
use super::slot::{Fed, Slot, Unfed};
use super::taking::Taker;
use super::{Halt, Prepared, RuntimeError, StopFlag};

/// Records taken from the client in one go.
const BATCH_RECORDS: usize = 10_000;
/// An epoch under backlog grows to this many records, bytes of output or this age.
const EPOCH_RECORDS: usize = 100_000;
const EPOCH_BYTES: usize = 64 << 20;
const EPOCH_AGE: Duration = Duration::from_secs(1);
/// Longest sleep when nothing comes.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// A task that was quiet for so long is settled, so that a crash after it is no riddle.
const SETTLE_AFTER: Duration = Duration::from_secs(5);
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// End once everything that the topics hold at the start is committed.
    pub until_end: bool,
    /// Bounds the clean windows kept in memory, per task.
    pub window_bytes: usize,
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// A signal.
    Stopped,
    /// `--until-end`.
    AtEnd,
}

pub struct Worker {
    pub(super) plan: Arc<Plan>,
    pub(super) links: Links,
    pub(super) slots: BTreeMap<TopicPartition, Slot>,
    judges: BTreeMap<Arc<str>, Arc<Judge>>,
    prepared: Prepared,
    state_dir: Arc<StateDir>,
    options: WorkerOptions,
    stop: Arc<StopFlag>,
    /// Records of live tasks since the last epoch.
    pending: usize,
    pending_since: Instant,
    /// The last batch was full: there is a backlog.
    backlog: bool,
    quiet_since: Instant,
    reported: Instant,
}

impl Worker {
    pub fn new(
        plan: Arc<Plan>,
        links: Links,
        prepared: Prepared,
        state_dir: Arc<StateDir>,
        (options, stop): (WorkerOptions, Arc<StopFlag>),
    ) -> Worker {
        let judges = (0..plan.sources.len())
            .map(|i| (plan.sources[i].topic.clone(), Arc::new(Judge::new(plan.clone(), SourceId(i)))))
            .collect();
        let now = links.clock.monotonic();
        Worker {
            plan,
            links,
            slots: BTreeMap::new(),
            judges,
            prepared,
            state_dir,
            options,
            stop,
            pending: 0,
            pending_since: now,
            backlog: false,
            quiet_since: now,
            reported: now,
        }
    }

    /// Runs until a signal, the end, or something that no waiting mends.
    pub fn run(mut self) -> Result<Finished, Halt> {
        let topics: Vec<String> = self.plan.sources.iter().map(|s| s.topic.to_string()).collect();
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.links.consumer.subscribe(&names).map_err(RuntimeError::from)?;
        loop {
            if self.stop.is_set() {
                return self.finish(Finished::Stopped);
            }
            self.serve_group()?;
            self.take_waiting()?;
            let read = self.read_batch()?;
            self.make_cuts()?;
            if self.is_due() {
                self.commit()?;
            }
            if self.options.until_end && self.is_at_end() {
                self.commit()?;
                return self.finish(Finished::AtEnd);
            }
            self.report(false);
            if read == 0 {
                self.settle_when_quiet()?;
                self.links.consumer.wait(self.idle_wait());
            }
        }
    }

    fn finish(mut self, how: Finished) -> Result<Finished, Halt> {
        self.commit()?;
        self.settle()?;
        self.report(true);
        let stopped = self.slots.values().find_map(|slot| match slot {
            Slot::Stopped(refusal) => Some(refusal.clone()),
            Slot::Waiting { .. } | Slot::Running(_) => None,
        });
        self.slots.clear();
        self.links.consumer.close(false);
        match stopped {
            Some(refusal) if how == Finished::AtEnd => Err(Halt::AllStopped(refusal)),
            _ => Ok(how),
        }
    }

    fn serve_group(&mut self) -> Result<(), Halt> {
        loop {
            let event = match self.links.events.pop_front() {
                Some(event) => Some(event),
                None => self.links.consumer.poll_group().map_err(RuntimeError::from)?,
            };
            match event {
                None => return Ok(()),
                Some(GroupEvent::Assigned(partitions)) => self.assigned(&partitions)?,
                Some(GroupEvent::Revoked { partitions, lost }) => self.revoked(&partitions, lost)?,
                Some(GroupEvent::Failed(error)) if error.recovery() == Recovery::Fenced => {
                    return Err(Halt::Duplicate(error));
                }
                Some(GroupEvent::Failed(error)) => return Err(RuntimeError::from(error).into()),
            }
        }
    }

    /// The client wants a valid offset at once; where the task really begins is found out later, while it is paused.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Halt> {
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

    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Halt> {
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

    fn take_waiting(&mut self) -> Result<(), Halt> {
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
                Err(Halt::Failed(error)) if is_local(&error) => {
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

    /// Feeds what has come; answers how many records.
    fn read_batch(&mut self) -> Result<usize, Halt> {
        let Worker { links, slots, .. } = self;
        let batch = links.consumer.poll_batch(BATCH_RECORDS);
        let (read, mut live) = (batch.len(), 0);
        let mut troubles: Vec<(TopicPartition, Unread)> = Vec::new();
        for item in batch.items() {
            match item {
                BatchItem::Records(run) => {
                    let Some(running) = slots.get_mut(run.partition()).and_then(Slot::running_mut) else {
                        continue;
                    };
                    for record in run.iter() {
                        match running.feed(&record) {
                            Ok(Fed::Processed) => live += usize::from(running.is_live()),
                            Ok(Fed::Passed) => {}
                            Ok(Fed::Cut) => break,
                            Err(unfed) => {
                                troubles.push((run.partition().clone(), Unread::Unfed(unfed)));
                                break;
                            }
                        }
                    }
                }
                BatchItem::Error { partition: Some(tp), error } => {
                    troubles.push((tp.clone(), Unread::Kafka(error.clone())));
                }
                BatchItem::Error { partition: None, error } => match error.recovery() {
                    Recovery::Fenced => return Err(Halt::Duplicate(error.clone())),
                    _ => tracing::warn!(%error, "the consumer reports an error"),
                },
            }
        }
        drop(batch);
        self.backlog = read == BATCH_RECORDS;
        let now = self.links.clock.monotonic();
        if read > 0 {
            self.quiet_since = now;
        }
        if self.pending == 0 {
            self.pending_since = now;
        }
        self.pending += live;
        for (tp, trouble) in troubles {
            self.unread(&tp, trouble)?;
        }
        Ok(read)
    }

    fn unread(&mut self, tp: &TopicPartition, trouble: Unread) -> Result<(), Halt> {
        match trouble {
            Unread::Unfed(Unfed::Refused(refusal)) => self.stop_task(tp, refusal),
            Unread::Unfed(Unfed::Store(error)) => self.drop_task(tp, error.to_string()),
            Unread::Kafka(error) if error.recovery() == Recovery::Retry => {
                tracing::debug!(task = %tp, %error, "not read at present");
            }
            Unread::Kafka(error) => {
                tracing::warn!(task = %tp, %error, "the partition cannot be read on; taking it again");
                // Why: after such an error the client is silent about a partition until it is assigned anew.
                self.links.consumer.unassign(std::slice::from_ref(tp)).map_err(RuntimeError::from)?;
                self.assigned(std::slice::from_ref(tp))?;
            }
        }
        Ok(())
    }

    fn make_cuts(&mut self) -> Result<(), Halt> {
        let due: Vec<TopicPartition> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.running().is_some_and(|r| r.at_cut() || r.replayed() >= REPLAY_RECORDS))
            .map(|(tp, _)| tp.clone())
            .collect();
        for tp in due {
            self.cut(&tp)?;
            self.report(true);
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        if self.pending == 0 {
            return false;
        }
        let age = self.links.clock.monotonic() - self.pending_since;
        let interval = Duration::from_micros(self.plan.commit_interval.0.unsigned_abs());
        let bytes: usize =
            self.slots.values().filter_map(Slot::running).map(|running| running.task.pending_bytes()).sum();
        age >= EPOCH_AGE.max(interval)
            || self.pending >= EPOCH_RECORDS
            || bytes >= EPOCH_BYTES
            || (age >= interval && !self.backlog)
    }

    /// Commits everything that live tasks have gathered, as one epoch.
    pub(super) fn commit(&mut self) -> Result<(), Halt> {
        self.pending = 0;
        let mut shares = Vec::new();
        for (tp, slot) in &mut self.slots {
            let Some(running) =
                slot.running_mut().filter(|r| r.task.is_dirty() && r.is_live() && !r.at_cut())
            else {
                continue;
            };
            let high = self.links.consumer.known_end(tp);
            running.high = high.unwrap_or(running.high).max(running.task.next());
            shares.push(Share {
                tp: tp.clone(),
                owner_epoch: running.task.owner_epoch(),
                epoch: running.epoch.next(),
                sealed: running.task.seal(),
                caught_up: running.task.next() >= running.high,
                remaining: Remaining::Everything,
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
            match self.attempt(&now, (remaining, commit_time)) {
                Ok(()) => {
                    now.into_iter().for_each(|share| self.share_done(share));
                    self.recycle_doubtful_producer()?;
                    continue;
                }
                Err(Attempted::Halt(halt)) => return Err(halt),
                Err(Attempted::Trouble(Trouble::Refused(error))) if now.len() == 1 => {
                    let refusal = Refusal::new(RefusalCode::SinkRefused, error.to_string());
                    self.stop_task(&now[0].tp, refusal);
                    self.links.discard_producer();
                    continue;
                }
                Err(Attempted::Trouble(Trouble::Refused(error))) => {
                    tracing::warn!(%error, "an output was refused; committing the tasks one by one");
                    one_by_one = true;
                }
                Err(Attempted::Trouble(Trouble::Indefinite(error))) => self.links.retry_once_after(&error)?,
            }
            open.append(&mut now);
            open = self.sort_out(open)?;
        }
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

    /// Asks the witnesses about shares whose attempt failed; answers those to attempt again.
    fn sort_out(&mut self, mut shares: Vec<Share>) -> Result<Vec<Share>, Halt> {
        for event in std::mem::take(&mut self.links.events) {
            match event {
                GroupEvent::Revoked { partitions, lost: true } => {
                    shares.retain(|share| !partitions.contains(&share.tp));
                    self.revoked(&partitions, true)?;
                }
                other => self.links.events.push_back(other),
            }
        }
        let recovered = recover(&mut self.links, shares)?;
        recovered.done.into_iter().for_each(|share| self.share_done(share));
        for share in recovered.fenced {
            self.drop_task(&share.tp, "fenced: another owner took the task".into());
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
            let records = share.sealed.to.0 - share.sealed.from.0;
            metrics::counter!("millstream_offsets_total").increment(records.unsigned_abs());
        }
    }

    fn write_state(&mut self, share: &mut Share) {
        let Some(running) = self.slots.get_mut(&share.tp).and_then(Slot::running_mut) else { return };
        match running.task.write(std::mem::take(&mut share.sealed.changes)) {
            Ok(()) => running.state = share.sealed.to,
            Err(error) => self.drop_task(&share.tp.clone(), error.to_string()),
        }
    }

    /// A delayed copy of a request that succeeded must not meet the next transaction.
    fn recycle_doubtful_producer(&mut self) -> Result<(), Halt> {
        if self.links.producer_in_doubt() {
            tracing::warn!("a broker went down or was slow during a commit; making a new producer");
            self.links.discard_producer();
            self.links.producer()?;
        }
        Ok(())
    }

    fn settle_when_quiet(&mut self) -> Result<(), Halt> {
        if self.links.clock.monotonic() - self.quiet_since >= SETTLE_AFTER { self.settle() } else { Ok(()) }
    }

    /// Tells PostgreSQL that Kafka has everything (K = P), and who stands at the end of the log.
    fn settle(&mut self) -> Result<(), Halt> {
        let mut owned = Vec::new();
        let mut at_end = Vec::new();
        for (tp, running) in self.slots.iter().filter_map(|(tp, slot)| Some((tp, slot.running()?))) {
            if running.is_live() && !running.task.is_dirty() && !running.settled {
                let task = Owned {
                    tp: tp.clone(),
                    owner_epoch: running.task.owner_epoch(),
                    next: running.task.next(),
                };
                if self.links.consumer.known_end(tp).is_some_and(|high| running.task.next() >= high) {
                    at_end.push(task.clone());
                }
                owned.push(task);
            }
        }
        if owned.is_empty() {
            return Ok(());
        }
        let application = self.plan.application.clone();
        self.links.ask_postgres(async |session| {
            session.settle(&application, &owned).await?;
            session.mark_caught_up(&application, &at_end).await
        })?;
        for task in owned {
            if let Some(running) = self.slots.get_mut(&task.tp).and_then(Slot::running_mut) {
                running.settled = true;
            }
        }
        Ok(())
    }

    pub(super) fn is_running(&self, tp: &TopicPartition) -> bool {
        self.slots.get(tp).is_some_and(|slot| slot.running().is_some())
    }

    /// A named refusal: this task stops, the others go on.
    pub(super) fn stop_task(&mut self, tp: &TopicPartition, refusal: Refusal) {
        tracing::error!(task = %tp, code = refusal.code.name(), "{refusal}");
        metrics::counter!("millstream_refusals_total", "code" => refusal.code.name()).increment(1);
        self.pause(tp);
        self.slots.insert(tp.clone(), Slot::Stopped(refusal));
        self.report(true);
    }

    /// Forgets what is in memory of a task, to take it anew.
    pub(super) fn drop_task(&mut self, tp: &TopicPartition, reason: String) {
        tracing::warn!(task = %tp, reason, "task dropped; it will be taken again");
        self.pause(tp);
        let now = self.links.clock.monotonic();
        self.slots.insert(tp.clone(), Slot::dropped(now, reason));
    }

    fn pause(&mut self, tp: &TopicPartition) {
        if let Err(error) = self.links.consumer.pause(tp) {
            tracing::debug!(task = %tp, %error, "not paused");
        }
    }

    fn is_at_end(&self) -> bool {
        let known: usize =
            self.prepared.sources.values().map(|s| usize::try_from(s.partitions).unwrap_or(0)).sum();
        self.slots.len() >= known
            && self.slots.values().all(|slot| match slot {
                Slot::Waiting { .. } => false,
                Slot::Running(running) => running.is_at_end(),
                Slot::Stopped(_) => true,
            })
    }

    fn idle_wait(&self) -> Duration {
        if self.pending == 0 {
            return IDLE_WAIT;
        }
        let interval = Duration::from_micros(self.plan.commit_interval.0.unsigned_abs());
        interval.saturating_sub(self.links.clock.monotonic() - self.pending_since).min(IDLE_WAIT)
    }

    /// Writes the moment on the board; at most every so often unless something happened.
    fn report(&mut self, happened: bool) {
        let beat = self.links.clock.monotonic();
        if !happened && beat - self.reported < REPORT_EVERY {
            return;
        }
        self.reported = beat;
        let tasks = self.slots.iter().map(|(tp, slot)| (tp.clone(), TaskReport::of(slot))).collect();
        self.links.board.update(self.links.clock.now(), |board| {
            board.beat = beat;
            board.tasks = tasks;
        });
    }
}

/// Why a record was not read.
enum Unread {
    Unfed(Unfed),
    Kafka(KafkaError),
}

enum Attempted {
    Halt(Halt),
    Trouble(Trouble),
}

fn is_local(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::State(_) | RuntimeError::Store(_))
}

impl TaskReport {
    fn of(slot: &Slot) -> TaskReport {
        let Some(running) = slot.running() else {
            let stage = match slot {
                Slot::Stopped(refusal) => Stage::Stopped(refusal.clone()),
                Slot::Waiting { reason, .. } => Stage::Taking(reason.clone()),
                Slot::Running(_) => Stage::Running,
            };
            return TaskReport::idle(stage);
        };
        TaskReport {
            stage: if running.is_live() { Stage::Running } else { Stage::Replaying },
            next: running.task.next().max(running.start.rows_from),
            outputs: running.task.next().max(running.start.outputs_from),
            state: running.state,
            high: Some(running.high),
            owner_epoch: running.task.owner_epoch(),
            watermark: running.task.watermark(),
        }
    }
}
