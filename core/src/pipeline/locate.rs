//! From a place inside a scalar's text to the place in the file.

use super::problem::Position;
use super::raw::{Scalar, Style};

/// Where the character `offset` of a scalar's text stands in the file; the scalar's start where the two texts
/// cannot be matched (an escape other than of quote or backslash).
///
/// Source and text are walked side by side. White space is skipped in both, so that folded lines, indentation and
/// several lines of a plain scalar need no rules of their own.
pub(super) fn locate(file: &str, scalar: &Scalar, at: Position, offset: usize) -> Position {
    match scalar.typed {
        Some(_) => at,
        None => walk(file, scalar, at, offset).unwrap_or(at),
    }
}

/// The offset of a line and column, both from 1, of a text.
pub(super) fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split('\n').take(line.saturating_sub(1)).map(|l| l.chars().count() + 1).sum();
    before + column.saturating_sub(1)
}

fn walk(file: &str, scalar: &Scalar, at: Position, offset: usize) -> Option<Position> {
    let mut source = Cursor { rest: &file[byte_of(file, at.index)?..], at };
    match scalar.style {
        // Why: a block scalar's place is its content's.
        Style::Plain | Style::Block => {}
        Style::SingleQuoted | Style::DoubleQuoted => source.step(),
    }
    for (index, c) in scalar.text.chars().enumerate() {
        if c.is_whitespace() {
            if index == offset {
                return Some(source.at);
            }
            continue;
        }
        source.skip_white();
        if index == offset {
            return Some(source.at);
        }
        let escaped = match scalar.style {
            Style::SingleQuoted => c == '\'',
            Style::DoubleQuoted => source.peek()? == '\\',
            Style::Plain | Style::Block => false,
        };
        if escaped {
            source.step();
        }
        if source.peek()? != c {
            return None;
        }
        source.step();
    }
    Some(source.at)
}

fn byte_of(text: &str, index: usize) -> Option<usize> {
    text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(index)
}

struct Cursor<'t> {
    rest: &'t str,
    at: Position,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn step(&mut self) {
        let Some(c) = self.peek() else { return };
        self.rest = &self.rest[c.len_utf8()..];
        self.at.index += 1;
        if c == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else {
            self.at.column += 1;
        }
    }

    fn skip_white(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.step();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::Problems;
    use super::super::raw::{Kind, parse};
    use super::locate;

    /// Finds `wanted` in the only value of a file and expects it at its place in the file.
    fn check(file: &str, wanted: &str) {
        let node = parse(file, &mut Problems::new(file)).expect("parses");
        let Kind::Map(entries) = &node.kind else { panic!("a map") };
        let value = &entries[0].value;
        let Kind::Scalar(scalar) = &value.kind else { panic!("a scalar") };
        let offset = scalar.text[..scalar.text.find(wanted).expect("in the text")].chars().count();
        let at = locate(file, scalar, value.at, offset);
        let byte = file.find(wanted).expect("in the file");
        let line = file[..byte].matches('\n').count() + 1;
        let column = file[..byte].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        assert_eq!((at.line, at.column), (line, column), "{wanted:?} in {file:?}");
    }

    #[test]
    fn every_style_is_followed() {
        check("where: user_id = 'é' and bad = 1\n", "bad");
        check("where: 'user_id = ''it'' and bad = 1'\n", "bad");
        check("where: \"user_id = \\\"a\\\" and bad = 1\"\n", "bad");
        check("where: |\n  one = 1\n    and bad = 1\n", "bad");
        check("where: >-\n    one = 1\n    and\n\n    bad = 1\n", "bad");
        check("where: one = 1\n  and bad = 1\n", "bad");
        check("a: |2-\r\n  one = 1\r\n  bad\r\n", "bad");
        check("{ where: one = 1 and bad, x: 1 }\n", "bad");
    }
}
