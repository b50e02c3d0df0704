//! One task, from record to sealed epoch.

use std::borrow::Cow;
use std::sync::Arc;

use crate::codec::{META_KEY, Routed, RoutedHead, SOURCES_KEY, TaskMeta, decode_sources, encode_meta};
use crate::commit::{Refusal, RefusalCode};
use crate::model::{
    Dead, EventTime, Fingerprint, Offset, OwnerEpoch, Partition, RollingHash, Row, TopicPartition,
};
use crate::verdict::{Evaluated, Judge, RecordView};
use crate::window::watermark;

use super::dedup::Dedup;
use super::gather::{Gather, Incoming, Origin};
use super::route::{sources_entry, sources_of};
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

/// What a task makes of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything: its source is not repartitioned.
    Whole,
    /// Dead letters, and copies for the internal topic. The source has at least so many partitions.
    Router { partitions: i32 },
    /// What became of them: a partition of the internal topic.
    Internal,
}

/// Why a record was not processed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refusal),
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
    role: Role,
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

impl Role {
    /// That of one partition. Why: it may have been added since they were counted, and tells the internal topic of itself.
    fn of(self, partition: Partition) -> Role {
        match self {
            Role::Router { partitions } => Role::Router { partitions: partitions.max(partition.0 + 1) },
            other => other,
        }
    }
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
        (judge, role): (Arc<Judge>, Role),
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
            role: role.of(identity.partition.partition),
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

