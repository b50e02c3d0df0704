"""Casts, arithmetic and text functions on single values. Every one raises `ExpressionError` where PostgreSQL raises."""

from __future__ import annotations

import ipaddress
import math
import re

from .. import instant

BIGINT_MIN, BIGINT_MAX = -(1 << 63), (1 << 63) - 1
BLANKS = " \t\n\r\v\f"
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
PREFIX = re.compile(r"0|[1-9]\d{0,2}", re.ASCII)
ASCII_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
ASCII_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
TRUE_WORDS = {"t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"}
FALSE_WORDS = {"f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"}


class ExpressionError(ArithmeticError):
    """Evaluating raised: overflow, division by zero, a bad cast."""


def bigint(value: int) -> int:
    if not BIGINT_MIN <= value <= BIGINT_MAX:
        raise ExpressionError("bigint out of range")
    return value


def double(value: float) -> float:
    if math.isinf(value) or math.isnan(value):
        raise ExpressionError("double precision out of range: overflow")
    return value


def arithmetic_bigint(operator: str, left: int, right: int) -> int:
    if operator == "+":
        return bigint(left + right)
    if operator == "-":
        return bigint(left - right)
    if operator == "*":
        return bigint(left * right)
    if right == 0:
        raise ExpressionError("division by zero")
    quotient = abs(left) // abs(right)
    quotient = quotient if (left < 0) == (right < 0) else -quotient
    return bigint(quotient) if operator == "/" else left - right * quotient


def arithmetic_double(operator: str, left: float, right: float) -> float:
    left, right = float(left), float(right)
    if operator == "+":
        return double(left + right)
    if operator == "-":
        return double(left - right)
    if operator == "*":
        result = double(left * right)
        underflow = result == 0 and left != 0 and right != 0
    elif operator == "/":
        if right == 0:
            raise ExpressionError("division by zero")
        result = double(left / right)
        underflow = result == 0 and left != 0
    else:
        raise ExpressionError("% of doubles")
    if underflow:
        raise ExpressionError("double precision out of range: underflow")
    return result


def inet_text(text: str) -> str:
    """The canonical spelling. Raises ValueError."""
    address, slash, prefix = text.partition("/")
    if "%" in address or (slash and not PREFIX.fullmatch(prefix)):
        raise ValueError(text)
    interface = ipaddress.ip_interface(text)
    full = interface.network.prefixlen == interface.max_prefixlen
    return str(interface.ip) if full else interface.with_prefixlen


def double_text(value: float) -> str:
    """PostgreSQL's spelling: the shortest that reads back."""
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    return text


def cast(value: object, source: str, target: str) -> object:
    if value is None or source == target:
        return value
    function = CASTS.get((source, target))
    if function is None:
        raise ExpressionError(f"no cast from {source} to {target}")
    try:
        return function(value)
    except ExpressionError:
        raise
    except (ValueError, OverflowError) as error:
        raise ExpressionError(f"bad cast of {value!r} to {target}") from error


def text_to_bigint(text: str) -> int:
    text = text.strip(BLANKS)
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise ValueError(text)
    return bigint(int(text))


def text_to_double(text: str) -> float:
    text = text.strip(BLANKS)
    if not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        raise ValueError(text)
    return double(float(text))


def text_to_boolean(text: str) -> bool:
    text = text.strip(BLANKS).lower()
    if text in TRUE_WORDS:
        return True
    if text in FALSE_WORDS:
        return False
    raise ValueError(text)


def text_to_timestamp(text: str) -> int:
    text = text.strip(BLANKS)
    return instant.parse(text if len(text) > 10 else f"{text} 00:00:00")


def text_to_date(text: str) -> int:
    text = text.strip(BLANKS)
    return instant.days_of(text) if len(text) == 10 else instant.parse(text) // instant.DAY


def text_to_uuid(text: str) -> str:
    if not UUID.fullmatch(text):
        raise ValueError(text)
    return text.lower()


