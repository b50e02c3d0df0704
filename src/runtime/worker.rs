//! The worker: one thread that polls, processes and commits, and shares nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::commit::Refusal;
use millstream_core::engine::StoreError;
use millstream_core::model::{Offset, Recovery, TopicPartition};
use millstream_core::pipeline::{Aggregate, Plan, SourceId, Window};
use millstream_core::verdict::Judge;
use millstream_core::window::Frame;

use crate::kafka::{BatchItem, KafkaError};
use crate::postgres::Owned;

use super::board::{Stage, TaskReport};
use super::coverage::Watch;
use super::desk::{Desk, DeskSettings};
use super::due::{BATCH_RECORDS, Gathered};
use super::links::{Links, count_retry};
use super::replay::REPLAY_RECORDS;
use super::slot::{FIRST_RETRY, Fed, Slot, Unfed};
use super::taking::{Taker, Work};
use super::{Halt, Prepared, RuntimeError, StopFlag};

/// Rows that the records of a batch add to at most. Why: an epoch is cut between batches, and a record adds to a row for
/// each window that holds it.
const BATCH_ROWS: usize = 100_000;
/// Longest sleep while a task is being taken: what the taker hands over wakes nobody.
const TAKING_WAIT: Duration = Duration::from_millis(5);
/// A task that was quiet for so long is settled, so that a crash after it is no riddle.
const SETTLE_AFTER: Duration = Duration::from_secs(5);
/// How often PostgreSQL hears which partitions stand at the end of their log. Finality leaves them out only while it
/// does: a processor that is down says nothing about what came meanwhile.
const MARK_EVERY: Duration = Duration::from_secs(5);
/// Before a partition that cannot be read is tried again.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(5);
const REPORT_EVERY: Duration = Duration::from_millis(200);

pub struct Worker {
    pub(super) plan: Arc<Plan>,
    pub(super) links: Links,
    pub(super) slots: BTreeMap<TopicPartition, Slot>,
    pub(super) desk: Desk,
    pub(super) prepared: Arc<Prepared>,
    stop: Arc<StopFlag>,
    batch_records: usize,
    /// The group has told what is this worker's.
    pub(super) joined: bool,
    pub(super) watch: Watch,
    /// An epoch is finished before partitions are given back; the client is no member again before they are.
    pub(super) letting_go: bool,
    /// Records of live tasks since the last epoch.
    pub(super) pending: usize,
    /// When the last epoch was cut.
    pub(super) epoch_cut: Instant,
    /// The last batch was full: there is a backlog.
    backlog: bool,
    quiet_since: Instant,
    marked: Instant,
    reported: Instant,
}

impl Worker {
    /// `name` is that of its thread.
    pub fn open(
        name: &str,
        plan: Arc<Plan>,
        links: Links,
        taker: Taker,
        stop: Arc<StopFlag>,
    ) -> Result<Worker, RuntimeError> {
        let prepared = taker.prepared.clone();
        let works = works(&plan, &prepared);
        let (clock, board) = (links.clock.clone(), links.board.clone());
        let (now, watch) = (clock.monotonic(), Watch::new(links.settings().kafka.worker));
        let settings = DeskSettings { links: links.settings().clone(), clock, board, works, taker };
        Ok(Worker {
            batch_records: batch_records(&plan),
            plan,
            links,
            slots: BTreeMap::new(),
            desk: Desk::open(name, settings)?,
            prepared,
            stop,
            joined: false,
            watch,
            letting_go: false,
            pending: 0,
            epoch_cut: now,
            backlog: false,
            quiet_since: now,
            marked: now,
            reported: now,
        })
    }

