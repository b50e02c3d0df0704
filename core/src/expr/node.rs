//! The typed tree. Made only by `check`, so that every child has the type its parent needs.

use std::fmt;
use std::sync::Arc;

use regex::Regex;

use super::Expr;
use super::functions::Function;
use super::like::Pattern;
use super::time::{ExtractField, TruncUnit};
use crate::model::{DataType, Row, Span, Value};

#[derive(Clone, Debug)]
pub(super) enum Node {
    Field {
        index: usize,
        name: Arc<str>,
    },
    Literal(Value<'static>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull {
        of: Box<Expr>,
        negated: bool,
    },
    IsBoolean {
        of: Box<Expr>,
        value: bool,
        negated: bool,
    },
    /// Both sides have one type.
    Compare {
        op: Comparison,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Between {
        of: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
    },
    In {
        of: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    Like {
        of: Box<Expr>,
        pattern: LikePattern,
        negated: bool,
    },
    /// Both sides are bigint or both are double.
    Arithmetic {
        op: Arithmetic,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Negate(Box<Expr>),
    /// A timestamp and a fixed length of time.
    Shift {
        of: Box<Expr>,
        by: Span,
        back: bool,
    },
    Concat(Vec<Expr>),
    Case {
        operand: Option<Box<Expr>>,
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    /// From the type of the child to that of the expression.
    Cast(Box<Expr>),
    Coalesce(Vec<Expr>),
    NullIf(Box<Expr>, Box<Expr>),
    RegexpMatch {
        of: Box<Expr>,
        regex: Regex,
    },
    DateTrunc {
        unit: TruncUnit,
        of: Box<Expr>,
    },
    Extract {
        field: ExtractField,
        of: Box<Expr>,
    },
    Call {
        function: Function,
        arguments: Vec<Expr>,
    },
}

/// The pattern of `like` or `ilike`.
#[derive(Clone, Debug)]
pub(super) enum LikePattern {
    Constant(Pattern),
    Computed { pattern: Box<Expr>, fold: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Expr {
    pub(super) fn new(node: Node, data_type: DataType, nullable: bool) -> Expr {
        Expr { data_type, nullable, node }
    }

    pub(super) fn literal(value: Value<'static>, data_type: DataType) -> Expr {
        Expr { data_type, nullable: value.is_null(), node: Node::Literal(value) }
    }

    /// The value, if it is written out.
    pub fn as_literal(&self) -> Option<&Value<'static>> {
        match &self.node {
            Node::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// The same expression as a literal if it reads no field and does not raise; one that raises is kept, and
    /// raises when it is evaluated.
    pub(super) fn folded(self) -> Expr {
        if self.as_literal().is_some() || self.as_field().is_some() {
            return self;
        }
        let mut constant = true;
        self.node.for_each_child(&mut |child| constant &= child.as_literal().is_some());
        if !constant {
            return self;
        }
        let row = Row::new();
        let value = self.evaluate(&row).map(Value::into_owned);
        match value {
            Ok(value) => Expr::literal(value, self.data_type),
            Err(_) => self,
        }
    }

    pub(super) fn collect_fields(&self, used: &mut Vec<usize>) {
        if let Node::Field { index, .. } = &self.node {
            used.push(*index);
        }
        self.node.for_each_child(&mut |child| child.collect_fields(used));
    }
}

impl Node {
    pub(super) fn for_each_child<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        match self {
            Node::Field { .. } | Node::Literal(_) => {}
            Node::And(list) | Node::Or(list) | Node::Concat(list) | Node::Coalesce(list) => {
                list.iter().for_each(visit)
            }
            Node::Call { arguments, .. } => arguments.iter().for_each(visit),
            Node::Not(of) | Node::Negate(of) | Node::Cast(of) => visit(of),
            Node::IsNull { of, .. } | Node::IsBoolean { of, .. } | Node::Shift { of, .. } => visit(of),
            Node::RegexpMatch { of, .. } | Node::DateTrunc { of, .. } | Node::Extract { of, .. } => visit(of),
            Node::NullIf(left, right)
            | Node::Compare { left, right, .. }
            | Node::Arithmetic { left, right, .. } => {
                visit(left);
                visit(right);
            }
            Node::Between { of, low, high, .. } => [of, low, high].into_iter().for_each(|child| visit(child)),
            Node::In { of, list, .. } => {
                visit(of);
                list.iter().for_each(visit);
            }
            Node::Like { of, pattern, .. } => {
                visit(of);
                if let LikePattern::Computed { pattern, .. } = pattern {
                    visit(pattern);
                }
            }
            Node::Case { operand, arms, otherwise } => {
                operand.iter().for_each(|child| visit(child));
                for (when, then) in arms {
                    visit(when);
                    visit(then);
                }
                otherwise.iter().for_each(|child| visit(child));
            }
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "<>",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        })
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        })
    }
}
