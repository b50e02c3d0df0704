//! The whole file: every part is checked whatever the others say, and the parts against each other.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::aggregate::{Context, aggregate};
use super::connection::connections;
use super::keys::{BAD_DATA, FILE, LATE};
use super::names::Name;
use super::open::{Fields, named};
use super::plan::{DEFAULT_COMMIT_INTERVAL, Plan, RecordOutput};
use super::problem::Problems;
use super::raw::Item;
use super::record::{self, MAX_SET, Recorded, record};
use super::repartition::name_topic;
use super::scalar::{self, duration, integer};
use super::source::{Checked, MAX_SPAN, Placed, optional, source, topic_is_usable};
use super::test_case::{Aggregates, RecordTables, Tables, tests};
use crate::model::Span;

/// Most of each, in one file.
const MAX_SOURCES: usize = 64;
const MAX_AGGREGATES: usize = 256;
const MAX_RECORDS: usize = 64;
const INTERVALS: (Span, Span) = (Span::from_millis(10), Span::from_secs(60));
const DEFAULT_DEAD_LETTER_TABLE: &str = "dead_letters";
/// Tables and views of schema `millstream` that are not for dead letters.
const OWN_TABLES: [&str; 13] = [
    "aggregates",
    "application",
    "migrations",
    "outputs",
    "progress",
    "partials",
    "status",
    "finality",
    "checkpoints",
    "files",
    "sketches",
    "distinct_values",
    "quantiles",
];

/// Finds all problems; the plan is there if and only if there are none.
pub(super) fn check(root: &Item<'_>, problems: &mut Problems<'_>) -> Option<Plan> {
    let keys = Fields::open(root, &FILE, problems)?;
    let version = keys.get("version").and_then(|item| integer(&item, (1, 1), problems));
    let application = keys.get("name").and_then(|item| scalar::name(&item, Name::Application, problems));
    let commit_interval = optional(keys.get("commit_interval"), |item| duration(item, INTERVALS, problems));
    let connections = keys.get("connections").and_then(|item| connections(&item, problems));
    let mut sources = keys.get("sources").map_or_else(Vec::new, |item| sources(&item, problems));
    let mut topics = Topics::inputs(&sources, problems);
    if let Some(application) = application {
        for source in &mut sources {
            if let Some(placed) = name_topic(application, source, problems) {
                topics.claim(&placed, Use::Hop(source.name.clone()), problems);
            }
        }
    }
    let dead_letter_table = bad_data(keys.get("bad_data"), &mut sources, &mut topics, problems);
    let allowed_lateness = late(keys.get("late"), &mut sources, &mut topics, problems);
    let mut context = Context { sources: &sources, allowed_lateness, tables: Default::default() };
    let aggregates =
        keys.get("aggregates").map_or_else(Vec::new, |item| aggregates(&item, &mut context, problems));
    let mut tables = context.tables;
    let (records, record_tables) = keys.get("records").map_or_else(Default::default, |item| {
        let context = record::Context { sources: &sources, tables: &mut tables, topic: None };
        records(&item, context, &mut topics, problems)
    });
    if keys.get("aggregates").is_none() && keys.get("records").is_none() {
        problems
            .add(root.named, "", "the pipeline has no output")
            .hint("add an aggregate under `aggregates`, or a topic or table under `records`");
    }
    let known = Tables { aggregates: &aggregates, records: &record_tables };
    let tests = keys.get("tests").map_or_else(Vec::new, |item| tests(&item, &sources, &known, problems));
    if !problems.is_empty() || version.is_none() {
        return None;
    }
    let mut plan = Plan {
        application: application?.into(),
        commit_interval: commit_interval?.unwrap_or(DEFAULT_COMMIT_INTERVAL),
        connections: connections?,
        sources: sources.into_iter().map(|s| s.source).collect::<Option<_>>()?,
        dead_letter_table: dead_letter_table?,
        aggregates: aggregates.into_iter().map(|(_, a)| a).collect::<Option<_>>()?,
        records,
        record_tables: record_tables.into_iter().map(|(_, table)| table).collect::<Option<_>>()?,
        tests,
        hash: 0,
    };
    plan.hash = super::canonical::hash(&plan);
    Some(plan)
}

fn sources(item: &Item<'_>, problems: &mut Problems<'_>) -> Vec<Checked> {
    let sources = named(item, Name::Plain, (1, MAX_SOURCES), problems).unwrap_or_default();
    sources.iter().map(|(name, item)| source(name, item, problems)).collect()
}

/// Who reads and writes which topic.
#[derive(Debug, Default)]
struct Topics {
    users: HashMap<Arc<str>, Use>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Use {
    Input(Arc<str>),
    Hop(Arc<str>),
    DeadLetters,
    Late,
    Records(String),
}

impl Topics {
    fn inputs(sources: &[Checked], problems: &mut Problems<'_>) -> Topics {
        let mut topics = Topics::default();
        for source in sources {
            if let Some(placed) = &source.topic {
                topics.claim(placed, Use::Input(source.name.clone()), problems);
            }
        }
        topics
    }

