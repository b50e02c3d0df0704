//! The sessions of one key: joined and merged record by record, and what becomes of their rows.

use std::sync::Arc;

use crate::aggregate::Accumulator;
use crate::model::{EventTime, SessionSpan, Value};
use crate::pipeline::{Function, Selected};
use crate::window::SessionRules;

use super::StoreError;

/// What a session costs in memory beside its accumulators.
const SESSION_BYTES: usize = 48;
/// Late for every window, wherever it starts: for a session there is no other way to be late.
const ALWAYS: EventTime = EventTime(i64::MAX);

/// A row of a table of sessions that an epoch writes or removes.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionChange {
    /// The encoded group key.
    pub key: Arc<[u8]>,
    pub start: EventTime,
    /// The columns behind those of the key, in their order; none: the row is to go.
    pub row: Option<Vec<Value<'static>>>,
}

/// The selected columns of an aggregate of sessions.
#[derive(Debug)]
pub struct SessionColumns {
    pub empty: Box<[Accumulator]>,
    functions: Vec<Function>,
}

/// What one record adds to its key.
pub struct SessionRecord<'r> {
    pub key: &'r [u8],
    pub at: EventTime,
    pub arguments: &'r [Value<'r>],
    pub late: bool,
    /// The least that it or any record to come is judged by.
    pub least: Option<EventTime>,
    /// Whether PostgreSQL lacks it still.
    pub rows: bool,
}

/// Sorted by time; they do not overlap.
#[derive(Debug, Default)]
pub struct KeySessions {
    sessions: Vec<Session>,
    /// Rows that PostgreSQL holds and that no session has any more, by their starts.
    gone: Vec<EventTime>,
    /// Rows of the epoch whose sessions are forgotten already.
    closed: Vec<(EventTime, Vec<Value<'static>>)>,
}

#[derive(Debug)]
struct Session {
    span: SessionSpan,
    totals: Box<[Accumulator]>,
    /// Whether PostgreSQL holds a row with this start.
    held: bool,
    /// Whether PostgreSQL lacks something that happened to it.
    changed: bool,
}

impl SessionColumns {
    pub fn of(select: &[Selected]) -> SessionColumns {
        SessionColumns {
            empty: select.iter().map(Accumulator::empty).collect(),
            functions: select.iter().map(|s| s.function).collect(),
        }
    }
}

impl KeySessions {
    /// Adds a record that is not too late.
    pub fn add(&mut self, rules: SessionRules, columns: &SessionColumns, record: &SessionRecord<'_>) {
        self.forget(rules, columns, record.least);
        let place = rules.place(&self.sessions, |session| session.span, record.at);
        if place.is_empty() {
            let span = SessionSpan { start: record.at, end: record.at };
            let totals = columns.empty.clone();
            let session = Session { span, totals, held: !record.rows, changed: false };
            self.sessions.insert(place.start, session);
        }
        if place.len() == 2 {
            let later = self.sessions.remove(place.start + 1);
            if later.held && record.rows {
                self.gone.push(later.span.start);
            }
            self.sessions[place.start].merge(later);
        }
        let session = &mut self.sessions[place.start];
        if record.at < session.span.start && record.rows && std::mem::take(&mut session.held) {
            self.gone.push(session.span.start);
        }
        session.add(record);
    }

    /// Forgets sessions that are out of reach for all records to come. What an epoch does to a key must not depend on where
    /// the epoch began, so it is asked at every record.
    fn forget(&mut self, rules: SessionRules, columns: &SessionColumns, watermark: Option<EventTime>) {
        let Some(watermark) = watermark else { return };
        let over = self.sessions.partition_point(|session| rules.over_at(session.span.end) <= watermark);
        for session in self.sessions.drain(..over).filter(|session| session.changed) {
            self.closed.push((session.span.start, session.row(columns)));
        }
    }

