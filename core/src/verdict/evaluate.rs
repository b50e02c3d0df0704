//! Every expression that a record meets, before any of its effects.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use xxhash_rust::xxh3::xxh3_128;

use crate::codec::{encode_group_key, write_json};
use crate::expr::{EvalError, Expr};
use crate::model::{DataType, Dead, DeadReason, EventTime, Row, Value};
use crate::pipeline::{Aggregate, AggregateId, OnFail, Plan, RecordOutput, RecordTable, SetValue, SourceId};

/// The bytes a key may have: the UTF-8 bytes of its texts, 8 for each other value. PostgreSQL takes no index row over
/// 2,704 bytes.
pub const MAX_KEY_BYTES: usize = 2_000;

/// Stands for `commit_time()` until the epoch is decided; as long as every timestamp text.
pub const COMMIT_TIME_PLACEHOLDER: EventTime = EventTime::MIN;
/// Written once. Why: as text it is a tenth of the processor time of an enriched record.
static PLACEHOLDER_JSON: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut json = Vec::new();
    write_json(&Value::Timestamp(COMMIT_TIME_PLACEHOLDER), DataType::Timestamp, &mut json);
    json
});

/// An aggregate whose `where` the record passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    pub aggregate: AggregateId,
    /// The encoded group key, in `Evaluated::keys`.
    pub key: Range<usize>,
    /// One value per selected column, in the arguments; null where the filter was not true.
    pub arguments: Range<usize>,
}

/// What a record means for every output; buffers are reused from record to record.
#[derive(Debug, Default)]
pub struct Evaluated {
    pub matches: Vec<Match>,
    pub keys: Vec<u8>,
    /// JSON of the set values of all record outputs, in order.
    pub json: Vec<u8>,
    /// Per set value, its range in `json`.
    pub set: Vec<Range<usize>>,
    /// Per record table, the values of its columns in the arguments.
    pub rows: Vec<Range<usize>>,
    /// Indexes into the source's checks: false, with `on_fail: count`.
    pub failed_checks: Vec<usize>,
    /// Stands for the dedup key of a source that has one: xxh3-128 of its encoding as a group key.
    ///
    /// Why: keys are of any length. Of a billion, two have the same id with a chance of 10^-21.
    pub id: Option<u128>,
}

/// The expressions of one source.
#[derive(Debug)]
pub struct Evaluator {
    aggregates: Vec<AggregateId>,
    records: Vec<usize>,
    tables: Vec<usize>,
    set_names: Vec<Arc<str>>,
}

impl Evaluator {
    pub fn new(plan: &Plan, source: SourceId) -> Evaluator {
        let aggregates = (0..plan.aggregates.len())
            .filter(|i| plan.aggregates[*i].source == source)
            .map(AggregateId)
            .collect();
        let records: Vec<usize> =
            (0..plan.records.len()).filter(|i| plan.records[*i].source == source).collect();
        let mut set_names: Vec<Arc<str>> = Vec::new();
        for (name, _) in records.iter().flat_map(|i| &plan.records[*i].set) {
            if !set_names.contains(name) {
                set_names.push(name.clone());
            }
        }
        let tables =
            (0..plan.record_tables.len()).filter(|i| plan.record_tables[*i].source == source).collect();
        Evaluator { aggregates, records, tables, set_names }
    }

    /// Every name that some record output of the source sets.
    pub fn set_names(&self) -> &[Arc<str>] {
        &self.set_names
    }

    pub fn evaluate<'r>(
        &'r self,
        plan: &'r Plan,
        source: SourceId,
        row: &'r Row<'_>,
        out: (&mut Evaluated, &mut Vec<Value<'r>>),
    ) -> Result<(), Dead> {
        let (out, arguments) = out;
        out.clear();
        let mut raised = None;
        run_checks(plan, source, row, out, &mut raised)?;
        if let Some(error) = raised {
            return Err(Dead::new(DeadReason::ExpressionError, error));
        }
        identify(plan, source, row, out).map_err(|e| expression_error("dedup", &e))?;
        for output in self.records.iter().map(|i| &plan.records[*i]) {
            set_values(output, row, out)
                .map_err(|e| expression_error(&format!("records.{}", output.name), &e))?;
        }
        let mut too_long = None;
        for output in self.tables.iter().map(|i| &plan.record_tables[*i]) {
            let key_bytes = record_row(output, row, out, arguments)
                .map_err(|e| expression_error(&format!("records.{}", output.name), &e))?;
            if key_bytes > MAX_KEY_BYTES && too_long.is_none() {
                too_long = Some((format!("record output {}", output.name), key_bytes));
            }
        }
        for id in &self.aggregates {
            let aggregate = &plan.aggregates[id.0];
            let key_bytes = match_aggregate((*id, aggregate), row, out, arguments)
                .map_err(|e| expression_error(&format!("aggregates.{}", aggregate.name), &e))?;
            if key_bytes > MAX_KEY_BYTES && too_long.is_none() {
                too_long = Some((format!("aggregate {}", aggregate.name), key_bytes));
            }
        }
        match too_long {
            Some((whose, bytes)) => {
                let detail =
                    format!("the key of {whose} has {bytes} bytes, at most {MAX_KEY_BYTES} are allowed");
                Err(Dead::new(DeadReason::KeyTooLong, detail))
            }
            None => Ok(()),
        }
    }
}

