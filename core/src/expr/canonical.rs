//! The canonical text of a checked expression: every part in parentheses, fields in quotes, constants
//! folded and written with their type. It enters the plan hash: a change here changes the hash of every
//! pipeline.

use std::fmt::Write;

use super::Expr;
use super::cast::double_text;
use super::node::{LikePattern, Node};
use crate::model::{DataType, Value};

impl Expr {
    pub(super) fn write_canonical(&self, out: &mut String) {
        match &self.node {
            Node::Field { name, .. } => quote(out, name, '"'),
            Node::Literal(value) => literal(out, value, self.data_type),
            Node::And(terms) => list(out, "(", terms, " and "),
            Node::Or(terms) => list(out, "(", terms, " or "),
            Node::Concat(parts) => list(out, "(", parts, " || "),
            Node::Coalesce(items) => list(out, "coalesce(", items, ", "),
            Node::Call { function, arguments } => {
                list(out, &format!("{}(", function.name()), arguments, ", ")
            }
            Node::Not(of) => parts(out, &[&"(not ", of, &")"]),
            Node::Negate(of) => parts(out, &[&"(-", of, &")"]),
            Node::IsNull { of, negated } => parts(out, &[&"(", of, &" is ", &not(*negated), &"null)"]),
            Node::IsBoolean { of, value, negated } => {
                parts(out, &[&"(", of, &" is ", &not(*negated), &value.to_string(), &")"])
            }
            Node::Compare { op, left, right } => {
                parts(out, &[&"(", left, &format!(" {op} "), right, &")"]);
            }
            Node::Arithmetic { op, left, right } => {
                parts(out, &[&"(", left, &format!(" {op} "), right, &")"]);
            }
            Node::Between { of, low, high, negated } => {
                parts(out, &[&"(", of, &" ", &not(*negated), &"between ", low, &" and ", high, &")"])
            }
            Node::In { of, list: items, negated } => {
                parts(out, &[&"(", of, &" ", &not(*negated), &"in "]);
                list(out, "(", items, ", ");
                out.push(')');
            }
            Node::Like { of, pattern, negated } => like(out, of, pattern, *negated),
            Node::Shift { of, by, back } => {
                let sign = if *back { '-' } else { '+' };
                parts(out, &[&"(", of, &format!(" {sign} interval '{} us')", by.0)]);
            }
            Node::Case { operand, arms, otherwise } => {
                case(out, operand.as_deref(), arms, otherwise.as_deref())
            }
            Node::Cast(of) => parts(out, &[&"cast(", of, &format!(" as {})", self.data_type)]),
            Node::NullIf(left, right) => parts(out, &[&"nullif(", left, &", ", right, &")"]),
            Node::RegexpMatch { of, regex } => {
                parts(out, &[&"regexp_match(", of, &", "]);
                quote(out, regex.as_str(), '\'');
                out.push(')');
            }
            Node::DateTrunc { unit, of } => {
                parts(out, &[&format!("date_trunc('{}', ", unit.name()), of, &")"]);
            }
            Node::Extract { field, of } => {
                parts(out, &[&format!("extract({} from ", field.name()), of, &")"]);
            }
        }
    }
}

/// A piece of canonical text: a word or an expression.
trait Piece {
    fn write(&self, out: &mut String);
}

impl Piece for &str {
    fn write(&self, out: &mut String) {
        out.push_str(self);
    }
}

impl Piece for String {
    fn write(&self, out: &mut String) {
        out.push_str(self);
    }
}

impl Piece for Expr {
    fn write(&self, out: &mut String) {
        self.write_canonical(out);
    }
}

impl Piece for Box<Expr> {
    fn write(&self, out: &mut String) {
        self.write_canonical(out);
    }
}

fn parts(out: &mut String, pieces: &[&dyn Piece]) {
    pieces.iter().for_each(|piece| piece.write(out));
}

fn list(out: &mut String, open: &str, items: &[Expr], separator: &str) {
    out.push_str(open);
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { separator });
        item.write_canonical(out);
    }
    out.push(')');
}

fn not(negated: bool) -> &'static str {
    if negated { "not " } else { "" }
}

fn like(out: &mut String, of: &Expr, pattern: &LikePattern, negated: bool) {
    let fold = match pattern {
        LikePattern::Constant(pattern) => pattern.fold,
        LikePattern::Computed { fold, .. } => *fold,
    };
    parts(out, &[&"(", of, &" ", &not(negated), &(if fold { "ilike " } else { "like " })]);
    match pattern {
        LikePattern::Constant(pattern) => quote(out, &pattern.text, '\''),
        LikePattern::Computed { pattern, .. } => pattern.write_canonical(out),
    }
    out.push(')');
}

fn case(out: &mut String, operand: Option<&Expr>, arms: &[(Expr, Expr)], otherwise: Option<&Expr>) {
    out.push_str("case");
    let mut part = |word: &str, expr: &Expr| {
        out.push_str(word);
        expr.write_canonical(out);
    };
    if let Some(operand) = operand {
        part(" ", operand);
    }
    for (when, then) in arms {
        part(" when ", when);
        part(" then ", then);
    }
    if let Some(otherwise) = otherwise {
        part(" else ", otherwise);
    }
    out.push_str(" end");
}

fn literal(out: &mut String, value: &Value<'_>, data_type: DataType) {
    let plain = match value {
        Value::Text(text) => {
            if data_type != DataType::Text {
                let _ = write!(out, "{data_type} ");
            }
            return quote(out, text, '\'');
        }
        Value::Null => format!("null::{data_type}"),
        Value::Boolean(value) => value.to_string(),
        Value::Bigint(number) => number.to_string(),
        Value::Double(number) => format!("double '{}'", double_text(*number)),
        Value::Timestamp(at) => format!("timestamp '{at}'"),
        Value::Date(date) => format!("date '{date}'"),
        Value::Numeric(number) => format!("numeric '{number}'"),
    };
    out.push_str(&plain);
}

fn quote(out: &mut String, text: &str, mark: char) {
    out.push(mark);
    for c in text.chars() {
        out.push(c);
        if c == mark {
            out.push(mark);
        }
    }
    out.push(mark);
}
