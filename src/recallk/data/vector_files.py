"""Files of vectors: a Parquet table that holds them, or an array with a table of labels beside it."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recallk.core.cores import available_cores
from recallk.core.errors import InputError
from recallk.core.files import read_file
from recallk.core.text import shown
from recallk.data.columns import SUFFIXES, Columns, cell, read_columns
from recallk.data.findings import Finding
from recallk.data.given_split import COLUMNS, gallery_rows, given_by_columns
from recallk.data.kind import ARRAYS, EMBEDDING, MADE_BY
from recallk.data.layout import USUAL, Layout
from recallk.data.records import ROLES, SPLITS, VectorRecords
from recallk.data.vectors import VectorRows, VectorTable

CHECKED_BYTES = 2**29
"""Of larger arrays the numbers of a sample are looked at; those of the others when they are read."""
SAMPLE = 10_000
_STRETCH = 40  # rows of the sample side by side: of a mapped file, the system reads many pages around each at once
_ROWS = 8_192  # that are read at a time
READ = ("label", *COLUMNS, "id", "image", "text")  # the columns beside the vectors
_AGAIN = "write it again"


def read_vectors(path: Path, layout: Layout = USUAL) -> tuple[VectorRecords, list[Finding]]:
    """Return a record for every row of a file of vectors, and what is worth knowing of them.

    A `.parquet` table has the columns `embedding` (lists of float16, float32 or float64, all of one length) and
    `label`, and perhaps `split` (train, val or test), `role` (query or gallery), `id`, `image` (a path, from the
    table's folder) and `text`. A `.npy` array `(N, D)`, or the tensor `embedding` of a `.safetensors` file, is mapped
    into memory; the other columns are in a table beside it, of the same name with `.csv`, `.tsv`, `.jsonl` or
    `.parquet`, row by row.

    A `layout` says what else the columns are called (but for `embedding`), and where paths start.

    Raises InputError, one line, with the row where there is one, for a file that cannot be read, numbers of another
    type, rows of different lengths, NaN or infinity, a vector of zeros, an empty label, an id twice, and as
    `given_by_columns`.
    """
    vectors, columns, notes = _checked(path, ("label",), layout)
    labels = columns["label"]
    try:
        given, numbers = given_by_columns(columns, len(labels))
    except InputError as error:
        raise InputError(f"{path}, {error}") from None
    if not all(labels):
        raise InputError(f"{path}, row {next(row for row, label in enumerate(labels) if not label) + 1}: empty label")
    sides = np.array([SPLITS.index(each.split) for each in given], np.int8)[numbers]
    roles = np.array([ROLES.index(each.role) for each in given], np.int8)[numbers]
    classes, labelled = _numbered(labels)
    rows = VectorRows(vectors, np.arange(len(labels)))
    return VectorRecords(rows, classes, labelled, sides, roles if roles.any() else None), notes


def read_any_vectors(path: Path) -> tuple[VectorTable, list[Finding]]:
    """Return the vectors of a file whose classes do not matter; an array may stand without a table.

    Raises InputError as `read_vectors`, but for labels and splits.
    """
    vectors, _, notes = _checked(path, ())
    return vectors, notes


def _checked(path: Path, needed: Sequence[str], layout: Layout = USUAL) -> tuple[VectorTable, Columns, list[Finding]]:
    """Return the vectors of a file, the columns that are needed and those that are there, and what is worth knowing."""
    array, columns = _read(path, needed, layout)
    if not len(array):
        raise InputError(f"{path}: no vectors in it")
    rows = {len(cells) for cells in columns.values()} or {len(array)}
    if rows != {len(array)}:
        table = table_beside(path)
        raise InputError(f"{path}: {len(array):,} vectors, and {rows.pop():,} rows in {table}: one for each")
    ids, images = columns.get("id"), columns.get("image")
    vectors = VectorTable(
        path,
        array,
        None if ids is None else _unique(path, ids),
        columns.get("label"),
        None if images is None else [str(layout.root_of(path) / image) if image else None for image in images],
        columns.get("text"),
        gallery_rows(columns, len(array)),
        _made_by(path),
    )
    return vectors, columns, _check_numbers(vectors)


def _numbered(labels: Sequence[str | None]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the classes, in order, and the number of each label among them."""
    classes = sorted({label for label in labels if label})
    return classes, _numbers_of(labels, classes)


def _numbers_of(cells: Sequence[str | None], names: Sequence[str | None]) -> NDArray[np.int64]:
    number = {name: i for i, name in enumerate(names)}
    return np.fromiter(map(number.__getitem__, cells), np.int64, len(cells))


def width(path: Path) -> int:
    """Return how many numbers the vectors of a file have, without reading them all. Raises InputError as the reader."""
    if path.suffix.lower() in ARRAYS:
        return int(_array(path).shape[1])
    return read_file(path, _parquet_width, "a readable PARQUET table", _AGAIN)


def _read(path: Path, needed: Sequence[str], layout: Layout) -> tuple[NDArray[Any], Columns]:
    if path.suffix.lower() in ARRAYS:
        array = _array(path)
        alone = not needed and not _tables_beside(path)
        return array, {} if alone else read_columns(table_beside(path), needed, READ, layout)
    columns = read_columns(path, needed, READ, layout)
    return read_file(path, _parquet, "a readable PARQUET table", _AGAIN), columns


def _made_by(path: Path) -> dict[str, Any] | None:
    """Return what the file says of the embedder that made the vectors: of a `.npy`, the table beside it, if Parquet."""
    place = path
    if path.suffix.lower() == ".npy":
        place = next(iter(_tables_beside(path)), path)
    if place.suffix.lower() not in (".parquet", ".safetensors"):
        return None
    return read_file(place, _parse_made_by, "what is said of the vectors' origin", _AGAIN)


def _parse_made_by(path: Path) -> dict[str, Any] | None:
    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet

        text = (parquet.read_schema(path).metadata or {}).get(MADE_BY.encode())
    else:
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get(MADE_BY)
    if text is None:
        return None
    made_by = json.loads(text)
    if not isinstance(made_by, dict):
        raise ValueError("no table of keys and values")
    return made_by


def table_beside(path: Path) -> Path:
    """Return the table of labels of an array. Raises InputError where there is none, or two."""
    tables = _tables_beside(path)
    if len(tables) != 1:
        names = " and ".join(table.name for table in tables)
        there = f"{names} are there: remove one" if tables else "with a row for each vector and the column label"
        raise InputError(
            f"{path}: its labels are in a table beside it, {path.stem}.csv, .tsv, .jsonl or .parquet; {there}"
        )
    return tables[0]


def _tables_beside(path: Path) -> list[Path]:
    return [path.with_suffix(suffix) for suffix in sorted(SUFFIXES) if path.with_suffix(suffix).is_file()]


def _array(path: Path) -> NDArray[Any]:
    parse = _npy if path.suffix.lower() == ".npy" else _safetensors
    array = read_file(path, parse, f"a readable {path.suffix[1:].upper()} file", _AGAIN)
    if array.ndim != 2 or 0 in array.shape[1:]:
        raise InputError(f"{path}: an array of shape {array.shape}; vectors are (items, dimensions)")
    if array.dtype.newbyteorder("=") not in (np.float16, np.float32):
        raise InputError(f"{path}: numbers of type {array.dtype}; write the vectors as float32 or float16")
    return array


def _npy(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _safetensors(path: Path) -> NDArray[Any]:
    """Map the tensor `embedding` of a file, or the only one in it."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:  # checks the file as a whole
        names = list(file.keys())
    name = EMBEDDING if EMBEDDING in names else names[0] if len(names) == 1 else None
    if name is None:
        raise ValueError(f"no tensor {EMBEDDING!r} among {', '.join(map(shown, names[:5])) or 'none'}")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        about = json.loads(file.read(length))[name]
    kind = {"F16": np.float16, "F32": np.float32}.get(about["dtype"])
    if kind is None:
        raise InputError(f"{path}: numbers of type {about['dtype']}; write the vectors as float32 or float16")
    shape = tuple(about["shape"])
    if not np.prod(shape):
        return np.empty(shape, kind)
    return np.memmap(path, kind, "r", 8 + length + about["data_offsets"][0], shape)


def _parquet_width(path: Path) -> int:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _list_of_floats(path, file)
        first = next(file.iter_batches(1, columns=[EMBEDDING]), None)
        if first is None or not len(first) or first.column(0)[0].as_py() is None:
            raise InputError(f"{path}: no vectors in it")
        return len(first.column(0)[0])


def _list_of_floats(path: Path, file: Any) -> Any:
    """Return the type of the numbers in the column of vectors. Raises InputError where it holds something else."""
    from pyarrow import types

    if (count := file.schema_arrow.names.count(EMBEDDING)) != 1:
        raise InputError(f"{path}: {count or 'no'} column{'s' if count else ''} {EMBEDDING!r}; one holds the vectors")
    kind = file.schema_arrow.field(EMBEDDING).type
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        raise InputError(f"{path}: column {EMBEDDING!r} holds {shown(kind)}; write lists of float32 or float16")
    if not types.is_floating(kind.value_type):
        raise InputError(
            f"{path}: column {EMBEDDING!r} holds lists of {shown(kind.value_type)}; write float32 or float16"
        )
    return kind.value_type


def _parquet(path: Path) -> NDArray[Any]:
    """Read the column of vectors, some rows at a time; float64 becomes float32."""
    from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        half = types.is_float16(_list_of_floats(path, file))
        array: NDArray[Any] | None = None
        row = 0
        for batch in file.iter_batches(_ROWS, columns=[EMBEDDING]):
            column = batch.column(0)
            if column.null_count:
                empty = row + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]) + 1
                raise InputError(f"{path}, row {empty}: empty embedding")
            values = column.flatten()
            lengths = np.array(column.value_lengths())
            if array is None:
                array = np.empty((file.metadata.num_rows, int(lengths[0])), np.float16 if half else np.float32)
            if (other := np.flatnonzero(lengths != array.shape[1])).size:
                place = int(other[0])
                raise InputError(
                    f"{path}, row {row + place + 1}: an embedding of {lengths[place]} numbers, the first has "
                    f"{array.shape[1]}"
                )
            if values.null_count:
                place = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]) // array.shape[1]
                raise InputError(f"{path}, row {row + place + 1}: a number is missing in the embedding")
            with np.errstate(over="ignore"):  # beyond float32 is infinity, which is told
                array[row : row + len(lengths)] = values.to_numpy().reshape(len(lengths), -1)
            row += len(lengths)
    if array is not None and not array.shape[1]:
        raise InputError(f"{path}: embeddings without any numbers")
    return np.empty((0, 0), np.float32) if array is None else array


def _unique(path: Path, ids: Sequence[str | None]) -> list[str]:
    rows: dict[str, int] = {}
    for row, name in enumerate(ids):
        if not name:
            raise InputError(f"{path}, row {row + 1}: empty id")
        if rows.setdefault(name, row) != row:
            raise InputError(f"{path}, row {row + 1}: the id {cell(name)} stands in row {rows[name] + 1} already")
    return list(rows)


def _check_numbers(table: VectorTable) -> list[Finding]:
    """Raise InputError for the first row of NaN, infinity or zeros alone; of a large array, among a sample."""
    array = table.array
    sampled = array.nbytes > CHECKED_BYTES
    rows = np.arange(len(array))
    if sampled:
        stretches = np.random.default_rng(0).choice(len(array) // _STRETCH, min(SAMPLE, len(array)) // _STRETCH, False)
        rows = (_STRETCH * np.sort(stretches)[:, None] + np.arange(_STRETCH)).ravel()
    blocks = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
    with ThreadPoolExecutor(available_cores()) as pool:
        for wrong in pool.map(lambda block: first_fault(array[block], block), blocks):
            if wrong is not None:
                row, what = wrong
                raise InputError(f"{table.path}, row {row + 1}: {what}")
    if not sampled:
        return []
    told = f"the numbers of {len(rows):,} of {len(array):,} vectors were looked at; the others are when they are read"
    return [Finding("sampled vectors", str(table.path), told)]


def first_fault(block: NDArray[Any], rows: NDArray[np.int64]) -> tuple[int, str] | None:
    """Return the first of some vectors that cannot be embedded, with what is wrong; None where all can."""
    largest = np.abs(block).max(1)  # NaN where there is one
    bad = ~np.isfinite(largest) | (largest == 0)
    if not bad.any():
        return None
    place = int(bad.argmax())
    what = "zeros alone, which have no direction" if largest[place] == 0 else "NaN or infinity in the embedding"
    return int(rows[place]), what
