"""A condition (`catalogue.where`) as a filter of Qdrant, which takes the same items."""

from collections.abc import Sequence
from typing import Any

import sqlglot
from sqlglot import expressions as sql

from recallk.catalogue.where import HOW, TURNED, column_name, literal, read_condition
from recallk.core.errors import InputError
from recallk.core.text import brief

_RANGES = {sql.LT: "lt", sql.LTE: "lte", sql.GT: "gt", sql.GTE: "gte"}


def filter_of(condition: str, columns: Sequence[str]) -> Any:
    """Return the filter. Raises InputError for what is no condition, and for what Qdrant has nothing like.

    It has no `like`, and compares texts by `=`, `<>` and `in` alone.
    """
    try:
        return _filter(read_condition(condition), columns, True)
    except (sqlglot.errors.SqlglotError, RecursionError):
        raise InputError(f"where={brief(condition)}: cannot be read; {HOW}") from None


def _filter(part: Any, columns: Sequence[str], wanted: bool) -> Any:
    """Return a filter of the items for which a part is true, or, where that is not wanted, false.

    Not what is not true: of an empty cell nothing can be said, and so it is neither.
    """
    from qdrant_client import models

    kind = type(part)
    if kind is sql.Paren:
        return _filter(part.this, columns, wanted)
    if kind is sql.Not:
        return _filter(part.this, columns, not wanted)
    if kind in (sql.And, sql.Or):
        each = [_filter(one, columns, wanted) for one in part.flatten()]  # a chain side by side: depth is limited
        return models.Filter(must=each) if (kind is sql.And) == wanted else models.Filter(should=each)
    if kind is sql.Is and type(part.expression) is sql.Null:
        empty = _empty(f"text.{column_name(columns, part.this)}")
        return models.Filter(must=[empty]) if wanted else models.Filter(must_not=[empty])
    if kind is sql.Between:
        low, high = (
            sql.GTE(this=part.this, expression=part.args["low"]),
            sql.LTE(this=part.this, expression=part.args["high"]),
        )
        return _filter(sql.And(this=low, expression=high), columns, wanted)
    if kind is sql.In and part.expressions and not part.args.get("query"):
        each = [_filter(sql.EQ(this=part.this, expression=value), columns, wanted) for value in part.expressions]
        return models.Filter(should=each) if wanted else models.Filter(must=each)
    if kind in (sql.EQ, sql.NEQ, *_RANGES):
        one, other = part.this, part.expression
        if type(one) is not sql.Column and type(other) is sql.Column:
            kind, one, other = TURNED.get(kind, kind), other, one
        return _compared(kind, column_name(columns, one), literal(other), wanted)
    raise InputError(
        f"where: {brief(part.sql())} is not understood by Qdrant, which has =, <>, <, in, between, is null"
    )


def _compared(kind: Any, column: str, value: str | float | bool, wanted: bool) -> Any:
    from qdrant_client import models

    if isinstance(value, str | bool):
        if kind in _RANGES:
            raise InputError(f"where: Qdrant does not compare texts by size ({column} with {brief(value)})")
        key = f"text.{column}"
        texts = [value] if isinstance(value, str) else sorted({str(value), str(value).lower(), str(value).upper()})
        met = models.FieldCondition(key=_quoted(key), match=models.MatchAny(any=texts))
    else:
        key = f"number.{column}"
        bounds = {"gte": value, "lte": value} if kind not in _RANGES else {_RANGES[kind]: value}
        met = models.FieldCondition(key=_quoted(key), range=models.Range(**bounds))
    if (kind is sql.NEQ) != wanted:
        return models.Filter(must=[met])
    return models.Filter(must_not=[met, _empty(key)])


def _empty(key: str) -> Any:
    from qdrant_client import models

    return models.IsEmptyCondition(is_empty=models.PayloadField(key=_quoted(key)))


def _quoted(key: str) -> str:
    """Return a way into a payload, for a column of any name."""
    table, _, column = key.partition(".")
    return f'{table}."{column}"'
