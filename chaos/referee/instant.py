"""Timestamps: text to microseconds since 1970 in UTC, and back.

Owns: the accepted spellings and the range [1970, 2200). Never: reads a clock.
Data: an instant is an int of microseconds; a date an int of days. Tested: `tests/test_fields.py`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_ORDINAL = EPOCH.toordinal()
RANGE_END = (date(2200, 1, 1).toordinal() - EPOCH_ORDINAL) * DAY
MICROSECOND = timedelta(microseconds=1)

PATTERN = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d{2}):(\d{2}))?",
    re.ASCII,
)
OUTPUT_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z", re.ASCII)


class BadTimestamp(ValueError):
    """The text is not a timestamp."""


def parse(text: str, _days: dict[str, int] = {}) -> int:
    """Microseconds since 1970; the range is not looked at. Raises `BadTimestamp`."""
    match = PATTERN.fullmatch(text)
    if match is None:
        raise BadTimestamp(text)
    day, hour, minute, second, fraction, _zulu, sign, offset_hour, offset_minute = match.groups()
    days = _days.get(day)
    if days is None:
        days = _days[day] = days_of(day)
    hour, minute, second = int(hour), int(minute), int(second)
    if hour > 23 or minute > 59 or second > 59:
        raise BadTimestamp(text)
    micros = days * DAY + hour * HOUR + minute * MINUTE + second * SECOND
    if fraction:
        micros += int(fraction[:6].ljust(6, "0"))
    if sign:
        if int(offset_hour) > 23 or int(offset_minute) > 59:
            raise BadTimestamp(text)
        shift = int(offset_hour) * HOUR + int(offset_minute) * MINUTE
        micros += shift if sign == "-" else -shift
    return micros


def days_of(text: str) -> int:
    try:
        return date(int(text[:4]), int(text[5:7]), int(text[8:10])).toordinal() - EPOCH_ORDINAL
    except ValueError as error:
        raise BadTimestamp(text) from error


def in_range(micros: int) -> bool:
    return 0 <= micros < RANGE_END


def to_text(micros: int) -> str:
    """The spelling of every output: RFC 3339, UTC, six fraction digits."""
    moment = EPOCH + timedelta(microseconds=micros)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}Z"


def of_datetime(moment: datetime) -> int:
    """A datetime without a zone is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // MICROSECOND


def to_datetime(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
