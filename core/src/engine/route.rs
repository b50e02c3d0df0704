//! The hop: what a router copies to the internal topic, and what comes out of it at the other end.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::codec::{Routed, RoutedHead, encode_sources};
use crate::model::EventTime;
use crate::window::{SourceMark, SourceWatermarks, watermark};

use super::gather::Gather;
use super::outputs::RoutedRecord;
use super::{Effects, Record};
use crate::verdict::Judge;

impl Gather {
    /// A record that is not dead, on its way to the partition of `text`. Its verdict comes there.
    ///
    /// The hash folds every byte of the copy but its headers and the number of partitions, which may have grown when it is
    /// replayed. Ticks are no part of it: when they are sent is a matter of the clock, and a replay may send others.
    pub fn route(
        &mut self,
        judge: &Judge,
        (record, head): (&Record<'_>, RoutedHead),
        (text, at): (&str, EventTime),
        effects: Effects,
    ) {
        self.begin_fold(record, b'R');
        self.fold.extend_from_slice(text.as_bytes());
        self.end_fold();
        let bytes = &mut self.outputs.bytes;
        let start = bytes.len();
        let watermark = watermark(self.max_event_time, judge.source().watermark.delay);
        let copy = Routed::Record {
            head: RoutedHead { watermark, ..head },
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value.expect("a record without a value is dead"),
        };
        copy.encode(bytes);
        let end = bytes.len();
        let copied = &bytes[start..end];
        for part in [&copied[..Routed::PARTITIONS.start], &copied[Routed::PARTITIONS.end..]] {
            self.hash.0 = xxh3_64_with_seed(part, self.hash.0);
        }
        if effects.outputs {
            bytes.extend_from_slice(text.as_bytes());
            let routed =
                RoutedRecord { key: end..bytes.len(), value: start..end, headers: (record.headers)() };
            self.outputs.routed.push(routed);
        } else {
            bytes.truncate(start);
        }
        if effects.rows {
            self.counts.routed();
        }
        self.max_event_time = self.max_event_time.max(Some(at));
    }

    /// A tick of the internal topic.
    pub fn hear_tick(&mut self, record: &Record<'_>, head: &RoutedHead, idle: bool) {
        self.begin_fold(record, b'T');
        self.fold.extend_from_slice(record.value.unwrap_or_default());
        self.end_fold();
        self.sources.hear((head.partition, head.partitions), head.watermark, idle);
    }
}

/// How local state keeps the watermarks of an internal topic's sources.
pub fn sources_entry(sources: &SourceWatermarks) -> Vec<u8> {
    let marks: Vec<_> = sources.marks().iter().map(|mark| (mark.watermark, mark.idle)).collect();
    encode_sources(sources.least(), &marks)
}

/// The watermarks of such an entry.
pub fn sources_of((least, marks): crate::codec::SourceMarks) -> SourceWatermarks {
    let mark = |(watermark, idle)| SourceMark { watermark, idle };
    SourceWatermarks::restored(marks.into_iter().map(mark).collect(), least)
}
