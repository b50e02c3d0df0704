//! One task, from record to sealed epoch.

use std::sync::Arc;

use crate::codec::{META_KEY, TaskMeta, encode_meta};
use crate::model::{EventTime, Fingerprint, Offset, OwnerEpoch, RollingHash, Row, TopicPartition};
use crate::verdict::{Evaluated, Judge, RecordView};
use crate::window::watermark;

use super::dedup::Dedup;
use super::gather::{Gather, Incoming};
use super::{Change, Family, SealedEpoch, StateStore, StoreError, TaskCounts};

/// Names one task's log and pipeline; local state of any other is foreign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskIdentity {
    pub application: Arc<str>,
    pub cluster_id: String,
    pub partition: TopicPartition,
    pub topic_id: String,
    pub plan_hash: u64,
}

/// One record as it came from the log.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub offset: Offset,
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Read only for dead and late records.
    pub headers: &'a dyn Fn() -> Vec<super::Header>,
}

/// Which participants lack the record still. State always does: a task reads from where its state stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// Kafka outputs: the record is at K or beyond.
    pub outputs: bool,
    /// PostgreSQL rows: the record is at P or beyond.
    pub rows: bool,
}

/// What a source with `dedup` may keep in memory of its ids, unless told otherwise.
const ID_BYTES: usize = 64 << 20;

/// One input partition of one application.
pub struct Task {
    identity: TaskIdentity,
    judge: Arc<Judge>,
    store: Box<dyn StateStore + Send>,
    gather: Gather,
    scratch: Evaluated,
    owner_epoch: OwnerEpoch,
    from: Offset,
    next: Offset,
    fingerprint: Option<Fingerprint>,
}

impl Effects {
    pub const LIVE: Effects = Effects { outputs: true, rows: true };
}

impl TaskIdentity {
    /// Whether local state is this task's own.
    pub fn owns(&self, meta: &TaskMeta) -> bool {
        *self.application == meta.application
            && self.cluster_id == meta.cluster_id
            && *self.partition.topic == meta.topic
            && self.partition.partition == meta.partition
            && self.topic_id == meta.topic_id
            && self.plan_hash == meta.plan_hash
    }
}

impl Task {
    /// A task that stands where `meta`, read from `store`, says; or at `start` with nothing if there is none.
    /// `window_bytes` bounds the clean windows and sessions kept in memory.
    pub fn open(
        identity: TaskIdentity,
        judge: Arc<Judge>,
        store: Box<dyn StateStore + Send>,
        resume: (Option<&TaskMeta>, Offset),
        window_bytes: usize,
    ) -> Task {
        let (meta, start) = resume;
        let next = meta.map_or(start, |m| m.next);
        let mut gather = Gather::new(&judge, identity.partition.partition, (window_bytes, ID_BYTES));
        gather.hash = meta.map_or(RollingHash::default(), |m| m.hash);
        gather.max_event_time = meta.and_then(|m| m.max_event_time);
        Task {
            identity,
            judge,
            store,
            gather,
            scratch: Evaluated::default(),
            owner_epoch: OwnerEpoch(0),
            from: next,
            next,
            fingerprint: meta.and_then(|m| m.fingerprint),
        }
    }

    /// Reads the ids that records are held against, so that the first record does not wait for them; `budget_bytes` bounds
    /// what memory keeps of them.
    ///
    /// # Errors
    /// Only if local state cannot be read.
    pub fn load_ids(&mut self, budget_bytes: usize) -> Result<(), StoreError> {
        let Some(spec) = &self.judge.source().dedup else { return Ok(()) };
        let mut dedup = Dedup::new(spec.within, budget_bytes);
        dedup.load(&*self.store)?;
        self.gather.dedup = Some(dedup);
        Ok(())
    }

    /// Continues the totals that PostgreSQL holds, as the owner that was just recorded there.
    pub fn own(&mut self, owner_epoch: OwnerEpoch, counts: TaskCounts) {
        self.owner_epoch = owner_epoch;
        self.gather.counts.continue_from(counts);
    }

    pub fn identity(&self) -> &TaskIdentity {
        &self.identity
    }

    pub fn owner_epoch(&self) -> OwnerEpoch {
        self.owner_epoch
    }

