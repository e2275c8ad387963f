"""Columns of tables as text, in which what is alike is one string."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from recallk.data.columns import read_columns

CELLS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "007", "é"])), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=CELLS, rows_of_a_group=st.integers(1, 5), kind=st.sampled_from(["string", "large", "dictionary"]))
def test_cells_of_parquet_are_as_they_were_written(
    tmp_path: Path, cells: list[str | None], rows_of_a_group: int, kind: str
) -> None:
    column: Any = pyarrow.array(cells, pyarrow.large_string() if kind == "large" else pyarrow.string())
    column = column.dictionary_encode() if kind == "dictionary" else column
    parquet.write_table(pyarrow.table({"label": column}), tmp_path / "t.parquet", row_group_size=rows_of_a_group)
    read = read_columns(tmp_path / "t.parquet", ("label",), ("split",))
    assert dict(read) == {"label": cells}
    assert len({id(cell) for cell in read["label"]}) == len(set(cells))


def test_numbers_become_text_and_missing_ones_none(tmp_path: Path) -> None:
    columns = {"label": [1.5, None, np.nan, 2.0], "split": pyarrow.array([3, None, 3, 10**12])}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert dict(read_columns(tmp_path / "t.parquet", ("label",), ("split",))) == {
        "label": ["1.5", None, None, "2.0"],
        "split": ["3", None, "3", "1000000000000"],
    }


@pytest.mark.parametrize("text", ["label,x\na b c,1\na b c,2\n", 'label,x\n"a b c",1\n\n"a b c",2\n'])
def test_cells_of_csv_that_are_alike_are_one_string(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    first, second = read_columns(tmp_path / "t.csv", ("label",), ())["label"]
    assert first == "a b c"
    assert first is second