    /// Runs until it is told to stop, or for something that no waiting mends. One that cannot go on without a person
    /// leaves the group, so that its partitions go to others; a fenced one must not.
    pub fn run(mut self) -> Result<(), Halt> {
        let ended = self.work().and_then(|()| self.finish());
        let leave = match &ended {
            Ok(()) => self.stop.is_leaving(),
            Err(Halt::Failed(error)) => matches!(error.recovery(), Recovery::Corrupt | Recovery::Invalid),
            Err(_) => false,
        };
        // Order: orders are withdrawn first, so that a taker fences nobody for a worker that is gone.
        for tp in self.slots.keys().cloned().collect::<Vec<_>>() {
            self.forget(&tp);
        }
        drop(self.desk);
        for event in std::mem::take(&mut self.links.events) {
            self.links.consumer.decline(event);
        }
        self.links.consumer.close(leave);
        ended
    }

    fn work(&mut self) -> Result<(), Halt> {
        self.subscribe()?;
        while !self.stop.is_set() {
            self.serve_group()?;
            self.take_waiting()?;
            self.receive_taken()?;
            let read = self.read_batch()?;
            self.make_cuts()?;
            if self.gathered().is_due(self.commit_interval()) || self.owes_ticks() {
                self.commit()?;
            }
            self.look_after()?;
            self.report(false);
            if read == 0 {
                self.note_positions();
                self.settle_when_quiet()?;
                self.links.consumer.wait(self.idle_wait());
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Halt> {
        self.commit()?;
        self.settle()?;
        self.mirror_offsets();
        self.report(true);
        Ok(())
    }

    /// Feeds what has come; answers how many records.
    fn read_batch(&mut self) -> Result<usize, Halt> {
        let Worker { links, slots, batch_records, .. } = self;
        let batch = links.consumer.poll_batch(*batch_records);
        let (read, mut live) = (batch.len(), 0);
        let mut troubles: Vec<(TopicPartition, Unread)> = Vec::new();
        let mut fenced = None;
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
                    Recovery::Fenced => fenced = Some(error.clone()),
                    _ => tracing::warn!(%error, "the consumer reports an error"),
                },
            }
        }
        drop(batch);
        if let Some(error) = fenced {
            self.fenced(error)?;
            return Ok(0);
        }
        self.backlog = read == self.batch_records;
        let now = self.links.clock.monotonic();
        if read > 0 {
            self.quiet_since = now;
        }
        self.pending += live;
        for (tp, trouble) in troubles {
            self.unread(&tp, trouble)?;
        }
        Ok(read)
    }

    /// Control records are given out to nobody, but the client's position tells that they were passed.
    fn note_positions(&mut self) {
        for (tp, at) in self.links.consumer.positions() {
            let running = self.slots.get_mut(&tp).and_then(Slot::running_mut);
            // Why: behind a cut, records that were given out were left out and will be read again.
            if let Some(running) = running.filter(|running| !running.left_out) {
                running.read_up_to = running.read_up_to.max(at);
            }
        }
    }

