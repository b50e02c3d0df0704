//! From text to a syntax tree, by sqlparser, and from there to what the pipeline uses.

use sqlparser::ast::Expr as Sql;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use super::check::{Checker, MAX_DEPTH, at_location};
use super::types::At;
use super::{AggregateCall, Expr, ExprProblem, FieldType};

/// Limits of one text. Why: a chain of n operators is a tree of depth n to the parser, and is freed by
/// recursion.
const MAX_BYTES: usize = 65_536;
const MAX_TOKENS: usize = 4_096;
/// The parser counts several levels for one of ours.
const PARSER_DEPTH: usize = 4 * MAX_DEPTH;

/// Parses and types a scalar expression. Every problem found is returned, not only the first.
pub fn parse(text: &str, fields: &[FieldType]) -> Result<Expr, Vec<ExprProblem>> {
    checked(text, fields, |checker, sql| {
        let draft = checker.expr(sql)?;
        let data_type = draft.expr.data_type;
        Some(checker.coerce(draft, data_type)?.expr)
    })
}

/// Parses a condition: a scalar expression that must be boolean.
pub fn parse_condition(text: &str, fields: &[FieldType]) -> Result<Expr, Vec<ExprProblem>> {
    checked(text, fields, |checker, sql| {
        let draft = checker.expr(sql)?;
        Some(checker.condition(draft)?.expr)
    })
}

/// Parses an aggregate call. Whether there is such an aggregate, and for these arguments, is for the caller
/// to say.
pub fn parse_aggregate(text: &str, fields: &[FieldType]) -> Result<AggregateCall, Vec<ExprProblem>> {
    checked(text, fields, |checker, sql| checker.aggregate(sql))
}

/// True if the text is exactly a call `commit_time()`, in any case and with any blanks.
pub fn is_commit_time(text: &str) -> bool {
    const NAME: &str = "commit_time";
    let text = text.trim();
    let Some((name, rest)) = text.split_at_checked(NAME.len()) else { return false };
    let inner = rest.trim_start().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    name.eq_ignore_ascii_case(NAME) && inner.is_some_and(|inner| inner.trim().is_empty())
}

fn checked<T>(
    text: &str,
    fields: &[FieldType],
    check: impl FnOnce(&mut Checker<'_>, &Sql) -> Option<T>,
) -> Result<T, Vec<ExprProblem>> {
    let sql = syntax(text).map_err(|problem| vec![problem])?;
    let mut checker = Checker::new(fields);
    match check(&mut checker, &sql) {
        Some(result) if checker.problems.is_empty() => Ok(result),
        _ => Err(checker.problems),
    }
}

fn syntax(text: &str) -> Result<Sql, ExprProblem> {
    let whole = At { line: 1, column: 1 };
    if text.trim().is_empty() {
        return Err(whole.problem("the expression is empty", None));
    }
    let dialect = PostgreSqlDialect {};
    let too_long = |what: &str| whole.problem(format!("the expression is longer than {what}"), None);
    if text.len() > MAX_BYTES {
        return Err(too_long(&format!("{MAX_BYTES} bytes")));
    }
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| at_location(error.location).problem(lowercase_first(&error.message), None))?;
    if tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count() > MAX_TOKENS {
        return Err(too_long(&format!("{MAX_TOKENS} words and signs")));
    }
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(PARSER_DEPTH).with_tokens_with_locations(tokens);
    let sql = parser.parse_expr().map_err(|error| syntax_problem(error, text))?;
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Ok(sql),
        token => {
            Err(at_location(next.span.start)
                .problem(format!("unexpected {token} after the expression"), None))
        }
    }
}

fn syntax_problem(error: ParserError, text: &str) -> ExprProblem {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return At { line: 1, column: 1 }
                .problem(format!("expressions nest more than {MAX_DEPTH} deep"), None);
        }
    };
    let (message, at) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => {
            let (line, column) = place.split_once(", Column: ").unwrap_or((place, "0"));
            let at = At { line: line.parse().unwrap_or(0), column: column.parse().unwrap_or(0) };
            (message.to_owned(), at)
        }
        None => (message, end_of(text)),
    };
    at.problem(lowercase_first(&message).replace("found: EOF", "found the end"), None)
}

/// Why: the parser gives no place for what is missing at the end.
fn end_of(text: &str) -> At {
    let last = text.lines().last().unwrap_or_default();
    At { line: text.lines().count(), column: last.chars().count() + 1 }
}

fn lowercase_first(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
