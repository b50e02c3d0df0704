//! Aggregates: where, window, by, select, and the table they go to.

use std::sync::Arc;

use hashbrown::HashSet;

use super::call::selected;
use super::expression::Scope;
use super::keys::{AGGREGATE, KINDS_OF_WINDOW, RESULT, TUMBLING, WINDOWS};
use super::names::Name;
use super::open::{Fields, fitting, list, named, unique};
use super::plan::{Aggregate, Column, GroupBy, ResultTable, Selected, Window};
use super::problem::Problems;
use super::raw::{Item, Kind};
use super::scalar::{self, cut, duration};
use super::source::{self, MAX_SPAN, optional, source_named};
use crate::expr::Expr;
use crate::model::{DataType, Span};

/// Most of each, in one aggregate.
const MAX_BY: usize = 16;
const MAX_SELECT: usize = 64;
/// Windows that one record may fall into: each is a row to change. A day by a minute.
const MAX_OVERLAP: i64 = 1_440;

/// Columns that every result table has.
const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];
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
    let mut columns = Columns::default();
    let by = by(keys.get("by"), scope, &mut columns, problems);
    let select = keys.get("select").and_then(|item| select(&item, scope, &mut columns, problems));
    let allowed_lateness =
        optional(keys.get("allowed_lateness"), |item| duration(item, (Span::ZERO, MAX_SPAN), problems));
    let to = keys.get("to").and_then(|item| {
        let known = window.is_some().then_some(&columns);
        result(&item, known, &mut context.tables, problems)
    });
    let (by, select, (table, key)) = (by?, select?, to?);
    let columns = table_columns(&by, &select);
    Some(Aggregate {
        name: name.into(),
        source: source?.0,
        condition: condition?,
        window: window?,
        allowed_lateness: allowed_lateness?.or(context.allowed_lateness)?,
        by,
        select,
        table: ResultTable { name: table, key, columns },
    })
}

/// The columns named so far, be their expressions valid or not.
#[derive(Debug, Default)]
struct Columns {
    by: Vec<String>,
    select: Vec<String>,
    seen: HashSet<String>,
    /// Whether something in `by` has no name.
    incomplete: bool,
}

impl Columns {
    /// Whether a column may have this name, its first use.
    fn claim(&mut self, name: &str, item: &Item<'_>, problems: &mut Problems<'_>) -> bool {
        let owner = if WINDOW_COLUMNS.contains(&name) {
            "the window's"
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
    let keys = Fields::open(item, block, problems)?;
    if block.name == TUMBLING.name {
        let size = keys.get("tumble").and_then(|item| duration(&item, bounds, problems));
        return if keys.unsupported { None } else { Some(Window::Tumbling { size: size? }) };
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

/// The table's name and key. `columns` is absent where the window's own columns are not known.
fn result(
    item: &Item<'_>,
    columns: Option<&Columns>,
    tables: &mut HashSet<String>,
    problems: &mut Problems<'_>,
) -> Option<(String, Vec<Arc<str>>)> {
    let keys = Fields::open(item, &RESULT, problems)?;
    let table = keys.get("table").and_then(|item| {
        let name = scalar::name(&item, Name::Identifier, problems)?;
        unique(tables, name, &item, "the table", problems).then(|| name.to_owned())
    });
    let key = keys.get("key").and_then(|item| {
        let items = list(&item, (1, MAX_BY + WINDOW_COLUMNS.len()), problems)?;
        key(&item, &items, columns?, problems)
    });
    if keys.unsupported { None } else { Some((table?, key?)) }
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
        if WINDOW_COLUMNS.contains(&name) || columns.by.iter().any(|c| c == name) {
            if key.iter().any(|k| &**k == name) {
                problems.add(item.node.at, &item.path, format!("`{name}` occurs twice"));
            } else {
                key.push(name.into());
            }
        } else if columns.select.iter().any(|c| c == name) {
            let message = format!("`{}` is a result, not part of the key", cut(name));
            problems.add(item.node.at, &item.path, message).hint(whole_key(columns));
        } else if !columns.incomplete {
            let known = WINDOW_COLUMNS.into_iter().chain(columns.by.iter().map(String::as_str));
            problems.add(item.node.at, &item.path, format!("no column `{}`", cut(name))).suggest(name, known);
        }
    }
    let needed = [WINDOW_COLUMNS[0]].into_iter().chain(columns.by.iter().map(String::as_str));
    let lacking: Vec<&str> = needed.filter(|n| !key.iter().any(|k| &**k == *n)).collect();
    if problems.len() == before && !lacking.is_empty() && !columns.incomplete {
        let message = format!("the key lacks {}: there is one row per window and key", lacking.join(", "));
        problems.add(item.node.at, &item.path, message).hint(whole_key(columns));
    }
    (problems.len() == before).then_some(key)
}

fn whole_key(columns: &Columns) -> String {
    let mut names = vec![WINDOW_COLUMNS[0]];
    names.extend(columns.by.iter().map(String::as_str));
    format!("key: [{}]", names.join(", "))
}

/// `window_start`, `window_end`, the `by` columns, the selected ones.
fn table_columns(by: &[GroupBy], select: &[Selected]) -> Vec<Column> {
    let window = WINDOW_COLUMNS.map(|name| (Arc::from(name), DataType::Timestamp, false));
    let by = by.iter().map(|g| (g.name.clone(), g.expr.data_type(), false));
    let select = select.iter().map(|s| (s.name.clone(), s.data_type, !s.function.counts()));
    window
        .into_iter()
        .chain(by)
        .chain(select)
        .map(|(name, data_type, nullable)| Column { name, data_type, nullable })
        .collect()
}
