//! From the syntax tree to typed nodes. Every problem is kept, and what it stands in goes on being checked.

use sqlparser::ast::{self, CastKind, Expr as Sql, InTarget, UnaryOperator, Value as SqlValue};

use super::node::Node;
use super::types::{self, At, Draft};
use super::{Expr, ExprProblem, FieldType, cast};
use crate::model::{DataType, Value};

/// How deep expressions may nest. Why: checking and evaluating recurse, and the stack has an end.
pub(super) const MAX_DEPTH: usize = 64;

/// `None` from any of its methods means that a problem has been noted.
pub(super) struct Checker<'f> {
    fields: &'f [FieldType],
    pub problems: Vec<ExprProblem>,
    depth: usize,
}

impl<'f> Checker<'f> {
    pub fn new(fields: &'f [FieldType]) -> Self {
        Checker { fields, problems: Vec::new(), depth: 0 }
    }

    pub fn expr(&mut self, sql: &Sql) -> Option<Draft> {
        if self.depth == MAX_DEPTH {
            return self.too_deep(start_of(sql));
        }
        self.depth += 1;
        let draft = self.expr_at_depth(sql);
        self.depth -= 1;
        draft
    }

    fn expr_at_depth(&mut self, sql: &Sql) -> Option<Draft> {
        let at = start_of(sql);
        match sql {
            Sql::Nested(inner) => self.expr(inner),
            Sql::Value(value) => self.literal(&value.value, at),
            Sql::Identifier(name) => self.column(name),
            Sql::BinaryOp { .. } => self.chain(sql),
            Sql::UnaryOp { op, expr } => self.prefixed(*op, expr),
            Sql::IsNull(of) => self.is_null(of, false),
            Sql::IsNotNull(of) => self.is_null(of, true),
            Sql::IsTrue(of) => self.is_boolean(of, true, false),
            Sql::IsNotTrue(of) => self.is_boolean(of, true, true),
            Sql::IsFalse(of) => self.is_boolean(of, false, false),
            Sql::IsNotFalse(of) => self.is_boolean(of, false, true),
            Sql::Between { expr, negated, low, high } => {
                let (of, low, high) = (self.expr(expr), self.expr(low), self.expr(high));
                self.between(of?, [low?, high?], *negated)
            }
            Sql::In { expr, target: InTarget::List(list), negated, global: false } => {
                let (of, list) = (self.expr(expr), self.exprs(list));
                self.in_list(of?, list?, *negated)
            }
            Sql::Like { negated, any: false, expr, pattern, escape_char: None } => {
                let (of, pattern) = (self.expr(expr), self.expr(pattern));
                self.like(of?, pattern?, false, *negated)
            }
            Sql::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                let (of, pattern) = (self.expr(expr), self.expr(pattern));
                self.like(of?, pattern?, true, *negated)
            }
            Sql::Case { operand, conditions, else_result, .. } => {
                self.case(at, operand.as_deref(), conditions, else_result.as_deref())
            }
            Sql::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None } => {
                let to = self.named_type(data_type, at);
                let of = self.expr(expr);
                self.cast(of?, to?)
            }
            Sql::TypedString(typed) => {
                let to = self.named_type(&typed.data_type, at);
                let literal = self.literal(&typed.value.value, at);
                self.cast(literal?, to?)
            }
            Sql::Function(function) => self.function(function),
            Sql::Substring { expr, substring_from, substring_for, .. } => {
                let arguments = [Some(expr), substring_from.as_ref(), substring_for.as_ref()];
                let arguments: Vec<&Sql> = arguments.into_iter().flatten().map(|sql| sql.as_ref()).collect();
                self.call("substr", &arguments, at)
            }
            Sql::Extract { field, expr, .. } => self.extract(&field.to_string(), expr, at),
            other => {
                let (what, hint) = outside(other);
                self.refuse(at, what, hint.map(str::to_owned))
            }
        }
    }

    /// All of them, or none if any has a problem.
    pub fn exprs<'s>(&mut self, list: impl IntoIterator<Item = &'s Sql>) -> Option<Vec<Draft>> {
        let drafts: Vec<Option<Draft>> = list.into_iter().map(|sql| self.expr(sql)).collect();
        drafts.into_iter().collect()
    }

    /// Binary operators, which lean to the left. Why: a long chain must not be a deep recursion.
    fn chain(&mut self, sql: &Sql) -> Option<Draft> {
        let mut rest = Vec::new();
        let mut first = sql;
        while let Sql::BinaryOp { left, op, right } = first {
            rest.push((op, right.as_ref()));
            first = left;
        }
        let mut draft = self.expr(first);
        for (op, right) in rest.into_iter().rev() {
            let interval = matches!(op, ast::BinaryOperator::Plus | ast::BinaryOperator::Minus)
                && matches!(right, Sql::Interval(_));
            draft = if interval {
                draft.and_then(|left| self.shift(left, right, *op == ast::BinaryOperator::Minus))
            } else {
                let right = self.expr(right);
                draft.zip(right).and_then(|(left, right)| self.binary(op, left, right))
            };
        }
        draft
    }

    fn literal(&mut self, value: &SqlValue, at: At) -> Option<Draft> {
        match value {
            SqlValue::SingleQuotedString(text) if text.contains('\0') => {
                self.problem(at.problem("a text cannot contain the character U+0000", None))
            }
            SqlValue::SingleQuotedString(text) => Some(Draft::untyped(Value::Text(text.clone().into()), at)),
            SqlValue::Null => Some(Draft::untyped(Value::Null, at)),
            SqlValue::Boolean(value) => {
                Some(Draft::leaf(Expr::literal(Value::Boolean(*value), DataType::Boolean), at))
            }
            SqlValue::Number(digits, false) => self.number(digits, at),
            SqlValue::Placeholder(name) => self.refuse(at, &format!("placeholder {name}"), None),
            _ => self.refuse(at, "this kind of literal", Some("write a text as 'text'".to_owned())),
        }
    }

    /// An integer is bigint if it fits, any other number double.
    fn number(&mut self, digits: &str, at: At) -> Option<Draft> {
        if let Ok(number) = cast::parse_bigint(digits) {
            return Some(Draft::leaf(Expr::literal(Value::Bigint(number), DataType::Bigint), at));
        }
        match cast::parse_double(&digits.replace('_', "")) {
            Ok(number) => Some(Draft::leaf(Expr::literal(Value::Double(number), DataType::Double), at)),
            Err(error) => self.problem(at.problem(error.0, None)),
        }
    }

    fn prefixed(&mut self, op: UnaryOperator, of: &Sql) -> Option<Draft> {
        if let (UnaryOperator::Minus, Sql::Value(value)) = (op, of)
            && let SqlValue::Number(digits, false) = &value.value
        {
            return self.number(&format!("-{digits}"), start_of(of));
        }
        let of = self.expr(of)?;
        self.unary(op, of)
    }

    /// As in PostgreSQL a name without quotes is folded to lower case.
    fn column(&mut self, name: &ast::Ident) -> Option<Draft> {
        let at = at_ident(name);
        let exact = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
        if let Some(index) = self.fields.iter().position(|field| *field.name == *exact) {
            let field = &self.fields[index];
            let node = Node::Field { index, name: field.name.clone() };
            return Some(Draft::leaf(Expr::new(node, field.data_type, field.nullable), at));
        }
        let names: Vec<&str> = self.fields.iter().map(|field| &*field.name).collect();
        let hint = match names.iter().find(|field| **field == name.value) {
            Some(field) => Some(format!("write \"{field}\" in double quotes: it has capital letters")),
            None => did_you_mean(&exact, names.iter().copied()),
        };
        let hint = hint.or_else(|| {
            let names = names.join(", ");
            (names.len() <= 200).then(|| format!("the fields are {names}"))
        });
        self.problem(at.problem(format!("unknown field {exact}"), hint))
    }

    fn is_null(&mut self, of: &Sql, negated: bool) -> Option<Draft> {
        let of = self.expr(of)?;
        let (at, height) = (of.at, of.height);
        let node = Node::IsNull { of: Box::new(of.expr), negated };
        self.bounded(Draft::above(Expr::new(node, DataType::Boolean, false), at, height))
    }

    fn is_boolean(&mut self, of: &Sql, value: bool, negated: bool) -> Option<Draft> {
        let of = self.expr(of)?;
        let of = self.condition(of)?;
        let (at, height) = (of.at, of.height);
        let node = Node::IsBoolean { of: Box::new(of.expr), value, negated };
        self.bounded(Draft::above(Expr::new(node, DataType::Boolean, false), at, height))
    }

    fn named_type(&mut self, name: &ast::DataType, at: At) -> Option<DataType> {
        match types::named(name) {
            Ok(data_type) => Some(data_type),
            Err(hint) => {
                let types = "the types are text, bigint, double, boolean, timestamp, date, uuid, inet, json";
                self.refuse(at, &format!("type {name}"), Some(hint.unwrap_or(types).to_owned()))
            }
        }
    }

    pub fn cast(&mut self, of: Draft, to: DataType) -> Option<Draft> {
        if of.untyped || of.settled() == Some(to) {
            return self.coerce(of, to);
        }
        let (at, from, height) = (of.at, of.expr.data_type, of.height);
        if !cast::exists(from, to) {
            return self.problem(at.problem(format!("{from} cannot be cast to {to}"), None));
        }
        let nullable = of.expr.nullable;
        let expr = Expr::new(Node::Cast(Box::new(of.expr)), to, nullable);
        self.bounded(Draft::above(expr, at, height))
    }

    pub fn coerce(&mut self, draft: Draft, to: DataType) -> Option<Draft> {
        let (at, name) = (draft.at, draft.type_name());
        self.coerce_or(draft, to, || at.problem(format!("{to} is needed, not {name}"), None))
    }

    pub fn coerce_or(
        &mut self,
        draft: Draft,
        to: DataType,
        mismatch: impl FnOnce() -> ExprProblem,
    ) -> Option<Draft> {
        match draft.coerced(to) {
            Ok(draft) => self.bounded(draft),
            Err(problem) => {
                let problem = problem.unwrap_or_else(mismatch);
                self.problem(problem)
            }
        }
    }

    pub fn coerce_all(&mut self, drafts: Vec<Draft>, to: DataType) -> Option<Vec<Draft>> {
        let drafts: Vec<Option<Draft>> = drafts.into_iter().map(|draft| self.coerce(draft, to)).collect();
        drafts.into_iter().collect()
    }

    pub fn bounded(&mut self, draft: Draft) -> Option<Draft> {
        if draft.height > MAX_DEPTH { self.too_deep(draft.at) } else { Some(draft) }
    }

    fn too_deep<T>(&mut self, at: At) -> Option<T> {
        let message = format!("expressions nest more than {MAX_DEPTH} deep");
        if self.problems.iter().any(|problem| problem.message == message) {
            return None;
        }
        self.problem(at.problem(message, None))
    }

    pub fn problem<T>(&mut self, problem: ExprProblem) -> Option<T> {
        self.problems.push(problem);
        None
    }

    pub fn refuse<T>(&mut self, at: At, what: &str, hint: Option<String>) -> Option<T> {
        self.problem(at.problem(format!("not in millstream's SQL: {what}"), hint))
    }
}

