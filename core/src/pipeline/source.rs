//! Sources: topic, fields, watermark, start, checks.

use std::sync::Arc;

use hashbrown::HashSet;

use super::expression::Scope;
use super::keys::{CHECK, CREATE, DEDUP, ON_FAIL, PARTITIONS, SOURCE, STARTS, TOPIC, WATERMARK};
use super::names::Name;
use super::open::{Fields, list, named, unique};
use super::plan::{
    Check, DedupSpec, Encoding, Field, FieldId, OnFail, Source, SourceId, Start, WatermarkSpec,
};
use super::problem::{Position, Problems};
use super::raw::{Item, Kind};
use super::repartition::{not_keyed_too, repartition};
use super::scalar::{self, duration, expected, integer, size, text};
use crate::expr::{Expr, FieldType};
use crate::model::{DataType, Span};

/// Most of each, in one source.
const MAX_FIELDS: usize = 256;
const MAX_CHECKS: usize = 64;
const MAX_DEDUP_KEY: usize = 16;
/// A year and a day: longer delays and latenesses are slips.
pub(super) const MAX_SPAN: Span = Span::from_secs(366 * 86_400);
const DEFAULT_RECORD_BYTES: usize = 1 << 20;
const MAX_RECORD_BYTES: usize = 64 << 20;

/// The words for types, in the order in which a person is told of them.
pub(super) const FIELD_TYPES: [(&str, DataType, Encoding); 10] = [
    ("text", DataType::Text, Encoding::Plain),
    ("bigint", DataType::Bigint, Encoding::Plain),
    ("double", DataType::Double, Encoding::Plain),
    ("boolean", DataType::Boolean, Encoding::Plain),
    ("timestamp", DataType::Timestamp, Encoding::Plain),
    ("timestamp_ms", DataType::Timestamp, Encoding::Millis),
    ("timestamp_s", DataType::Timestamp, Encoding::Seconds),
    ("uuid", DataType::Uuid, Encoding::Plain),
    ("inet", DataType::Inet, Encoding::Plain),
    ("json", DataType::Json, Encoding::Plain),
];

/// What others need of a source, be it valid or not.
#[derive(Debug)]
pub(super) struct Checked {
    pub name: Arc<str>,
    pub scope: Scope,
    pub topic: Option<Placed>,
    /// Where it is repartitioned, and what the internal topic is called behind the pipeline's name.
    pub hop: Option<Placed>,
    pub source: Option<Source>,
}

/// A topic, and where the file names it.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub topic: Arc<str>,
    pub at: Position,
    pub path: String,
}

/// Checks one source. Topics of dead letters and late records are filled in by the caller.
pub(super) fn source(name: &str, item: &Item<'_>, problems: &mut Problems<'_>) -> Checked {
    let mut checked =
        Checked { name: name.into(), scope: Scope::default(), topic: None, hop: None, source: None };
    if let Some(keys) = Fields::open(item, &SOURCE, problems) {
        checked.source = parts(&keys, &mut checked, problems);
    }
    checked
}

/// Checks every part, and only then asks whether all are there.
fn parts(keys: &Fields<'_>, checked: &mut Checked, problems: &mut Problems<'_>) -> Option<Source> {
    let topic = keys.get("topic").and_then(|item| topic(&item, problems));
    checked.topic = topic.as_ref().map(|(placed, _)| placed.clone());
    let fields = keys.get("fields").map_or_else(Vec::new, |item| fields(&item, &mut checked.scope, problems));
    let event_time =
        keys.get("event_time").and_then(|item| event_time(&item, &fields, &checked.scope, problems));
    let watermark = watermark(keys.get("watermark"), problems);
    let keyed_by = optional(keys.get("keyed_by"), |item| field(item, &checked.scope, problems));
    not_keyed_too(keys.get("keyed_by").as_ref(), keys.get("repartition_by").as_ref(), problems);
    let repartition =
        optional(keys.get("repartition_by"), |item| repartition(item, &fields, checked, problems));
    let start = optional(keys.get("start"), |item| start(item, problems));
    let checks = keys.get("checks").map_or_else(Vec::new, |item| checks(&item, &checked.scope, problems));
    let dedup = optional(keys.get("dedup"), |item| dedup(item, &checked.scope, problems));
    let max_record_bytes =
        optional(keys.get("max_record_bytes"), |item| size(item, (1, MAX_RECORD_BYTES), problems));
    if keys.unsupported {
        return None;
    }
    let (Placed { topic, .. }, create_partitions) = topic?;
    Some(Source {
        name: checked.name.clone(),
        topic,
        create_partitions,
        fields,
        event_time: event_time?,
        watermark: watermark?,
        keyed_by: keyed_by?,
        repartition: repartition?,
        start: start?.unwrap_or(Start::Earliest),
        checks,
        dedup: dedup?,
        max_record_bytes: max_record_bytes?.unwrap_or(DEFAULT_RECORD_BYTES),
        dead_letter_topic: None,
        late_topic: None,
    })
}

