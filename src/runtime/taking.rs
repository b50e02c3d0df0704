//! Taking a task: fence, read, decide, start.
//!
//! Runs on the taker's thread, with its connections; what needs the worker's producer or membership is handed back to
//! the worker.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::codec::{META_KEY, TaskMeta, decode_meta};
use millstream_core::commit::{
    CommitPermit, Local, Observed, Progress, Refusal, RefusalCode, Take, TaskStart, take,
};
use millstream_core::engine::{Family, Role, StateStore, StoreError, Task, TaskIdentity};
use millstream_core::model::{Offset, Recovery, TopicPartition};
use millstream_core::pipeline::Start;
use millstream_core::verdict::Judge;

use crate::fault::{Break, Point, broken, reached};
use crate::kafka::{CommittedOffset, GroupOffset};
use crate::postgres::{Owned, PostgresError, ProgressRow};
use crate::state::{StateDir, TaskStore};

use super::desk::Ticket;
use super::epoch::{COMMIT_TIMEOUT, offset_metadata, read_offset_metadata};
use super::hop::Hop;
use super::links::{ASK_TIMEOUT, Links};
use super::slot::{FIRST_RETRY, Running};
use super::{Halt, Prepared, RuntimeError};

/// Who judges a task's records, and what it does with them.
pub type Work = (Arc<Judge>, Role);

/// What taking needs besides the connections.
pub struct Taker {
    pub prepared: Arc<Prepared>,
    pub state_dir: Arc<StateDir>,
    pub window_bytes: usize,
    pub id_bytes: usize,
}

/// How far the taker got.
pub enum Taken {
    /// Ready to be read from this offset on.
    Ready { running: Box<Running>, at: Offset },
    /// Never seen before: the worker commits its start to the group, and orders the task again.
    Unbegun { start: CommittedOffset, owned: Owned },
}

/// Why a task was not taken.
pub enum Untaken {
    /// The order was withdrawn.
    Withdrawn,
    /// Another owner took the task meanwhile.
    Fenced,
    Refused(Refusal),
    /// Taking it again may mend it.
    Failed(RuntimeError),
    Halt(Halt),
}

impl<E: Into<Halt>> From<E> for Untaken {
    fn from(error: E) -> Untaken {
        match error.into() {
            Halt::Failed(RuntimeError::Refused(refusal)) => Untaken::Refused(refusal),
            Halt::Failed(error) if is_of_the_task(&error) => Untaken::Failed(error),
            halt => Untaken::Halt(halt),
        }
    }
}

/// Everything read about a task under its fence.
struct Findings {
    row: Option<ProgressRow>,
    group: Option<GroupOffset>,
    store: TaskStore,
    meta: Option<TaskMeta>,
    low: Offset,
    high: Offset,
}

fn is_of_the_task(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::State(_) | RuntimeError::Store(_))
        || matches!(error.recovery(), Recovery::RestartTask | Recovery::Fenced)
}

/// One task on its way.
#[derive(Clone, Copy)]
struct Errand<'e> {
    tp: &'e TopicPartition,
    work: &'e Work,
    ticket: &'e Ticket,
    identity: &'e TaskIdentity,
}

impl Taker {
    /// Takes one task, up to where the worker must do something for it. Outages are waited for.
    pub fn take(
        &self,
        links: &mut Links,
        (tp, work): (&TopicPartition, &Work),
        ticket: &Ticket,
    ) -> Result<Taken, Untaken> {
        let identity = self.identity(links, tp, &work.0);
        let errand = Errand { tp, work, ticket, identity: &identity };
        loop {
            let found = self.observe(links, errand)?;
            let decision = take(&self.observed(links, &found, &identity));
            reached(Point::TakeDecided);
            match with_deliberate_faults(decision, &found) {
                Take::Bootstrap => {
                    let start = self.resolve_start(links, errand, (found.low, found.high))?;
                    links.ask_postgres(async |session| {
                        let (application, hash) = (&*identity.application, identity.plan_hash);
                        session.insert_bootstrap(application, tp, &identity.topic_id, start, hash).await
                    })?;
                    reached(Point::BootstrapRowInserted);
                }
                Take::FinishBootstrap { start } => {
                    if let Some(unbegun) = self.finish_bootstrap(links, errand, &found, start)? {
                        return Ok(unbegun);
                    }
                }
                Take::Start(start) => return self.start(errand, found, start),
                // Order: asked once more; a stale taker must not refuse what it does not own any more.
                Take::Refuse(_) if !still_owned(links, tp, &found)? => return Err(Untaken::Fenced),
                Take::Refuse(refusal) => return Err(Untaken::Refused(refusal)),
            }
        }
    }

    fn identity(&self, links: &Links, tp: &TopicPartition, judge: &Judge) -> TaskIdentity {
        TaskIdentity {
            application: links.application().into(),
            cluster_id: self.prepared.cluster_id.clone(),
            partition: tp.clone(),
            topic_id: self.prepared.sources[&tp.topic].topic_id.clone(),
            plan_hash: judge.plan().hash,
        }
    }

