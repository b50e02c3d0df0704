//! A worker's consumer: a member of the group whose partitions all end in one queue of its own.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use millstream_core::model::{EventTime, Offset, Recovery, TopicPartition};
use rdkafka::client::NativeClient;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use crate::clock::Deadline;

use super::batch::{Batch, Slot, Span};
use super::config::KafkaSettings;
use super::context::{GroupEvent, GroupNotes};
use super::coverage::{self, Coverage};
use super::error::KafkaError;
use super::ffi::{self, GroupMetadata, Messages, RecordQueue, Wakeup};
use super::group::{self, GroupOffset};

/// How long a seek may take, and how often it is tried again while a partition is still being started.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
const SEEK_RETRY: Duration = Duration::from_millis(2);
/// How long waking a fetch thread may take: beyond the longest fetch, or giving up would cost the connection.
const WAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long giving partitions back, and then closing, may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const CLOSE_POLL: Duration = Duration::from_millis(2);

/// One member of the consumer group. All its calls belong to one thread.
///
/// Order: messages are dropped before the queue, the queue before the client, the client before the eventfd; any
/// other order lets the drop of the client wait for ever.
pub struct Consumer {
    messages: Messages,
    spans: Vec<Span>,
    assigned: Vec<Slot>,
    /// None only while this is dropped, as for `link`.
    queue: Option<RecordQueue>,
    link: Option<Link>,
}

/// The client and what its queues write to.
struct Link {
    client: BaseConsumer<GroupNotes>,
    wakeup: Wakeup,
}

impl Consumer {
    /// Makes the client; joins nothing yet, and does not need a broker.
    pub fn open(settings: &KafkaSettings) -> Result<Consumer, KafkaError> {
        let client: BaseConsumer<GroupNotes> = settings
            .consumer()?
            .create_with_context(GroupNotes::default())
            .map_err(|error| KafkaError::of_client("make the consumer", error))?;
        let no_queue = |detail: String| KafkaError::Fatal { operation: "make the consumer's queue", detail };
        let wakeup = Wakeup::new().map_err(|error: io::Error| no_queue(error.to_string()))?;
        wakeup.watch_group_events(client.client().native_client());
        let queue = RecordQueue::new(client.client().native_client(), &wakeup)
            .ok_or_else(|| no_queue("no queue".into()))?;
        Ok(Consumer {
            messages: Messages::default(),
            spans: Vec::new(),
            assigned: Vec::new(),
            queue: Some(queue),
            link: Some(Link { client, wakeup }),
        })
    }

    /// Joins the group for these topics. What it gets comes as group events.
    pub fn subscribe(&mut self, topics: &[&str]) -> Result<(), KafkaError> {
        self.client().subscribe(topics).map_err(|error| KafkaError::of_client("subscribe", error))
    }

    /// Serves at most one event of the client. Must be called at least once every few seconds, or the group takes
    /// this member for dead. Errors are those a person must see to (a topic that is not there, a permission);
    /// outages are none: the client tries again by itself.
    pub fn poll_group(&mut self) -> Result<Option<GroupEvent>, KafkaError> {
        const OPERATION: &str = "serve the group";
        match self.client().poll(Duration::ZERO) {
            None => {}
            Some(Ok(_)) => {
                // Invariant: queues are forwarded before partitions are assigned, so no record comes this way.
                let detail = "a record came outside of the worker's queue".into();
                return Ok(Some(GroupEvent::Failed(KafkaError::Fatal { operation: OPERATION, detail })));
            }
            Some(Err(ClientError::MessageConsumptionFatal(code))) => {
                let (code, detail) =
                    self.client().client().fatal_error().unwrap_or((code, "no detail".into()));
                let error = match KafkaError::of_code(OPERATION, code, detail.clone()) {
                    fenced @ KafkaError::FencedInstance { .. } => fenced,
                    _ => KafkaError::Fatal { operation: OPERATION, detail },
                };
                return Ok(Some(GroupEvent::Failed(error)));
            }
            Some(Err(error)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                let detail = self.client().context().journal.last_reason();
                let error = KafkaError::of_code(OPERATION, code, detail);
                if error.recovery() == Recovery::Invalid {
                    return Err(error);
                }
            }
        }
        Ok(self.client().context().next())
    }

