//! The view of a result table's latest rows.

use std::sync::Arc;

use hashbrown::HashSet;

use super::names::Name;
use super::open::{list, unique};
use super::plan::LatestView;
use super::problem::Problems;
use super::raw::Item;
use super::scalar::{cut, text};

const SUFFIX: &str = "_latest";

/// Checks `latest` of a table whose `by` columns are known; `tables` are the names taken so far.
pub(super) fn latest(
    item: &Item<'_>,
    (table, by): (&str, &[String]),
    tables: &mut HashSet<String>,
    problems: &mut Problems<'_>,
) -> Option<LatestView> {
    let before = problems.len();
    let mut columns: Vec<Arc<str>> = Vec::new();
    for item in list(item, (1, usize::MAX), problems)? {
        let Some(name) = text(&item, problems) else { continue };
        if columns.iter().any(|known| **known == *name) {
            problems.add(item.node.at, &item.path, format!("`{}` occurs twice", cut(name)));
        } else if by.iter().any(|known| known == name) {
            columns.push(name.into());
        } else {
            problems
                .add(item.node.at, &item.path, format!("`{}` is no column of `by`", cut(name)))
                .suggest(name, by.iter().map(String::as_str));
        }
    }
    let name = format!("{table}{SUFFIX}");
    if !Name::Identifier.allows(&name) {
        problems
            .add(item.named, &item.path, format!("the view would be called {name}, which is too long"))
            .hint("shorten the table's name");
    } else {
        unique(tables, &name, item, "the table or view", problems);
    }
    (problems.len() == before).then_some(LatestView { name, by: columns })
}
