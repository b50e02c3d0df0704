//! Why an expression raised, and how such errors are worded.

/// Why an expression raised; makes the record `EXPRESSION_ERROR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

/// A value's text for an error, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

pub(super) fn invalid(data_type: &str, text: &str) -> EvalError {
    EvalError(format!("invalid text for {data_type}: {}", quoted(text)))
}

pub(super) fn out_of_range(data_type: &str, text: &str) -> EvalError {
    EvalError(format!("{data_type} out of range: {}", quoted(text)))
}
