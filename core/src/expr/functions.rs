//! The functions that only need their arguments' values; those with a node of their own are in `eval`.

use super::eval::{Evaluated, bigint_of, text_of};
use super::{Expr, text, url};
use crate::model::{DataType, Row, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Lower,
    Upper,
    Length,
    Substr,
    SplitPart,
    UrlHost,
    UrlPath,
    Utm,
}

/// How a function is called. All functions give null for a null argument.
pub(super) struct Signature {
    pub usage: &'static str,
    pub arguments: &'static [DataType],
    /// How many of the arguments must be given.
    pub required: usize,
    pub result: DataType,
    /// Whether the result can be null although no argument is.
    pub nullable: bool,
}

impl Function {
    pub fn named(name: &str) -> Option<Function> {
        Some(match name {
            "lower" => Function::Lower,
            "upper" => Function::Upper,
            "length" => Function::Length,
            "substr" | "substring" => Function::Substr,
            "split_part" => Function::SplitPart,
            "url_host" => Function::UrlHost,
            "url_path" => Function::UrlPath,
            "utm" => Function::Utm,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Function::Lower => "lower",
            Function::Upper => "upper",
            Function::Length => "length",
            Function::Substr => "substr",
            Function::SplitPart => "split_part",
            Function::UrlHost => "url_host",
            Function::UrlPath => "url_path",
            Function::Utm => "utm",
        }
    }

    pub fn signature(self) -> Signature {
        use DataType::{Bigint, Text};
        let (usage, arguments, result): (_, &'static [DataType], _) = match self {
            Function::Lower => ("lower(text)", &[Text], Text),
            Function::Upper => ("upper(text)", &[Text], Text),
            Function::Length => ("length(text)", &[Text], Bigint),
            Function::Substr => ("substr(text, start [, count])", &[Text, Bigint, Bigint], Text),
            Function::SplitPart => ("split_part(text, delimiter, n)", &[Text, Text, Bigint], Text),
            Function::UrlHost => ("url_host(url)", &[Text], Text),
            Function::UrlPath => ("url_path(url)", &[Text], Text),
            Function::Utm => ("utm(url, name)", &[Text, Text], Text),
        };
        let required = if self == Function::Substr { 2 } else { arguments.len() };
        let nullable = matches!(self, Function::UrlHost | Function::Utm);
        Signature { usage, arguments, required, result, nullable }
    }

    pub fn call<'r>(self, arguments: &'r [Expr], row: &'r Row<'_>) -> Evaluated<'r> {
        let mut values = [Value::Null, Value::Null, Value::Null];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = argument.evaluate(row)?;
        }
        if values[..arguments.len()].iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        let [first, second, third] = values;
        let Some(subject) = text_of(first) else { return Ok(Value::Null) };
        Ok(match self {
            Function::Lower => Value::Text(text::lower(subject)),
            Function::Upper => Value::Text(text::upper(subject)),
            Function::Length => Value::Bigint(text::length(&subject)),
            Function::Substr => {
                let Some(start) = bigint_of(&second) else { return Ok(Value::Null) };
                let range = text::substring(&subject, start, bigint_of(&third))?;
                Value::Text(text::slice(subject, range))
            }
            Function::SplitPart => {
                let (Some(delimiter), Some(n)) = (text_of(second), bigint_of(&third)) else {
                    return Ok(Value::Null);
                };
                let range = text::split_part(&subject, &delimiter, n)?;
                Value::Text(text::slice(subject, range))
            }
            Function::UrlHost => match url::host(&subject) {
                Some(range) => Value::Text(text::lower(text::slice(subject, range))),
                None => Value::Null,
            },
            Function::UrlPath => Value::Text(url::path(subject)),
            Function::Utm => match text_of(second).and_then(|name| url::utm(&subject, &name)) {
                Some(value) => Value::Text(value.into()),
                None => Value::Null,
            },
        })
    }
}