impl Evaluated {
    fn clear(&mut self) {
        self.matches.clear();
        self.keys.clear();
        self.json.clear();
        self.set.clear();
        self.rows.clear();
        self.failed_checks.clear();
        self.id = None;
    }
}

/// A check that is false precedes one that raises, wherever they stand.
fn run_checks(
    plan: &Plan,
    source: SourceId,
    row: &Row<'_>,
    out: &mut Evaluated,
    raised: &mut Option<String>,
) -> Result<(), Dead> {
    for (i, check) in plan.sources[source.0].checks.iter().enumerate() {
        match check.expect.eval(row) {
            Ok(Value::Boolean(false)) => match check.on_fail {
                OnFail::DeadLetter => {
                    let detail = format!("{} is false", check.expect.canonical());
                    return Err(Dead::new(DeadReason::CheckFailed(check.name.clone()), detail));
                }
                OnFail::Count => out.failed_checks.push(i),
            },
            Ok(_) => {}
            Err(error) => {
                raised.get_or_insert_with(|| format!("checks.{}: {error}", check.name));
            }
        }
    }
    Ok(())
}

fn identify(plan: &Plan, source: SourceId, row: &Row<'_>, out: &mut Evaluated) -> Result<(), EvalError> {
    let Some(spec) = &plan.sources[source.0].dedup else { return Ok(()) };
    for expr in &spec.key {
        encode_group_key(&[expr.eval(row)?], &mut out.keys);
    }
    out.id = Some(xxh3_128(&out.keys));
    out.keys.clear();
    Ok(())
}

fn set_values(output: &RecordOutput, row: &Row<'_>, out: &mut Evaluated) -> Result<(), EvalError> {
    for (_, value) in &output.set {
        let start = out.json.len();
        match value {
            SetValue::CommitTime => out.json.extend_from_slice(&PLACEHOLDER_JSON),
            SetValue::Expr(expr) => write_json(&expr.eval(row)?, expr.data_type(), &mut out.json),
        }
        out.set.push(start..out.json.len());
    }
    Ok(())
}

/// Evaluates one record table; answers how long its key is.
fn record_row<'r>(
    output: &'r RecordTable,
    row: &'r Row<'_>,
    out: &mut Evaluated,
    arguments: &mut Vec<Value<'r>>,
) -> Result<usize, EvalError> {
    let (first, mut key_bytes) = (arguments.len(), 0);
    for (value, column) in output.values.iter().zip(&output.table.columns) {
        let value = match value {
            SetValue::CommitTime => Value::Timestamp(COMMIT_TIME_PLACEHOLDER),
            SetValue::Expr(expr) => expr.eval(row)?,
        };
        if output.table.key.contains(&column.name) {
            key_bytes += value_bytes(&value, column.data_type);
        }
        arguments.push(value);
    }
    out.rows.push(first..arguments.len());
    Ok(key_bytes)
}

/// What a value counts in a key. Why: uuid and inet are kept as text too, and count as any other type.
fn value_bytes(value: &Value<'_>, data_type: DataType) -> usize {
    match value {
        Value::Text(text) if data_type == DataType::Text => text.len(),
        _ => 8,
    }
}

/// Evaluates one aggregate; answers how long its key is.
fn match_aggregate<'r>(
    (id, aggregate): (AggregateId, &'r Aggregate),
    row: &'r Row<'_>,
    out: &mut Evaluated,
    arguments: &mut Vec<Value<'r>>,
) -> Result<usize, EvalError> {
    if !holds(aggregate.condition.as_ref(), row)? {
        return Ok(0);
    }
    let key_start = out.keys.len();
    let mut key_bytes = 0;
    for by in &aggregate.by {
        let value = by.expr.eval(row)?;
        key_bytes += value_bytes(&value, by.expr.data_type());
        encode_group_key(std::slice::from_ref(&value), &mut out.keys);
    }
    let first = arguments.len();
    for selected in &aggregate.select {
        let value = if !holds(selected.filter.as_ref(), row)? {
            Value::Null
        } else if let Some(argument) = &selected.argument {
            argument.eval(row)?
        } else {
            Value::Boolean(true)
        };
        arguments.push(value);
    }
    out.matches.push(Match {
        aggregate: id,
        key: key_start..out.keys.len(),
        arguments: first..arguments.len(),
    });
    Ok(key_bytes)
}

fn holds(condition: Option<&Expr>, row: &Row<'_>) -> Result<bool, EvalError> {
    condition.map_or(Ok(true), |c| c.is_true(row))
}

fn expression_error(place: &str, error: &EvalError) -> Dead {
    Dead::new(DeadReason::ExpressionError, format!("{place}: {error}"))
}
