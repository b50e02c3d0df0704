"""What stands in the fields of a generated event: by name where a name says what is meant, else by type.

Owns: plausible values. Never: a bad one. Data: chance and the event's number and time -> JSON values.
Tested: `tests/test_generator.py` (hardly any event of a load without bad ones is dead).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .referee.pipeline import Field

PAGES = [f"/page/{number}" for number in range(24)]
TYPES = ["page_view"] * 6 + ["click"] * 2 + ["share"] * 2
OPTIONAL_SHARE = 0.3
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Moment:
    """The chance, number and event time (microseconds) of the event that a value is for."""

    chance: random.Random
    number: int
    micros: int


def amount(moment: Moment) -> int:
    chance = moment.chance
    return chance.randrange(1, 1_000) if chance.random() < 0.98 else -chance.randrange(1, 50)


def address(moment: Moment) -> str:
    return f"10.{moment.chance.randrange(4)}.{moment.chance.randrange(256)}.1"


# Fields that pipelines here are about. They are there in every event, though not all of them need be.
BY_NAME: dict[str, Callable[[Moment], object]] = {
    "page_url": lambda moment: moment.chance.choice(PAGES),
    "url": lambda moment: moment.chance.choice(PAGES),
    "event_type": lambda moment: moment.chance.choice(TYPES),
    "action": lambda moment: moment.chance.choice(("click", "view", "scroll", "hover")),
    "amount": amount,
    "price": lambda moment: moment.chance.uniform(-10.0, 100.0),
}
BY_TYPE: dict[str, Callable[[Moment], object]] = {
    "text": lambda moment: f"text{moment.chance.randrange(40)}",
    "bigint": lambda moment: moment.chance.randrange(1, 1_000),
    "double": lambda moment: moment.chance.uniform(-1.0, 1.0),
    "boolean": lambda moment: moment.chance.random() < 0.5,
    "timestamp": lambda moment: spell_time("timestamp", moment.micros + 1_000_000),
    "timestamp_ms": lambda moment: spell_time("timestamp_ms", moment.micros + 1_000_000),
    "timestamp_s": lambda moment: spell_time("timestamp_s", moment.micros + 1_000_000),
    "uuid": lambda moment: str(uuid.UUID(int=moment.chance.getrandbits(128))),
    "inet": address,
    "json": lambda moment: {"n": moment.number, "list": [1, 2.5, None, "ü"], "on": True},
}
UNIQUE: dict[str, Callable[[Moment], object]] = {
    "text": lambda moment: f"event{moment.number}",
    "bigint": lambda moment: moment.number,
    "uuid": lambda moment: str(uuid.UUID(int=moment.number)),
}


def value_of(field: Field, moment: Moment) -> object:
    """None where an optional field is left out."""
    if field.name in BY_NAME:
        return BY_NAME[field.name](moment)
    if not field.required and moment.chance.random() >= OPTIONAL_SHARE:
        return None
    return BY_TYPE[field.type](moment)


def unique_value(field: Field, moment: Moment) -> object:
    """Of a type that holds a number; of others some value, which then is as unique as it happens to be."""
    return UNIQUE.get(field.type, BY_TYPE[field.type])(moment)


# The steps in which each type tells times apart, microseconds.
STEPS = {"timestamp": 1, "timestamp_ms": 1_000, "timestamp_s": 1_000_000}


def spell_time(type_name: str, micros: int) -> object:
    if type_name == "timestamp":
        return (EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return micros // STEPS[type_name]


def micros_of(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
