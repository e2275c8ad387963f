"""Area 6: files of vectors, whole, damaged and odd: the right records and a plan, or one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet
from safetensors.numpy import save

from recallk.data.vector_files import read_vectors
from tests.fuzz.case import Case, FaultError, Place, Rng, pick
from tests.fuzz.table_files import HOSTILE, LABELS, as_csv, as_parquet
from tests.fuzz.tables import BYTES, CELLS, TYPES

SUFFIXES = (".parquet", ".npy", ".safetensors")
WORDS: tuple[object, ...] = (
    *("--embedding-size", "4", "--epochs", "1", "--items-per-class", "2", "--accelerator", "cpu"),
)
ROWS, SIZE = 18, 5
Columns = dict[str, list[Any]]


def prepare(shared: Path) -> None:
    """Import what the cases need."""
    import recallk.cli.terminal
    import recallk.models.vector_embedder
    import recallk.training.trainer  # noqa: F401


def rows(labels: tuple[str, ...] = LABELS[:6]) -> Columns:
    """Return the columns beside good vectors: three of a class, which is on one side."""
    names = [labels[number // 3 % len(labels)] for number in range(ROWS)]
    sides = ["train" if labels.index(name) % 2 else "test" for name in names]
    return {"label": list(names), "split": list(sides), "id": [f"item {n}" for n in range(ROWS)]}


def write(folder: Path, suffix: str, array: NDArray[Any], columns: Columns, csv: bool = False) -> Path:
    """Write an array, and the columns beside it or with it."""
    path = folder / f"v{suffix}"
    if suffix == ".parquet":
        table = pyarrow.table({"embedding": list(array), **columns})
        parquet.write_table(table, path)
        return path
    if suffix == ".npy":
        np.save(path, array)
    else:
        path.write_bytes(save({"embedding": np.ascontiguousarray(array)}))
    beside = folder / ("v.csv" if csv else "v.parquet")
    beside.write_bytes(as_csv(columns) if csv else as_parquet(columns))
    return path


def check_sound(path: Path) -> None:
    """Raise FaultError where what is accepted could not be right whatever the file says."""
    records = read_vectors(path)[0]
    array = records.vectors.table.array
    if not len(records) or array.ndim != 2 or len(array) != len(records):
        raise FaultError("no records, or not one for each vector")
    if not np.isfinite(array).all() or not np.abs(array).max(1).all():
        raise FaultError("a vector that has no direction")
    if any(not record.label or record.split not in (None, "train", "test", "validation") for record in records):
        raise FaultError("a record without a label, or in a split that there is not")


def plan(place: Place, path: Path) -> None:
    """Give the file to the command."""
    place.command("train", "--data", path, *WORDS, "--run", "run", "--dry-run")


def good(rng: Rng) -> Case:
    """Return a file with nothing wrong in it: its records are its rows."""
    suffix, kind, csv = pick(rng, SUFFIXES), pick(rng, (np.float16, np.float32)), bool(rng.random() < 0.5)
    split, trained = bool(rng.random() < 0.5), bool(rng.random() < 0.3)

    def act(place: Place) -> None:
        array, columns = rng.standard_normal((ROWS, SIZE)).astype(kind), rows()
        if not split:
            del columns["split"]
        path = write(place.work, suffix, array, columns, csv)
        records = read_vectors(path)[0]
        if not all(np.array_equal(np.asarray(record.item), array[n]) for n, record in enumerate(records)):
            raise FaultError("vectors are not the rows")
        if [record.label for record in records] != columns["label"]:
            raise FaultError("labels are not those of the rows")
        place.train("--data", path, *WORDS) if trained else plan(place, path)

    return Case(f"v{suffix} of {kind.__name__}, split {split}", act, "must not")


def damaged(rng: Rng) -> Case:
    """Return a file whose bytes are changed."""
    suffix, change, with_plan = pick(rng, SUFFIXES), pick(rng, BYTES), rng.random() < 0.3

    def act(place: Place) -> None:
        path = write(place.work, suffix, rng.standard_normal((ROWS, SIZE)).astype(np.float32), rows())
        path.write_bytes(change(rng, path.read_bytes()))
        check_sound(path)
        if with_plan:
            plan(place, path)

    return Case(f"v{suffix}, {change.__name__}", act)


NUMBERS = (np.nan, np.inf, -np.inf, 0.0, 1e-300, 1e300, 65504.0)
KINDS: tuple[Any, ...] = (np.float64, np.int8, np.int64)
OF_NPY: tuple[Any, ...] = (np.complex64, ">f4", ">f2", bool, "U1")


def odd(rng: Rng) -> Case:
    """Return a file that holds odd numbers, shapes, types or cells."""
    what = pick(rng, ("number", "row", "kind", "shape", "cell", "type", "drop", "short", "hostile"))
    suffix, value = pick(rng, SUFFIXES), pick(rng, NUMBERS)
    kind = pick(rng, KINDS + OF_NPY if suffix == ".npy" else KINDS)
    column, cell, of_type = pick(rng, ("label", "split", "id")), pick(rng, CELLS), pick(rng, list(TYPES))

    def act(place: Place) -> None:
        array, columns = rng.standard_normal((ROWS, SIZE)), rows(HOSTILE[:6] if what == "hostile" else LABELS[:6])
        if what == "number":
            array[3, 2] = value
        elif what == "row":
            array[3] = value
        elif what == "cell":
            columns[column][5] = cell
        elif what == "type":
            columns[column] = [TYPES[of_type](n) for n in range(ROWS)]
        elif what == "drop":
            del columns[column]
        elif what == "short" and suffix != ".parquet":
            columns = {name: cells[:-1] for name, cells in columns.items()}
        with np.errstate(all="ignore"):
            array = array.astype(kind if what == "kind" else np.float32)
        if what == "shape" and suffix != ".parquet":
            array = array[None] if value else array[0]
        path = write(place.work, suffix, array, columns)
        check_sound(path)
        plan(place, path)

    return Case(f"v{suffix}, {what} {value!r} {kind} {column} {cell!r:.20} {of_type}", act)


def named(suffix: str, make: Callable[[Path], object]) -> Case:
    def act(place: Place) -> None:
        make(place.work / f"v{suffix}")
        (place.work / "v.csv").write_text("label\na\n")
        plan(place, place.work / f"v{suffix}")

    return Case(f"v{suffix}, something else in its place", act, "must")


FIRST = [named(suffix, make) for suffix in (".npy", ".safetensors") for make in (Path.mkdir, Path.touch)]


def case(rng: Rng, number: int) -> Case:
    """Return case `number`: the fixed ones first."""
    return FIRST[number] if number < len(FIRST) else pick(rng, (good, damaged, odd))(rng)
