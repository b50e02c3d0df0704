//! The file as it was typed: a tree of marked nodes.
//!
//! YAML 1.2, less what a pipeline file has no use for: one document, no anchors, aliases or tags, keys are text and
//! occur once. Scalars stay text; what type they have is decided where one is expected.

use std::borrow::Cow;

use hashbrown::HashMap;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::problem::{Position, Problems};

/// A longer file is refused before it is parsed.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// How deep lists and maps may nest, the file itself being 1.
pub const MAX_DEPTH: usize = 24;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub at: Position,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    /// Of the key.
    pub at: Position,
    pub value: Node,
}

#[derive(Clone, Debug)]
pub(super) struct Scalar {
    /// With its variables replaced, once `variables::replace` has been there.
    pub text: String,
    pub style: Style,
    /// The text as typed, where it names variables.
    pub typed: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// `|` and `>`.
    Block,
}

/// A node, with the way to it.
#[derive(Clone, Debug)]
pub(super) struct Item<'t> {
    pub node: &'t Node,
    /// Of its key; of itself in a list.
    pub named: Position,
    pub path: String,
}

impl<'t> Item<'t> {
    pub fn root(node: &'t Node) -> Item<'t> {
        Item { node, named: node.at, path: String::new() }
    }

    pub fn entry(&self, entry: &'t Entry) -> Item<'t> {
        Item { node: &entry.value, named: entry.at, path: join(&self.path, &entry.key) }
    }

    pub fn element(&self, index: usize, node: &'t Node) -> Item<'t> {
        Item { node, named: node.at, path: format!("{}[{index}]", self.path) }
    }

    /// The scalar, where it is one.
    pub fn scalar(&self) -> Option<&'t Scalar> {
        match &self.node.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
}

/// `path.key`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The tree of a file, or `None` where the problems leave none to look at.
pub(super) fn parse(text: &str, problems: &mut Problems<'_>) -> Option<Node> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_FILE_BYTES}", text.len());
        problems.add(Position::START, "", message);
        return None;
    }
    let mut builder = Builder { stack: Vec::new(), root: None, problems, whole: true };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.event(event, Position::from(span.start))?,
            Err(error) => {
                let message = format!("not YAML: {}", error.info());
                builder.problems.add(Position::from(*error.marker()), "", message);
                return None;
            }
        }
    }
    let (root, whole) = (builder.root, builder.whole);
    if root.is_none() && whole {
        problems.add(Position::START, "", "the file is empty");
    }
    root.filter(|_| whole)
}

struct Builder<'p, 't> {
    stack: Vec<Frame>,
    root: Option<Node>,
    problems: &'p mut Problems<'t>,
    /// Whether the tree says all that was typed.
    whole: bool,
}

/// A list or map that is still open.
enum Frame {
    List { at: Position, items: Vec<Node> },
    Map { at: Position, entries: Vec<Entry>, lines: HashMap<String, usize>, key: Option<(String, Position)> },
}

impl Builder<'_, '_> {
    /// Takes one event; `None` ends the parse.
    fn event(&mut self, event: Event<'_>, at: Position) -> Option<()> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) if self.root.is_none() => {}
            Event::DocumentStart(_) => {
                self.problems.add(at, "", "a second document starts here").hint("one file is one pipeline");
                return None;
            }
            Event::Alias(_) => {
                self.refuse(at, "an alias");
                return self.push(Node { at, kind: Kind::List(Vec::new()) });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.decoration(at, anchor, tag.as_ref());
                let scalar = Scalar { text: text.into_owned(), style: Style::from(style), typed: None };
                return self.push(Node { at, kind: Kind::Scalar(scalar) });
            }
            Event::SequenceStart(anchor, tag) => {
                self.decoration(at, anchor, tag.as_ref());
                return self.open(Frame::List { at, items: Vec::new() }, at);
            }
            Event::MappingStart(anchor, tag) => {
                self.decoration(at, anchor, tag.as_ref());
                let frame = Frame::Map { at, entries: Vec::new(), lines: HashMap::new(), key: None };
                return self.open(frame, at);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.stack.pop()? {
                    Frame::List { at, items } => Node { at, kind: Kind::List(items) },
                    Frame::Map { at, entries, .. } => Node { at, kind: Kind::Map(entries) },
                };
                return self.push(node);
            }
        }
        Some(())
    }

    fn open(&mut self, frame: Frame, at: Position) -> Option<()> {
        if let Some(Frame::Map { key: None, .. }) = self.stack.last() {
            self.problems.add(at, &self.path(), "a key must be text, found a list or map");
            return None;
        }
        if self.stack.len() >= MAX_DEPTH {
            self.problems.add(at, &self.path(), format!("nested deeper than {MAX_DEPTH}"));
            return None;
        }
        self.stack.push(frame);
        Some(())
    }

    /// Puts a finished node where it belongs.
    fn push(&mut self, node: Node) -> Option<()> {
        let path = self.path();
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, lines, key, .. }) => match (key.take(), node) {
                (None, Node { at, kind: Kind::Scalar(scalar) }) => *key = Some((scalar.text, at)),
                (None, Node { at, .. }) => {
                    self.problems.add(at, &path, "a key must be text, found a list or map");
                    return None;
                }
                (Some((key, at)), value) => match lines.get(&key) {
                    Some(first) => {
                        self.problems
                            .add(at, &path, format!("duplicate key `{key}`"))
                            .hint(format!("it stands on line {first} already"));
                    }
                    None => {
                        lines.insert(key.clone(), at.line);
                        entries.push(Entry { key, at, value });
                    }
                },
            },
        }
        Some(())
    }

    fn decoration(&mut self, at: Position, anchor: usize, tag: Option<&Cow<'_, Tag>>) {
        if anchor != 0 {
            self.refuse(at, "an anchor");
        }
        if let Some(tag) = tag {
            self.refuse(at, &format!("the tag `{tag}`"));
        }
    }

    fn refuse(&mut self, at: Position, what: &str) {
        self.whole = false;
        let path = self.path();
        self.problems.add(at, &path, format!("{what} is not allowed here")).hint("write the value out");
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            match frame {
                Frame::List { items, .. } => path.push_str(&format!("[{}]", items.len())),
                Frame::Map { key: Some((key, _)), .. } => path = join(&path, key),
                Frame::Map { key: None, .. } => {}
            }
        }
        path
    }
}

impl From<ScalarStyle> for Style {
    fn from(style: ScalarStyle) -> Style {
        match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::SingleQuoted,
            ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        }
    }
}
