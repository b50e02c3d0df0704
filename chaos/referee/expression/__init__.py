"""The SQL subset of a pipeline file: text -> tree (`parser`) -> typed closures over a row (`compiler`).

Owns: what an expression means, as PostgreSQL 16 means it (UTF8, collation C, UTC). Never: looks at a record's bytes.
Data: a row is a list of column values, null is None, an instant microseconds, a date days.
Tested: `tests/test_expression.py`.
"""

from .compiler import ExpressionError, Typed, compile_expression
from .parser import SyntaxFault, parse_expression

__all__ = ["ExpressionError", "SyntaxFault", "Typed", "compile_expression", "parse_expression"]