    /// Whether the topic is free for this use: one input, or one output, except that sources may share a topic of
    /// dead letters or of late records.
    fn claim(&mut self, placed: &Placed, of: Use, problems: &mut Problems<'_>) -> bool {
        let topic = &placed.topic;
        let Some(before) = self.users.get(topic) else {
            self.users.insert(topic.clone(), of);
            return true;
        };
        if *before == of && matches!(of, Use::DeadLetters | Use::Late) {
            return true;
        }
        let taken = match before {
            Use::Input(source) => format!("the topic `{topic}` is read by the source `{source}` already"),
            Use::Hop(source) => format!("the source `{source}` is repartitioned through the topic `{topic}`"),
            Use::DeadLetters => format!("the topic `{topic}` takes dead letters already"),
            Use::Late => format!("the topic `{topic}` takes late records already"),
            Use::Records(name) => format!("the topic `{topic}` is written by `{name}` already"),
        };
        problems.add(placed.at, &placed.path, taken).hint("choose another topic");
        false
    }
}

/// The table of dead letters, and their topic in each source.
fn bad_data(
    item: Option<Item<'_>>,
    sources: &mut [Checked],
    topics: &mut Topics,
    problems: &mut Problems<'_>,
) -> Option<Option<String>> {
    // Why: a record must go somewhere; without any destination it goes to the default table.
    let default = || Some(Some(DEFAULT_DEAD_LETTER_TABLE.to_owned()));
    let Some(item) = item else { return default() };
    let keys = Fields::open(&item, &BAD_DATA, problems)?;
    let table = optional(keys.get("table"), |item| {
        let name = scalar::name(item, Name::Identifier, problems)?;
        if OWN_TABLES.contains(&name) {
            let message = format!("the table millstream.{name} has another use");
            problems.add(item.node.at, &item.path, message).hint("choose another name");
            return None;
        }
        Some(name.to_owned())
    });
    let topic = keys.get("topic");
    if let Some(item) = &topic {
        for (index, topic) in topic_of_each(item, Use::DeadLetters, sources, topics, problems) {
            if let Some(source) = &mut sources[index].source {
                source.dead_letter_topic = Some(topic);
            }
        }
    }
    if topic.is_none() && keys.get("table").is_none() { default() } else { table }
}

/// The allowed lateness, and the topic of late records in each source.
fn late(
    item: Option<Item<'_>>,
    sources: &mut [Checked],
    topics: &mut Topics,
    problems: &mut Problems<'_>,
) -> Option<Span> {
    let Some(item) = item else { return Some(Span::ZERO) };
    let keys = Fields::open(&item, &LATE, problems)?;
    let allowed =
        optional(keys.get("allowed_lateness"), |item| duration(item, (Span::ZERO, MAX_SPAN), problems));
    if let Some(item) = &keys.get("topic") {
        for (index, topic) in topic_of_each(item, Use::Late, sources, topics, problems) {
            if let Some(source) = &mut sources[index].source {
                source.late_topic = Some(topic);
            }
        }
    }
    allowed.map(|span| span.unwrap_or(Span::ZERO))
}

/// The topic that a template gives for each source.
fn topic_of_each(
    item: &Item<'_>,
    of: Use,
    sources: &[Checked],
    topics: &mut Topics,
    problems: &mut Problems<'_>,
) -> Vec<(usize, Arc<str>)> {
    let Some(template) = scalar::name(item, Name::TopicOfSource, problems) else { return Vec::new() };
    let mut found = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let topic: Arc<str> = template.replace("{source}", &source.name).into();
        let placed = Placed { topic, at: item.node.at, path: item.path.clone() };
        if topic_is_usable(&placed.topic, (placed.at, &placed.path), problems)
            && topics.claim(&placed, of.clone(), problems)
        {
            found.push((index, placed.topic));
        }
    }
    found
}

fn aggregates(item: &Item<'_>, context: &mut Context<'_>, problems: &mut Problems<'_>) -> Aggregates {
    let aggregates = named(item, Name::Identifier, (0, MAX_AGGREGATES), problems).unwrap_or_default();
    aggregates
        .iter()
        .map(|(name, item)| ((*name).to_owned(), aggregate(name, item, context, problems)))
        .collect()
}

/// Outputs to topics, without those that have problems; and to tables, or to what has problems.
fn records(
    item: &Item<'_>,
    mut context: record::Context<'_>,
    topics: &mut Topics,
    problems: &mut Problems<'_>,
) -> (Vec<RecordOutput>, RecordTables) {
    let outputs = named(item, Name::Plain, (0, MAX_RECORDS), problems).unwrap_or_default();
    let (mut records, mut tables) = (Vec::new(), Vec::new());
    let mut set_names: HashMap<usize, HashSet<Arc<str>>> = HashMap::new();
    for (name, item) in &outputs {
        let recorded = record(name, item, &mut context, problems);
        if let Some(placed) = context.topic.take() {
            topics.claim(&placed, Use::Records((*name).to_owned()), problems);
        }
        match recorded {
            Some(Recorded::Topic(output)) => {
                let set = set_names.entry(output.source.0).or_default();
                set.extend(output.set.iter().map(|(name, _)| name.clone()));
                if set.len() > MAX_SET {
                    let message =
                        format!("sets more than {MAX_SET} different fields together with the outputs above");
                    problems.add(item.node.at, &item.path, message).hint("set fewer fields per source");
                }
                records.push(output);
            }
            Some(Recorded::Table(table)) => tables.push(((*name).to_owned(), Some(table))),
            None => tables.push(((*name).to_owned(), None)),
        }
    }
    (records, tables)
}