    /// Order: the fence first, then every offset (I5); the group offset only once it is stable. The worker's producer
    /// was initialised before the order was given, so no transaction of its own holds that offset.
    fn observe(&self, links: &mut Links, errand: Errand<'_>) -> Result<Findings, Untaken> {
        let Errand { tp, ticket, identity, .. } = errand;
        if ticket.is_withdrawn() {
            return Err(Untaken::Withdrawn);
        }
        let early = read_before_the_fence(links, tp)?;
        ticket.enter("postgres: the progress row");
        let row = fence(links, tp)?;
        reached(Point::TakeFenced);
        ticket.enter("kafka: a stable offset of the group");
        let group = match early {
            Some(early) => Some(early),
            None => links.stable_offsets(std::slice::from_ref(tp))?.into_iter().next(),
        };
        reached(Point::TakeGroupOffsetRead);
        let (low, high) = links.log_range(tp)?;
        if ticket.is_withdrawn() {
            return Err(Untaken::Withdrawn);
        }
        ticket.enter("local state");
        let store = TaskStore::open(&self.state_dir.task_dir(&identity.application, tp))
            .map_err(RuntimeError::from)?;
        let meta = match store.get(Family::Meta, META_KEY).map_err(RuntimeError::from)? {
            None => None,
            Some(bytes) => Some(
                decode_meta(&bytes).map_err(|e| RuntimeError::from(StoreError::Corrupt(e.to_string())))?,
            ),
        };
        reached(Point::TakeStateOpened);
        Ok(Findings { row, group, store, meta, low, high })
    }

    fn observed(&self, links: &Links, found: &Findings, identity: &TaskIdentity) -> Observed {
        Observed {
            progress: found.row.as_ref().map(|row| Progress {
                bootstrapped: row.bootstrapped,
                start: row.start,
                prev: row.prev,
                next: row.next,
                settled: row.settled,
                topic_id: row.topic_id.clone(),
                plan_hash: row.plan_hash,
            }),
            group: found.group.as_ref().and_then(|g| g.offset),
            kafka_outputs: links.kafka_outputs(),
            local: found.meta.as_ref().map(|meta| Local { next: meta.next, ours: identity.owns(meta) }),
            topic_id: identity.topic_id.clone(),
            plan_hash: identity.plan_hash,
            low: found.low,
            high: found.high,
        }
    }

    fn resolve_start(
        &self,
        links: &mut Links,
        errand: Errand<'_>,
        (low, high): (Offset, Offset),
    ) -> Result<Offset, Halt> {
        let (judge, role) = errand.work;
        // Why: `start` is where the source is read from; what was routed from there on is all to be read.
        let start = if *role == Role::Internal { Start::Earliest } else { judge.source().start };
        match start {
            Start::Earliest => Ok(low),
            Start::Latest => Ok(high),
            Start::At(time) => links.retry(|links| links.consumer.offset_at(errand.tp, time, ASK_TIMEOUT)),
        }
    }

    /// Marks the row once the group holds the start; hands the start to the worker where the group does not yet.
    fn finish_bootstrap(
        &self,
        links: &mut Links,
        errand: Errand<'_>,
        found: &Findings,
        start: Offset,
    ) -> Result<Option<Taken>, Untaken> {
        let Errand { tp, identity, .. } = errand;
        let row = found.row.as_ref().expect("a bootstrap is finished where there is a row");
        let group_stands = found.group.as_ref().is_some_and(|g| g.offset == Some(start));
        if links.kafka_outputs() && !group_stands {
            let start = CommittedOffset {
                partition: tp.clone(),
                offset: start,
                metadata: offset_metadata(row.epoch, row.hash),
            };
            let owned = Owned { tp: tp.clone(), owner_epoch: row.owner_epoch, next: row.next };
            return Ok(Some(Taken::Unbegun { start, owned }));
        }
        let marked = links.ask_postgres(async |session| {
            session.mark_bootstrapped(&identity.application, tp, row.owner_epoch).await
        })?;
        reached(Point::BootstrapMarked);
        if marked { Ok(None) } else { Err(Untaken::Fenced) }
    }

