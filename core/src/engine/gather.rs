//! What the records of the current epoch mean, gathered until it is sealed.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::aggregate::encode_value;
use crate::codec::{RoutedHead, SpliceNames, encode_group_key, splice};
use crate::model::{Dead, DeadReason, EventTime, Offset, Partition, RollingHash, TopicPartition, Value};
use crate::pipeline::{
    Aggregate, AggregateId, Function, OutputTimestamp, RecordOutput, ResultTable, SetValue, Window,
};
use crate::verdict::{Evaluated, Judge, Judged, Match};
use crate::window::{Arrival, Frame, Lateness, Marks, SessionRules, SourceWatermarks, watermark};

use super::bucket::Addition;
use super::counts::Tally;
use super::dedup::Dedup;
use super::session::SessionRecord;
use super::sessions::Sessions;
use super::windows::Windows;
use super::{
    DeadLetter, Effects, Header, Outputs, Record, RecordMessage, SideMessage, StateStore, StoreError,
    TableRow,
};

/// How much of a value over the limit goes into its dead letter.
const TOO_LARGE_PREFIX: usize = 65_536;

/// What changes with every record.
pub struct Gather {
    pub hash: RollingHash,
    pub max_event_time: Option<EventTime>,
    /// Of an internal topic's task: how far its sources have come.
    pub sources: SourceWatermarks,
    pub windows: Windows,
    pub sessions: Sessions,
    /// The ids of a source that has them.
    pub dedup: Option<Dedup>,
    pub counts: Tally,
    pub outputs: Outputs,
    record_outputs: Vec<(usize, SpliceNames)>,
    /// Record tables with the places of their key columns.
    record_tables: Vec<(usize, Vec<usize>)>,
    pub(super) fold: Vec<u8>,
}

/// One record that is not dead.
pub struct Incoming<'r> {
    /// As its source has it: behind a hop without the prefix, and at the offset that it has in the internal topic.
    pub record: &'r Record<'r>,
    pub origin: Origin<'r>,
    /// What it carries, behind a hop.
    pub routed: Option<RoutedHead>,
    pub row: &'r [Value<'r>],
    pub judged: &'r Judged<'r>,
    pub evaluated: &'r Evaluated,
    pub arguments: &'r [Value<'r>],
}

/// Where a record stands in its source.
#[derive(Clone, Copy)]
pub struct Origin<'r> {
    pub topic: &'r str,
    pub partition: Partition,
    pub offset: Offset,
}

impl Gather {
    pub fn new(judge: &Judge, partition: Partition, (window_bytes, id_bytes): (usize, usize)) -> Gather {
        let plan = judge.plan();
        let (sessions, windows): (Vec<AggregateId>, Vec<AggregateId>) = (0..plan.aggregates.len())
            .filter(|i| plan.aggregates[*i].source == judge.source_id())
            .map(AggregateId)
            .partition(|id| matches!(plan.aggregates[id.0].window, Window::Session { .. }));
        let kinds = usize::from(!sessions.is_empty()) + usize::from(!windows.is_empty());
        let bytes = window_bytes / kinds.max(1);
        let record_outputs = plan
            .records
            .iter()
            .enumerate()
            .filter(|(_, output)| output.source == judge.source_id())
            .map(|(i, output)| {
                let names: Vec<Arc<str>> = output.set.iter().map(|(name, _)| name.clone()).collect();
                (i, SpliceNames::new(&names, judge.set_names()))
            })
            .collect();
        Gather {
            hash: RollingHash::default(),
            max_event_time: None,
            sources: SourceWatermarks::default(),
            windows: Windows::new(plan, &windows, partition, bytes),
            sessions: Sessions::new(plan, &sessions, bytes),
            dedup: judge.source().dedup.as_ref().map(|spec| Dedup::new(spec.within, id_bytes)),
            counts: Tally::new(plan),
            outputs: Outputs::default(),
            record_outputs,
            record_tables: record_tables(judge),
            fold: Vec::new(),
        }
    }