/// The nearest of the names, if one is near.
pub(super) fn did_you_mean<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let nearest = names
        .map(|other| (strsim::osa_distance(name, other), other))
        .min_by_key(|(distance, _)| *distance)?;
    let near = nearest.0 <= (name.chars().count() / 3).max(1);
    near.then(|| format!("did you mean {}?", nearest.1))
}

/// Where the leftmost part begins that knows its place.
pub(super) fn start_of(sql: &Sql) -> At {
    let mut sql = sql;
    loop {
        sql = match sql {
            Sql::BinaryOp { left: inner, .. }
            | Sql::Nested(inner)
            | Sql::Cast { expr: inner, .. }
            | Sql::IsNull(inner)
            | Sql::IsNotNull(inner)
            | Sql::IsTrue(inner)
            | Sql::IsNotTrue(inner)
            | Sql::IsFalse(inner)
            | Sql::IsNotFalse(inner)
            | Sql::IsDistinctFrom(inner, _)
            | Sql::IsNotDistinctFrom(inner, _)
            | Sql::UnaryOp { expr: inner, .. }
            | Sql::Between { expr: inner, .. }
            | Sql::In { expr: inner, .. }
            | Sql::Like { expr: inner, .. }
            | Sql::ILike { expr: inner, .. }
            | Sql::SimilarTo { expr: inner, .. }
            | Sql::Substring { expr: inner, .. }
            | Sql::Extract { expr: inner, .. }
            | Sql::Trim { expr: inner, .. }
            | Sql::Ceil { expr: inner, .. }
            | Sql::Floor { expr: inner, .. }
            | Sql::Position { expr: inner, .. }
            | Sql::Collate { expr: inner, .. }
            | Sql::AnyOp { left: inner, .. }
            | Sql::AllOp { left: inner, .. }
            | Sql::AtTimeZone { timestamp: inner, .. } => inner,
            Sql::Interval(interval) => &interval.value,
            Sql::Identifier(name) => return at_ident(name),
            Sql::CompoundIdentifier(names) => return names.first().map(at_ident).unwrap_or_default(),
            Sql::Value(value) => return at_location(value.span.start),
            Sql::TypedString(typed) => return at_location(typed.value.span.start),
            Sql::Case { case_token, .. } => return at_location(case_token.0.span.start),
            Sql::Function(function) => {
                let name = function.name.0.first().and_then(|part| part.as_ident());
                return name.map(at_ident).unwrap_or_default();
            }
            _ => return At::default(),
        }
    }
}

