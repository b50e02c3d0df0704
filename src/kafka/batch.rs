//! Records as they come from the consumer: a batch in runs of one partition, borrowed until it is dropped.

use std::borrow::Cow;
use std::ops::Range;

use millstream_core::model::{Fingerprint, Offset, TopicPartition};

use super::error::KafkaError;
use super::ffi::{Messages, RawMessage};

/// Everything that one call of `Consumer::poll_batch` found, in the order in which it came: the order of every
/// partition is kept. Dropping it frees the records.
pub struct Batch<'c> {
    messages: &'c mut Messages,
    spans: &'c [Span],
    partitions: &'c [Slot],
}

/// A part of a batch.
pub enum BatchItem<'b> {
    Records(Run<'b>),
    /// A partition that cannot be read on (its queue stays silent from here), or, without one, the client's error.
    Error {
        partition: Option<&'b TopicPartition>,
        error: &'b KafkaError,
    },
}

/// Successive records of one partition.
#[derive(Clone)]
pub struct Run<'b> {
    partition: &'b TopicPartition,
    messages: &'b Messages,
    range: Range<usize>,
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy)]
pub struct Record<'b>(RawMessage<'b>);

/// Messages that belong together.
pub(super) enum Span {
    Run { slot: usize, range: Range<usize> },
    Error { slot: Option<usize>, error: KafkaError },
}

/// An assigned partition.
pub(super) struct Slot {
    pub partition: TopicPartition,
    /// How librdkafka names the topic in messages; 0 while none came.
    pub handle: usize,
    pub resumed: bool,
}

impl Slot {
    pub fn new(partition: &TopicPartition) -> Slot {
        Slot { partition: partition.clone(), handle: 0, resumed: false }
    }
}

impl<'c> Batch<'c> {
    pub(super) fn new(
        messages: &'c mut Messages,
        spans: &'c mut Vec<Span>,
        partitions: &'c mut [Slot],
    ) -> Self {
        split(messages, spans, partitions);
        Batch { messages, spans, partitions }
    }

    /// Records and errors in this batch.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn items(&self) -> impl Iterator<Item = BatchItem<'_>> {
        self.spans.iter().map(|span| match span {
            Span::Run { slot, range } => BatchItem::Records(Run {
                partition: &self.partitions[*slot].partition,
                messages: self.messages,
                range: range.clone(),
            }),
            Span::Error { slot, error } => {
                BatchItem::Error { partition: slot.map(|slot| &self.partitions[slot].partition), error }
            }
        })
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.messages.clear();
    }
}

impl<'b> Run<'b> {
    pub fn partition(&self) -> &'b TopicPartition {
        self.partition
    }

    pub fn len(&self) -> usize {
        self.range.len()
    }

    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Record<'b>> + ExactSizeIterator + use<'b> {
        let messages = self.messages;
        self.range.clone().map(move |at| Record(messages.get(at)))
    }
}

impl<'b> Record<'b> {
    /// Where this record stands; offsets of a partition grow, with gaps where transactions ended or were aborted.
    pub fn offset(&self) -> Offset {
        Offset(self.0.offset())
    }

    /// The Kafka timestamp.
    pub fn timestamp_ms(&self) -> Option<i64> {
        Some(self.0.timestamp()).filter(|ms| *ms >= 0)
    }

    pub fn key(&self) -> Option<&'b [u8]> {
        self.0.key()
    }

    pub fn value(&self) -> Option<&'b [u8]> {
        self.0.value()
    }

    /// Names and values in their order; parsed anew at each call.
    pub fn headers(&self) -> Vec<(Cow<'b, str>, Option<&'b [u8]>)> {
        self.0.headers()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.offset(), self.timestamp_ms().unwrap_or(-1), self.key(), self.value())
    }
}

fn split(messages: &Messages, spans: &mut Vec<Span>, partitions: &mut [Slot]) {
    spans.clear();
    let mut at = 0;
    while at < messages.len() {
        let first = messages.get(at);
        let slot = find(partitions, first);
        if let Some((code, detail)) = first.error() {
            let error = match slot {
                Some(slot) => KafkaError::of_partition(&partitions[slot].partition, code, detail),
                None => KafkaError::of_code("consume", code, detail),
            };
            spans.push(Span::Error { slot, error });
            at += 1;
            continue;
        }
        let same = |message: RawMessage<'_>| {
            message.topic_handle() == first.topic_handle()
                && message.partition() == first.partition()
                && message.error().is_none()
        };
        let end = (at + 1..messages.len()).find(|next| !same(messages.get(*next))).unwrap_or(messages.len());
        // Why: a record of a partition that was given back is nobody's here, and must not be processed.
        if let Some(slot) = slot {
            spans.push(Span::Run { slot, range: at..end });
        }
        at = end;
    }
}

/// Compares handles first: the name is looked up once per partition and assignment.
fn find(partitions: &mut [Slot], message: RawMessage<'_>) -> Option<usize> {
    let (handle, number) = (message.topic_handle(), message.partition());
    let of_number = |slot: &Slot| slot.partition.partition.0 == number;
    if let Some(known) = partitions.iter().position(|slot| of_number(slot) && slot.handle == handle) {
        return (handle != 0).then_some(known);
    }
    let topic = message.topic_name()?;
    let found = partitions.iter().position(|slot| of_number(slot) && *slot.partition.topic == *topic)?;
    partitions[found].handle = handle;
    Some(found)
}