    fn unread(&mut self, tp: &TopicPartition, trouble: Unread) -> Result<(), Halt> {
        match trouble {
            Unread::Unfed(Unfed::Refused(refusal)) => self.stop_task(tp, refusal),
            Unread::Unfed(Unfed::Store(error)) => self.lose_state(tp, error),
            Unread::Kafka(error) if error.recovery() == Recovery::Retry => {
                tracing::debug!(task = %tp, %error, "not read at present");
            }
            Unread::Kafka(error) => {
                tracing::warn!(task = %tp, %error, "the partition cannot be read on; taking it again");
                // Why: after such an error the client is silent about a partition until it is assigned anew.
                self.links.consumer.unassign(std::slice::from_ref(tp)).map_err(RuntimeError::from)?;
                self.assigned(std::slice::from_ref(tp))?;
                if error.recovery() != Recovery::RestartTask {
                    // Why: nothing but a change at the server mends it, and each assignment disturbs the others.
                    let now = self.links.clock.monotonic();
                    self.slots.insert(tp.clone(), Slot::again(now, UNREADABLE_PAUSE, error.to_string()));
                }
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

    fn gathered(&self) -> Gathered {
        let running = self.slots.values().filter_map(Slot::running);
        Gathered {
            records: self.pending,
            bytes: running.map(|running| running.task.pending_bytes()).sum(),
            age: self.links.clock.monotonic() - self.epoch_cut,
            backlog: self.backlog,
        }
    }

    fn commit_interval(&self) -> Duration {
        Duration::from_micros(self.plan.commit_interval.0.unsigned_abs())
    }

    fn settle_when_quiet(&mut self) -> Result<(), Halt> {
        if self.links.clock.monotonic() - self.quiet_since >= SETTLE_AFTER { self.settle() } else { Ok(()) }
    }

    /// What is due every few seconds, whatever is read.
    fn look_after(&mut self) -> Result<(), Halt> {
        let now = self.links.clock.monotonic();
        if now - self.marked < MARK_EVERY {
            return Ok(());
        }
        self.marked = now;
        self.mirror_offsets();
        self.mark_caught_up(now)?;
        self.watch_coverage(now)
    }

    /// Without Kafka outputs the group's offsets are no witness, and are written for tools that show lag.
    fn mirror_offsets(&self) {
        if self.links.kafka_outputs() {
            return;
        }
        let held = |(tp, slot): (&TopicPartition, &Slot)| {
            let running = slot.running().filter(|running| running.is_live())?;
            Some((tp.clone(), running.task.sealed_to()))
        };
        let offsets: Vec<(TopicPartition, Offset)> = self.slots.iter().filter_map(held).collect();
        if !offsets.is_empty() {
            self.links.consumer.mirror_offsets(&offsets);
        }
    }

    /// Tells PostgreSQL which partitions have no more records at present. An outage that no record would meet is met
    /// here.
    fn mark_caught_up(&mut self, now: Instant) -> Result<(), Halt> {
        let mut at_end = Vec::new();
        for (tp, running) in self.slots.iter().filter_map(|(tp, slot)| Some((tp, slot.running()?))) {
            let end = self.links.consumer.known_end(tp);
            if running.is_live()
                && !running.task.is_dirty()
                && end.is_some_and(|end| running.has_read_to(end))
            {
                at_end.push(Owned {
                    tp: tp.clone(),
                    owner_epoch: running.task.owner_epoch(),
                    next: running.task.next(),
                });
            }
        }
        let Some(any) = at_end.first().map(|task| task.tp.clone()) else { return Ok(()) };
        if now - self.quiet_since >= MARK_EVERY {
            self.links.log_range(&any)?;
        }
        let application = self.plan.application.clone();
        self.links.ask_postgres(async |session| session.mark_caught_up(&application, &at_end).await)?;
        Ok(())
    }

    /// Tells PostgreSQL that Kafka has everything (K = P).
    fn settle(&mut self) -> Result<(), Halt> {
        let mut owned = Vec::new();
        for (tp, running) in self.slots.iter().filter_map(|(tp, slot)| Some((tp, slot.running()?))) {
            if running.is_live() && !running.task.is_dirty() && !running.settled {
                let task = Owned {
                    tp: tp.clone(),
                    owner_epoch: running.task.owner_epoch(),
                    next: running.task.next(),
                };
                owned.push(task);
            }
        }
        if owned.is_empty() {
            return Ok(());
        }
        let application = self.plan.application.clone();
        self.links.ask_postgres(async |session| session.settle(&application, &owned).await)?;
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
        let (now, pause) = (self.links.clock.monotonic(), self.pause_of(tp));
        self.slots.insert(tp.clone(), Slot::again(now, pause, reason));
    }

    /// Local state was not read or not written, most likely because the disk is full: what memory holds is ahead of it, so
    /// the task is taken again.
    pub(super) fn lose_state(&mut self, tp: &TopicPartition, error: StoreError) {
        let error = RuntimeError::from(error);
        count_retry(&error);
        self.drop_task(tp, error.to_string());
    }

    /// Somebody else took the task. Whether it still is this worker's, the group tells soon.
    pub(super) fn fence_task(&mut self, tp: &TopicPartition) {
        tracing::warn!(task = %tp, "fenced: another owner took the task; taken again if it stays assigned");
        metrics::counter!("millstream_fenced_total").increment(1);
        self.pause(tp);
        let (now, pause) = (self.links.clock.monotonic(), self.pause_of(tp));
        self.slots.insert(tp.clone(), Slot::fenced(now, pause));
    }

    fn pause_of(&self, tp: &TopicPartition) -> Duration {
        self.slots.get(tp).map_or(FIRST_RETRY, Slot::pause)
    }

    fn pause(&mut self, tp: &TopicPartition) {
        if let Err(error) = self.links.consumer.pause(tp) {
            tracing::debug!(task = %tp, %error, "not paused");
        }
    }

    fn idle_wait(&self) -> Duration {
        if self.slots.values().any(|slot| matches!(slot, Slot::Taking { .. })) {
            return TAKING_WAIT;
        }
        self.gathered().idle_wait(self.commit_interval())
    }

    /// Writes the moment on the board; at most every so often unless something happened.
    pub(super) fn report(&mut self, happened: bool) {
        let beat = self.links.clock.monotonic();
        if !happened && beat - self.reported < REPORT_EVERY {
            return;
        }
        self.reported = beat;
        let consumer = &self.links.consumer;
        let of =
            |(tp, slot): (&TopicPartition, &Slot)| (tp.clone(), TaskReport::of(slot, consumer.known_end(tp)));
        let tasks = self.slots.iter().map(of).collect();
        let joined = self.joined;
        self.links.board.update(self.links.clock.now(), |board| {
            board.beat = beat;
            board.joined = joined;
            board.tasks = tasks;
        });
    }
}

/// Who judges the records of each input topic, and what its tasks do with them.
fn works(plan: &Arc<Plan>, prepared: &Prepared) -> BTreeMap<Arc<str>, Work> {
    let mut works = BTreeMap::new();
    for (index, source) in plan.sources.iter().enumerate() {
        let judge = Arc::new(Judge::new(plan.clone(), SourceId(index)));
        for topic in [&source.topic, source.state_topic()] {
            works.insert(topic.clone(), (judge.clone(), prepared.role(source, topic)));
        }
    }
    works
}

/// How many records make a batch: fewer where each adds to many rows.
fn batch_records(plan: &Plan) -> usize {
    let rows = |source| plan.aggregates.iter().filter(move |a| a.source == source).map(rows_of_record).sum();
    let most: usize = (0..plan.sources.len()).map(|i| rows(SourceId(i))).max().unwrap_or(0);
    (BATCH_ROWS / most.max(1)).clamp(1, BATCH_RECORDS)
}

fn rows_of_record(aggregate: &Aggregate) -> usize {
    match aggregate.window {
        Window::Session { .. } => 1,
        window @ (Window::Tumbling { .. } | Window::Sliding { .. }) => Frame::of(window).most_windows(),
    }
}

/// Why a record was not read.
enum Unread {
    Unfed(Unfed),
    Kafka(KafkaError),
}

impl TaskReport {
    /// `high` is the end of the log as the last fetch told it.
    fn of(slot: &Slot, high: Option<Offset>) -> TaskReport {
        let Some(running) = slot.running() else {
            let stage = match slot {
                Slot::Stopped(refusal) => Stage::Stopped(refusal.clone()),
                Slot::Waiting { reason, .. } => Stage::Taking(reason.clone()),
                Slot::Taking { ticket, .. } => Stage::Taking(ticket.step().to_owned()),
                Slot::Running(_) => Stage::Running,
            };
            return TaskReport::idle(stage);
        };
        TaskReport {
            stage: if running.is_live() { Stage::Running } else { Stage::Replaying },
            waits_for: None,
            // State is written last: where it stands, PostgreSQL and Kafka do.
            next: running.state.max(running.start.rows_from),
            outputs: running.state.max(running.start.outputs_from),
            state: running.state,
            read_to: running.read_to(),
            pending: running.task.is_dirty()
                || running.hop.as_ref().is_some_and(|hop| hop.owes(running.task.watermark())),
            high: Some(high.map_or(running.high, |high| high.max(running.high))),
            owner_epoch: running.task.owner_epoch(),
            watermark: running.task.watermark(),
        }
    }
}