fn at_ident(name: &ast::Ident) -> At {
    at_location(name.span.start)
}

pub(super) fn at_location(location: sqlparser::tokenizer::Location) -> At {
    let number = |n: u64| usize::try_from(n).unwrap_or(0);
    At { line: number(location.line), column: number(location.column) }
}

/// What to call syntax that the subset leaves out.
fn outside(sql: &Sql) -> (&'static str, Option<&'static str>) {
    match sql {
        Sql::CompoundIdentifier(_) => {
            ("a name with a point", Some("name the field alone: there is one source in sight"))
        }
        Sql::Interval(_) => ("an interval here", Some("only timestamp + interval and timestamp - interval")),
        Sql::Subquery(_) | Sql::Exists { .. } | Sql::In { .. } => ("a subquery", None),
        Sql::Like { .. } | Sql::ILike { .. } => {
            ("like with escape or any", Some("the backslash is the escape"))
        }
        Sql::SimilarTo { .. } | Sql::RLike { .. } => ("similar to", Some("use like or regexp_match")),
        Sql::IsDistinctFrom(..) | Sql::IsNotDistinctFrom(..) => ("is distinct from", None),
        Sql::IsUnknown(_) | Sql::IsNotUnknown(_) => ("is unknown", Some("use is null")),
        Sql::AtTimeZone { .. } => ("at time zone", Some("everything is UTC")),
        Sql::AnyOp { .. } | Sql::AllOp { .. } => ("any and all", Some("use in (...)")),
        Sql::Array(_) | Sql::CompoundFieldAccess { .. } => ("arrays", None),
        Sql::Tuple(_) => ("rows", None),
        Sql::Cast { .. } | Sql::Convert { .. } => ("this kind of cast", Some("use cast(x as type)")),
        Sql::Collate { .. } => ("collate", Some("texts compare by their bytes")),
        Sql::Ceil { .. } | Sql::Floor { .. } => ("ceil and floor", None),
        Sql::Trim { .. } => ("trim", None),
        Sql::Position { .. } => ("position", None),
        Sql::Overlay { .. } => ("overlay", None),
        Sql::Wildcard(_) | Sql::QualifiedWildcard(..) => ("*", None),
        _ => ("this construct", None),
    }
}
