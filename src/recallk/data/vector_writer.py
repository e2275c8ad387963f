"""Files of vectors, written some rows at a time, whole or not at all: what `vector_files` reads."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from recallk.core.errors import InputError
from recallk.core.files import UnfinishedFile, write_file, writing
from recallk.core.text import brief
from recallk.data.item import Drawing, Record
from recallk.data.kind import ARRAYS, EMBEDDING, MADE_BY, VECTOR_FILES, kind_of
from recallk.data.split import namer
from recallk.data.texts import Text
from recallk.data.vector_files import first_fault
from recallk.data.vectors import Vector

Dtype = Literal["float32", "float16"]
Texts = Mapping[str, Sequence[str | None]]
"""By the name of a column, its cells."""


def require_writable(path: Path, dtype: str, overwrite: bool, source: Path) -> None:
    """Raise InputError where vectors of a source cannot be written to a path: before anything is embedded.

    Whatever `overwrite` says, neither the source is replaced nor a file of vectors that nobody has named.
    """
    if dtype not in get_args(Dtype):
        raise InputError(f"dtype={brief(dtype)}: one of {', '.join(get_args(Dtype))}")
    suffix = path.suffix.lower()
    if suffix not in VECTOR_FILES:
        raise InputError(f"{path}: vectors are written into a .parquet, .npy or .safetensors file; give it such a name")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no folder {path.parent}; make it, or choose another place")
    if suffix in ARRAYS and os.path.lexists(other := path.with_suffix(".csv")):
        raise InputError(f"{path}: {other.name} is beside it, and would be taken for its labels; choose another name")
    for array in (path.with_suffix(other) for other in sorted(ARRAYS - {suffix})):
        if os.path.lexists(array):
            raise InputError(f"{path}: {array.name} is beside it, and would have its labels; choose another name")
    table = _table_of(path)
    if table != path and kind_of(str(table)) == "vectors":
        raise InputError(f"{path}: its labels would replace {table.name}, which holds vectors; choose another name")
    for written in [path, table]:
        if _are_same(written, source):
            raise InputError(f"{written}: is what is embedded, and would be replaced; choose another name")
        if os.path.isdir(written):  # noqa: PTH112 (pathlib's raises where a name is too long)
            raise InputError(f"{written}: a folder; choose another name")
        if os.path.lexists(written) and not overwrite:
            raise InputError(f"{written}: exists already; choose another name, or write over it with --overwrite")


def columns_of(records: Sequence[Record], root: Path, path: Path) -> Texts:
    """Return what stands beside the vectors of records that were read below `root`, in a file at `path`.

    `label`, `split` and `role`, where there are any; `image`, the path of an item's file from the folder of the table;
    `text`; and `id`, the file's path below `root`, or the name of a vector, a drawing or a text; pixels are counted in
    their class.
    """
    below, beside = namer(root), namer(path.parent.resolve())  # ".." would leave a folder that is a link elsewhere
    here, counted = f"{Path.cwd()}{os.sep}", dict[str, int]()
    names, images, texts = list[str](), list[str | None](), list[str | None]()
    for record in records:
        file, text = record.file, None
        if file is not None:
            names.append(below(file))
        elif isinstance(item := record.item, Vector):
            names.append(item.table.name(item.row))
            file, text = (str(item.shown), None) if isinstance(item.shown, Path) else (None, item.shown)
        elif isinstance(item, Drawing):
            names.append(item.name)
        elif isinstance(item, Text):
            names.append(item.name)
            text = str(item)
        else:
            counted[record.label] = counted.get(record.label, 0) + 1
            names.append(f"{record.label}/{counted[record.label]}")
        images.append(None if file is None else beside(os.path.join(here, file)))  # noqa: PTH118 (of a million files)
        texts.append(text)
    labels, splits = [record.label or None for record in records], [record.split for record in records]
    roles = [record.role for record in records]
    columns: Texts = {"id": names, "label": labels, "split": splits, "role": roles, "image": images, "text": texts}
    return {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}


class VectorWriter:
    """A file of `(rows, width)` vectors that is being written, in a context that leaves nothing where it fails.

    A `.parquet` file has the columns beside the vectors, a group of rows for each `append`. The columns of a `.npy` or
    `.safetensors` file are in a `.parquet` table beside it. `made_by` goes into the metadata: of the Parquet file, of
    the safetensors file, and, as a `.npy` has none, of the table beside it.

    Raises InputError, one line, for names that are no UTF-8, and where a file cannot be written.
    """

    def __init__(
        self, path: Path, columns: Texts, rows: int, width: int, dtype: Dtype, made_by: Mapping[str, Any]
    ) -> None:
        self._path, self._rows, self._width, self._dtype = path, rows, width, np.dtype(dtype)
        self._made_by, self._done = {MADE_BY: json.dumps(made_by)}, 0
        self._held = ExitStack()
        try:
            self._columns = pyarrow.table(
                {name: pyarrow.array(cells, pyarrow.string()) for name, cells in columns.items()}
            )
        except UnicodeEncodeError as error:
            told = f"the name {brief(error.object)} is no UTF-8, and cannot be written into a table; rename it"
            raise InputError(f"{path}: {told}") from None

    def __enter__(self) -> "VectorWriter":
        self._unfinished = UnfinishedFile(self._path)
        self._held.callback(self._unfinished.discard)
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        with writing(self._path):
            if self._path.suffix.lower() == ".parquet":
                width = pyarrow.list_(pyarrow.from_numpy_dtype(self._dtype), self._width)
                schema = pyarrow.schema([(EMBEDDING, width), *self._columns.schema], self._made_by)
                alike = [name for name in ("label", "split", "role") if name in self._columns.column_names]
                writer = parquet.ParquetWriter(
                    self._unfinished.path, schema, use_dictionary=alike
                )  # numbers rarely are
                self._parquet = self._held.enter_context(writer)
            else:
                self._array: BinaryIO = self._held.enter_context(self._unfinished.path.open("wb"))
                self._array.write(self._header())

    def __exit__(self, *error: object) -> None:
        with suppress(OSError, ValueError):  # of a file that cannot be written, which has been told
            self._held.close()

    def append(self, vectors: NDArray[np.float32]) -> None:
        """Write the next rows `(n, width)`.

        Raises InputError for NaN, for what the numbers cannot hold, and, with its name, for a row of zeros alone.
        """
        if not (np.abs(vectors) <= np.finfo(self._dtype).max).all():
            raise InputError(f"{self._path}: the network gives NaN, or numbers beyond {self._dtype}; take another")
        rows = vectors.astype(self._dtype, copy=False)
        if (fault := first_fault(rows, np.arange(self._done, self._done + len(rows)))) is not None:
            raise InputError(f"{self._path}: of {self._name(fault[0])} the network gives {fault[1]}; leave it out")
        with writing(self._path):
            if self._path.suffix.lower() == ".parquet":
                lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), self._width)
                beside = self._columns.slice(self._done, len(rows)).columns
                self._parquet.write_table(pyarrow.table([lists, *beside], self._parquet.schema))
            else:
                self._array.write(rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes())
        self._done += len(rows)

    def finish(self) -> None:
        """Put everything in its place: an array after its table, so that there is none with the table of another."""
        assert self._done == self._rows
        with writing(self._path):
            if self._path.suffix.lower() == ".parquet":
                self._parquet.close()
            else:
                self._array.close()
                self._path.unlink(missing_ok=True)
        if self._path.suffix.lower() != ".parquet":
            metadata = self._made_by if self._path.suffix.lower() == ".npy" else None
            table = self._columns.replace_schema_metadata(metadata)
            write_file(_table_of(self._path), lambda unfinished: parquet.write_table(table, unfinished))
        self._unfinished.finish()

    def _name(self, row: int) -> str:
        named = "id" in self._columns.column_names
        return brief(self._columns["id"][row].as_py()) if named else f"row {row + 1}"

    def _header(self) -> bytes:
        """Return how the file of an array begins."""
        shape = (self._rows, self._width)
        if self._path.suffix.lower() == ".npy":
            header = io.BytesIO()
            little = self._dtype.newbyteorder("<").str
            np.lib.format.write_array_header_1_0(header, {"descr": little, "fortran_order": False, "shape": shape})
            return header.getvalue()
        number = {"float32": "F32", "float16": "F16"}[self._dtype.name]
        size = self._rows * self._width * self._dtype.itemsize
        tensor = {"dtype": number, "shape": shape, "data_offsets": (0, size)}
        text = json.dumps({"__metadata__": self._made_by, EMBEDDING: tensor}).encode()
        text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of eight
        return len(text).to_bytes(8, "little") + text


def _table_of(path: Path) -> Path:
    """Return the file that has the columns of vectors: their own, or the table beside an array."""
    return path if path.suffix.lower() == ".parquet" else path.with_suffix(".parquet")


def _are_same(one: Path, other: Path) -> bool:
    """Return whether both are one file that is there."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
