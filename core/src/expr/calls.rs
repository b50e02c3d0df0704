//! The types of function calls and `case`.

use regex::RegexBuilder;
use sqlparser::ast::{
    CaseWhen, DuplicateTreatment, Expr as Sql, Function as SqlFunction, FunctionArg, FunctionArgExpr,
    FunctionArguments, ObjectNamePart,
};

use super::check::{Checker, did_you_mean, start_of};
use super::functions::Function;
use super::node::Node;
use super::time::{ExtractField, TruncUnit};
use super::types::{At, Draft, common_type, equatable};
use super::{AggregateCall, Expr};
use crate::model::{DataType, Value};

const NAMES: [&str; 16] = [
    "coalesce",
    "commit_time",
    "date",
    "date_trunc",
    "extract",
    "length",
    "lower",
    "nullif",
    "regexp_match",
    "split_part",
    "substr",
    "substring",
    "upper",
    "url_host",
    "url_path",
    "utm",
];
const AGGREGATES: [&str; 8] =
    ["approx_distinct", "approx_percentile", "avg", "count", "late_rows", "max", "min", "sum"];
const CLOCKS: [&str; 9] = [
    "clock_timestamp",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "now",
    "statement_timestamp",
    "transaction_timestamp",
];
/// A compiled pattern takes no more memory than this.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// The parts of a call that the grammar of expressions knows.
struct Arguments<'s> {
    plain: Vec<&'s Sql>,
    distinct: bool,
    star: bool,
}