    /// The next offset to read.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Of the record before `next`.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    pub fn hash(&self) -> RollingHash {
        self.gather.hash
    }

    pub fn watermark(&self) -> Option<EventTime> {
        watermark(self.gather.max_event_time, self.judge.source().watermark.delay)
    }

    /// Where the last sealed epoch ended; what follows up to `next` stands in memory only.
    pub fn sealed_to(&self) -> Offset {
        self.from
    }

    /// Whether records wait to be sealed.
    pub fn is_dirty(&self) -> bool {
        self.from < self.next
    }

    /// Bytes of outputs and result rows that wait to be sealed, as a bound on memory.
    pub fn pending_bytes(&self) -> usize {
        self.gather.outputs.size() + self.gather.windows.pending_row_bytes()
    }

    /// Judges one record and gathers its effects.
    ///
    /// # Errors
    /// Only if local state cannot be read.
    pub fn process(&mut self, record: &Record<'_>, effects: Effects) -> Result<(), StoreError> {
        assert!(record.offset >= self.next, "offset {} after {}", record.offset, self.next);
        let judge = &*self.judge;
        let mut row = Row::with_capacity(judge.source().fields.len());
        let mut arguments = Vec::new();
        let view = RecordView { value: record.value, timestamp_ms: record.timestamp_ms };
        let judged = match judge.decode(view, &mut row) {
            Ok(judged) => judge.evaluate(&row, &mut self.scratch, &mut arguments).map(|()| judged),
            Err(dead) => Err(dead),
        };
        match judged {
            Ok(judged) => {
                let incoming = Incoming {
                    partition: &self.identity.partition,
                    record,
                    row: &row,
                    judged: &judged,
                    evaluated: &self.scratch,
                    arguments: &arguments,
                };
                self.gather.take(judge, &*self.store, &incoming, effects)?;
            }
            Err(dead) => self.gather.bury(judge, &self.identity.partition, (record, dead), effects),
        }
        self.next = record.offset.next();
        self.fingerprint =
            Some(Fingerprint::of(record.offset, record.timestamp_ms.unwrap_or(-1), record.key, record.value));
        Ok(())
    }

    /// Closes the epoch: everything since the last one, with the changes that local state needs.
    pub fn seal(&mut self) -> SealedEpoch {
        let mut changes = Vec::new();
        let deltas = self.gather.windows.seal(&mut changes);
        let watermark = self.watermark();
        self.gather.windows.expire(watermark, &mut changes);
        let sessions = self.gather.sessions.seal(watermark, &mut changes);
        if let Some(dedup) = &mut self.gather.dedup {
            dedup.seal(watermark, &mut changes);
        }
        changes.push(Change::Put {
            family: Family::Meta,
            key: META_KEY.to_vec(),
            value: encode_meta(&self.meta()),
        });
        let counts = self.gather.counts.totals(&self.judge);
        debug_assert!(counts.conserved(), "{counts:?}");
        SealedEpoch {
            from: std::mem::replace(&mut self.from, self.next),
            to: self.next,
            hash: self.gather.hash,
            max_event_time: self.gather.max_event_time,
            watermark,
            fingerprint: self.fingerprint,
            outputs: std::mem::take(&mut self.gather.outputs),
            deltas,
            sessions,
            counts,
            changes,
        }
    }

    /// Writes the changes of an epoch to local state.
    ///
    /// Order: after every other participant has the epoch. State ahead of an output could not derive it again.
    pub fn write(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.store.write(changes)?;
        self.gather.windows.evict();
        self.gather.sessions.expire(&mut *self.store)?;
        self.gather.sessions.evict();
        if let Some(dedup) = &mut self.gather.dedup {
            dedup.evict();
        }
        Ok(())
    }

    fn meta(&self) -> TaskMeta {
        let TaskIdentity { application, cluster_id, partition, topic_id, plan_hash } = &self.identity;
        TaskMeta {
            application: application.to_string(),
            cluster_id: cluster_id.clone(),
            topic: partition.topic.to_string(),
            topic_id: topic_id.clone(),
            partition: partition.partition,
            next: self.next,
            hash: self.gather.hash,
            max_event_time: self.gather.max_event_time,
            owner_epoch: self.owner_epoch,
            fingerprint: self.fingerprint,
            plan_hash: *plan_hash,
        }
    }
}
