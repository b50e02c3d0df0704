//! Expressions in their place: parsed against a source's fields, problems mapped into the file.

use std::sync::Arc;

use super::locate::{locate, offset_of};
use super::problem::Problems;
use super::raw::Item;
use super::scalar::{Plain, expected};
use crate::expr::{self, AggregateCall, Expr, ExprProblem, FieldType};

/// The names an expression may use.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub fields: Vec<FieldType>,
    /// Fields whose type is a problem already: what follows from that is not reported.
    pub broken: Vec<Arc<str>>,
}

impl Scope {
    pub fn expression(&self, item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Expr> {
        let text = source_text(item, problems)?;
        self.report(item, text, expr::parse(text, &self.fields), problems)
    }

    pub fn condition(&self, item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Expr> {
        let text = source_text(item, problems)?;
        self.report(item, text, expr::parse_condition(text, &self.fields), problems)
    }

    pub fn aggregate(&self, item: &Item<'_>, problems: &mut Problems<'_>) -> Option<AggregateCall> {
        let text = source_text(item, problems)?;
        self.report(item, text, expr::parse_aggregate(text, &self.fields), problems)
    }

    /// A field as an expression, be its name a word of SQL or not.
    pub fn field(&self, name: &str, item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Expr> {
        let quoted = format!("\"{name}\"");
        self.report(item, &quoted, expr::parse(&quoted, &self.fields), problems)
    }

    /// Whether a text may name a field whose type is not known.
    fn doubtful(&self, text: &str) -> bool {
        self.broken.iter().any(|name| text.contains(&**name))
    }

    fn report<T>(
        &self,
        item: &Item<'_>,
        text: &str,
        parsed: Result<T, Vec<ExprProblem>>,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let found = match parsed {
            _ if self.doubtful(text) => return None,
            Ok(value) => return Some(value),
            Err(found) => found,
        };
        let scalar = item.scalar()?;
        for ExprProblem { line, column, message, hint } in found {
            let at = match line {
                0 => item.node.at,
                _ => locate(problems.file, scalar, item.node.at, offset_of(text, line, column)),
            };
            problems.add(at, &item.path, message).hint = hint;
        }
        None
    }
}

/// The text of an expression: a text, or a literal YAML would take for a number or boolean.
pub(super) fn source_text<'t>(item: &Item<'t>, problems: &mut Problems<'_>) -> Option<&'t str> {
    match item.scalar() {
        Some(scalar) if scalar.resolve() != Plain::Null => Some(&scalar.text),
        _ => {
            expected(item, "an expression", problems);
            None
        }
    }
}