    /// Takes what changed since the last call, by start.
    pub fn take_changes(
        &mut self,
        key: &Arc<[u8]>,
        columns: &SessionColumns,
        changes: &mut Vec<SessionChange>,
    ) {
        let first = changes.len();
        let mut push = |start, row| changes.push(SessionChange { key: key.clone(), start, row });
        self.closed.drain(..).for_each(|(start, row)| push(start, Some(row)));
        for session in self.sessions.iter_mut().filter(|session| session.changed) {
            push(session.span.start, Some(session.row(columns)));
            (session.held, session.changed) = (true, false);
        }
        self.gone.drain(..).for_each(|start| push(start, None));
        changes[first..].sort_by_key(|change| change.start);
    }

    /// The last event time; every key has one.
    pub fn end(&self) -> Option<EventTime> {
        self.sessions.last().map(|session| session.span.end)
    }

    pub fn bytes(&self) -> usize {
        let heap = |session: &Session| {
            let totals: usize = session.totals.iter().map(Accumulator::heap_bytes).sum();
            SESSION_BYTES + size_of_val(&*session.totals) + totals
        };
        self.sessions.iter().map(heap).sum()
    }

    pub fn encode(&self) -> Vec<u8> {
        let columns = self.sessions.first().map_or(0, |session| session.totals.len());
        let mut value = Vec::with_capacity(self.sessions.len() * (16 + 9 * columns));
        for Session { span, totals, .. } in &self.sessions {
            value.extend_from_slice(&span.start.0.to_le_bytes());
            value.extend_from_slice(&span.end.0.to_le_bytes());
            totals.iter().for_each(|total| total.encode(&mut value));
        }
        value
    }

    /// Reads what `encode` wrote. PostgreSQL holds all of it: local state follows.
    pub fn decode(mut bytes: &[u8], columns: usize) -> Result<KeySessions, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt(format!("sessions of a key: {what}"));
        let mut kept = KeySessions::default();
        while !bytes.is_empty() {
            let mut time = || {
                let (head, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Some(EventTime(i64::from_le_bytes(*head)))
            };
            let (Some(start), Some(end)) = (time(), time()) else { return Err(corrupt("cut off")) };
            let after = kept.end().is_none_or(|last| last < start);
            if !after || end < start {
                return Err(corrupt("out of order"));
            }
            let totals: Result<Box<[Accumulator]>, _> =
                (0..columns).map(|_| Accumulator::decode(&mut bytes)).collect();
            let totals = totals.map_err(|error| corrupt(&error.to_string()))?;
            let span = SessionSpan { start, end };
            kept.sessions.push(Session { span, totals, held: true, changed: false });
        }
        match kept.sessions.is_empty() {
            true => Err(corrupt("there are none")),
            false => Ok(kept),
        }
    }
}

impl Session {
    fn add(&mut self, record: &SessionRecord<'_>) {
        self.span.start = self.span.start.min(record.at);
        self.span.end = self.span.end.max(record.at);
        let late_before = record.late.then_some(ALWAYS);
        for (total, value) in self.totals.iter_mut().zip(record.arguments) {
            total.add(value, late_before);
        }
        self.changed |= record.rows;
    }

    /// Takes a later one in.
    fn merge(&mut self, later: Session) {
        self.span.end = later.span.end;
        self.changed |= later.changed;
        for (total, other) in self.totals.iter_mut().zip(&later.totals) {
            total.merge(other);
        }
    }

    fn row(&self, columns: &SessionColumns) -> Vec<Value<'static>> {
        let SessionSpan { start, end } = self.span;
        let own = [Value::Timestamp(start), Value::Timestamp(end), Value::Bigint(self.span.seconds())];
        let selected = self.totals.iter().zip(&columns.functions).map(|(total, function)| match function {
            Function::LateRows => total.in_window(start).finish(*function),
            _ => total.finish(*function),
        });
        own.into_iter().chain(selected).collect()
    }
}