    /// Order: counts are those of the row that the fence returned; the first record that is read is the one before
    /// the state's end, to be compared with its fingerprint.
    fn start(&self, errand: Errand<'_>, found: Findings, start: TaskStart) -> Result<Taken, Untaken> {
        let row = found.row.expect("a task starts from its row");
        if let Some(meta) = found.meta.as_ref().filter(|m| m.next == row.next && m.hash != row.hash) {
            let detail =
                format!("at offset {} local state has hash {}, PostgreSQL {}", row.next, meta.hash, row.hash);
            return Err(Untaken::Refused(Refusal::new(RefusalCode::Nondeterminism, detail)));
        }
        let resume = (found.meta.as_ref(), row.start);
        let store = Box::new(found.store);
        let (identity, work) = (errand.identity.clone(), errand.work.clone());
        let mut task = Task::open(identity, work, store, resume, self.window_bytes);
        task.load(self.id_bytes).map_err(RuntimeError::from)?;
        task.own(row.owner_epoch, row.counts.clone());
        let verify = task.fingerprint().filter(|f| f.offset >= found.low);
        let at = verify.map_or(start.state_from, |f| f.offset);
        tracing::info!(
            task = %errand.tp, owner_epoch = %row.owner_epoch, state = %start.state_from,
            outputs = %start.outputs_from, rows = %start.rows_from, "task taken"
        );
        let idle_after = errand.work.0.source().watermark.idle_after.millis().unsigned_abs();
        let hop = Hop::of(errand.work.1, Duration::from_millis(idle_after));
        let outputs_hash = found.group.and_then(|g| read_offset_metadata(&g.metadata));
        let running = Box::new(Running {
            task,
            start,
            epoch: row.epoch,
            taken: row,
            outputs_hash,
            high: found.high,
            read_up_to: start.state_from,
            state: start.state_from,
            verify,
            left_out: false,
            settled: false,
            pause: FIRST_RETRY,
            hop,
        });
        Ok(Taken::Ready { running, at })
    }
}

fn still_owned(links: &mut Links, tp: &TopicPartition, found: &Findings) -> Result<bool, Halt> {
    let rows = links.lock_progress(std::slice::from_ref(tp))?;
    let owner = |row: Option<&ProgressRow>| row.map(|row| row.owner_epoch);
    Ok(owner(rows.first()) == owner(found.row.as_ref()))
}

/// The statement that fences the previous owner. A commit of that owner may hold the row: past the bound its server
/// process is ended, since no time-out covers a client that stopped in mid-statement.
fn fence(links: &mut Links, tp: &TopicPartition) -> Result<Option<ProgressRow>, Halt> {
    let (application, owner) = (links.application().to_owned(), links.owner());
    links.ask_postgres(async |session| match session.take(&application, tp, &owner).await {
        Err(PostgresError::LockTimeout { .. }) => {
            if session.terminate_recorded_backend(&application, tp).await? {
                tracing::warn!(task = %tp, "ended the server process of an owner that holds the progress row");
            }
            session.take(&application, tp, &owner).await
        }
        taken => taken,
    })
}

/// Commits a start to the group, in a Kafka transaction of its own. For the worker: its producer, its membership.
pub fn commit_start(links: &mut Links, start: &CommittedOffset, owned: &Owned) -> Result<(), Halt> {
    let parts = links.parts()?;
    let producer = parts.producer.expect("kafka outputs have a producer");
    let mut send = || -> Result<(), RuntimeError> {
        producer.begin()?;
        let group = parts.consumer.group_metadata()?;
        producer.send_offsets(std::slice::from_ref(start), &group, COMMIT_TIMEOUT)?;
        let checked = parts.session.check_outputs_only(parts.application, std::slice::from_ref(owned));
        let matched = parts.runtime.block_on(checked)?;
        let Some(_permit) = CommitPermit::after_compare(1, matched.len()) else {
            // The next look at the row says who owns it.
            return Err(crate::kafka::KafkaError::NotAMember.into());
        };
        Ok(producer.commit(COMMIT_TIMEOUT)?)
    };
    send().map_err(Halt::from)
}

/// A deliberate fault of the tests: K as it stands at the moment, of a writer that may still go on.
#[cfg(feature = "fault")]
fn read_before_the_fence(links: &mut Links, tp: &TopicPartition) -> Result<Option<GroupOffset>, Halt> {
    if !broken(Break::GroupOffsetBeforeFence) || !links.kafka_outputs() {
        return Ok(None);
    }
    let read = |links: &mut Links| {
        let tasks = std::slice::from_ref(tp);
        crate::kafka::deliberate::unstable_offsets(&links.settings().kafka, tasks, ASK_TIMEOUT)
    };
    let early = links.retry(read)?.into_iter().next();
    reached(Point::TakeGroupOffsetRead);
    Ok(early)
}

#[cfg(not(feature = "fault"))]
fn read_before_the_fence(_links: &mut Links, _tp: &TopicPartition) -> Result<Option<GroupOffset>, Halt> {
    Ok(None)
}

/// The deliberate faults of the tests; what was decided, in any other build.
fn with_deliberate_faults(decision: Take, found: &Findings) -> Take {
    match (decision, &found.row, &found.meta) {
        (Take::Start(start), Some(row), Some(meta))
            if broken(Break::OutputsAgain) && meta.next <= row.prev && start.outputs_from == row.next =>
        {
            Take::Start(TaskStart { outputs_from: row.prev, ..start })
        }
        (Take::Refuse(refusal), Some(row), Some(meta))
            if broken(Break::StateFirst) && refusal.code == RefusalCode::StateAhead =>
        {
            Take::Start(TaskStart {
                state_from: meta.next,
                outputs_from: meta.next,
                rows_from: row.next.max(meta.next),
            })
        }
        (decision, ..) => decision,
    }
}
