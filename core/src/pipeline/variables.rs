//! `${VAR}` and `${VAR:-default}` inside scalars.
//!
//! Replaced in values, never in keys. `${VAR}` must be set (it may be empty); `${VAR:-default}` takes the default
//! where the variable is not set or empty. A default is plain text up to the next `}`. `$${` stands for `${`; every
//! other `$` for itself, so that patterns and passwords need no care. Secrets also come as files: whoever supplies
//! `environment` answers for `NAME` with the content of the file that `NAME_FILE` names; nothing is read here.

use super::problem::Problems;
use super::raw::{Entry, Kind, Node, Scalar, join};

/// Resolves a variable; `None`: not set.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Replaces the variables of a tree.
pub(super) fn replace(
    node: &mut Node,
    path: &str,
    environment: Environment<'_>,
    problems: &mut Problems<'_>,
) {
    match &mut node.kind {
        Kind::Scalar(scalar) if scalar.text.contains("${") => {
            let typed = scalar.text.clone();
            let (text, faults) = replaced(&typed, environment);
            for (offset, message, hint) in faults {
                let at = super::locate::locate(problems.file, scalar, node.at, offset);
                problems.add_unknown(at, path, message).hint(hint);
            }
            scalar.text = text;
            scalar.typed = Some(typed);
        }
        Kind::Scalar(_) => {}
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                replace(item, &format!("{path}[{index}]"), environment, problems);
            }
        }
        Kind::Map(entries) => {
            for Entry { key, value, .. } in entries {
                replace(value, &join(path, key), environment, problems);
            }
        }
    }
}

impl Scalar {
    /// Whether the scalar is one variable and nothing else: quoted or not, it has the type of its value, because
    /// braces must be quoted in a flow map.
    pub fn is_variable(&self) -> bool {
        let typed = self.typed.as_deref().unwrap_or_default();
        typed.starts_with("${") && typed.find('}') == Some(typed.len() - 1)
    }
}

/// Characters before the fault, message, hint.
type Fault = (usize, String, &'static str);

const WRITTEN: &str = "written ${VAR} or ${VAR:-default}; $${ stands for ${";

/// The text with its variables replaced, and what was wrong with them.
fn replaced(typed: &str, environment: Environment<'_>) -> (String, Vec<Fault>) {
    let (mut text, mut faults) = (String::new(), Vec::new());
    let mut rest = typed;
    while let Some(start) = rest.find("${") {
        let offset = |at: &str| typed[..typed.len() - at.len()].chars().count();
        if rest[..start].ends_with('$') {
            text.push_str(&rest[..start - 1]);
            text.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some(end) = rest.find('}') else {
            faults.push((offset(rest), "`${` has no `}`".to_owned(), WRITTEN));
            return (text, faults);
        };
        match variable(&rest[2..end], environment) {
            Ok(value) => text.push_str(&value),
            Err((message, hint)) => faults.push((offset(rest), message, hint)),
        }
        rest = &rest[end + 1..];
    }
    text.push_str(rest);
    (text, faults)
}

/// The value of what stands between the braces.
fn variable(inner: &str, environment: Environment<'_>) -> Result<String, (String, &'static str)> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err((format!("`{name}` is not a variable's name"), WRITTEN));
    }
    if default.is_some_and(|d| d.contains("${")) {
        return Err((format!("the default of `{name}` names a variable"), "a default is plain text"));
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the variable `{name}` is not set"),
            "set it, name a file in it with _FILE, or give a default: ${VAR:-default}",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::replaced;

    fn check(typed: &str, text: &str, faults: &[(usize, &str)]) {
        let environment = |name: &str| match name {
            "HOST" => Some("kafka".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let (found, found_faults) = replaced(typed, &environment);
        assert_eq!(found, text, "{typed}");
        let found_faults: Vec<_> = found_faults.iter().map(|(at, m, _)| (*at, m.as_str())).collect();
        assert_eq!(found_faults, faults, "{typed}");
    }

    #[test]
    fn variables_defaults_and_literal_dollars() {
        check("${HOST}:9092", "kafka:9092", &[]);
        check("${PORT:-9092}", "9092", &[]);
        check("${HOST:-x}${EMPTY:-y}${EMPTY}", "kafkay", &[]);
        check("^a$ $$ $1 $", "^a$ $$ $1 $", &[]);
        check("$${HOST}", "${HOST}", &[]);
        check("${A:-}", "", &[]);
    }

    #[test]
    fn faults_say_where() {
        check("é${PORT}", "é", &[(1, "the variable `PORT` is not set")]);
        check("ab${HOST", "ab", &[(2, "`${` has no `}`")]);
        check("${1A}", "", &[(0, "`1A` is not a variable's name")]);
        check("${A:-${B}}", "}", &[(0, "the default of `A` names a variable")]);
    }
}
