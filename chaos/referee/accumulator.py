"""The selected columns of an aggregate: one accumulator a column, kept as plain values in a list.

Owns: null rules, exactness, and how near a found value must be. Never: knows windows or lateness.
Data: `argument` gives the value a record adds (None adds nothing); `add` folds it; `finish` is the column's value.
Tested: `tests/test_judge.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from . import distinct, percentile
from .expression import Typed, compile_expression, parse_expression
from .expression.compiler import coerce
from .pipeline import Unsupported

RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Column:
    """`argument(row)` is None where the filter is not true or the argument is null."""

    name: str
    argument: Callable[[list], object] | None
    initial: object
    add: Callable[[object, object], object]
    finish: Callable[[object], object]
    additive: bool
    tolerance: Callable[[object], float] | None = None
    counts_late: bool = False
    accepts: Callable[[object, float], bool] | None = None

    def agrees(self, state: object, found: object) -> bool:
        """`accepts` stands in for equality where several values are right."""
        expected = self.finish(state)
        if expected is None or found is None:
            return expected is found
        if self.accepts is not None:
            return isinstance(found, float) and self.accepts(state, found)
        if self.tolerance is None:
            return type_family(expected) == type_family(found) and expected == found
        tolerance = self.tolerance(state)
        return isinstance(found, float) and (math.isinf(tolerance) or abs(found - expected) <= tolerance)


def type_family(value: object) -> type:
    return int if isinstance(value, Decimal) else type(value)


def compile_column(name: str, text: str, schema: dict[str, tuple[int, str]]) -> Column:
    tree = parse_expression(text)
    if tree[0] != "aggregate":
        raise Unsupported(f"select {name}: {text}")
    _, function, distinct_ones, arguments, condition = tree
    filtered = (
        None if condition is None else coerce(compile_expression(condition, schema), "boolean").evaluate
    )
    if function == "late_rows" and not arguments:
        return Column(name, guarded(filtered, None), 0, add_count, identity, True, counts_late=True)
    if function == "count" and not arguments:
        return Column(name, guarded(filtered, None), 0, add_count, identity, True)
    if not arguments:
        raise Unsupported(f"select {name}: {text}")
    argument = compile_expression(arguments[0], schema)
    evaluate = guarded(filtered, argument.evaluate)
    if function == "approx_percentile" and len(arguments) == 2 and not distinct_ones:
        return percentile_column(name, argument, evaluate, compile_expression(arguments[1], schema))
    builder = BUILDERS.get((function, distinct_ones))
    if builder is None or len(arguments) != 1:
        raise Unsupported(f"select {name}: {text}")
    return builder(name, argument, evaluate)


def guarded(condition: Callable | None, argument: Callable | None) -> Callable[[list], object]:
    if argument is None and condition is None:
        return lambda row: 1
    if argument is None:
        return lambda row: 1 if condition(row) is True else None
    if condition is None:
        return argument
    return lambda row: argument(row) if condition(row) is True else None


def identity(state: object) -> object:
    return state


def add_count(state: int, value: object) -> int:
    return state + 1


def add_sum(state: int | None, value: int) -> int:
    return value if state is None else state + value


def add_double(state: tuple | None, value: float) -> tuple:
    """(sum, sum of absolute values, count)."""
    if state is None:
        return (value, abs(value), 1)
    return (state[0] + value, state[1] + abs(value), state[2] + 1)


def add_average(state: tuple | None, value: int) -> tuple:
    return (value, 1) if state is None else (state[0] + value, state[1] + 1)


def add_least(state: object, value: object) -> object:
    return value if state is None or value < state else state


def add_greatest(state: object, value: object) -> object:
    return value if state is None or value > state else state


def add_distinct(state: distinct.Distinct | None, value: int | float | str) -> distinct.Distinct:
    """The row's own sketch is changed; the initial None is shared between rows, so a sketch is made here."""
    return (distinct.Distinct() if state is None else state).add(value)


def add_member(state: set | None, value: object) -> set:
    """As with sketches, the row's own set is changed."""
    state = set() if state is None else state
    state.add(value)
    return state


def count_column(name: str, argument: Typed, evaluate: Callable) -> Column:
    return Column(name, evaluate, 0, add_count, identity, True)


def sum_column(name: str, argument: Typed, evaluate: Callable) -> Column:
    if argument.type == "bigint":
        return Column(name, evaluate, None, add_sum, identity, True)
    require_double(name, argument)
    finish = lambda state: None if state is None else state[0]  # noqa: E731
    return Column(name, evaluate, None, add_double, finish, True, lambda s: RELATIVE_TOLERANCE * s[1])


def average_column(name: str, argument: Typed, evaluate: Callable) -> Column:
    if argument.type == "bigint":
        finish = lambda state: None if state is None else state[0] / state[1]  # noqa: E731
        return Column(name, evaluate, None, add_average, finish, False)
    require_double(name, argument)
    finish = lambda state: None if state is None else state[0] / state[2]  # noqa: E731
    return Column(name, evaluate, None, add_double, finish, False, lambda s: RELATIVE_TOLERANCE * s[1] / s[2])


def least_column(name: str, argument: Typed, evaluate: Callable) -> Column:
    return Column(name, evaluate, None, add_least, identity, False)


def greatest_column(name: str, argument: Typed, evaluate: Callable) -> Column:
    return Column(name, evaluate, None, add_greatest, identity, False)


def distinct_column(name: str, argument: Typed, evaluate: Callable) -> Column:
    feed = distinct.FEEDS.get(argument.type)
    if feed is None:
        raise Unsupported(f"select {name}: approx_distinct of {argument.type}")
    fed = lambda row: None if (value := evaluate(row)) is None else feed(value)  # noqa: E731
    finish = lambda state: 0 if state is None else state.estimate()  # noqa: E731
    return Column(name, fed, None, add_distinct, finish, False)


def exact_distinct_column(name: str, argument: Typed, evaluate: Callable) -> Column:
    if argument.type == "json":
        raise Unsupported(f"select {name}: count(distinct) of json")
    finish = lambda state: 0 if state is None else len(state)  # noqa: E731
    return Column(name, evaluate, None, add_member, finish, False)


def percentile_column(name: str, argument: Typed, evaluate: Callable, share: Typed) -> Column:
    if argument.type not in ("bigint", "double") or not share.literal:
        raise Unsupported(f"select {name}: approx_percentile of {argument.type}")
    exact = percentile.Percentile(float(share.evaluate([])))
    return Column(name, evaluate, None, percentile.add, exact.value, False, accepts=exact.accepts)


def require_double(name: str, argument: Typed) -> None:
    if argument.type != "double":
        raise Unsupported(f"select {name}: sum or avg of {argument.type}")


# By function, and whether it is of distinct values.
BUILDERS = {
    ("count", False): count_column,
    ("count", True): exact_distinct_column,
    ("sum", False): sum_column,
    ("avg", False): average_column,
    ("min", False): least_column,
    ("max", False): greatest_column,
    ("approx_distinct", False): distinct_column,
}
