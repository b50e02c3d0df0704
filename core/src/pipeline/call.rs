//! Aggregate calls of `select`: which function, of what, and the column's type.

use super::expression::Scope;
use super::plan::{Function, Quantile, Selected};
use super::problem::Problems;
use super::raw::Item;
use super::scalar::cut;
use crate::expr::AggregateCall;
use crate::model::{DataType, Value};

/// As a file may name them; the quantile is the call's own.
const FUNCTIONS: [Function; 8] = [
    Function::Count,
    Function::Sum,
    Function::Min,
    Function::Max,
    Function::Avg,
    Function::ApproxDistinct,
    Function::ApproxPercentile(Quantile::MEDIAN),
    Function::LateRows,
];

/// Checks the call of one column.
pub(super) fn selected(
    name: &str,
    item: &Item<'_>,
    scope: &Scope,
    problems: &mut Problems<'_>,
) -> Option<Selected> {
    let mut call = scope.aggregate(item, problems)?;
    let function = function(&mut call, item, problems)?;
    let data_type = result_type(function, &call, item, problems)?;
    let AggregateCall { arguments, filter, .. } = call;
    Some(Selected { name: name.into(), function, argument: arguments.into_iter().next(), filter, data_type })
}

/// The function of a call; what it takes besides its argument is taken out of the arguments.
fn function(call: &mut AggregateCall, item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Function> {
    let Some(named) = FUNCTIONS.iter().find(|f| call.function.eq_ignore_ascii_case(f.name())) else {
        problems
            .add(item.node.at, &item.path, format!("unknown aggregate function `{}`", cut(&call.function)))
            .suggest(&call.function, FUNCTIONS.map(Function::name));
        return None;
    };
    match (named, call.distinct) {
        (Function::ApproxPercentile(_), false) => {
            quantile(call, item, problems).map(Function::ApproxPercentile)
        }
        (other, false) => Some(*other),
        (Function::Count, true) => Some(Function::CountDistinct),
        (other, true) => {
            problems.add(item.node.at, &item.path, format!("{} does not take distinct", other.name())).hint(
                "count(distinct x) counts the values; min, max and approx_distinct are the same without it",
            );
            None
        }
    }
}

fn quantile(call: &mut AggregateCall, item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Quantile> {
    const USAGE: &str = "approx_percentile(x, 0.95)";
    if call.arguments.len() != 2 {
        let found = if call.star { "*".to_owned() } else { call.arguments.len().to_string() };
        let message = format!("approx_percentile takes a value and a quantile, found {found}");
        problems.add(item.node.at, &item.path, message).hint(USAGE);
        return None;
    }
    let quantile = call.arguments.pop().and_then(|q| match q.as_literal() {
        Some(Value::Double(q)) => Quantile::new(*q),
        Some(Value::Bigint(q)) => Quantile::new(*q as f64),
        _ => None,
    });
    if quantile.is_none() {
        let message = "the quantile of approx_percentile must be a number from 0 to 1, written out";
        problems.add(item.node.at, &item.path, message).hint(USAGE);
    }
    quantile
}

/// The type of a call's column, where its arguments fit.
fn result_type(
    function: Function,
    call: &AggregateCall,
    item: &Item<'_>,
    problems: &mut Problems<'_>,
) -> Option<DataType> {
    let name = function.name();
    let argument = match (call.arguments.as_slice(), call.star) {
        ([], true) if function == Function::Count => return Some(DataType::Bigint),
        ([], false) if function == Function::LateRows => return Some(DataType::Bigint),
        ([argument], false) if function != Function::LateRows => argument.data_type(),
        (arguments, star) => {
            let found = if star { "*".to_owned() } else { arguments.len().to_string() };
            let takes = if function == Function::LateRows { "no" } else { "one" };
            problems.add(item.node.at, &item.path, format!("{name} takes {takes} argument, found {found}"));
            return None;
        }
    };
    let (allowed, result): (&[DataType], DataType) = match function {
        Function::Count | Function::LateRows => return Some(DataType::Bigint),
        Function::ApproxDistinct | Function::CountDistinct if argument == DataType::Json => {
            problems
                .add(item.node.at, &item.path, format!("{name} does not take json, which has no equality"))
                .hint("cast it to text");
            return None;
        }
        Function::ApproxDistinct | Function::CountDistinct => return Some(DataType::Bigint),
        Function::Sum if argument == DataType::Bigint => return Some(DataType::Numeric),
        Function::Sum | Function::Avg | Function::ApproxPercentile(_) => {
            (&[DataType::Bigint, DataType::Double], DataType::Double)
        }
        Function::Min | Function::Max => (
            &[DataType::Text, DataType::Bigint, DataType::Double, DataType::Timestamp, DataType::Date],
            argument,
        ),
    };
    if !allowed.contains(&argument) {
        let allowed: Vec<String> = allowed.iter().map(|t| t.to_string()).collect();
        problems
            .add(item.node.at, &item.path, format!("{name} does not take {argument}"))
            .hint(format!("it takes {}", allowed.join(", ")));
        return None;
    }
    Some(result)
}
