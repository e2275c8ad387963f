"""Which items a condition takes, such as `colour = 'red' and price < 20`: read by sqlglot, never run as SQL."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow
import sqlglot
from numpy.typing import NDArray
from pyarrow import compute, types
from sqlglot import expressions as sql

from recallk.core.errors import InputError
from recallk.core.text import brief

LONGEST = 2_000
"""Characters of a condition."""
_COMPARED: dict[type[Any], Callable[[Any, Any], Any]] = {
    sql.EQ: compute.equal,
    sql.NEQ: compute.not_equal,
    sql.LT: compute.less,
    sql.LTE: compute.less_equal,
    sql.GT: compute.greater,
    sql.GTE: compute.greater_equal,
}
_JOINED: dict[type[Any], Callable[[Any, Any], Any]] = {sql.And: compute.and_kleene, sql.Or: compute.or_kleene}
_NUMBER = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
HOW = "write it as colour = 'red' and (price < 20 or size in ('S', 'M')); also like, between, is null, not"


def where(items: pyarrow.Table, condition: str) -> NDArray[np.bool_]:
    """Return which rows `(N,)` of a table meet a condition.

    It compares columns (their names in any letter case) with texts, numbers, true and false: `=`, `<>`, `<`, `<=`, `>`,
    `>=`, `in`, `between`, `like` (`%` stands for any characters, `_` for one), `is null`; joined by `and`, `or`, `not`
    and brackets. A column of text that is compared with a number is read as numbers; what is none meets no comparison,
    nor does an empty cell. Raises InputError, one line, for anything else.

    >>> table = pyarrow.table({"colour": ["red", "blue", None], "price": ["9", "30", "1"]})
    >>> where(table, "Colour = 'red' or price < 5").tolist()
    [True, False, True]

    """
    try:
        found = _met(items, read_condition(condition))
    except (sqlglot.errors.SqlglotError, RecursionError):
        raise InputError(f"where={brief(condition)}: cannot be read; {HOW}") from None
    if isinstance(found, pyarrow.Scalar) or not types.is_boolean(found.type):
        raise InputError(f"where={brief(condition)}: no comparison; {HOW}")
    met: NDArray[np.bool_] = compute.fill_null(found, False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return met


def read_condition(condition: Any) -> Any:
    """Return a condition as sqlglot reads it, whose errors go through. Raises InputError for what is no text."""
    if not isinstance(condition, str) or not condition.strip() or len(condition) > LONGEST:
        raise InputError(f"where={brief(condition)}: a condition of 1 to {LONGEST:,} characters; {HOW}")
    return sqlglot.condition(condition)


def _met(items: pyarrow.Table, part: Any) -> Any:
    """Return the truth values of a part of a condition, null where that cannot be said."""
    kind = type(part)
    if kind is sql.Paren:
        return _met(items, part.this)
    if kind is sql.Not:
        return compute.invert(_met(items, part.this))
    if kind in _JOINED:
        return _JOINED[kind](_met(items, part.this), _met(items, part.expression))
    if kind in _COMPARED:
        one, other = part.this, part.expression
        if type(one) is not sql.Column and type(other) is sql.Column:  # 20 > price
            return _met(items, TURNED.get(kind, kind)(this=other, expression=one))
        return _compared(_COMPARED[kind], _column(items, one), literal(other))
    if kind is sql.In and part.expressions and not part.args.get("query"):
        column = _column(items, part.this)
        values = [literal(value) for value in part.expressions]
        found = [_compared(compute.equal, column, value) for value in values]
        together = found[0]
        for further in found[1:]:
            together = compute.or_kleene(together, further)
        return together
    if kind is sql.Between:
        column = _column(items, part.this)
        low, high = literal(part.args["low"]), literal(part.args["high"])
        from_low = _compared(compute.greater_equal, column, low)
        return compute.and_kleene(from_low, _compared(compute.less_equal, column, high))
    if kind is sql.Like:
        pattern = literal(part.expression)
        if not isinstance(pattern, str):
            raise InputError(f"where: like takes a text, not {brief(pattern)}; {HOW}")
        return compute.match_like(texts(_column(items, part.this)), pattern)
    if kind is sql.Is and type(part.expression) is sql.Null:
        return compute.is_null(_column(items, part.this))
    raise InputError(f"where: {brief(part.sql())} is not understood here; {HOW}")


TURNED = {sql.LT: sql.GT, sql.LTE: sql.GTE, sql.GT: sql.LT, sql.GTE: sql.LTE}


def _column(items: pyarrow.Table, part: Any) -> Any:
    return items[column_name(items.column_names, part)]


def column_name(columns: Sequence[str], part: Any) -> str:
    """Return which column a part of a condition names. Raises InputError where it names none of them."""
    if type(part) is not sql.Column or part.table:
        raise InputError(f"where: {brief(part.sql())} is no column; {HOW}")
    alike = [name for name in columns if name.casefold() == part.name.casefold()]
    if not alike:
        raise InputError(f"where: no column {brief(part.name)}; the columns are {', '.join(columns)}")
    return str(part.name) if part.name in alike else alike[0]


def literal(part: Any) -> str | float | bool:
    """Return a value that a condition compares with. Raises InputError for what is none."""
    kind = type(part)
    if kind is sql.Neg and type(part.this) is sql.Literal and not part.this.is_string:
        return -float(part.this.this)
    if kind is sql.Literal:
        return str(part.this) if part.is_string else float(part.this)
    if kind is sql.Boolean:
        return bool(part.this)
    raise InputError(f"where: {brief(part.sql())} is no text and no number; texts stand in single quotes; {HOW}")


def _compared(compare: Callable[[Any, Any], Any], column: Any, value: str | float | bool) -> Any:
    if isinstance(value, str):
        return compare(texts(column), value)
    if isinstance(value, bool):
        if types.is_boolean(column.type):
            return compare(column, value)
        return compare(compute.utf8_lower(texts(column)), str(value).lower())
    return compare(numbers(column), value)


def numbers(column: Any) -> Any:
    """Return a column as it is compared with numbers: float64, null where a cell is none (nor NaN or infinity)."""
    if types.is_boolean(column.type):
        return pyarrow.nulls(len(column), pyarrow.float64())
    if not (types.is_integer(column.type) or types.is_floating(column.type)):
        text = texts(column)
        are = compute.match_substring_regex(text, _NUMBER)
        column = compute.utf8_trim_whitespace(compute.if_else(are, text, None))
    found = compute.cast(column, pyarrow.float64(), safe=False)  # whole numbers beyond 2^53 are rounded
    return compute.if_else(compute.is_finite(found), found, None)


def texts(column: Any) -> Any:
    """Return a column as it is compared with texts."""
    return column if types.is_string(column.type) else compute.cast(column, pyarrow.string())
