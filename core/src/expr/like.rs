//! `like` and `ilike`: `%`, `_` and the backslash as escape, by characters.

use memchr::memmem::Finder;

use super::EvalError;

/// A constant pattern, made ready.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// As it was written; enters the canonical text.
    pub text: String,
    /// `ilike`: ASCII letters match in either case, as under collation C.
    pub fold: bool,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Equals(String),
    Prefix(String),
    Suffix(String),
    Contains(Box<Finder<'static>>),
    General,
}

impl Pattern {
    /// Raises if the pattern ends in an escape.
    pub fn new(text: &str, fold: bool) -> Result<Pattern, EvalError> {
        let shape = shape(text)?;
        let shape = if fold { Shape::General } else { shape };
        Ok(Pattern { text: text.to_owned(), fold, shape })
    }

    pub fn matches(&self, text: &str) -> Result<bool, EvalError> {
        Ok(match &self.shape {
            Shape::Equals(all) => text == all,
            Shape::Prefix(prefix) => text.starts_with(prefix),
            Shape::Suffix(suffix) => text.ends_with(suffix),
            Shape::Contains(part) => part.find(text.as_bytes()).is_some(),
            Shape::General => return matches(text, &self.text, self.fold),
        })
    }
}

/// Whether the whole text matches. Like PostgreSQL it raises on a pattern that ends in an escape only where
/// matching gets that far.
pub(super) fn matches(text: &str, pattern: &str, fold: bool) -> Result<bool, EvalError> {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut t, mut p) = (0, 0);
    // Where matching resumes after the last `%`: it takes one more character each time what follows it fails.
    let mut resume: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'%') {
            p += 1;
            check_escape(pattern, p)?;
            resume = Some((t, p));
            continue;
        }
        if t == text.len() {
            return Ok(p == pattern.len());
        }
        let step = match pattern.get(p) {
            Some(b'_') => Some((width(text[t]), 1)),
            Some(b'\\') => {
                check_escape(pattern, p)?;
                same(text[t], pattern[p + 1], fold).then_some((1, 2))
            }
            Some(&literal) => same(text[t], literal, fold).then_some((1, 1)),
            None => None,
        };
        match (step, resume) {
            (Some((taken, used)), _) => {
                t += taken;
                p += used;
            }
            (None, Some((from, after))) if from < text.len() => {
                t = from + width(text[from]);
                p = after;
                resume = Some((t, p));
            }
            (None, _) => return Ok(false),
        }
    }
}

fn same(a: u8, b: u8, fold: bool) -> bool {
    a == b || (fold && a.eq_ignore_ascii_case(&b))
}

/// The bytes of the character that begins with `first`.
fn width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

fn check_escape(pattern: &[u8], at: usize) -> Result<(), EvalError> {
    if pattern.get(at) == Some(&b'\\') && at + 1 == pattern.len() {
        return Err(EvalError("a pattern of like must not end with the escape character".to_owned()));
    }
    Ok(())
}

/// Recognises the patterns that need no matcher.
fn shape(pattern: &str) -> Result<Shape, EvalError> {
    let mut literal = String::with_capacity(pattern.len());
    let (mut leading, mut trailing, mut general) = (false, false, false);
    let mut chars = pattern.char_indices();
    while let Some((at, c)) = chars.next() {
        // A `%` seen before is in the middle if anything but `%` follows it.
        general |= c == '_' || (trailing && c != '%');
        match c {
            '%' if literal.is_empty() => leading = true,
            '%' => trailing = true,
            '\\' => {
                check_escape(pattern.as_bytes(), at)?;
                literal.extend(chars.next().map(|(_, c)| c));
            }
            c => literal.push(c),
        }
    }
    Ok(match (general, leading, trailing) {
        (true, _, _) => Shape::General,
        (false, false, false) => Shape::Equals(literal),
        (false, false, true) => Shape::Prefix(literal),
        (false, true, false) => Shape::Suffix(literal),
        (false, true, true) => Shape::Contains(Box::new(Finder::new(literal.as_bytes()).into_owned())),
    })
}
