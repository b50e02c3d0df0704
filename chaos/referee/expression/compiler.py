"""A tree to a typed closure over a row. Types are settled here, so that a closure only computes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

from . import values
from .values import ExpressionError

COLUMN_TYPES = {"timestamp_ms": "timestamp", "timestamp_s": "timestamp"}
TYPE_NAMES = {
    "timestamptz": "timestamp",
    "bool": "boolean",
    "int8": "bigint",
    "int": "bigint",
    "integer": "bigint",
    "float8": "double",
    "varchar": "text",
}
COMPARE = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Function = Callable[[list], object]


@dataclass(frozen=True)
class Typed:
    """`type` is a column type, `null`, `commit_time`, or `unknown` for a bare string literal."""

    type: str
    evaluate: Function
    literal: bool = False


def compile_expression(tree: tuple, schema: dict[str, tuple[int, str]]) -> Typed:
    """`schema` maps a column to its place in the row and its declared type."""
    return Compiler(schema).compile(tree)


class Compiler:
    def __init__(self, schema: dict[str, tuple[int, str]]) -> None:
        self.schema = schema

    def compile(self, tree: tuple) -> Typed:
        method = getattr(self, f"compile_{tree[0]}", None)
        if method is None:
            raise ValueError(f"{tree[0]} has no place here")
        return method(*tree[1:])

    def compile_as(self, tree: tuple, target: str) -> Function:
        return coerce(self.compile(tree), target).evaluate

    # -- leaves ------------------------------------------------------------------------------------------------------

    def compile_literal(self, value: object, type_name: str) -> Typed:
        return Typed(type_name, lambda row: value, literal=True)

    def compile_column(self, name: str) -> Typed:
        if name not in self.schema:
            raise ValueError(f"no column {name!r}")
        index, type_name = self.schema[name]
        return Typed(COLUMN_TYPES.get(type_name, type_name), operator.itemgetter(index))

    # -- logic -------------------------------------------------------------------------------------------------------

    def compile_or(self, left: tuple, right: tuple) -> Typed:
        a, b = self.compile_as(left, "boolean"), self.compile_as(right, "boolean")

        def evaluate(row: list) -> object:
            first = a(row)
            if first is True:
                return True
            second = b(row)
            return True if second is True else None if first is None else second

        return Typed("boolean", evaluate)

    def compile_and(self, left: tuple, right: tuple) -> Typed:
        a, b = self.compile_as(left, "boolean"), self.compile_as(right, "boolean")

        def evaluate(row: list) -> object:
            first = a(row)
            if first is False:
                return False
            second = b(row)
            return False if second is False else None if first is None else second

        return Typed("boolean", evaluate)

    def compile_not(self, inner: tuple) -> Typed:
        return Typed("boolean", strict(operator.not_, self.compile_as(inner, "boolean")))

    def compile_is(self, inner: tuple, kind: str, negated: bool) -> Typed:
        wanted = {"null": None, "unknown": None, "true": True, "false": False}[kind]
        a = self.compile(inner).evaluate
        return Typed("boolean", lambda row: (a(row) is wanted) is not negated)

    def compile_compare(self, symbol: str, left: tuple, right: tuple) -> Typed:
        a, b = unify([self.compile(left), self.compile(right)])
        return Typed("boolean", strict(COMPARE[symbol], a.evaluate, b.evaluate))

    def compile_in(self, inner: tuple, items: list[tuple], negated: bool) -> Typed:
        subject, *others = unify([self.compile(inner), *(self.compile(item) for item in items)])
        functions = [other.evaluate for other in others]

        def evaluate(row: list) -> object:
            value = subject.evaluate(row)
            if value is None:
                return None
            unknown = False
            for function in functions:
                item = function(row)
                if item is None:
                    unknown = True
                elif item == value:
                    return not negated
            return None if unknown else negated

        return Typed("boolean", evaluate)

    def compile_between(self, inner: tuple, low: tuple, high: tuple, negated: bool) -> Typed:
        tree = ("and", ("compare", ">=", inner, low), ("compare", "<=", inner, high))
        return self.compile(("not", tree) if negated else tree)

    def compile_like(self, inner: tuple, pattern: tuple, insensitive: bool, negated: bool) -> Typed:
        subject, sample = self.compile_as(inner, "text"), self.compile(pattern)
        fixed = sample.evaluate([]) if sample.literal else None
        matcher = None if fixed is None else values.like_matcher(fixed, insensitive)

        def test(text: str, wanted: str) -> bool:
            found = matcher or values.like_matcher(wanted, insensitive)
            return (found.fullmatch(text) is not None) is not negated

        return Typed("boolean", strict(test, subject, coerce(sample, "text").evaluate))

    # -- computing ---------------------------------------------------------------------------------------------------

    def compile_arithmetic(self, symbol: str, left: tuple, right: tuple) -> Typed:
        a, b = unify([self.compile(left), self.compile(right)])
        if a.type == "bigint":
            compute = values.arithmetic_bigint
        elif a.type == "double":
            compute = values.arithmetic_double
        else:
            raise ValueError(f"no {symbol} for {a.type}")
        return Typed(a.type, strict(lambda x, y: compute(symbol, x, y), a.evaluate, b.evaluate))

    def compile_negate(self, inner: tuple) -> Typed:
        a = self.compile(inner)
        if a.type == "bigint":
            return Typed("bigint", strict(lambda x: values.bigint(-x), a.evaluate), a.literal)
        return Typed("double", strict(operator.neg, coerce(a, "double").evaluate), a.literal)

    def compile_concat(self, left: tuple, right: tuple) -> Typed:
        return Typed("text", strict(operator.add, self.as_text(left), self.as_text(right)))

    def as_text(self, tree: tuple) -> Function:
        a = self.compile(tree)
        if a.type in ("unknown", "null"):
            return coerce(a, "text").evaluate
        return lambda row: values.cast(a.evaluate(row), a.type, "text")

    def compile_cast(self, inner: tuple, type_name: str) -> Typed:
        target = TYPE_NAMES.get(type_name, type_name)
        a = self.compile(inner)
        source = "text" if a.type == "unknown" else a.type
        return Typed(target, lambda row: values.cast(a.evaluate(row), source, target))

    def compile_extract(self, field: str, inner: tuple) -> Typed:
        a = self.compile_as(inner, "timestamp")
        return Typed("double", strict(lambda micros: values.extract(field, micros), a))

    def compile_case(self, operand: tuple | None, branches: list, otherwise: tuple) -> Typed:
        conditions = [test if operand is None else ("compare", "=", operand, test) for test, _ in branches]
        tests = [self.compile_as(condition, "boolean") for condition in conditions]
        *results, last = unify([self.compile(then) for _, then in branches] + [self.compile(otherwise)])

        def evaluate(row: list) -> object:
            for test, result in zip(tests, results, strict=True):
                if test(row) is True:
                    return result.evaluate(row)
            return last.evaluate(row)

        return Typed(last.type, evaluate)

    def compile_call(self, name: str, arguments: list[tuple]) -> Typed:
        if name == "commit_time":
            return Typed("commit_time", lambda row: None)
        if name == "coalesce":
            return self.coalesce(arguments)
        if name == "nullif":
            a, b = unify([self.compile(argument) for argument in arguments])
            return Typed(a.type, lambda row: nullif(a.evaluate(row), b.evaluate(row)))
        if name not in CALLS:
            raise ValueError(f"the referee has no function {name!r}")
        parameter_types, result, function = CALLS[name]
        given = [self.compile_as(a, p) for a, p in zip(arguments, parameter_types, strict=False)]
        return Typed(result, strict(function, *given))

    def coalesce(self, arguments: list[tuple]) -> Typed:
        typed = unify([self.compile(argument) for argument in arguments])

        def evaluate(row: list) -> object:
            for one in typed:
                value = one.evaluate(row)
                if value is not None:
                    return value
            return None

        return Typed(typed[0].type, evaluate)


CALLS: dict[str, tuple[list[str], str, Callable]] = {
    "lower": (["text"], "text", lambda text: text.translate(values.ASCII_LOWER)),
    "upper": (["text"], "text", lambda text: text.translate(values.ASCII_UPPER)),
    "length": (["text"], "bigint", len),
    "substr": (["text", "bigint", "bigint"], "text", lambda t, s, c=None: values.substr(t, s, c)),
    "split_part": (["text", "text", "bigint"], "text", values.split_part),
    "date": (["timestamp"], "date", lambda micros: micros // 86_400_000_000),
    "date_trunc": (["text", "timestamp"], "timestamp", values.date_trunc),
}


def nullif(left: object, right: object) -> object:
    return None if left is not None and left == right else left


def strict(function: Callable, *arguments: Function) -> Function:
    """Null in, null out."""
    if len(arguments) == 1:
        (only,) = arguments

        def one(row: list) -> object:
            x = only(row)
            return None if x is None else function(x)

        return one
    if len(arguments) == 2:
        first, second = arguments

        def two(row: list) -> object:
            x, y = first(row), second(row)
            return None if x is None or y is None else function(x, y)

        return two

    def many(row: list) -> object:
        given = [argument(row) for argument in arguments]
        return None if None in given else function(*given)

    return many


def coerce(typed: Typed, target: str) -> Typed:
    """An implicit cast: of literals, bigint to double, date to timestamp. Raises ValueError at compile time."""
    if typed.type == target or typed.type == "null":
        return Typed(target, typed.evaluate, typed.literal)
    if typed.type == "unknown":
        try:
            value = values.cast(typed.evaluate([]), "text", target)
        except ExpressionError as error:
            raise ValueError(str(error)) from error
        return Typed(target, lambda row: value, literal=True)
    if (typed.type, target) in (("bigint", "double"), ("date", "timestamp")):
        return Typed(target, lambda row: values.cast(typed.evaluate(row), typed.type, target), typed.literal)
    raise ValueError(f"{typed.type} where {target} is due")


def unify(typed: list[Typed]) -> list[Typed]:
    """All of one type: the widest that is stated, text if none is."""
    stated = [one.type for one in typed if one.type not in ("unknown", "null")]
    target = stated[0] if stated else "text"
    for wide, narrow in (("double", "bigint"), ("timestamp", "date")):
        if target == narrow and wide in stated:
            target = wide
    return [coerce(one, target) for one in typed]
