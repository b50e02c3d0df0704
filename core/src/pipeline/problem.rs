//! What is wrong with a file, and where.

use std::fmt;

use hashbrown::HashSet;
use saphyr_parser::Marker;

/// More than this is no help to a person; the first ones by position are kept.
pub const MAX_PROBLEMS: usize = 200;
/// Longer words are not compared with the known ones.
const MAX_COMPARED_CHARS: usize = 64;

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters before it.
    pub index: usize,
}

impl Position {
    pub const START: Position = Position { line: 1, column: 1, index: 0 };
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Position {
        Position { line: marker.line(), column: marker.col() + 1, index: marker.index() }
    }
}

/// One fault of a pipeline file. The file's name is added by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Where in the tree: `aggregates.page_view_counts.window`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, with what was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Adds what to do about it.
    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    /// Adds the known word closest to `word`, or else the list of them where it is short.
    pub(super) fn suggest<'c>(&mut self, word: &str, known: impl IntoIterator<Item = &'c str>) {
        let known: Vec<&str> = known.into_iter().collect();
        self.hint = match closest(word, &known) {
            Some(best) => Some(format!("did you mean `{best}`?")),
            None if !known.is_empty() && known.len() <= 12 => Some(format!("known are {}", known.join(", "))),
            None => None,
        };
    }
}

impl fmt::Display for Problem {
    /// `12:5: aggregates.page_view_counts.window: unknown key `tumbel`; did you mean `tumble`?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Collects the problems of one file.
pub(super) struct Problems<'t> {
    /// The file as typed, to find a place inside a scalar.
    pub file: &'t str,
    list: Vec<Problem>,
    /// Paths of values that are not known, because a variable is not: what follows from that is no problem.
    unknown: HashSet<String>,
}

impl<'t> Problems<'t> {
    pub fn new(file: &'t str) -> Problems<'t> {
        Problems { file, list: Vec::new(), unknown: HashSet::new() }
    }

    pub fn add(&mut self, at: Position, path: &str, message: impl Into<String>) -> &mut Problem {
        let index = self.list.len();
        let message = message.into();
        self.list.push(Problem {
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message,
            hint: None,
        });
        &mut self.list[index]
    }

    /// Adds a problem of the value itself; none of its path is reported after it.
    pub fn add_unknown(&mut self, at: Position, path: &str, message: impl Into<String>) -> &mut Problem {
        self.unknown.insert(path.to_owned());
        self.add(at, path, message)
    }

    /// Whether a value is not known.
    pub fn is_unknown(&self, path: &str) -> bool {
        self.unknown.contains(path)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// In the order of the file. `first` is how many there were before values were looked at.
    pub fn into_sorted(mut self, first: usize) -> Vec<Problem> {
        let unknown = &self.unknown;
        let mut index = 0;
        self.list.retain(|problem| {
            index += 1;
            index <= first || !unknown.contains(&problem.path)
        });
        self.list.sort_by_key(|p| (p.line, p.column));
        self.list.dedup();
        self.list.truncate(MAX_PROBLEMS);
        self.list
    }
}

/// The known word that a person most likely meant.
pub(super) fn closest<'c>(word: &str, known: &[&'c str]) -> Option<&'c str> {
    let length = word.chars().count();
    if length > MAX_COMPARED_CHARS {
        return None;
    }
    let word = word.to_lowercase();
    let limit = 1 + length / 4;
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn closest_finds_typos_and_leaves_other_words_alone() {
        let known = ["tumble", "page_url", "user_id", "by"];
        assert_eq!(closest("tumbel", &known), Some("tumble"));
        assert_eq!(closest("Page_URL", &known), Some("page_url"));
        assert_eq!(closest("userid", &known), Some("user_id"));
        assert_eq!(closest("colour", &known), None);
        assert_eq!(closest("x", &known), None);
        assert_eq!(closest(&"x".repeat(10_000), &known), None);
    }
}