    /// Answers `GroupEvent::Assigned`, also one of no partitions: takes the partitions and leaves them paused at
    /// offsets that are valid in their logs. Call `seek_and_resume` for each once it has caught up.
    pub fn assign(&mut self, at: &[(TopicPartition, Offset)]) -> Result<(), KafkaError> {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in at {
            self.forward(partition)?;
            group::add(&mut offsets, partition, ListOffset::Offset(offset.0))?;
        }
        self.client().incremental_assign(&offsets).map_err(|error| KafkaError::of_client("assign", error))?;
        drop(offsets);
        self.assigned.retain(|slot| at.iter().all(|(partition, _)| slot.partition != *partition));
        self.assigned.extend(at.iter().map(|(partition, _)| Slot::new(partition)));
        self.forget_handles();
        self.pause_all(at.iter().map(|(partition, _)| partition))?;
        self.wake();
        Ok(())
    }

    /// Goes on at `at`. What was fetched before is never given out. Does nothing for a partition that was given back
    /// before: the event that says so is on its way to whoever asks.
    pub fn seek_and_resume(&mut self, partition: &TopicPartition, at: Offset) -> Result<(), KafkaError> {
        if self.assigned.iter().all(|slot| slot.partition != *partition) {
            return Ok(());
        }
        let list = group::list([partition].into_iter())?;
        self.client().resume(&list).map_err(|error| KafkaError::of_client("resume", error))?;
        drop(list);
        // Order: resume, then seek: what wakes a fetch thread that sleeps is a seek, though not one to 0.
        self.seek(partition, at)?;
        let others_fetch = self.assigned.iter().any(|slot| slot.resumed && slot.partition != *partition);
        if at == Offset(0) && !others_fetch {
            self.ask(partition);
        }
        self.set_resumed(partition, true);
        Ok(())
    }