def double_to_bigint(value: float) -> int:
    """Half to even, as rint()."""
    return bigint(round(double(value)))


def date_text(days: int) -> str:
    return instant.to_datetime(days * instant.DAY).strftime("%Y-%m-%d")


def timestamp_text(micros: int) -> str:
    moment = instant.to_datetime(micros)
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return moment.strftime("%Y-%m-%d %H:%M:%S") + fraction + "+00"


CASTS = {
    ("text", "bigint"): text_to_bigint,
    ("text", "double"): text_to_double,
    ("text", "boolean"): text_to_boolean,
    ("text", "timestamp"): text_to_timestamp,
    ("text", "date"): text_to_date,
    ("text", "uuid"): text_to_uuid,
    ("text", "inet"): inet_text,
    ("bigint", "double"): float,
    ("bigint", "text"): str,
    ("double", "bigint"): double_to_bigint,
    ("double", "text"): double_text,
    ("boolean", "text"): lambda value: "true" if value else "false",
    ("boolean", "bigint"): int,
    ("bigint", "boolean"): bool,
    ("timestamp", "date"): lambda micros: micros // instant.DAY,
    ("date", "timestamp"): lambda days: days * instant.DAY,
    ("timestamp", "text"): timestamp_text,
    ("date", "text"): date_text,
    ("uuid", "text"): str,
    ("inet", "text"): lambda text: text if "/" in text else f"{text}/{128 if ':' in text else 32}",
}


def like_matcher(pattern: str, insensitive: bool) -> re.Pattern[str]:
    """LIKE with the backslash as its escape."""
    parts, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
            if at == len(pattern):
                raise ExpressionError("LIKE pattern must not end with escape character")
            parts.append(re.escape(pattern[at]))
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
        at += 1
    flags = re.DOTALL | (re.IGNORECASE | re.ASCII if insensitive else 0)
    return re.compile("".join(parts), flags)


def date_trunc(field: str, micros: int) -> int:
    sizes = {
        "microseconds": 1,
        "milliseconds": 1_000,
        "second": instant.SECOND,
        "minute": instant.MINUTE,
        "hour": instant.HOUR,
        "day": instant.DAY,
    }
    field = field.lower()
    if field in sizes:
        return micros // sizes[field] * sizes[field]
    moment = instant.to_datetime(micros).replace(hour=0, minute=0, second=0, microsecond=0)
    if field == "week":
        return instant.of_datetime(moment) - moment.weekday() * instant.DAY
    months = {"month": moment.month, "quarter": (moment.month - 1) // 3 * 3 + 1, "year": 1}
    if field not in months:
        raise ExpressionError(f"date_trunc unit {field!r}")
    return instant.of_datetime(moment.replace(day=1, month=months[field]))


def extract(field: str, micros: int) -> float:
    moment = instant.to_datetime(micros)
    seconds = moment.second + moment.microsecond / 1e6
    parts = {
        "epoch": micros / 1e6,
        "year": moment.year,
        "month": moment.month,
        "day": moment.day,
        "hour": moment.hour,
        "minute": moment.minute,
        "second": seconds,
        "dow": (moment.weekday() + 1) % 7,
        "isodow": moment.isoweekday(),
        "doy": moment.timetuple().tm_yday,
        "week": moment.isocalendar()[1],
    }
    if field not in parts:
        raise ExpressionError(f"extract field {field!r}")
    return float(parts[field])


def substr(text: str, start: int, count: int | None) -> str:
    if count is None:
        return text[max(start - 1, 0) :]
    if count < 0:
        raise ExpressionError("negative substring length not allowed")
    end = start - 1 + count
    return text[max(start - 1, 0) : max(end, 0)]


def split_part(text: str, separator: str, position: int) -> str:
    if position == 0:
        raise ExpressionError("field position must not be zero")
    parts = text.split(separator) if separator else [text]
    index = position - 1 if position > 0 else len(parts) + position
    return parts[index] if 0 <= index < len(parts) else ""
