//! The types of operators.

use sqlparser::ast::{BinaryOperator, Expr as Sql, UnaryOperator};

use super::check::Checker;
use super::node::{Arithmetic, Comparison, LikePattern, Node};
use super::types::{At, Draft, common_type, equatable, orderable};
use super::{Expr, like, time};
use crate::model::{DataType, Span, Value};

impl Checker<'_> {
    pub(super) fn binary(&mut self, op: &BinaryOperator, left: Draft, right: Draft) -> Option<Draft> {
        let at = left.at;
        match op {
            BinaryOperator::And => self.logical(left, right, true),
            BinaryOperator::Or => self.logical(left, right, false),
            BinaryOperator::Eq => self.comparison(Comparison::Equal, left, right),
            BinaryOperator::NotEq => self.comparison(Comparison::NotEqual, left, right),
            BinaryOperator::Lt => self.comparison(Comparison::Less, left, right),
            BinaryOperator::LtEq => self.comparison(Comparison::LessOrEqual, left, right),
            BinaryOperator::Gt => self.comparison(Comparison::Greater, left, right),
            BinaryOperator::GtEq => self.comparison(Comparison::GreaterOrEqual, left, right),
            BinaryOperator::Plus => self.arithmetic(Arithmetic::Add, left, right),
            BinaryOperator::Minus => self.arithmetic(Arithmetic::Subtract, left, right),
            BinaryOperator::Multiply => self.arithmetic(Arithmetic::Multiply, left, right),
            BinaryOperator::Divide => self.arithmetic(Arithmetic::Divide, left, right),
            BinaryOperator::Modulo => self.arithmetic(Arithmetic::Remainder, left, right),
            BinaryOperator::StringConcat => self.concat(left, right),
            other => self.refuse(at, &format!("operator {other}"), None),
        }
    }

    /// A chain of one connective becomes one node: its length is no depth.
    fn logical(&mut self, left: Draft, right: Draft, and: bool) -> Option<Draft> {
        let (left, right) = (self.condition(left), self.condition(right));
        let (left, right) = (left?, right?);
        let nullable = left.expr.nullable || right.expr.nullable;
        let (mut terms, below) = match left.expr.node {
            Node::And(terms) if and => (terms, left.height - 1),
            Node::Or(terms) if !and => (terms, left.height - 1),
            node => (vec![Expr::new(node, DataType::Boolean, left.expr.nullable)], left.height),
        };
        terms.push(right.expr);
        let node = if and { Node::And(terms) } else { Node::Or(terms) };
        let expr = Expr::new(node, DataType::Boolean, nullable);
        self.bounded(Draft::above(expr, left.at, below.max(right.height)))
    }

    pub(super) fn condition(&mut self, draft: Draft) -> Option<Draft> {
        let (at, name) = (draft.at, draft.type_name());
        self.coerce_or(draft, DataType::Boolean, || {
            at.problem(format!("a condition must be boolean, not {name}"), None)
        })
    }

    fn comparison(&mut self, op: Comparison, left: Draft, right: Draft) -> Option<Draft> {
        let equality = matches!(op, Comparison::Equal | Comparison::NotEqual);
        let allowed = if equality { equatable } else { orderable };
        let at = left.at;
        let (mut sides, height) = self.aligned(&op.to_string(), vec![left, right], allowed)?;
        let (right, left) = (sides.pop()?, sides.pop()?);
        let nullable = left.nullable || right.nullable;
        let node = Node::Compare { op, left: Box::new(left), right: Box::new(right) };
        self.bounded(Draft::above(Expr::new(node, DataType::Boolean, nullable), at, height))
    }

    pub(super) fn between(&mut self, of: Draft, bounds: [Draft; 2], negated: bool) -> Option<Draft> {
        let at = of.at;
        let [low, high] = bounds;
        let (mut parts, height) = self.aligned("between", vec![of, low, high], orderable)?;
        let (high, low, of) = (parts.pop()?, parts.pop()?, parts.pop()?);
        let nullable = of.nullable || low.nullable || high.nullable;
        let node = Node::Between { of: Box::new(of), low: Box::new(low), high: Box::new(high), negated };
        self.bounded(Draft::above(Expr::new(node, DataType::Boolean, nullable), at, height))
    }

    pub(super) fn in_list(&mut self, of: Draft, list: Vec<Draft>, negated: bool) -> Option<Draft> {
        let at = of.at;
        let mut all = vec![of];
        all.extend(list);
        let (mut list, height) = self.aligned("in", all, equatable)?;
        let nullable = list.iter().any(|item| item.nullable);
        let of = list.remove(0);
        let node = Node::In { of: Box::new(of), list, negated };
        self.bounded(Draft::above(Expr::new(node, DataType::Boolean, nullable), at, height))
    }

    /// Expressions to be compared with each other: all of one type, which must allow it; and their greatest
    /// height.
    pub(super) fn aligned(
        &mut self,
        operator: &str,
        drafts: Vec<Draft>,
        allowed: fn(DataType) -> bool,
    ) -> Option<(Vec<Expr>, usize)> {
        let at = drafts.first()?.at;
        let types = match common_type(&drafts) {
            Ok(common) if allowed(common) => {
                let coerced = self.coerce_all(drafts, common)?;
                let height = coerced.iter().map(|draft| draft.height).max()?;
                return Some((coerced.into_iter().map(|draft| draft.expr).collect(), height));
            }
            Ok(common) => [common, common],
            Err(types) => types,
        };
        let name = |draft: &Draft| draft.settled().map_or(draft.type_name(), |t| t.to_string());
        let [left, right] = match drafts.as_slice() {
            [left, right] => [name(left), name(right)],
            _ => types.map(|data_type| data_type.to_string()),
        };
        self.no_operator(at, operator, [&left, &right], cast_hint(types))
    }

    fn arithmetic(&mut self, op: Arithmetic, left: Draft, right: Draft) -> Option<Draft> {
        let at = left.at;
        let names = [left.type_name(), right.type_name()];
        // Two literals without a type could be any numbers: PostgreSQL refuses to guess, too.
        let numeric = match common_type([&left, &right]) {
            Ok(DataType::Bigint) => Some(DataType::Bigint),
            Ok(DataType::Double) if op != Arithmetic::Remainder => Some(DataType::Double),
            _ => None,
        };
        let Some(data_type) = numeric else {
            let temporal = |t: Option<DataType>| matches!(t, Some(DataType::Timestamp | DataType::Date));
            let hint = if temporal(left.settled()) || temporal(right.settled()) {
                Some(
                    "only timestamp + interval and timestamp - interval, as in interval '5 minutes'"
                        .to_owned(),
                )
            } else {
                None
            };
            return self.no_operator(at, &op.to_string(), [&names[0], &names[1]], hint);
        };
        let mut sides = self.coerce_all(vec![left, right], data_type)?;
        let (right, left) = (sides.pop()?, sides.pop()?);
        let nullable = left.expr.nullable || right.expr.nullable;
        let height = left.height.max(right.height);
        let node = Node::Arithmetic { op, left: Box::new(left.expr), right: Box::new(right.expr) };
        self.bounded(Draft::above(Expr::new(node, data_type, nullable), at, height))
    }

    /// `timestamp + interval '...'` or `timestamp - interval '...'`.
    pub(super) fn shift(&mut self, of: Draft, interval: &Sql, back: bool) -> Option<Draft> {
        let at = of.at;
        let by = self.interval(interval);
        let op = if back { "-" } else { "+" };
        let (name, date) = (of.type_name(), of.settled() == Some(DataType::Date));
        let of = if date { None } else { of.coerced(DataType::Timestamp).ok() };
        let Some(of) = of else {
            let hint = date.then(|| "cast the date to timestamp first".to_owned());
            return self.no_operator(at, op, [&name, "interval"], hint);
        };
        let by = by?;
        // A span is never negative: a negative interval goes the other way.
        let (by, back) = if by < 0 { (by.checked_neg()?, !back) } else { (by, back) };
        let nullable = of.expr.nullable;
        let node = Node::Shift { of: Box::new(of.expr), by: Span(by), back };
        self.bounded(Draft::above(Expr::new(node, DataType::Timestamp, nullable), at, of.height))
    }

    fn interval(&mut self, interval: &Sql) -> Option<i64> {
        let at = super::check::start_of(interval);
        let Sql::Interval(interval) = interval else { return None };
        let Sql::Value(value) = interval.value.as_ref() else {
            return self.refuse(at, "an interval that is not a literal", None);
        };
        let plain = interval.last_field.is_none()
            && interval.leading_precision.is_none()
            && interval.fractional_seconds_precision.is_none();
        let sqlparser::ast::Value::SingleQuotedString(text) = &value.value else {
            return self.refuse(at, "this interval", Some("write interval '5 minutes'".to_owned()));
        };
        let text = match &interval.leading_field {
            _ if !plain => {
                return self.refuse(at, "this interval", Some("write interval '5 minutes'".to_owned()));
            }
            Some(unit) => format!("{text} {unit}"),
            None => text.clone(),
        };
        match time::parse_interval(&text) {
            Ok(micros) if micros != i64::MIN => Some(micros),
            Ok(_) => self.problem(at.problem("interval out of range", None)),
            Err(message) => self.problem(at.problem(message, None)),
        }
    }

    /// Text and anything; a chain becomes one node.
    fn concat(&mut self, left: Draft, right: Draft) -> Option<Draft> {
        let at = left.at;
        let is_text = |draft: &Draft| draft.untyped || draft.settled() == Some(DataType::Text);
        if !is_text(&left) && !is_text(&right) {
            let hint = Some("cast one side to text".to_owned());
            return self.no_operator(at, "||", [&left.type_name(), &right.type_name()], hint);
        }
        let (left, right) = (self.as_text(left)?, self.as_text(right)?);
        let nullable = left.expr.nullable || right.expr.nullable;
        let (mut parts, below) = match left.expr.node {
            Node::Concat(parts) => (parts, left.height - 1),
            node => (vec![Expr::new(node, DataType::Text, left.expr.nullable)], left.height),
        };
        parts.push(right.expr);
        let expr = Expr::new(Node::Concat(parts), DataType::Text, nullable);
        self.bounded(Draft::above(expr, at, below.max(right.height)))
    }

    fn as_text(&mut self, draft: Draft) -> Option<Draft> {
        match draft.settled() {
            None | Some(DataType::Text) => self.coerce(draft, DataType::Text),
            Some(_) => self.cast(draft, DataType::Text),
        }
    }

    pub(super) fn like(&mut self, of: Draft, pattern: Draft, fold: bool, negated: bool) -> Option<Draft> {
        let (at, pattern_at) = (of.at, pattern.at);
        let name = if fold { "ilike" } else { "like" };
        let names = [of.type_name(), pattern.type_name()];
        let (Ok(of), Ok(pattern)) = (of.coerced(DataType::Text), pattern.coerced(DataType::Text)) else {
            return self.no_operator(at, name, [&names[0], &names[1]], Some("cast it to text".to_owned()));
        };
        let nullable = of.expr.nullable || pattern.expr.nullable;
        let height = of.height.max(pattern.height);
        let pattern = match pattern.expr.as_literal() {
            Some(Value::Text(text)) => match like::Pattern::new(text, fold) {
                Ok(pattern) => LikePattern::Constant(pattern),
                Err(error) => return self.problem(pattern_at.problem(error.0, None)),
            },
            _ => LikePattern::Computed { pattern: Box::new(pattern.expr), fold },
        };
        let node = Node::Like { of: Box::new(of.expr), pattern, negated };
        self.bounded(Draft::above(Expr::new(node, DataType::Boolean, nullable), at, height))
    }

    pub(super) fn unary(&mut self, op: UnaryOperator, of: Draft) -> Option<Draft> {
        let at = of.at;
        if op == UnaryOperator::Not {
            let of = self.condition(of)?;
            let (nullable, height) = (of.expr.nullable, of.height);
            let expr = Expr::new(Node::Not(Box::new(of.expr)), DataType::Boolean, nullable);
            return self.bounded(Draft::above(expr, at, height));
        }
        if !matches!(op, UnaryOperator::Minus | UnaryOperator::Plus) {
            return self.refuse(at, &format!("operator {op}"), None);
        }
        let data_type = match of.settled() {
            Some(data_type @ (DataType::Bigint | DataType::Double)) => data_type,
            _ => {
                return self
                    .problem(at.problem(format!("operator {op} does not take {}", of.type_name()), None));
            }
        };
        if op == UnaryOperator::Plus {
            return Some(of);
        }
        let (nullable, height) = (of.expr.nullable, of.height);
        let expr = Expr::new(Node::Negate(Box::new(of.expr)), data_type, nullable);
        self.bounded(Draft::above(expr, at, height))
    }

    fn no_operator<T>(&mut self, at: At, op: &str, types: [&str; 2], hint: Option<String>) -> Option<T> {
        let [left, right] = types;
        self.problem(at.problem(format!("operator {op} does not take {left} and {right}"), hint))
    }
}

fn cast_hint(types: [DataType; 2]) -> Option<String> {
    match types {
        _ if types.contains(&DataType::Json) => Some("json cannot be compared: cast it to text".to_owned()),
        [left, right] if left == right => None,
        [DataType::Text, other] | [other, DataType::Text] => Some(format!("cast one side, as in x::{other}")),
        _ => None,
    }
}
