"""Files of vectors: what is written in an allowed form is read as it was, whatever else is one line."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pyarrow import parquet
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from recallk import InputError
from recallk.data import vector_files
from recallk.data.source import read_own
from recallk.data.vector_files import read_vectors, width
from recallk.data.vectors import Vector
from tests.data.limits import seconds

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
LABELS = ["a", "a", "b", "b", "c", "c"]


def array_of(path: Path) -> NDArray[Any]:
    return np.asarray(read_vectors(path)[0].vectors.table.array)


def one_line(path: Path, message: str) -> None:
    with seconds(20), pytest.raises(InputError, match=message) as caught:
        read_vectors(path)
    told = str(caught.value)
    assert told.startswith(str(path)), told
    assert "\n" not in told
    assert len(told) < 600


def parquet_of(folder: Path, embedding: Any = X, label: Any = LABELS, **further: Any) -> Path:
    """Write a table; an array of vectors becomes lists of its type."""
    if isinstance(embedding, np.ndarray):
        embedding = lists_of(embedding)
    columns = {"embedding": embedding, "label": label, **further}
    parquet.write_table(pyarrow.table({k: v for k, v in columns.items() if v is not None}), folder / "v.parquet")
    return folder / "v.parquet"


def lists_of(array: NDArray[Any], kind: str = "list") -> pyarrow.Array:
    flat = pyarrow.array(array.ravel())
    if kind == "fixed":
        return pyarrow.FixedSizeListArray.from_arrays(flat, array.shape[1])
    starts = np.arange(len(array) + 1) * array.shape[1]
    if kind == "large":
        return pyarrow.LargeListArray.from_arrays(pyarrow.array(starts, pyarrow.int64()), flat)
    return pyarrow.ListArray.from_arrays(pyarrow.array(starts, pyarrow.int32()), flat)


def npy_of(folder: Path, array: Any = X, table: str | None = "label\na\na\nb\nb\nc\nc\n") -> Path:
    np.save(folder / "v.npy", array)
    if table is not None:
        (folder / "v.csv").write_text(table)
    return folder / "v.npy"


def safetensors_of(folder: Path, **tensors: Any) -> Path:
    save_file(tensors or {"embedding": X}, folder / "v.safetensors")
    (folder / "v.csv").write_text("label\na\na\nb\nb\nc\nc\n")
    return folder / "v.safetensors"


finite = arrays.arrays(
    st.sampled_from([np.float16, np.float32]),
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    elements=st.floats(-1000, 1000, width=16).filter(lambda x: x != 0),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=finite,
    form=st.sampled_from(["list", "large", "fixed", "npy", "safetensors"]),
    labels=st.lists(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs", "Cc"])), min_size=9),
    rows_of_a_group=st.integers(1, 4),
)
def test_what_is_written_is_read(
    tmp_path: Path, array: NDArray[Any], form: str, labels: list[str], rows_of_a_group: int
) -> None:
    labels = labels[: len(array)]
    columns = {"label": labels, "id": [f"x{n}" for n in range(len(array))], "split": ["train"] * len(array)}
    if form in ("npy", "safetensors"):
        path = tmp_path / f"v.{form}"
        np.save(path, array) if form == "npy" else save_file({"embedding": array}, path)
        parquet.write_table(pyarrow.table(columns), tmp_path / "v.parquet")
    else:
        path = tmp_path / "w.parquet"
        table = pyarrow.table({"embedding": lists_of(array, form), **columns})
        parquet.write_table(table, path, row_group_size=rows_of_a_group)
    records, notes = read_vectors(path)
    assert not notes
    assert [(record.label, record.split) for record in records] == [(label, "train") for label in labels]
    for number, record in enumerate(records):
        assert isinstance(record.item, Vector)
        assert np.array_equal(np.asarray(record.item), array[number])
        assert str(record.item) == f"{path}, x{number}"
    assert array_of(path).dtype == array.dtype
    assert width(path) == array.shape[1]


def test_float64_becomes_float32_and_big_endian_and_fortran_are_read(tmp_path: Path) -> None:
    (tmp_path / "double").mkdir()
    assert array_of(parquet_of(tmp_path / "double", X.astype(np.float64))).dtype == np.float32
    for array in (X.astype(">f4"), X.astype(">f2"), np.asfortranarray(X)):
        assert np.array_equal(array_of(npy_of(tmp_path, array)), array)


def test_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    for path in (npy_of(tmp_path), safetensors_of(tmp_path)):
        table = read_vectors(path)[0].vectors.table
        assert isinstance(table.array, np.memmap)
        assert not table.array.flags.writeable


def test_chunks_slices_and_dictionaries(tmp_path: Path) -> None:
    kept = pyarrow.chunked_array([lists_of(X)[2:4], lists_of(X)[4:]])
    labels = pyarrow.chunked_array(
        [pyarrow.array(["x"]).dictionary_encode(), pyarrow.array(["z", "y", "x"]).dictionary_encode()]
    )
    path = parquet_of(tmp_path, kept, labels)
    assert np.array_equal(array_of(path), X[2:])
    assert [record.label for record in read_vectors(path)[0]] == ["x", "z", "y", "x"]


def test_images_and_texts_stand_beside_the_vectors(tmp_path: Path) -> None:
    images, texts = ["a.png", None, "/b.png", "c.png", "", "d.png"], [None, "two", *"3456"]
    shown = [record.item.shown for record in read_vectors(parquet_of(tmp_path, image=images, text=texts))[0]]  # type: ignore[union-attr]
    assert shown == [tmp_path / "a.png", "two", Path("/b.png"), tmp_path / "c.png", "5", tmp_path / "d.png"]
    numbered = parquet_of(tmp_path)
    assert str(read_vectors(numbered)[0][2].item) == f"{numbered}, row 3"


def changed(row: int, column: int, value: float, kind: Any = np.float32) -> NDArray[Any]:
    array = X.astype(kind)
    array[row, column] = value
    return array


ZERO = np.concatenate([X[:4], np.zeros((2, 4), np.float32)])
TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": (
        {"embedding": [[1.0, 2], [1.0, 2], [1.0], [1.0], [1.0], [1.0]]},
        "row 3: an embedding of 1 numbers, the first has 2",
    ),
    "longer": ({"embedding": [[1.0], [1.0], [1.0], [1.0], [1.0], [1.0, 2]]}, "row 6: an embedding of 2 numbers"),
    "an empty one": ({"embedding": [[1.0], [], [1.0], [1.0], [1.0], [1.0]]}, "row 2: an embedding of 0 numbers"),
    "all empty": ({"embedding": pyarrow.array([[]] * 6, pyarrow.list_(pyarrow.float32()))}, "without any numbers"),
    "NaN": ({"embedding": changed(3, 1, np.nan)}, "row 4: NaN or infinity"),
    "infinity": ({"embedding": changed(0, 0, np.inf, np.float16)}, "row 1: NaN or infinity"),
    "beyond float32": ({"embedding": changed(1, 2, 1e300, np.float64)}, "row 2: NaN or infinity"),
    "zeros": ({"embedding": ZERO}, "row 5: zeros alone, which have no direction"),
    "below float32": ({"embedding": np.full((6, 4), 1e-300)}, "row 1: zeros alone"),
    "whole numbers": ({"embedding": np.ones((6, 4), np.int64)}, "lists of int64; write float32 or float16"),
    "texts": ({"embedding": ["1,2"] * 6}, "column 'embedding' holds string; write lists of"),
    "lists of texts": ({"embedding": [["1"]] * 6}, "lists of string"),
    "lists of lists": ({"embedding": [[[1.0]]] * 6}, "lists of list<"),
    "single numbers": ({"embedding": [1.0] * 6}, "column 'embedding' holds double"),
    "nothing": ({"embedding": [None] * 6}, "column 'embedding' holds null"),
    "a list is missing": ({"embedding": [[1.0], [1.0], None, [1.0], [1.0], [1.0]]}, "row 3: empty embedding"),
    "the first is missing": ({"embedding": [None, [1.0], [1.0], [1.0], [1.0], [1.0]]}, "row 1: empty embedding"),
    "a number is missing": ({"embedding": [[1.0, 2], [1.0, None], *[[1.0, 2]] * 4]}, "row 2: a number is missing"),
    "dictionary": ({"embedding": pyarrow.array(["x"] * 6).dictionary_encode()}, "column 'embedding' holds dictionary<"),
    "a tensor's bytes": ({"embedding": [b"1234"] * 6}, "column 'embedding' holds binary"),
    "no label": ({"label": ["a", None, "b", "b", "c", "c"]}, "row 2: empty label"),
    "empty label": ({"label": ["a", "a", "b", "b", "c", ""]}, "row 6: empty label"),
    "NaN as label": ({"label": [1.0, 1.0, 2.0, np.nan, 3.0, 3.0]}, "row 4: empty label"),
    "no labels": ({"label": None}, "no column 'label'; the columns are embedding"),
    "numbers in lists as labels": ({"label": [[None]] * 6}, "row 1: a label is None: labels in a list are texts"),
    "id twice": ({"id": ["1", "2", "3", "2", "5", "6"]}, "row 4: the id 2 stands in row 2 already"),
    "no id": ({"id": ["1", "2", None, "4", "5", "6"]}, "row 3: empty id"),
    "split": ({"split": [*["train"] * 5, "dev"]}, "row 6: split is 'dev'; write train, val or test"),
    "no split": ({"split": [*["train"] * 5, None]}, "row 6: split is None"),
    "no rows": ({"embedding": X[:0], "label": pyarrow.array([], pyarrow.string())}, "no vectors in it"),
    "images of lists": ({"image": [["a.png"]] * 6}, "column 'image' holds list<"),
}


@pytest.mark.parametrize("name", TABLES)
def test_odd_tables_are_one_line(tmp_path: Path, name: str) -> None:
    given, message = TABLES[name]
    path = parquet_of(tmp_path, **given)
    one_line(path, message)


@pytest.mark.parametrize("name", ["lists of texts", "no rows", "the first is missing", "single numbers", "all empty"])
def test_the_width_of_odd_tables_is_one_line_or_a_number(tmp_path: Path, name: str) -> None:
    path = parquet_of(tmp_path, **TABLES[name][0])
    if name == "all empty":
        assert width(path) == 0
        return
    with pytest.raises(InputError, match=f"^{path}: [^\n]*$"):
        width(path)


ARRAYS: dict[str, tuple[Any, str]] = {
    "objects": (np.array([[1.0, None]], dtype=object), "not a readable NPY file .*Python objects"),
    "one dimension": (X[0], r"an array of shape \(4,\); vectors are \(items, dimensions\)"),
    "three dimensions": (X[None], r"an array of shape \(1, 6, 4\)"),
    "no dimensions": (np.float32(1), r"an array of shape \(\)"),
    "no numbers": (X[:, :0], r"an array of shape \(6, 0\)"),
    "no rows": (X[:0], "no vectors in it"),
    "float64": (X.astype(np.float64), "numbers of type float64; write the vectors as float32 or float16"),
    "int8": (X.astype(np.int8), "numbers of type int8"),
    "complex": (X.astype(np.complex64), "numbers of type complex64"),
    "texts": (np.array([["a"]]), "numbers of type <U1"),
    "fields": (np.zeros(6, [("x", "f4"), ("y", "f4")]), r"shape \(6,\)"),
    "NaN": (changed(5, 0, np.nan), "row 6: NaN or infinity"),
    "zeros": (ZERO, "row 5: zeros alone"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_odd_arrays_are_one_line(tmp_path: Path, name: str) -> None:
    array, message = ARRAYS[name]
    one_line(npy_of(tmp_path, array), message)


def test_odd_tensors_are_one_line(tmp_path: Path) -> None:
    one_line(safetensors_of(tmp_path, a=X, b=X), "no tensor 'embedding' among a, b")
    one_line(safetensors_of(tmp_path, x=X.astype(np.float64)), "numbers of type F64")
    one_line(safetensors_of(tmp_path, x=X[0]), r"an array of shape \(4,\)")
    one_line(safetensors_of(tmp_path, x=X[:0]), "no vectors in it")
    one_line(safetensors_of(tmp_path, x=X[:, :0]), r"an array of shape \(6, 0\)")
    save_tensors({"embedding": torch.ones(6, 4, dtype=torch.bfloat16)}, tmp_path / "v.safetensors")
    one_line(tmp_path / "v.safetensors", "numbers of type BF16; write the vectors as float32 or float16")
    assert np.array_equal(array_of(safetensors_of(tmp_path, other=X)), X), "the only one may have another name"
    assert np.array_equal(array_of(safetensors_of(tmp_path, embedding=X, other=X[:1])), X)


def test_the_table_beside_an_array(tmp_path: Path) -> None:
    path = npy_of(tmp_path, table=None)
    one_line(path, r"its labels are in a table beside it, v.csv, .tsv, .jsonl or .parquet; with a row for each")
    (tmp_path / "v.csv").write_text("label\na\n")
    one_line(path, "6 vectors, and 1 rows in .*v.csv: one for each")
    (tmp_path / "v.csv").write_text("class\na\n")
    with pytest.raises(InputError, match=r"v\.csv: no column 'label'"):
        read_vectors(path)
    parquet.write_table(pyarrow.table({"label": LABELS}), tmp_path / "v.parquet")
    one_line(path, "v.csv and v.parquet are there: remove one")
    (tmp_path / "v.csv").unlink()
    assert [record.label for record in read_vectors(path)[0]] == LABELS
    (tmp_path / "v.parquet").unlink()
    for name, text in {
        "v.tsv": "\n".join(["Label\tid", *(f"{label}\t{row}" for row, label in enumerate(LABELS))]),
        "v.jsonl": "\n".join(f'{{"label": "{label}", "id": {row}}}' for row, label in enumerate(LABELS)),
    }.items():
        (tmp_path / name).write_text(text)
        records, _ = read_vectors(path)
        assert [record.label for record in records] == LABELS
        assert records.vectors.table.ids == [str(row) for row in range(len(LABELS))]
        (tmp_path / name).unlink()


@pytest.mark.parametrize("suffix", ["parquet", "npy", "safetensors"])
def test_what_is_no_regular_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v.{suffix}"
    one_line(path, "no such file")
    os.mkfifo(path)
    one_line(path, "a pipe or a device, not a file")
    path.unlink()
    path.mkdir()
    one_line(path, "a folder, not a file")


@pytest.mark.parametrize("make", [parquet_of, npy_of, safetensors_of])
def test_cut_and_mutated_files_are_read_or_one_line(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path, told, dice = make(tmp_path), 0, random.Random(1)
    whole = path.read_bytes()
    for number in range(150):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        cut = number % 3 == 0
        path.write_bytes(whole[: dice.randrange(len(whole))] if cut else damaged)
        message = ""
        try:
            read_vectors(path)
            assert not cut, "a file that ends too early"
        except InputError as error:
            message = str(error)
            told += 1
        assert "\n" not in message
    assert told >= 50


def test_of_large_arrays_a_sample_is_looked_at_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "CHECKED_BYTES", 1_000)
    monkeypatch.setattr(vector_files, "SAMPLE", 80)
    array = np.ones((999, 4), np.float32)
    path = npy_of(tmp_path, array, "label\n" + "a\n" * 999)
    (note,) = read_vectors(path)[1]
    assert note.message.endswith("the numbers of 80 of 999 vectors were looked at; the others are when they are read")
    array[:] = 0
    np.save(path, array)
    one_line(path, r"row \d+: zeros alone")


def test_who_gives_a_file_of_vectors_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("path,label\n")
    with pytest.raises(InputError, match=r"no file of vectors; give a .parquet, .npy or .safetensors file"):
        read_own(str(tmp_path / "v.csv"), "vectors")