    /// Gives out nothing of this partition until `seek_and_resume`.
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), KafkaError> {
        self.set_resumed(partition, false);
        self.pause_all([partition].into_iter())
    }

    /// Answers `GroupEvent::Revoked`: gives the partitions back.
    /// Those given back before are passed over.
    pub fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let held =
            |partition: &&TopicPartition| self.assigned.iter().any(|slot| slot.partition == **partition);
        let list = group::list(partitions.iter().filter(held))?;
        if list.count() == 0 && !partitions.is_empty() {
            return Ok(());
        }
        self.assigned.retain(|slot| !partitions.contains(&slot.partition));
        self.forget_handles();
        self.client()
            .incremental_unassign(&list)
            .map_err(|error| KafkaError::of_client("unassign", error))?;
        drop(list);
        self.wake();
        Ok(())
    }

    /// The partitions taken and not given back.
    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.assigned.iter().map(|slot| slot.partition.clone()).collect()
    }

    /// Up to `cap` records that are here already.
    pub fn poll_batch(&mut self, cap: usize) -> Batch<'_> {
        self.messages.clear();
        if let Some(queue) = &self.queue {
            queue.consume(&mut self.messages, cap);
        }
        Batch::new(&mut self.messages, &mut self.spans, &mut self.assigned)
    }

    /// Sleeps until a record or a group event came, or the time is up. Only after `poll_group` and `poll_batch`
    /// found nothing: what was left in a queue does not wake anybody.
    pub fn wait(&self, timeout: Duration) {
        if let Some(link) = &self.link {
            link.wakeup.wait(timeout);
        }
    }

    /// A fresh snapshot of the membership, for one commit.
    pub fn group_metadata(&self) -> Result<GroupMetadata, KafkaError> {
        // Invariant: a broker accepts offsets of a negative generation from anybody, so none is ever given out.
        let joined = |group: &GroupMetadata| group.generation() >= 0 && group.has_member_id();
        GroupMetadata::of(self.native()).filter(joined).ok_or(KafkaError::NotAMember)
    }

    /// Whether a `FencedInstance` is this client's own doing. Its session ended while the broker was away; until that
    /// is answered it sends heartbeats without its member's id, and a broker that still knows the member refuses
    /// them. A client that another process has fenced knows its id.
    pub fn fenced_itself(&self) -> bool {
        GroupMetadata::of(self.native()).is_some_and(|group| !group.has_member_id())
    }

    /// Which of these partitions no member of `group` has.
    pub fn coverage(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Coverage, KafkaError> {
        coverage::coverage(self.client(), group, partitions, timeout)
    }

    /// The group's committed offsets, once no transaction holds them. `Unstable`: ask again later.
    pub fn stable_offsets(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<GroupOffset>, KafkaError> {
        group::stable_offsets(self.client(), partitions, timeout)
    }

    /// Writes the group's offsets for tools that show lag. They are no witness: nobody reads them back, so no answer is
    /// waited for.
    pub fn mirror_offsets(&self, offsets: &[(TopicPartition, Offset)]) {
        let mut list = TopicPartitionList::new();
        let written = offsets
            .iter()
            .try_for_each(|(partition, offset)| {
                group::add(&mut list, partition, ListOffset::Offset(offset.0))
            })
            .and_then(|()| {
                let committed = self.client().commit(&list, CommitMode::Async);
                committed.map_err(|error| KafkaError::of_client("mirror offsets", error))
            });
        if let Err(error) = written {
            tracing::debug!(%error, "offsets not mirrored to the group");
        }
    }

    /// The first offset of a log and its last stable offset: the end of what a read-committed consumer can read at
    /// present.
    pub fn log_range(
        &self,
        partition: &TopicPartition,
        timeout: Duration,
    ) -> Result<(Offset, Offset), KafkaError> {
        group::log_range(self.client(), partition, timeout)
    }

    /// Of the partitions taken: everything below was given out since the last seek. Control records, which nobody gets,
    /// count once a batch has passed them.
    pub fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        let Ok(list) = self.client().position() else { return Vec::new() };
        let known =
            ffi::entries(&list).into_iter().filter(|entry| entry.error.is_none() && entry.offset >= 0);
        known.map(|entry| (TopicPartition::new(entry.topic, entry.partition), Offset(entry.offset))).collect()
    }

    /// The end of a log as the last fetch told it; `None` before the first. Asks nobody.
    pub fn known_end(&self, partition: &TopicPartition) -> Option<Offset> {
        let topic = CString::new(&*partition.topic).ok()?;
        ffi::known_end(self.native(), &topic, partition.partition.0).map(Offset)
    }

    /// The first offset whose Kafka timestamp is not before `time` (in milliseconds, cut), or the last stable
    /// offset.
    pub fn offset_at(
        &self,
        partition: &TopicPartition,
        time: EventTime,
        timeout: Duration,
    ) -> Result<Offset, KafkaError> {
        group::offset_at(self.client(), partition, time, timeout)
    }

    /// Closes the client. With `leave_group` the partitions go to other members at once; without it, as when this
    /// is dropped, the static member keeps them until its session times out, and finds them again if it is back
    /// before.
    pub fn close(mut self, leave_group: bool) {
        self.stop_serving();
        if leave_group {
            self.client().unsubscribe();
            let deadline = Deadline::after(CLOSE_TIMEOUT);
            while self.client().assignment().is_ok_and(|list| list.count() > 0) && !deadline.passed() {
                self.client().poll(CLOSE_POLL);
            }
        }
    }

    fn client(&self) -> &BaseConsumer<GroupNotes> {
        &self.link.as_ref().expect("a consumer has its client until it is dropped").client
    }

    fn native(&self) -> &NativeClient {
        self.client().client().native_client()
    }

    /// Invariant: after every change of the assignment; a topic's handle may have been freed, and used anew.
    fn forget_handles(&mut self) {
        for slot in &mut self.assigned {
            slot.handle = 0;
        }
    }

    /// Order: before the partition is assigned, and at each assignment: giving a partition back ends its forwarding.
    fn forward(&self, partition: &TopicPartition) -> Result<(), KafkaError> {
        let unknown = || KafkaError::UnknownTopic { detail: partition.to_string() };
        let topic = CString::new(&*partition.topic).map_err(|_| unknown())?;
        let queue = self.queue.as_ref().ok_or(KafkaError::NotAMember)?;
        if queue.forward(self.native(), &topic, partition.partition.0) { Ok(()) } else { Err(unknown()) }
    }

    fn seek(&self, partition: &TopicPartition, at: Offset) -> Result<(), KafkaError> {
        let deadline = Deadline::after(SEEK_TIMEOUT);
        loop {
            let mut list = TopicPartitionList::new();
            group::add(&mut list, partition, ListOffset::Offset(at.0))?;
            let sought = self
                .client()
                .seek_partitions(list, SEEK_TIMEOUT)
                .map_err(|error| KafkaError::of_client("seek", error))?;
            match ffi::entries(&sought).into_iter().next().and_then(|entry| entry.error) {
                None => return Ok(()),
                // Why: assigning is not waited for, and a partition that has not started yet cannot seek.
                Some(Code::State | Code::PreviousInProgress) if !deadline.passed() => {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "nothing tells when a partition has started"
                    )]
                    thread::sleep(SEEK_RETRY);
                }
                Some(code) => return Err(KafkaError::of_partition(partition, code, code.to_string())),
            }
        }
    }

    /// Order: the list is gone when this returns; one that still lives when the client is dropped hangs the drop.
    fn pause_all<'p>(&self, partitions: impl Iterator<Item = &'p TopicPartition>) -> Result<(), KafkaError> {
        let list = group::list(partitions)?;
        self.client().pause(&list).map_err(|error| KafkaError::of_client("pause", error))
    }

    /// Why: every change of the assignment stops all fetching, and a fetch thread that sleeps notices its end after up
    /// to a second; a question to its broker wakes it. One partition of each leader is asked.
    fn wake(&self) {
        let mut leaders = Vec::new();
        let topics: BTreeSet<_> = self.assigned.iter().map(|slot| &slot.partition.topic).collect();
        for topic in topics {
            let Ok(metadata) = self.client().fetch_metadata(Some(topic), WAKE_TIMEOUT) else { continue };
            for led in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                let partition = TopicPartition::new(topic.clone(), led.id());
                let here = self.assigned.iter().any(|slot| slot.partition == partition);
                if !here || leaders.contains(&led.leader()) {
                    continue;
                }
                leaders.push(led.leader());
                self.ask(&partition);
            }
        }
    }

    fn ask(&self, partition: &TopicPartition) {
        if let Err(error) = group::log_range(self.client(), partition, WAKE_TIMEOUT) {
            tracing::debug!(%error, %partition, "a fetch thread was not woken");
        }
    }

    fn set_resumed(&mut self, partition: &TopicPartition, resumed: bool) {
        for slot in self.assigned.iter_mut().filter(|slot| slot.partition == *partition) {
            slot.resumed = resumed;
        }
    }

    /// Order: before the client closes. librdkafka closes nothing while an event it gave out is unanswered.
    fn stop_serving(&mut self) {
        self.client().context().set_closing();
        while let Some(event) = self.client().context().next() {
            self.decline(event);
        }
    }

    /// Answers an event without taking anything: for whoever is about to close.
    pub fn decline(&mut self, event: GroupEvent) {
        let answered = match event {
            GroupEvent::Assigned(_) => self
                .client()
                .incremental_assign(&TopicPartitionList::new())
                .map_err(|error| KafkaError::of_client("assign", error)),
            GroupEvent::Revoked { partitions, .. } => self.unassign(&partitions),
            GroupEvent::Failed(_) => Ok(()),
        };
        if let Err(error) = answered {
            tracing::debug!(%error, "a closing consumer could not answer a group event");
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop_serving();
        self.messages.clear();
        self.queue = None;
        let Some(link) = self.link.take() else { return };
        let (done, closed) = mpsc::channel();
        let closing = thread::Builder::new().name("kafka-close".into()).spawn(move || {
            let Link { client, wakeup } = link;
            drop(client);
            drop(wakeup);
            let _ = done.send(());
        });
        // Why: the client's own drop waits without a bound; a thread left behind does less harm than a worker that hangs.
        if closing.is_ok() && closed.recv_timeout(CLOSE_TIMEOUT).is_err() {
            tracing::warn!("the consumer did not close within {CLOSE_TIMEOUT:?} and is left behind");
        }
    }
}
