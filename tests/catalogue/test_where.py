"""Conditions: what each takes, compared with the same said in Python; and what is refused, in one line."""

from collections.abc import Callable
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk import InputError
from recallk.catalogue.where import LONGEST, where

ROWS: list[dict[str, Any]] = [
    {"colour": "red", "price": "9", "number": 1, "new": True, "Two words": "a"},
    {"colour": "blue", "price": "30", "number": 2, "new": False, "Two words": "b"},
    {"colour": None, "price": " 1e0 ", "number": None, "new": True, "Two words": None},
    {"colour": "it's", "price": "cheap", "number": 4, "new": None, "Two words": "a"},
]
TABLE = pyarrow.Table.from_pylist(ROWS)


def price(row: dict[str, Any]) -> float:
    """NaN, of which no comparison is true, where it is no number."""
    return float("nan") if row["price"] == "cheap" else float(row["price"])


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("colour = 'red'", lambda row: row["colour"] == "red"),
        ("COLOUR = 'red'", lambda row: row["colour"] == "red"),
        ("colour <> 'red'", lambda row: row["colour"] not in ("red", None)),
        ("colour != 'red'", lambda row: row["colour"] not in ("red", None)),
        ("not colour = 'red'", lambda row: row["colour"] not in ("red", None)),
        ("colour = 'it''s'", lambda row: row["colour"] == "it's"),
        ("colour in ('red', 'blue')", lambda row: row["colour"] in ("red", "blue")),
        ("colour like '%e%'", lambda row: "e" in (row["colour"] or "")),
        ("colour like '_ed'", lambda row: row["colour"] == "red"),
        ("colour is null", lambda row: row["colour"] is None),
        ("colour is not null", lambda row: row["colour"] is not None),
        ("price < 20", lambda row: price(row) < 20),
        ("20 > price", lambda row: price(row) < 20),
        ("20 <= price", lambda row: price(row) >= 20),
        ("price = 1", lambda row: price(row) == 1),
        ("price > -1", lambda row: price(row) > -1),
        ("price = '9'", lambda row: row["price"] == "9"),
        ("number between 1 and 2", lambda row: row["number"] in (1, 2)),
        ("number not between 1 and 2", lambda row: row["number"] == 4),
        ("number in (1, 4)", lambda row: row["number"] in (1, 4)),
        ("number = '4'", lambda row: row["number"] == 4),
        ("number >= 2", lambda row: row["number"] in (2, 4)),
        ("number like '1%'", lambda row: row["number"] == 1),
        ("new = true", lambda row: row["new"] is True),
        ("new = false", lambda row: row["new"] is False),
        ("new = 1", lambda row: False),
        ("\"Two words\" = 'a'", lambda row: row["Two words"] == "a"),
        ("colour = 'red' or price = 30 and number = 2", lambda row: row["colour"] in ("red", "blue")),
        ("(colour = 'red' or price = 30) and number = 2", lambda row: row["number"] == 2),
        ("colour = 'red' -- a remark", lambda row: row["colour"] == "red"),
    ],
)
def test_what_a_condition_takes(condition: str, met: Callable[[dict[str, Any]], bool]) -> None:
    assert where(TABLE, condition).tolist() == [bool(met(row)) for row in ROWS]


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("", "a condition of 1 to"),
        ("  ", "a condition of 1 to"),
        (5, "a condition of 1 to"),
        ("x" * (LONGEST + 1), "a condition of 1 to"),
        ("weight = 1", "no column 'weight'; the columns are colour, price, number, new, Two words"),
        ("colour", "not understood"),
        ("1 = 1", "no column"),
        ("'a' = 'b'", "no column"),
        ("colour = price", "no text and no number"),
        ("colour = null", "no text and no number"),
        ("lower(colour) = 'red'", "no column"),
        ("number + 1 = 2", "no column"),
        ("number::text = '1'", "no column"),
        ("t.number = 1", "no column"),
        ("colour like 5", "like takes a text"),
        ("colour in (select colour)", "not understood"),
        ("colour = (select 1)", "no text and no number"),
        ("exists (select 1)", "not understood"),
        ("case when number = 1 then true end", "not understood"),
        ("number = 1; drop table items", "."),
        ("number = 1 union select 2", "cannot be read"),
        ("number = 1 and", "cannot be read"),
        ("'", "cannot be read"),
        ("(" * 900 + "number = 1" + ")" * 900, "cannot be read"),
        ("not " * 450 + "number = 1", "."),
    ],
)
def test_what_is_refused(condition: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as refused:
        where(TABLE, condition)
    assert "\n" not in str(refused.value)


@settings(max_examples=300, deadline=None)
@given(condition=st.text(max_size=60) | st.text(alphabet="colour'=<>()1andorlikeinull ;,.%\\\"-*/", max_size=60))
def test_whatever_is_typed_is_a_condition_or_refused(condition: str) -> None:
    told = ""
    try:
        assert len(where(TABLE, condition)) == len(ROWS)
    except InputError as error:
        told = str(error)
    assert "\n" not in told