impl Checker<'_> {
    pub(super) fn function(&mut self, function: &SqlFunction) -> Option<Draft> {
        let (name, at) = self.function_name(function)?;
        if name == "commit_time" {
            return self.problem(at.problem("commit_time() must be the whole of a `set` value", None));
        }
        if AGGREGATES.contains(&name.as_str()) {
            return self
                .problem(at.problem(format!("{name} is an aggregate: it may stand only in `select`"), None));
        }
        if CLOCKS.contains(&name.as_str()) {
            let hint = "commit_time() in `set` is the time at which the epoch was decided";
            let message = format!("{name} would read the clock, and an expression may not");
            return self.problem(at.problem(message, Some(hint.to_owned())));
        }
        if matches!(function.args, FunctionArguments::None) {
            let hint = format!("write \"{name}\" in double quotes if the field is meant");
            return self.refuse(at, &format!("the keyword {name}"), Some(hint));
        }
        if !NAMES.contains(&name.as_str()) {
            let hint = did_you_mean(&name, NAMES.into_iter())
                .unwrap_or_else(|| format!("the functions are {}", NAMES.join(", ")));
            return self.problem(at.problem(format!("unknown function {name}"), Some(hint)));
        }
        let arguments = self.arguments(function, at)?;
        if arguments.star || arguments.distinct || function.filter.is_some() {
            return self.refuse(at, "*, distinct or filter outside an aggregate", None);
        }
        self.call(&name, &arguments.plain, at)
    }

    /// The aggregate call that the whole of a `select` text is.
    pub(super) fn aggregate(&mut self, sql: &Sql) -> Option<AggregateCall> {
        let Sql::Function(function) = sql else {
            let message = "an aggregate call is needed, such as count(*) or sum(x)";
            return self.problem(start_of(sql).problem(message, None));
        };
        let (name, at) = self.function_name(function)?;
        let arguments = self.arguments(function, at);
        let filter = function.filter.as_deref().map(|sql| {
            let filter = self.expr(sql)?;
            self.condition(filter)
        });
        let arguments = arguments?;
        let drafts = self.exprs(arguments.plain);
        let filter = match filter {
            Some(checked) => Some(checked?.expr),
            None => None,
        };
        Some(AggregateCall {
            function: name,
            distinct: arguments.distinct,
            arguments: drafts?.into_iter().map(|draft| draft.expr).collect(),
            star: arguments.star,
            filter,
        })
    }

    fn function_name(&mut self, function: &SqlFunction) -> Option<(String, At)> {
        match function.name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => {
                let folded =
                    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
                Some((folded, super::check::at_location(name.span.start)))
            }
            _ => self.refuse(At::default(), &format!("the function name {}", function.name), None),
        }
    }

    fn arguments<'s>(&mut self, function: &'s SqlFunction, at: At) -> Option<Arguments<'s>> {
        let ordinary = !function.uses_odbc_syntax
            && matches!(function.parameters, FunctionArguments::None)
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && function.over.is_none();
        let list = match &function.args {
            FunctionArguments::List(list) if ordinary && list.clauses.is_empty() => list,
            _ => return self.refuse(at, "this form of a call", None),
        };
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        let mut arguments = Arguments { plain: Vec::new(), distinct, star: false };
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(sql)) => arguments.plain.push(sql),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if list.args.len() == 1 && !distinct => {
                    arguments.star = true
                }
                _ => return self.refuse(at, "this form of an argument", None),
            }
        }
        Some(arguments)
    }

    pub(super) fn call(&mut self, name: &str, arguments: &[&Sql], at: At) -> Option<Draft> {
        let drafts = self.exprs(arguments.iter().copied())?;
        match name {
            "coalesce" => self.coalesce(drafts, at),
            "nullif" => self.null_if(drafts, at),
            "date" => self.date(drafts, at),
            "date_trunc" => self.date_trunc(drafts, at),
            "regexp_match" => self.regexp_match(drafts, at),
            _ => match Function::named(name) {
                Some(function) => self.plain_call(function, drafts, at),
                None => self.refuse(at, &format!("this form of {name}"), None),
            },
        }
    }

    fn plain_call(&mut self, function: Function, drafts: Vec<Draft>, at: At) -> Option<Draft> {
        let signature = function.signature();
        if !(signature.required..=signature.arguments.len()).contains(&drafts.len()) {
            return self.wrong_count(function.name(), drafts.len(), signature.usage, at);
        }
        let mut height = 0;
        let mut arguments = Vec::with_capacity(drafts.len());
        for (draft, needed) in drafts.into_iter().zip(signature.arguments) {
            let (from, found) = (draft.at, draft.type_name());
            let message = format!("{} does not take {found} here", function.name());
            let usage = Some(signature.usage.to_owned());
            let draft = self.coerce_or(draft, *needed, || from.problem(message, usage))?;
            height = height.max(draft.height);
            arguments.push(draft.expr);
        }
        let nullable = signature.nullable || arguments.iter().any(|argument| argument.nullable);
        let expr = Expr::new(Node::Call { function, arguments }, signature.result, nullable);
        self.bounded(Draft::above(expr, at, height))
    }

    fn wrong_count<T>(&mut self, name: &str, count: usize, usage: &str, at: At) -> Option<T> {
        let plural = if count == 1 { "" } else { "s" };
        let message = format!("{name} does not take {count} argument{plural}");
        self.problem(at.problem(message, Some(usage.to_owned())))
    }

    fn coalesce(&mut self, drafts: Vec<Draft>, at: At) -> Option<Draft> {
        if drafts.is_empty() {
            return self.wrong_count("coalesce", 0, "coalesce(x, ...)", at);
        }
        let (items, height) = self.alternatives("coalesce", drafts, at)?;
        let data_type = items.first()?.data_type;
        let nullable = items.iter().all(|item| item.nullable);
        self.bounded(Draft::above(Expr::new(Node::Coalesce(items), data_type, nullable), at, height))
    }

    /// Expressions of which one becomes the result: all of one type; and their greatest height.
    fn alternatives(&mut self, name: &str, drafts: Vec<Draft>, at: At) -> Option<(Vec<Expr>, usize)> {
        let common = match common_type(&drafts) {
            Ok(common) => common,
            Err([a, b]) => {
                return self.problem(at.problem(format!("{name} cannot choose between {a} and {b}"), None));
            }
        };
        let drafts = self.coerce_all(drafts, common)?;
        let height = drafts.iter().map(|draft| draft.height).max()?;
        Some((drafts.into_iter().map(|draft| draft.expr).collect(), height))
    }

    fn null_if(&mut self, drafts: Vec<Draft>, at: At) -> Option<Draft> {
        if drafts.len() != 2 {
            return self.wrong_count("nullif", drafts.len(), "nullif(x, y)", at);
        }
        let (mut sides, height) = self.aligned("=", drafts, equatable)?;
        let (right, left) = (sides.pop()?, sides.pop()?);
        let data_type = left.data_type;
        let expr = Expr::new(Node::NullIf(Box::new(left), Box::new(right)), data_type, true);
        self.bounded(Draft::above(expr, at, height))
    }

    fn date(&mut self, mut drafts: Vec<Draft>, at: At) -> Option<Draft> {
        match drafts.pop() {
            Some(of) if drafts.is_empty() => self.cast(of, DataType::Date),
            of => self.wrong_count("date", drafts.len() + usize::from(of.is_some()), "date(timestamp)", at),
        }
    }

    fn date_trunc(&mut self, drafts: Vec<Draft>, at: At) -> Option<Draft> {
        const USAGE: &str = "date_trunc('minute', timestamp)";
        let count = drafts.len();
        let Ok([unit, of]) = <[Draft; 2]>::try_from(drafts) else {
            return self.wrong_count("date_trunc", count, USAGE, at);
        };
        let named = match unit.expr.as_literal() {
            Some(Value::Text(name)) => TruncUnit::named(name),
            _ => None,
        };
        let Some(unit) = named else {
            let hint = Some(format!("the units are {}", TruncUnit::NAMES));
            return self.problem(unit.at.problem("date_trunc needs a unit as a literal", hint));
        };
        let of = self.timestamp(of, "date_trunc", USAGE)?;
        let (nullable, height) = (of.expr.nullable, of.height);
        let expr = Expr::new(Node::DateTrunc { unit, of: Box::new(of.expr) }, DataType::Timestamp, nullable);
        self.bounded(Draft::above(expr, at, height))
    }

    pub(super) fn extract(&mut self, field: &str, of: &Sql, at: At) -> Option<Draft> {
        let field_name = field.trim_matches('\'').to_ascii_lowercase();
        let of = self.expr(of);
        let Some(field) = ExtractField::named(&field_name) else {
            let hint = Some(format!("the fields are {}", ExtractField::NAMES));
            return self.problem(at.problem(format!("extract does not know the field {field_name}"), hint));
        };
        let of = of?;
        if of.settled() == Some(DataType::Date) && !field.of_date() {
            return self.problem(at.problem(format!("a date has no {}", field.name()), None));
        }
        let of = self.timestamp(of, "extract", "extract(hour from timestamp)")?;
        let (nullable, height) = (of.expr.nullable, of.height);
        let expr = Expr::new(Node::Extract { field, of: Box::new(of.expr) }, field.data_type(), nullable);
        self.bounded(Draft::above(expr, at, height))
    }

    fn timestamp(&mut self, of: Draft, name: &str, usage: &str) -> Option<Draft> {
        let (at, found) = (of.at, of.type_name());
        self.coerce_or(of, DataType::Timestamp, || {
            at.problem(format!("{name} does not take {found} here"), Some(usage.to_owned()))
        })
    }

    fn regexp_match(&mut self, drafts: Vec<Draft>, at: At) -> Option<Draft> {
        const USAGE: &str = "regexp_match(text, 'pattern')";
        let count = drafts.len();
        let Ok([of, pattern]) = <[Draft; 2]>::try_from(drafts) else {
            return self.wrong_count("regexp_match", count, USAGE, at);
        };
        let (from, found) = (of.at, of.type_name());
        let of = self.coerce_or(of, DataType::Text, || {
            from.problem(format!("regexp_match does not take {found} here"), Some(USAGE.to_owned()))
        });
        let compiled = match pattern.expr.as_literal() {
            Some(Value::Text(text)) => {
                RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).dot_matches_new_line(true).build()
            }
            _ => {
                let message = "the pattern of regexp_match must be a literal";
                return self.problem(pattern.at.problem(message, Some(USAGE.to_owned())));
            }
        };
        let regex = match compiled {
            Ok(regex) => regex,
            Err(error) => return self.problem(pattern.at.problem(regex_problem(&error), None)),
        };
        let of = of?;
        let expr = Expr::new(Node::RegexpMatch { of: Box::new(of.expr), regex }, DataType::Text, true);
        self.bounded(Draft::above(expr, at, of.height))
    }

    pub(super) fn case(
        &mut self,
        at: At,
        operand: Option<&Sql>,
        arms: &[CaseWhen],
        otherwise: Option<&Sql>,
    ) -> Option<Draft> {
        let operand = operand.map(|sql| self.expr(sql));
        let whens = self.exprs(arms.iter().map(|arm| &arm.condition));
        let results = self.exprs(arms.iter().map(|arm| &arm.result).chain(otherwise));
        let mut conditions = whens?;
        let mut results = results?;
        let (operand, whens, height) = match operand {
            Some(operand) => {
                conditions.insert(0, operand?);
                let (mut aligned, height) = self.aligned("=", conditions, equatable)?;
                (Some(Box::new(aligned.remove(0))), aligned, height)
            }
            None => {
                let checked: Vec<_> = conditions.into_iter().map(|draft| self.condition(draft)).collect();
                let checked: Vec<Draft> = checked.into_iter().collect::<Option<_>>()?;
                let height = checked.iter().map(|draft| draft.height).max()?;
                (None, checked.into_iter().map(|draft| draft.expr).collect(), height)
            }
        };
        if otherwise.is_none() {
            results.push(Draft::untyped(Value::Null, at));
        }
        let (mut results, below) = self.alternatives("case", results, at)?;
        let nullable = results.iter().any(|result| result.nullable);
        let data_type = results.first()?.data_type;
        let last = Box::new(results.pop()?);
        let arms = whens.into_iter().zip(results).collect();
        let node = Node::Case { operand, arms, otherwise: otherwise.is_some().then_some(last) };
        self.bounded(Draft::above(Expr::new(node, data_type, nullable), at, height.max(below)))
    }
}

/// The last line of the error of the regex crate; those before draw the pattern.
fn regex_problem(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("regexp_match cannot use this pattern: {}", last.trim_start_matches("error: "))
}