    /// A record that is not dead: a duplicate is counted and moves the watermark, any other is accepted.
    pub fn take(
        &mut self,
        judge: &Judge,
        store: &dyn StateStore,
        incoming: &Incoming<'_>,
        effects: Effects,
    ) -> Result<(), StoreError> {
        let at = incoming.judged.event_time;
        let delay = judge.source().watermark.delay;
        let marks = match &incoming.routed {
            Some(head) => self.sources.marks_of(head.watermark),
            None => Marks::of(watermark(self.max_event_time, delay)),
        };
        let duplicate = match (&mut self.dedup, incoming.evaluated.id) {
            (Some(dedup), Some(id)) => dedup.is_duplicate(store, (id, at), marks)?,
            _ => false,
        };
        if duplicate {
            self.begin_fold(incoming.record, b'U');
            self.end_fold();
            if effects.rows {
                self.counts.duplicate();
            }
        } else {
            self.accept(judge, store, (incoming, marks), effects)?;
        }
        self.max_event_time = self.max_event_time.max(Some(at));
        if let Some(head) = &incoming.routed {
            let after = head.watermark.max(watermark(Some(at), delay));
            self.sources.hear((head.partition, head.partitions), after, false);
        }
        Ok(())
    }

    /// An accepted record: to all record outputs, and to the aggregates it matched.
    fn accept(
        &mut self,
        judge: &Judge,
        store: &dyn StateStore,
        (incoming, marks): (&Incoming<'_>, Marks),
        effects: Effects,
    ) -> Result<(), StoreError> {
        self.begin_fold(incoming.record, b'A');
        self.enrich(judge, incoming, effects);
        self.record(judge, incoming, effects);
        for matched in &incoming.evaluated.matches {
            self.aggregate(judge, store, (incoming, matched, marks), effects)?;
        }
        self.end_fold();
        if effects.rows {
            self.counts.accepted(&incoming.evaluated.failed_checks);
        }
        Ok(())
    }

    /// A dead record: to the dead letters, and nowhere else.
    pub fn bury(
        &mut self,
        judge: &Judge,
        partition: &TopicPartition,
        (record, dead): (&Record<'_>, Dead),
        effects: Effects,
    ) {
        self.begin_fold(record, b'D');
        let reason = dead.reason.to_string();
        self.fold.extend_from_slice(reason.as_bytes());
        self.end_fold();
        if effects.rows {
            self.counts.dead(&reason);
        }
        let limit = if dead.reason == DeadReason::TooLarge { TOO_LARGE_PREFIX } else { usize::MAX };
        let value = record.value.map(|v| v[..v.len().min(limit)].to_vec());
        if let (true, Some(letters)) = (effects.outputs, &judge.source().dead_letter_topic) {
            let mut headers = (record.headers)();
            headers.push(text_header("reason", reason));
            headers.push(text_header("detail", dead.detail.clone()));
            let TopicPartition { topic, partition } = partition;
            push_origin(&mut headers, Origin { topic, partition: *partition, offset: record.offset });
            if let (DeadReason::TooLarge, Some(v)) = (&dead.reason, record.value) {
                headers.push(text_header("value_bytes", v.len().to_string()));
            }
            let key = record.key.map(<[u8]>::to_vec);
            self.outputs.side.push(SideMessage {
                topic: letters.clone(),
                key,
                value: value.clone(),
                headers,
            });
        }
        if effects.rows && judge.plan().dead_letter_table.is_some() {
            self.outputs.dead_letters.push(DeadLetter {
                offset: record.offset,
                reason: dead.reason,
                detail: dead.detail,
                key: record.key.map(<[u8]>::to_vec),
                value,
                value_bytes: record.value.map(<[u8]>::len),
                headers: (record.headers)(),
                timestamp_ms: record.timestamp_ms,
            });
        }
    }

    fn enrich(&mut self, judge: &Judge, incoming: &Incoming<'_>, effects: Effects) {
        let Gather { record_outputs, outputs, hash, .. } = self;
        let Incoming { record, judged, evaluated, .. } = incoming;
        let mut first_set = 0;
        for (index, names) in record_outputs {
            let output = &judge.plan().records[*index];
            let start = outputs.bytes.len();
            let value = |field: usize| &evaluated.json[evaluated.set[first_set + field].clone()];
            let stamps = &mut outputs.stamps;
            splice(&judged.decoded, names, value, &mut outputs.bytes, |field, at| {
                if effects.outputs && matches!(output.set[field].1, SetValue::CommitTime) {
                    stamps.push(at);
                }
            });
            first_set += output.set.len();
            let end = outputs.bytes.len();
            hash.0 = xxh3_64_with_seed(&outputs.bytes[start..end], hash.0);
            if !effects.outputs {
                outputs.bytes.truncate(start);
                continue;
            }
            let key = output_key(output, incoming).map(|bytes| {
                outputs.bytes.extend_from_slice(bytes);
                end..outputs.bytes.len()
            });
            let timestamp_ms = record.timestamp_ms.filter(|_| output.timestamp == OutputTimestamp::Input);
            outputs.records.push(RecordMessage { output: *index, key, value: start..end, timestamp_ms });
        }
    }

    /// Rows of record tables. PostgreSQL has those of a record below P already.
    fn record(&mut self, judge: &Judge, incoming: &Incoming<'_>, effects: Effects) {
        for ((index, key_columns), at) in self.record_tables.iter().zip(&incoming.evaluated.rows) {
            let values = &incoming.arguments[at.clone()];
            self.fold.extend_from_slice(judge.plan().record_tables[*index].table.name.as_bytes());
            for value in values {
                encode_value(value, &mut self.fold);
            }
            if effects.rows {
                let mut key = Vec::new();
                for column in key_columns {
                    encode_group_key(std::slice::from_ref(&values[*column]), &mut key);
                }
                let values = values.iter().map(|value| value.clone().into_owned()).collect();
                let row = TableRow { output: *index, key, values };
                self.outputs.row_bytes += row.size();
                self.outputs.rows.push(row);
            }
        }
    }

    fn aggregate(
        &mut self,
        judge: &Judge,
        store: &dyn StateStore,
        (incoming, matched, marks): (&Incoming<'_>, &Match, Marks),
        effects: Effects,
    ) -> Result<(), StoreError> {
        let aggregate = &judge.plan().aggregates[matched.aggregate.0];
        if let Some(rules) = SessionRules::of(aggregate) {
            return self.session((judge, rules), store, (incoming, matched, marks), effects);
        }
        let of = (matched.aggregate, incoming.routed.map(|head| head.partition));
        let arrival = self.windows.judge(of, incoming.judged.event_time, marks.watermark);
        let key = &incoming.evaluated.keys[matched.key.clone()];
        let arguments = &incoming.arguments[matched.arguments.clone()];

        self.fold.extend_from_slice(aggregate.name.as_bytes());
        self.fold_arrival(&arrival, aggregate);
        self.fold.extend_from_slice(key);
        for argument in arguments {
            encode_value(argument, &mut self.fold);
        }
        if effects.rows {
            self.counts.matched(matched.aggregate, (arrival.is_too_late(), arrival.is_partly_late()));
        }
        if !arrival.is_too_late() {
            let Arrival { late_before, .. } = arrival;
            let addition = Addition { key, arguments, late_before, rows: effects.rows };
            return self.windows.add(store, (of, &arrival), &addition);
        }
        if let (true, Some(topic), Some(watermark)) =
            (effects.outputs, &judge.source().late_topic, marks.watermark)
        {
            let end = Frame::of(aggregate.window).window(arrival.last).end;
            let headers = late_headers(incoming, (&aggregate.name, watermark, end));
            self.outputs.side.push(late_message(topic, incoming, headers));
        }
        Ok(())
    }

    fn session(
        &mut self,
        (judge, rules): (&Judge, SessionRules),
        store: &dyn StateStore,
        (incoming, matched, marks): (&Incoming<'_>, &Match, Marks),
        effects: Effects,
    ) -> Result<(), StoreError> {
        let aggregate = &judge.plan().aggregates[matched.aggregate.0];
        let at = incoming.judged.event_time;
        let lateness = rules.lateness(at, marks.watermark);
        let key = &incoming.evaluated.keys[matched.key.clone()];
        let arguments = &incoming.arguments[matched.arguments.clone()];
        let (late, too_late) = (lateness == Lateness::Late, lateness == Lateness::TooLate);

        self.fold.extend_from_slice(aggregate.name.as_bytes());
        self.fold.push(u8::from(too_late) + 4 * u8::from(late && counts_late(aggregate)));
        self.fold.extend_from_slice(&at.0.to_le_bytes());
        self.fold.extend_from_slice(key);
        for argument in arguments {
            encode_value(argument, &mut self.fold);
        }
        if effects.rows {
            self.counts.matched(matched.aggregate, (too_late, false));
        }
        if !too_late {
            let record = SessionRecord { key, at, arguments, late, least: marks.least, rows: effects.rows };
            return self.sessions.add(store, matched.aggregate, &record);
        }
        if let (true, Some(topic), Some(watermark)) =
            (effects.outputs, &judge.source().late_topic, marks.watermark)
        {
            let headers = late_headers(incoming, (&aggregate.name, watermark, rules.end(at)));
            self.outputs.side.push(late_message(topic, incoming, headers));
        }
        Ok(())
    }

    /// The rolling hash folds per record: offset, verdict, outputs with a constant for the commit time, and the
    /// aggregates' updates before they are merged.
    pub(super) fn begin_fold(&mut self, record: &Record<'_>, verdict: u8) {
        self.fold.clear();
        self.fold.extend_from_slice(&record.offset.0.to_le_bytes());
        self.fold.push(verdict);
    }

    /// 0 counted, 1 too late, 2 counted and partly late with the first window that takes it; and 4 is added where lateness
    /// is counted and some windows that take it have ended, with the first that has not.
    fn fold_arrival(&mut self, arrival: &Arrival, aggregate: &Aggregate) {
        let Arrival { live_from, late_before, .. } = arrival;
        let partly = arrival.is_partly_late();
        let late = late_before.filter(|before| live_from < before && counts_late(aggregate));
        self.fold.push(u8::from(arrival.is_too_late()) + 2 * u8::from(partly) + 4 * u8::from(late.is_some()));
        if partly {
            self.fold.extend_from_slice(&live_from.0.to_le_bytes());
        }
        if let Some(before) = late {
            self.fold.extend_from_slice(&before.0.to_le_bytes());
        }
    }

    pub(super) fn end_fold(&mut self) {
        self.hash.0 = xxh3_64_with_seed(&self.fold, self.hash.0);
    }
}

fn counts_late(aggregate: &Aggregate) -> bool {
    aggregate.select.iter().any(|s| s.function == Function::LateRows)
}

fn record_tables(judge: &Judge) -> Vec<(usize, Vec<usize>)> {
    let tables = judge.plan().record_tables.iter().enumerate();
    let of_source = tables.filter(|(_, output)| output.source == judge.source_id());
    let with_key = of_source.map(|(index, output)| {
        let ResultTable { key, columns, .. } = &output.table;
        let place = |name: &Arc<str>| {
            columns.iter().position(|c| c.name == *name).expect("checked at load: its column")
        };
        (index, key.iter().map(place).collect())
    });
    with_key.collect()
}

/// The declared key field's text, or the input's key.
fn output_key<'r>(output: &RecordOutput, incoming: &'r Incoming<'_>) -> Option<&'r [u8]> {
    match output.key {
        None => incoming.record.key,
        Some(field) => match &incoming.row[field.0] {
            Value::Text(text) => Some(text.as_bytes()),
            _ => None,
        },
    }
}

fn late_headers(
    incoming: &Incoming<'_>,
    (aggregate, watermark, end): (&str, EventTime, EventTime),
) -> Vec<Header> {
    let mut headers = (incoming.record.headers)();
    headers.push(text_header("aggregate", aggregate.to_owned()));
    headers.push(text_header("watermark", watermark.to_string()));
    let late_by_ms = (watermark.0 - end.0) / 1_000;
    headers.push(text_header("late_by_ms", late_by_ms.to_string()));
    push_origin(&mut headers, incoming.origin);
    headers
}

fn late_message(topic: &Arc<str>, incoming: &Incoming<'_>, headers: Vec<Header>) -> SideMessage {
    SideMessage {
        topic: topic.clone(),
        key: incoming.record.key.map(<[u8]>::to_vec),
        value: incoming.record.value.map(<[u8]>::to_vec),
        headers,
    }
}

fn push_origin(headers: &mut Vec<Header>, origin: Origin<'_>) {
    headers.push(text_header("source_topic", origin.topic.to_owned()));
    headers.push(text_header("source_partition", origin.partition.to_string()));
    headers.push(text_header("source_offset", origin.offset.to_string()));
}

fn text_header(name: &str, value: String) -> Header {
    (name.to_owned(), Some(value.into_bytes()))
}
