//! A file, and its code without comments and literals.

/// A file of the checkout.
pub struct Source {
    /// From the root, with slashes.
    pub path: String,
    pub text: String,
    /// The text with every comment and every literal's content replaced by blanks; lines stay where they are. For
    /// Python the text itself.
    pub code: String,
}

impl Source {
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Source {
        let (path, text) = (path.into(), text.into());
        let code = if path.ends_with(".rs") { blank(&text) } else { text.clone() };
        Source { path, text, code }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The 1-based number of the line that holds byte `at`.
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Where `word` stands as a word of its own.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let inside = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = text.as_bytes();
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        !inside(before) && !inside(bytes.get(at + word.len()))
    })
}

/// Replaces comments and the content of literals by blanks.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_end(bytes, at) {
            Some(end) => end,
            None => {
                out.push(bytes[at]);
                at += 1;
                continue;
            }
        };
        out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal ends that begins at `at`, if one does.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => Some(at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(at + comment_length(rest)),
        [b'"', ..] => Some(at + 1 + quoted_length(&rest[1..], b'"')),
        [b'r', b'"' | b'#', ..] if !in_word => raw_length(&rest[1..]).map(|length| at + 1 + length),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => {
            raw_length(&rest[2..]).map(|length| at + 2 + length)
        }
        [b'\'', b'\\', ..] => Some(at + 1 + quoted_length(&rest[1..], b'\'')),
        [b'\'', ..] => char_length(rest).map(|length| at + length),
        _ => None,
    }
}

/// Length of a block comment, which may hold others.
fn comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            (b'/', b'*') => (depth, at) = (depth + 1, at + 2),
            (b'*', b'/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length up to and with the closing quote, minding backslashes.
fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `#"..."#` with any number of marks; none if this is no raw string (`r#type`).
fn raw_length(rest: &[u8]) -> Option<usize> {
    let marks = rest.iter().take_while(|byte| **byte == b'#').count();
    if rest.get(marks) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', marks)).collect();
    let body = &rest[marks + 1..];
    let length = body.windows(close.len()).position(|window| window == close).unwrap_or(body.len());
    Some((marks + 1 + length + close.len()).min(rest.len()))
}

/// Length of a character literal; none if the quote begins a lifetime.
fn char_length(rest: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)])
        .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]));
    let length = text.ok()?.chars().next()?.len_utf8();
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let check = |text: &str, expect: &str| {
        let code = blank(text);
        assert_eq!(code.len(), text.len(), "{text}");
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expect, "{text}");
    };
    check("let a = 1; // {\nlet b;", "let a = 1; let b;");
    check("a /* { /* } */ { */ b", "a b");
    check(r#"f("{ \" }", b)"#, "f( , b)");
    check(r##"f(r#"{ " }"#, b"{", br"{")"##, "f( , b , )");
    check("fn f<'a>(x: &'a str) -> char { '{' }", "fn f<'a>(x: &'a str) -> char { }");
    check(r"match c { '\'' => '\u{7b}', 'ä' => b'}' }", "match c { => , => b }");
    check("let r#type = \"a\nb\";", "let r#type = ;");
    check("x(\"open", "x(");
    assert_eq!(blank("\"a\nb\"\nc"), "  \n  \nc");
}

#[test]
fn words_stand_alone() {
    assert_eq!(words("unsafe_code unsafe { not_unsafe", "unsafe").collect::<Vec<_>>(), [12]);
    assert_eq!(line_of("a\nb\nc", 4), 3);
}