    /// Reads what records are held against: how far the sources of an internal topic have come, and the ids, of which
    /// memory keeps at most `id_bytes`. To be called before the first record of a task that has local state.
    ///
    /// # Errors
    /// Only if local state cannot be read.
    pub fn load(&mut self, id_bytes: usize) -> Result<(), StoreError> {
        if self.role == Role::Internal
            && let Some(stored) = self.store.get(Family::Meta, SOURCES_KEY)?
        {
            let marks = decode_sources(&stored).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            self.gather.sources = sources_of(marks);
            let known = self.gather.sources.marks().len();
            (0..known).for_each(|source| self.gather.windows.know(Partition(source as i32)));
        }
        let Some(spec) = &self.judge.source().dedup else { return Ok(()) };
        let mut dedup = Dedup::new(spec.within, id_bytes);
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

    /// Of the partition; of an internal topic's the least over its sources.
    pub fn watermark(&self) -> Option<EventTime> {
        if self.role == Role::Internal {
            return self.gather.sources.least();
        }
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
    /// If local state cannot be read, or if no router wrote a record of an internal topic.
    pub fn process(&mut self, record: &Record<'_>, effects: Effects) -> Result<(), ProcessError> {
        assert!(record.offset >= self.next, "offset {} after {}", record.offset, self.next);
        match self.role {
            Role::Internal => self.arrive(record, effects)?,
            Role::Whole | Role::Router { .. } => self.judge(record, None, effects)?,
        }
        self.next = record.offset.next();
        self.fingerprint =
            Some(Fingerprint::of(record.offset, record.timestamp_ms.unwrap_or(-1), record.key, record.value));
        Ok(())
    }

    /// A record or a tick that a router wrote.
    fn arrive(&mut self, record: &Record<'_>, effects: Effects) -> Result<(), ProcessError> {
        let value = record.value.ok_or_else(|| self.foreign(record, "it has no value"))?;
        match Routed::decode(value).map_err(|error| self.foreign(record, &error.to_string()))? {
            Routed::Record { head, timestamp_ms, key, value } => {
                let original = Record { timestamp_ms, key, value: Some(value), ..*record };
                self.judge(&original, Some(head), effects)
            }
            Routed::Tick { head, idle } => {
                self.gather.hear_tick(record, &head, idle);
                Ok(())
            }
        }
    }

    fn judge(
        &mut self,
        record: &Record<'_>,
        routed: Option<RoutedHead>,
        effects: Effects,
    ) -> Result<(), ProcessError> {
        let (judge, role, scratch) = (&*self.judge, self.role, &mut self.scratch);
        let mut row = Row::with_capacity(judge.source().fields.len());
        let mut arguments = Vec::new();
        let view = RecordView { value: record.value, timestamp_ms: record.timestamp_ms };
        let judged = judge.decode(view, &mut row).and_then(|judged| {
            judge.evaluate(&row, scratch, &mut arguments)?;
            Ok((judged, spreading(judge, role, &row)?))
        });
        let TopicPartition { topic, partition } = &self.identity.partition;
        match judged {
            Ok((judged, Some((text, partitions)))) => {
                let offset = record.offset;
                let head = RoutedHead { partition: *partition, partitions, offset, watermark: None };
                self.gather.route(judge, (record, head), (&text, judged.event_time), effects);
            }
            Ok((judged, None)) => {
                let own = Origin { topic, partition: *partition, offset: record.offset };
                let origin = routed.map_or(own, |head| Origin {
                    topic: &judge.source().topic,
                    partition: head.partition,
                    offset: head.offset,
                });
                let (row, evaluated, arguments) = (&row[..], &self.scratch, &arguments[..]);
                let incoming =
                    Incoming { record, origin, routed, row, judged: &judged, evaluated, arguments };
                self.gather.take(judge, &*self.store, &incoming, effects)?;
            }
            // A router gave no verdict to it: this is none of its copies.
            Err(dead) if routed.is_some() => {
                let what = format!("it is dead, {}: {}", dead.reason, dead.detail);
                return Err(self.foreign(record, &what));
            }
            Err(dead) => self.gather.bury(judge, &self.identity.partition, (record, dead), effects),
        }
        Ok(())
    }

    fn foreign(&self, record: &Record<'_>, what: &str) -> ProcessError {
        let detail = format!("the record at offset {} of {}: {what}", record.offset, self.identity.partition);
        Refusal::new(RefusalCode::InternalTopicForeign, detail).into()
    }

    /// Says to every partition of the internal topic how far this router's source has come, behind the records of the
    /// epoch. `idle`: that it stands at the end of its log, and may be left out until it speaks again.
    pub fn tick(&mut self, idle: bool) {
        let (Role::Router { partitions }, watermark) = (self.role, self.watermark()) else {
            unreachable!("asked of a router")
        };
        let partition = self.identity.partition.partition;
        let head = RoutedHead { partition, partitions, offset: self.next, watermark };
        let mut value = Vec::new();
        Routed::Tick { head, idle }.encode(&mut value);
        self.gather.outputs.tick = Some(value);
    }

    /// Closes the epoch: everything since the last one, with the changes that local state needs.
    pub fn seal(&mut self) -> SealedEpoch {
        let mut changes = Vec::new();
        let deltas = self.gather.windows.seal(&mut changes);
        let watermark = self.watermark();
        let Gather { windows, sources, .. } = &mut self.gather;
        let of = |source: Option<Partition>| source.map_or(watermark, |source| sources.watermark_of(source));
        windows.expire(of, &mut changes);
        let sessions = self.gather.sessions.seal(watermark, &mut changes);
        if let Some(dedup) = &mut self.gather.dedup {
            dedup.seal(watermark, &mut changes);
        }
        changes.push(Change::Put {
            family: Family::Meta,
            key: META_KEY.to_vec(),
            value: encode_meta(&self.meta()),
        });
        if self.role == Role::Internal {
            let value = sources_entry(&self.gather.sources);
            changes.push(Change::Put { family: Family::Meta, key: SOURCES_KEY.to_vec(), value });
        }
        let whole = !matches!(self.role, Role::Router { .. });
        let counts = self.gather.counts.totals(&self.judge, whole);
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

/// Of a router: by which text a record is spread, and how many partitions its source has at least.
fn spreading<'r>(judge: &Judge, role: Role, row: &'r Row<'_>) -> Result<Option<(Cow<'r, str>, i32)>, Dead> {
    let (Role::Router { partitions }, Some(hop)) = (role, &judge.source().repartition) else {
        return Ok(None);
    };
    Ok(Some((judge.spreading_text(hop.by, row)?, partitions)))
}
