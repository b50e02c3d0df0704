//! Taking a task: fence, read, decide, start.

use std::sync::Arc;

use millstream_core::codec::{META_KEY, TaskMeta, decode_meta};
use millstream_core::commit::{
    CommitPermit, Local, Observed, Progress, Refusal, RefusalCode, Take, TaskStart, take,
};
use millstream_core::engine::{Family, StateStore, StoreError, Task, TaskIdentity};
use millstream_core::model::{Offset, TopicPartition};
use millstream_core::pipeline::{Source, Start};
use millstream_core::verdict::Judge;

use crate::fault::{Break, Point, broken, reached};
use crate::kafka::{CommittedOffset, GroupOffset};
use crate::postgres::{Owned, PostgresError, ProgressRow};
use crate::state::{StateDir, TaskStore};

use super::epoch::{COMMIT_TIMEOUT, offset_metadata, read_offset_metadata};
use super::links::{ASK_TIMEOUT, Links};
use super::slot::Running;
use super::{Halt, Prepared, RuntimeError};

/// What taking needs besides the connections.
pub struct Taker<'w> {
    pub judge: &'w Arc<Judge>,
    pub prepared: &'w Prepared,
    pub state_dir: &'w StateDir,
    pub window_bytes: usize,
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

impl Taker<'_> {
    /// Takes one task, through its bootstrap if it was never seen.
    ///
    /// # Errors
    /// `RuntimeError::Refused` with the reason for which it must not run; outages are waited for.
    pub fn take(&self, links: &mut Links, tp: &TopicPartition) -> Result<Running, Halt> {
        let identity = self.identity(links, tp);
        loop {
            let found = self.observe(links, tp, &identity)?;
            let decision = take(&self.observed(links, &found, &identity));
            reached(Point::TakeDecided);
            match with_deliberate_faults(decision, &found) {
                Take::Bootstrap => {
                    let start = self.resolve_start(links, tp, (found.low, found.high))?;
                    links.ask_postgres(async |session| {
                        let (application, hash) = (&*identity.application, identity.plan_hash);
                        session.insert_bootstrap(application, tp, &identity.topic_id, start, hash).await
                    })?;
                    reached(Point::BootstrapRowInserted);
                }
                Take::FinishBootstrap { start } => self.finish_bootstrap(links, tp, &found, start)?,
                Take::Start(start) => return self.start(links, (identity, found), start),
                Take::Refuse(refusal) => return Err(RuntimeError::from(refusal).into()),
            }
        }
    }

    fn identity(&self, links: &Links, tp: &TopicPartition) -> TaskIdentity {
        TaskIdentity {
            application: links.application().into(),
            cluster_id: self.prepared.cluster_id.clone(),
            partition: tp.clone(),
            topic_id: self.prepared.sources[&tp.topic].topic_id.clone(),
            plan_hash: self.judge.plan().hash,
        }
    }

    /// Order: the fence first, then every offset (I5); the group offset only once it is stable.
    fn observe(
        &self,
        links: &mut Links,
        tp: &TopicPartition,
        identity: &TaskIdentity,
    ) -> Result<Findings, Halt> {
        let row = fence(links, tp)?;
        reached(Point::TakeFenced);
        if links.kafka_outputs() {
            // Why: a transaction that this worker left open holds its group offset unstable until it is fenced.
            links.producer()?;
        }
        let group = links.stable_offsets(std::slice::from_ref(tp))?.into_iter().next();
        reached(Point::TakeGroupOffsetRead);
        let (low, high) = links.log_range(tp)?;
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
        tp: &TopicPartition,
        (low, high): (Offset, Offset),
    ) -> Result<Offset, Halt> {
        let source: &Source = self.judge.source();
        match source.start {
            Start::Earliest => Ok(low),
            Start::Latest => Ok(high),
            Start::At(time) => links.retry(|links| links.consumer.offset_at(tp, time, ASK_TIMEOUT)),
        }
    }

    /// Commits the start to the group in a Kafka transaction of its own, then marks the row.
    fn finish_bootstrap(
        &self,
        links: &mut Links,
        tp: &TopicPartition,
        found: &Findings,
        start: Offset,
    ) -> Result<(), Halt> {
        let row = found.row.as_ref().expect("a bootstrap is finished where there is a row");
        let group_stands = found.group.as_ref().is_some_and(|g| g.offset == Some(start));
        if links.kafka_outputs() && !group_stands {
            let offset = CommittedOffset {
                partition: tp.clone(),
                offset: start,
                metadata: offset_metadata(row.epoch, row.hash),
            };
            let owned = Owned { tp: tp.clone(), owner_epoch: row.owner_epoch, next: row.next };
            let committed = commit_start(links, &offset, &owned);
            if committed.is_ok() && links.producer_in_doubt() {
                // Order: a delayed copy of a request must not meet the next transaction.
                links.discard_producer();
            }
            if let Err(error) = committed {
                // Order: a producer that failed is never used again; observing anew tells what came of it.
                links.discard_producer();
                return match error {
                    Halt::Failed(error) => links.retry_once_after(&error),
                    halt => Err(halt),
                };
            }
        }
        reached(Point::BootstrapOffsetCommitted);
        links.ask_postgres(async |session| {
            session.mark_bootstrapped(&row_application(self.judge), tp, row.owner_epoch).await
        })?;
        reached(Point::BootstrapMarked);
        Ok(())
    }

    fn start(
        &self,
        links: &mut Links,
        (identity, found): (TaskIdentity, Findings),
        start: TaskStart,
    ) -> Result<Running, Halt> {
        let row = found.row.expect("a task starts from its row");
        if let Some(meta) = found.meta.as_ref().filter(|m| m.next == row.next && m.hash != row.hash) {
            let detail =
                format!("at offset {} local state has hash {}, PostgreSQL {}", row.next, meta.hash, row.hash);
            return Err(RuntimeError::from(Refusal::new(RefusalCode::Nondeterminism, detail)).into());
        }
        let resume = (found.meta.as_ref(), row.start);
        let store = Box::new(found.store);
        let mut task = Task::open(identity, Arc::clone(self.judge), store, resume, self.window_bytes);
        task.own(row.owner_epoch, row.counts.clone());
        let verify = task.fingerprint().filter(|f| f.offset >= found.low);
        let tp = task.identity().partition.clone();
        let at = verify.map_or(start.state_from, |f| f.offset);
        links.retry(|links| links.consumer.seek_and_resume(&tp, at))?;
        tracing::info!(
            task = %tp, owner_epoch = %row.owner_epoch, state = %start.state_from, outputs = %start.outputs_from,
            rows = %start.rows_from, "task taken"
        );
        let outputs_hash = found.group.and_then(|g| read_offset_metadata(&g.metadata));
        Ok(Running {
            task,
            start,
            epoch: row.epoch,
            taken: row,
            outputs_hash,
            end: found.high,
            high: found.high,
            read_up_to: start.state_from,
            state: start.state_from,
            verify,
            left_out: false,
            settled: false,
        })
    }
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

fn commit_start(links: &mut Links, offset: &CommittedOffset, owned: &Owned) -> Result<(), Halt> {
    let parts = links.parts()?;
    let producer = parts.producer.expect("kafka outputs have a producer");
    let mut send = || -> Result<(), RuntimeError> {
        producer.begin()?;
        let group = parts.consumer.group_metadata()?;
        producer.send_offsets(std::slice::from_ref(offset), &group, COMMIT_TIMEOUT)?;
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

fn row_application(judge: &Judge) -> String {
    judge.plan().application.to_string()
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