/// A source by its name.
pub(super) fn source_named<'s>(
    item: &Item<'_>,
    sources: &'s [Checked],
    problems: &mut Problems<'_>,
) -> Option<(SourceId, &'s Checked)> {
    let name = text(item, problems)?;
    let id = source_named_by(name, item.node.at, &item.path, sources, problems)?;
    Some((id, &sources[id.0]))
}

/// A source by a name that stands at `at`.
pub(super) fn source_named_by(
    name: &str,
    at: Position,
    path: &str,
    sources: &[Checked],
    problems: &mut Problems<'_>,
) -> Option<SourceId> {
    let index = sources.iter().position(|s| &*s.name == name);
    if index.is_none() {
        problems
            .add(at, path, format!("unknown source `{}`", scalar::cut(name)))
            .suggest(name, sources.iter().map(|s| &*s.name));
    }
    index.map(SourceId)
}

/// `Some(None)`: absent; `None`: a problem.
pub(super) fn optional<T>(
    item: Option<Item<'_>>,
    check: impl FnOnce(&Item<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match item {
        None => Some(None),
        Some(item) => check(&item).map(Some),
    }
}

/// The topic, and the partitions to create it with.
fn topic(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<(Placed, Option<i32>)> {
    if !matches!(item.node.kind, Kind::Map(_)) {
        return Some((topic_name(item, problems)?, None));
    }
    let keys = Fields::open(item, &TOPIC, problems)?;
    let placed = keys.get("name").and_then(|item| topic_name(&item, problems));
    let create = optional(keys.get("create"), |item| {
        let keys = Fields::open(item, &CREATE, problems)?;
        i32::try_from(integer(&keys.get("partitions")?, PARTITIONS, problems)?).ok()
    });
    Some((placed?, create?))
}

/// A Kafka topic by its name.
pub(super) fn topic_name(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Placed> {
    let name = scalar::name(item, Name::Topic, problems)?;
    let placed = Placed { topic: name.into(), at: item.node.at, path: item.path.clone() };
    topic_is_usable(name, (item.node.at, &item.path), problems).then_some(placed)
}

/// Whether Kafka takes a topic of this name from a client.
pub(super) fn topic_is_usable(name: &str, (at, path): (Position, &str), problems: &mut Problems<'_>) -> bool {
    let usable = Name::Topic.allows(name)
        && !matches!(name, "." | ".." | "__consumer_offsets" | "__transaction_state");
    if !usable {
        problems.add(at, path, format!("Kafka has no use for a topic named `{}`", scalar::cut(name)));
    }
    usable
}

fn fields(item: &Item<'_>, scope: &mut Scope, problems: &mut Problems<'_>) -> Vec<Field> {
    let mut fields = Vec::new();
    for (name, item) in named(item, Name::Field, (1, MAX_FIELDS), problems).unwrap_or_default() {
        let name: Arc<str> = name.into();
        let field = field_type(&name, &item, problems);
        let data_type = field.as_ref().map_or(DataType::Text, |f| f.data_type);
        let nullable = field.as_ref().is_some_and(|f| !f.required);
        scope.fields.push(FieldType { name: name.clone(), data_type, nullable });
        match field {
            Some(field) => fields.push(field),
            None => scope.broken.push(name),
        }
    }
    fields
}

fn field_type(name: &Arc<str>, item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Field> {
    let typed = text(item, problems)?;
    let (word, required) = match typed.strip_suffix('!') {
        Some(word) => (word, true),
        None => (typed, false),
    };
    let Some((_, data_type, encoding)) = FIELD_TYPES.iter().find(|(known, ..)| *known == word) else {
        problems
            .add(item.node.at, &item.path, format!("unknown type `{}`", scalar::cut(word)))
            .suggest(word, FIELD_TYPES.map(|(known, ..)| known));
        return None;
    };
    Some(Field { name: name.clone(), data_type: *data_type, encoding: *encoding, required })
}

/// A field by its name.
pub(super) fn field(item: &Item<'_>, scope: &Scope, problems: &mut Problems<'_>) -> Option<FieldId> {
    let name = text(item, problems)?;
    let index = scope.fields.iter().position(|f| &*f.name == name);
    if index.is_none() {
        problems
            .add(item.node.at, &item.path, format!("unknown field `{}`", scalar::cut(name)))
            .suggest(name, scope.fields.iter().map(|f| &*f.name));
    }
    index.map(FieldId)
}

fn event_time(
    item: &Item<'_>,
    fields: &[Field],
    scope: &Scope,
    problems: &mut Problems<'_>,
) -> Option<FieldId> {
    let id = field(item, scope, problems)?;
    let name = &scope.fields[id.0].name;
    // Why: not found means that its type is a problem already.
    let declared = fields.iter().find(|f| f.name == *name)?;
    if declared.data_type != DataType::Timestamp {
        let message = format!("the event time must be a timestamp, `{name}` is {}", declared.data_type);
        problems
            .add(item.node.at, &item.path, message)
            .hint(format!("declare it so: {name}: timestamp!, or timestamp_ms!, timestamp_s!"));
        return None;
    }
    if !declared.required {
        problems
            .add(item.node.at, &item.path, format!("the event time must be required, `{name}` may be null"))
            .hint(format!("add `!` to its type: {name}: timestamp!"));
        return None;
    }
    Some(id)
}

fn watermark(item: Option<Item<'_>>, problems: &mut Problems<'_>) -> Option<WatermarkSpec> {
    let defaults = WatermarkSpec {
        delay: Span::ZERO,
        max_future: Span::from_secs(300),
        idle_after: Span::from_secs(30),
    };
    let Some(item) = item else { return Some(defaults) };
    let keys = Fields::open(&item, &WATERMARK, problems)?;
    let mut span =
        |key: &str, least: Span| optional(keys.get(key), |item| duration(item, (least, MAX_SPAN), problems));
    let delay = span("delay", Span::ZERO);
    let max_future = span("max_future", Span::ZERO);
    let idle_after = span("idle_after", Span::from_millis(1));
    Some(WatermarkSpec {
        delay: delay?.unwrap_or(defaults.delay),
        max_future: max_future?.unwrap_or(defaults.max_future),
        idle_after: idle_after?.unwrap_or(defaults.idle_after),
    })
}

fn start(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Start> {
    let typed = text(item, problems)?;
    match (typed, scalar::timestamp(typed)) {
        ("earliest", _) => Some(Start::Earliest),
        ("latest", _) => Some(Start::Latest),
        (_, Some(at)) => Some(Start::At(at)),
        _ => {
            expected(item, "earliest, latest or a time like 2026-01-30T00:00:00Z", problems)
                .suggest(typed, STARTS.iter().copied());
            None
        }
    }
}

fn checks(item: &Item<'_>, scope: &Scope, problems: &mut Problems<'_>) -> Vec<Check> {
    let mut names = HashSet::new();
    let items = list(item, (0, MAX_CHECKS), problems).unwrap_or_default();
    items.iter().filter_map(|item| check(item, scope, &mut names, problems)).collect()
}

fn check(
    item: &Item<'_>,
    scope: &Scope,
    names: &mut HashSet<String>,
    problems: &mut Problems<'_>,
) -> Option<Check> {
    let keys = Fields::open(item, &CHECK, problems)?;
    let name = keys.get("name").and_then(|item| {
        let name = scalar::name(&item, Name::Identifier, problems)?;
        unique(names, name, &item, "the check", problems).then_some(name)
    });
    let expect = keys.get("expect").and_then(|item| scope.condition(&item, problems));
    let on_fail = optional(keys.get("on_fail"), |item| {
        let word = scalar::word(item, ON_FAIL, problems)?;
        Some(if word == "count" { OnFail::Count } else { OnFail::DeadLetter })
    });
    Some(Check { name: name?.into(), expect: expect?, on_fail: on_fail?.unwrap_or(OnFail::DeadLetter) })
}

fn dedup(item: &Item<'_>, scope: &Scope, problems: &mut Problems<'_>) -> Option<DedupSpec> {
    let keys = Fields::open(item, &DEDUP, problems)?;
    let key = keys.get("key").and_then(|item| {
        let items = list(&item, (1, MAX_DEDUP_KEY), problems)?;
        let key: Vec<_> = items.iter().map(|item| dedup_key(item, scope, problems)).collect();
        key.into_iter().collect::<Option<Vec<_>>>()
    });
    let bounds = (Span::from_millis(1), MAX_SPAN);
    let within = keys.get("within").and_then(|item| duration(&item, bounds, problems));
    Some(DedupSpec { key: key?, within: within? })
}

fn dedup_key(item: &Item<'_>, scope: &Scope, problems: &mut Problems<'_>) -> Option<Expr> {
    let expr = scope.expression(item, problems)?;
    if expr.data_type() == DataType::Json {
        problems
            .add(item.node.at, &item.path, "records cannot be told apart by json, which has no equality")
            .hint("cast it to text");
        return None;
    }
    if expr.nullable() {
        problems
            .add(item.node.at, &item.path, "may be null, and a dedup key must not be")
            .hint("declare the field with `!`, or wrap it: coalesce(x, '')");
        return None;
    }
    Some(expr)
}
