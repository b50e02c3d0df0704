//! Opening a map or list: its keys against the table, its names against their pattern.

use hashbrown::HashSet;

use super::keys::Block;
use super::names::Name;
use super::problem::{Problems, closest};
use super::raw::{Entry, Item, Kind, join};
use super::scalar::{cut, expected};

/// A map of fixed keys whose keys were looked at: unknown, unsupported and missing ones are problems already.
#[derive(Debug)]
pub(super) struct Fields<'t> {
    item: Item<'t>,
    entries: &'t [Entry],
    block: &'static Block,
    /// Whether it names something this version cannot run, so that what is missing means nothing.
    pub unsupported: bool,
}

impl<'t> Fields<'t> {
    /// Opens a map through its block.
    pub fn open(item: &Item<'t>, block: &'static Block, problems: &mut Problems<'_>) -> Option<Fields<'t>> {
        let Kind::Map(entries) = &item.node.kind else {
            expected(item, "a map", problems).hint(format!("its keys: {}", key_list(block)));
            return None;
        };
        let mut seen = Seen::default();
        for entry in entries {
            look_at(entry, block, item, &mut seen, problems);
        }
        let unsupported = !seen.features.is_empty();
        let missing = |name: &str| {
            !unsupported && !seen.meant.contains(&name) && !entries.iter().any(|e| e.key == name)
        };
        for key in block.keys.iter().filter(|k| k.required && missing(k.name)) {
            problems.add(item.named, &item.path, format!("`{}` is missing", key.name)).hint(as_hint(key.doc));
        }
        let fields = Fields { item: item.clone(), entries, block, unsupported };
        Some(fields)
    }

    /// The value of a key of the block.
    pub fn get(&self, key: &str) -> Option<Item<'t>> {
        debug_assert!(self.block.keys.iter().any(|k| k.name == key), "{key} is not in the table");
        self.entries.iter().find(|e| e.key == key).map(|entry| self.item.entry(entry))
    }
}

/// Of several blocks the one that knows most of a map's keys, typos included; of equals the first.
pub(super) fn fitting(item: &Item<'_>, blocks: &[&'static Block]) -> &'static Block {
    let Kind::Map(entries) = &item.node.kind else { return blocks[0] };
    let known = |block: &Block| {
        let names: Vec<&'static str> = block.keys.iter().map(|k| k.name).collect();
        entries.iter().filter(|e| closest(&e.key, &names).is_some()).count()
    };
    blocks.iter().rev().max_by_key(|block| known(block)).expect("a choice has something to choose from")
}

/// What the keys of a map were found to be.
#[derive(Default)]
struct Seen {
    /// Reported as not supported.
    features: Vec<&'static str>,
    /// Keys that a typo probably meant: they are not missing as well.
    meant: Vec<&'static str>,
}

/// Reports a key that is not in the block.
fn look_at(entry: &Entry, block: &Block, item: &Item<'_>, seen: &mut Seen, problems: &mut Problems<'_>) {
    if block.keys.iter().any(|k| k.name == entry.key) {
        return;
    }
    let path = join(&item.path, &entry.key);
    if let Some(later) = block.later.iter().find(|l| l.name == entry.key) {
        if !seen.features.contains(&later.feature) {
            seen.features.push(later.feature);
            problems.add(entry.at, &path, format!("`{}` is not supported yet", entry.key)).hint(later.hint);
        }
        return;
    }
    let known: Vec<&'static str> =
        block.keys.iter().map(|k| k.name).chain(block.later.iter().map(|l| l.name)).collect();
    let problem = problems.add(entry.at, &path, format!("unknown key `{}`", cut(&entry.key)));
    match closest(&entry.key, &known) {
        Some(meant) => {
            problem.hint(format!("did you mean `{meant}`?"));
            seen.meant.push(meant);
        }
        None => problem.hint(format!("known are {}", key_list(block))),
    }
}

/// A sentence of the table's as a hint: lower case, no full stop.
fn as_hint(doc: &str) -> String {
    let doc = doc.trim_end_matches('.');
    let mut chars = doc.chars();
    match (chars.next(), chars.as_str()) {
        (Some(first), rest) if rest.starts_with(|c: char| c.is_lowercase()) => {
            first.to_lowercase().chain(rest.chars()).collect()
        }
        _ => doc.to_owned(),
    }
}

fn key_list(block: &Block) -> String {
    block.keys.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")
}

/// The entries of a map whose keys are chosen by the writer, with at least `least` and at most `most` of them.
/// Entries with an invalid name are problems and left out.
pub(super) fn named<'t>(
    item: &Item<'t>,
    kind: Name,
    bounds: (usize, usize),
    problems: &mut Problems<'_>,
) -> Option<Vec<(&'t str, Item<'t>)>> {
    let Kind::Map(entries) = &item.node.kind else {
        expected(item, "a map", problems);
        return None;
    };
    count(item, entries.len(), bounds, problems);
    let mut valid = Vec::new();
    for entry in entries {
        let value = item.entry(entry);
        if kind.allows(&entry.key) {
            valid.push((entry.key.as_str(), value));
        } else {
            problems
                .add(entry.at, &value.path, format!("not a valid name: `{}`", cut(&entry.key)))
                .hint(format!("allowed: {}", kind.rule()));
        }
    }
    Some(valid)
}

/// The elements of a list, at least and at most so many.
pub(super) fn list<'t>(
    item: &Item<'t>,
    bounds: (usize, usize),
    problems: &mut Problems<'_>,
) -> Option<Vec<Item<'t>>> {
    let Kind::List(items) = &item.node.kind else {
        expected(item, "a list", problems);
        return None;
    };
    count(item, items.len(), bounds, problems);
    Some(items.iter().enumerate().map(|(index, node)| item.element(index, node)).collect())
}

/// Reports each name that occurred before among those of one kind.
pub(super) fn unique(
    seen: &mut HashSet<String>,
    name: &str,
    item: &Item<'_>,
    what: &str,
    problems: &mut Problems<'_>,
) -> bool {
    let first = seen.insert(name.to_owned());
    if !first {
        problems.add(item.named, &item.path, format!("{what} `{}` occurs twice", cut(name)));
    }
    first
}

fn count(item: &Item<'_>, found: usize, (least, most): (usize, usize), problems: &mut Problems<'_>) {
    if found < least {
        problems.add(item.named, &item.path, format!("needs at least {least}, found {found}"));
    } else if found > most {
        problems.add(item.named, &item.path, format!("{found} are too many, at most {most}"));
    }
}
