//! One record against one source.

use std::borrow::Cow;
use std::sync::Arc;

use crate::codec::{Decoded, RecordDecoder};
use crate::expr::spreading_text;
use crate::model::{Dead, DeadReason, EventTime, Row, Value};
use crate::pipeline::{FieldId, Plan, Source, SourceId};

use super::evaluate::{Evaluated, Evaluator};

/// What Kafka hands over of a record and a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    pub value: Option<&'a [u8]>,
    /// The Kafka timestamp; `None` where the record has none.
    pub timestamp_ms: Option<i64>,
}

/// Judges the records of one source. Holds nothing about any record.
#[derive(Debug)]
pub struct Judge {
    plan: Arc<Plan>,
    source: SourceId,
    decoder: RecordDecoder,
    evaluator: Evaluator,
}

/// A record that is not dead.
#[derive(Debug)]
pub struct Judged<'a> {
    pub decoded: Decoded<'a>,
    pub event_time: EventTime,
}

impl Judge {
    pub fn new(plan: Arc<Plan>, source: SourceId) -> Judge {
        let spec = &plan.sources[source.0];
        let evaluator = Evaluator::new(&plan, source);
        let decoder = RecordDecoder::new(&spec.fields, spec.max_record_bytes, evaluator.set_names());
        Judge { plan, source, decoder, evaluator }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn source_id(&self) -> SourceId {
        self.source
    }

    /// Every name that some record output of the source sets; bit i of `Decoded::watched_present` is name i.
    pub fn set_names(&self) -> &[Arc<str>] {
        self.evaluator.set_names()
    }

    pub fn source(&self) -> &Source {
        &self.plan.sources[self.source.0]
    }

    /// Decodes a record into `row`: the reasons `NULL_VALUE` to `FUTURE_EVENT`.
    ///
    /// # Errors
    /// The first reason that applies.
    pub fn decode<'a>(&self, record: RecordView<'a>, row: &mut Row<'a>) -> Result<Judged<'a>, Dead> {
        let source = self.source();
        let decoded = self.decoder.decode(record.value, row)?;
        let Value::Timestamp(event_time) = row[source.event_time.0] else {
            unreachable!("checked at load: the event time is a required timestamp")
        };
        if let Some(ms) = record.timestamp_ms {
            let limit = ms.saturating_add(source.watermark.max_future.millis());
            // Compared in microseconds, without overflow for any timestamp a broker stores.
            if i128::from(event_time.0) > i128::from(limit) * 1_000 {
                let detail = format!(
                    "event time {event_time} is later than the record's timestamp {} by more than {} ms",
                    timestamp_text(ms),
                    source.watermark.max_future.millis()
                );
                return Err(Dead::new(DeadReason::FutureEvent, detail));
            }
        }
        Ok(Judged { decoded, event_time })
    }

    /// The text that says which partition of the internal topic a record belongs to.
    ///
    /// # Errors
    /// `EXPRESSION_ERROR`, should the value have no text.
    pub fn spreading_text<'r>(&self, by: FieldId, row: &'r Row<'_>) -> Result<Cow<'r, str>, Dead> {
        let field = &self.source().fields[by.0];
        spreading_text(&row[by.0], field.data_type)
            .map_err(|error| Dead::new(DeadReason::ExpressionError, format!("repartition_by: {error}")))
    }

    /// Evaluates checks and expressions: the reasons `CHECK_FAILED` to `KEY_TOO_LONG`.
    ///
    /// # Errors
    /// The first reason that applies.
    pub fn evaluate<'r>(
        &'r self,
        row: &'r Row<'_>,
        out: &mut Evaluated,
        arguments: &mut Vec<Value<'r>>,
    ) -> Result<(), Dead> {
        self.evaluator.evaluate(&self.plan, self.source, row, (out, arguments))
    }
}

fn timestamp_text(ms: i64) -> String {
    match ms.checked_mul(1_000) {
        Some(us) => EventTime(us).to_string(),
        None => format!("{ms} ms"),
    }
}
