//! Aggregates: where, window, by, select, and the table they go to.

use std::sync::Arc;

use hashbrown::HashSet;

use super::call::selected;
use super::expression::Scope;
use super::keys::{AGGREGATE, KINDS_OF_WINDOW, RESULT, SESSION, TUMBLING, WINDOWS};
use super::latest::latest;
use super::names::Name;
use super::open::{Fields, fitting, list, named, unique};
use super::plan::{Aggregate, Column, GroupBy, LatestView, ResultTable, Selected, Window};
use super::problem::Problems;
use super::raw::{Item, Kind};
use super::scalar::{self, cut, duration};
use super::session::{self, SESSION_COLUMNS};
use super::source::{self, MAX_SPAN, optional, source_named};
use crate::expr::Expr;
use crate::model::{DataType, Span};

/// Most of each, in one aggregate.
const MAX_BY: usize = 16;
const MAX_SELECT: usize = 64;
/// Windows that one record may fall into: each is a row to change. A day by a minute.
const MAX_OVERLAP: i64 = 1_440;

/// The columns of a table of windows beside the key's and the selected ones.
const WINDOW_COLUMNS: [(&str, DataType); 2] =
    [("window_start", DataType::Timestamp), ("window_end", DataType::Timestamp)];
/// Columns that PostgreSQL keeps for itself.
pub(super) const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// What aggregates are checked against.
pub(super) struct Context<'c> {
    pub sources: &'c [source::Checked],
    /// `late.allowed_lateness`; `None`: it is a problem already.
    pub allowed_lateness: Option<Span>,
    /// Tables of earlier aggregates.
    pub tables: HashSet<String>,
}

/// Checks one aggregate.
pub(super) fn aggregate(
    name: &str,
    item: &Item<'_>,
    context: &mut Context<'_>,
    problems: &mut Problems<'_>,
) -> Option<Aggregate> {
    let keys = Fields::open(item, &AGGREGATE, problems)?;
    let source = keys.get("from").and_then(|item| source_named(&item, context.sources, problems));
    // Why: without its fields every name in an expression would be a problem again.
    let scope = source.map(|(_, s)| &s.scope).filter(|scope| !scope.fields.is_empty());
    let condition = optional(keys.get("where"), |item| scope?.condition(item, problems));
    let window = keys.get("window").and_then(|item| window(&item, problems));
    let mut columns = Columns::of(window);
    let mut by = by(keys.get("by"), scope, &mut columns, problems);
    if let (Some(Window::Session { .. }), Some(columns)) = (window, &by)
        && let Some(source) = source.and_then(|(_, checked)| checked.source.as_ref())
        && let Some(place) = keys.get("by").or_else(|| keys.get("window"))
        && !session::one_partition(&place, source, columns, problems)
    {
        by = None;
    }
    let select = match keys.get("select") {
        Some(item) => select(&item, scope, &mut columns, problems),
        None if matches!(window, Some(Window::Session { .. })) => Some(Vec::new()),
        None => {
            let problem = window.map(|_| problems.add(item.named, &item.path, "`select` is missing"));
            problem
                .into_iter()
                .for_each(|problem| problem.hint("only sessions can do without result columns"));
            None
        }
    };
    let allowed_lateness =
        optional(keys.get("allowed_lateness"), |item| duration(item, (Span::ZERO, MAX_SPAN), problems));
    let to = keys.get("to").and_then(|item| {
        let known = window.is_some().then_some(&columns);
        result(&item, known, &mut context.tables, problems)
    });
    let (by, select, to) = (by?, select?, to?);
    let columns = table_columns(window?, &by, &select);
    Some(Aggregate {
        name: name.into(),
        source: source?.0,
        condition: condition?,
        window: window?,
        allowed_lateness: allowed_lateness?.or(context.allowed_lateness)?,
        by,
        select,
        table: ResultTable { name: to.table, key: to.key, columns, latest: to.latest },
    })
}

/// The columns named so far, be their expressions valid or not.
#[derive(Debug, Default)]
struct Columns {
    /// Those that come with the kind of window, first the one that is part of every key.
    own: &'static [(&'static str, DataType)],
    sessions: bool,
    by: Vec<String>,
    select: Vec<String>,
    seen: HashSet<String>,
    /// Whether something in `by` has no name.
    incomplete: bool,
}

impl Columns {
    fn of(window: Option<Window>) -> Columns {
        let sessions = matches!(window, Some(Window::Session { .. }));
        Columns {
            own: if sessions { &SESSION_COLUMNS } else { &WINDOW_COLUMNS },
            sessions,
            ..Columns::default()
        }
    }

    fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|(own, _)| *own == name)
    }

    /// Of its own columns those that may be part of the key.
    fn in_key(&self) -> impl Iterator<Item = &str> {
        let most = if self.sessions { 1 } else { self.own.len() };
        self.own[..most].iter().map(|(own, _)| *own)
    }

    /// The columns that the key must have, in the order in which one would write them.
    fn needed(&self) -> Vec<&str> {
        let mut needed: Vec<&str> = self.by.iter().map(String::as_str).collect();
        let (start, _) = self.own[0];
        if self.sessions {
            needed.push(start);
        } else {
            needed.insert(0, start);
        }
        needed
    }

    /// Whether a column may have this name, its first use.
    fn claim(&mut self, name: &str, item: &Item<'_>, problems: &mut Problems<'_>) -> bool {
        let owner = if self.is_own(name) {
            if self.sessions { "the session's" } else { "the window's" }
        } else if SYSTEM_COLUMNS.contains(&name) {
            "PostgreSQL's own"
        } else {
            return unique(&mut self.seen, name, item, "the column", problems);
        };
        problems
            .add(item.named, &item.path, format!("the column `{name}` is {owner}"))
            .hint("choose another name");
        false
    }
}

fn window(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Window> {
    let bounds = (Span::from_millis(1), MAX_SPAN);
    let block = fitting(item, &WINDOWS);
    if block.name == SESSION.name {
        return session::window(item, problems);
    }
    let keys = Fields::open(item, block, problems)?;
    if block.name == TUMBLING.name {
        let size = keys.get("tumble").and_then(|item| duration(&item, bounds, problems));
        return Some(Window::Tumbling { size: size? });
    }
    let item = keys.get("slide")?;
    let slide = duration(&item, bounds, problems);
    let size = keys.get("size").and_then(|item| duration(&item, bounds, problems));
    let (slide, size) = (slide?, size?);
    let overlap = (size.0 + slide.0 - 1) / slide.0;
    if slide > size {
        problems
            .add(
                item.node.at,
                &item.path,
                "slide is longer than size: some records would fall into no window",
            )
            .hint(KINDS_OF_WINDOW);
        return None;
    }
    if overlap > MAX_OVERLAP {
        let message =
            format!("every record would fall into {overlap} windows, at most {MAX_OVERLAP} are allowed");
        problems.add(item.node.at, &item.path, message).hint("slide by more, or make the windows shorter");
        return None;
    }
    Some(Window::Sliding { size, slide })
}

fn by(
    item: Option<Item<'_>>,
    scope: Option<&Scope>,
    columns: &mut Columns,
    problems: &mut Problems<'_>,
) -> Option<Vec<GroupBy>> {
    let Some(item) = item else { return Some(Vec::new()) };
    let Some(items) = list(&item, (0, MAX_BY), problems) else {
        columns.incomplete = true;
        return None;
    };
    let mut by = Vec::new();
    for item in &items {
        if matches!(item.node.kind, Kind::Map(_)) {
            let before = problems.len();
            let entries = named(item, Name::Identifier, (1, MAX_BY), problems).unwrap_or_default();
            columns.incomplete |= problems.len() > before;
            for (name, item) in entries {
                let expr = scope.and_then(|scope| scope.expression(&item, problems));
                by.push(group(name, &item, expr, columns, problems));
            }
        } else {
            by.push(grouping_field(item, scope, columns, problems));
        }
    }
    by.into_iter().collect()
}

/// A field's name, which is its column too.
fn grouping_field(
    item: &Item<'_>,
    scope: Option<&Scope>,
    columns: &mut Columns,
    problems: &mut Problems<'_>,
) -> Option<GroupBy> {
    let name = scalar::text(item, problems);
    let known = name.is_some() && scope.is_none_or(|scope| source::field(item, scope, problems).is_some());
    let Some(name) = name.filter(|_| known) else {
        columns.incomplete = true;
        return None;
    };
    if !Name::Identifier.allows(name) {
        columns.incomplete = true;
        problems
            .add(item.node.at, &item.path, format!("`{}` is not valid as a column", cut(name)))
            .hint(format!("give it a name: {{ column: '\"{}\"' }}", cut(name)));
        return None;
    }
    let expr = scope.and_then(|scope| scope.field(name, item, problems));
    group(name, item, expr, columns, problems)
}

fn group(
    name: &str,
    item: &Item<'_>,
    expr: Option<Expr>,
    columns: &mut Columns,
    problems: &mut Problems<'_>,
) -> Option<GroupBy> {
    let claimed = columns.claim(name, item, problems);
    columns.by.push(name.to_owned());
    let expr = expr?;
    if matches!(expr.data_type(), DataType::Json) {
        problems
            .add(item.node.at, &item.path, "rows cannot be grouped by json, which has no equality")
            .hint("cast it to text");
        return None;
    }
    if expr.nullable() {
        problems
            .add(item.node.at, &item.path, "may be null, and a key must not be")
            .hint("declare the field with `!`, or wrap it: coalesce(x, '')");
        return None;
    }
    claimed.then(|| GroupBy { name: name.into(), expr })
}

fn select(
    item: &Item<'_>,
    scope: Option<&Scope>,
    columns: &mut Columns,
    problems: &mut Problems<'_>,
) -> Option<Vec<Selected>> {
    let mut select = Vec::new();
    for (name, item) in named(item, Name::Identifier, (1, MAX_SELECT), problems)? {
        let claimed = columns.claim(name, &item, problems);
        columns.select.push(name.to_owned());
        let selected = scope.and_then(|scope| selected(name, &item, scope, problems));
        select.push(selected.filter(|_| claimed));
    }
    select.into_iter().collect()
}

/// Where the rows go.
struct Destination {
    table: String,
    key: Vec<Arc<str>>,
    latest: Option<LatestView>,
}

/// The table's name and key. `columns` is absent where the window's own columns are not known.
fn result(
    item: &Item<'_>,
    columns: Option<&Columns>,
    tables: &mut HashSet<String>,
    problems: &mut Problems<'_>,
) -> Option<Destination> {
    let keys = Fields::open(item, &RESULT, problems)?;
    let table = keys.get("table").and_then(|item| {
        let name = scalar::name(&item, Name::Identifier, problems)?;
        unique(tables, name, &item, "the table", problems).then(|| name.to_owned())
    });
    let key = keys.get("key").and_then(|item| {
        let items = list(&item, (1, MAX_BY + WINDOW_COLUMNS.len()), problems)?;
        key(&item, &items, columns?, problems)
    });
    let latest = optional(keys.get("latest"), |item| {
        let columns = columns.filter(|columns| !columns.incomplete)?;
        latest(item, (table.as_deref()?, &columns.by), tables, problems)
    });
    if keys.unsupported { None } else { Some(Destination { table: table?, key: key?, latest: latest? }) }
}

fn key(
    item: &Item<'_>,
    items: &[Item<'_>],
    columns: &Columns,
    problems: &mut Problems<'_>,
) -> Option<Vec<Arc<str>>> {
    let before = problems.len();
    let mut key: Vec<Arc<str>> = Vec::new();
    for item in items {
        let Some(name) = scalar::text(item, problems) else { continue };
        if columns.is_own(name) && columns.in_key().all(|own| own != name) {
            let message = format!("`{name}` changes as a session grows, so it cannot be part of the key");
            problems.add(item.node.at, &item.path, message).hint(whole_key(columns));
        } else if columns.in_key().any(|own| own == name) || columns.by.iter().any(|c| c == name) {
            if key.iter().any(|k| &**k == name) {
                problems.add(item.node.at, &item.path, format!("`{name}` occurs twice"));
            } else {
                key.push(name.into());
            }
        } else if columns.select.iter().any(|c| c == name) {
            let message = format!("`{}` is a result, not part of the key", cut(name));
            problems.add(item.node.at, &item.path, message).hint(whole_key(columns));
        } else if !columns.incomplete {
            let known = columns.in_key().chain(columns.by.iter().map(String::as_str));
            problems.add(item.node.at, &item.path, format!("no column `{}`", cut(name))).suggest(name, known);
        }
    }
    let lacking: Vec<&str> =
        columns.needed().into_iter().filter(|n| !key.iter().any(|k| &**k == *n)).collect();
    if problems.len() == before && !lacking.is_empty() && !columns.incomplete {
        let rows = if columns.sessions { "session of a key" } else { "window and key" };
        let message = format!("the key lacks {}: there is one row per {rows}", lacking.join(", "));
        problems.add(item.node.at, &item.path, message).hint(whole_key(columns));
    }
    (problems.len() == before).then_some(key)
}

fn whole_key(columns: &Columns) -> String {
    format!("key: [{}]", columns.needed().join(", "))
}

/// In the order of `ResultTable::columns`.
fn table_columns(window: Window, by: &[GroupBy], select: &[Selected]) -> Vec<Column> {
    let column = |name: &Arc<str>, data_type, nullable| Column { name: name.clone(), data_type, nullable };
    let own = |(name, data_type): &(&str, DataType)| column(&Arc::from(*name), *data_type, false);
    let by = by.iter().map(|g| column(&g.name, g.expr.data_type(), false));
    let select = select.iter().map(|s| column(&s.name, s.data_type, !s.function.counts()));
    match window {
        Window::Session { .. } => by.chain(SESSION_COLUMNS.iter().map(own)).chain(select).collect(),
        Window::Tumbling { .. } | Window::Sliding { .. } => {
            WINDOW_COLUMNS.iter().map(own).chain(by).chain(select).collect()
        }
    }
}
