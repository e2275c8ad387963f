"""A part of a catalogue: rows written once, in a folder of their own, and read from the disk as they are needed."""

import json
import secrets
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from recallk.catalogue.manifest import PARTS, Manifest, StoredPart, check_size, stored_folder
from recallk.core.errors import InputError
from recallk.core.files import make_folder, reading, why, writing
from recallk.retrieval.codes import encoded

ITEMS = "items.parquet"
"""A row for each item: its id and all that is known of it."""
VECTORS = "vectors.npy"
CODES, SCALES = "codes.npy", "scales.npy"
"""Of int8: the numbers that are searched, and by what those of a row are multiplied."""
PICTURES = "pictures.parquet"
"""Of items whose image is no file, as drawings: the column `png`."""
_GROUP = 32  # pictures that are read at a time
CONTENTS = "contents.npy"
"""SHA-256 of what each item was embedded from, `(n, 32)` uint8."""
REMOVED = "removed.npy"
BLOCKS = "blocks.jsonl"
"""Of a part that is being written: a line for the rows that were written at a time (`Block`)."""
_DAMAGED = "it is damaged: copy the catalogue again"
_ROWS = 2**14  # that are written at a time


@dataclass(frozen=True)
class Part:
    """A part as it is opened: whoever holds it can read all of it, also when its folder is removed meanwhile."""

    folder: Path
    rows: int
    vectors: NDArray[Any] = field(repr=False)
    """`(n, D)` float16 or float32, of unit length but for rounding."""
    contents: NDArray[np.uint8] = field(repr=False)
    codes: NDArray[np.int8] | None = field(repr=False)
    scales: NDArray[np.float32] | None = field(repr=False)
    _items: Any = field(repr=False)
    _pictures: Any = field(repr=False)

    def picture(self, number: int) -> bytes | None:
        """Return the image of an item, as PNG, where it is kept here."""
        if self._pictures is None:
            return None
        with self._reading(PICTURES), parquet.ParquetFile(self._pictures) as file:
            group = file.read_row_group(number // _GROUP)
        found: bytes | None = group["png"][number % _GROUP].as_py()
        return found

    def pictures(self, numbers: NDArray[np.int64]) -> Sequence[bytes | None] | None:
        """Return the images of some items, where they are kept here."""
        if self._pictures is None:
            return None
        with self._reading(PICTURES):
            kept = parquet.read_table(self._pictures)
        found: list[bytes | None] = kept["png"].take(numbers).to_pylist()
        return found

    @cached_property
    def items(self) -> pyarrow.Table:
        """What is known of the items."""
        with self._reading(ITEMS):
            return parquet.read_table(self._items)

    def _reading(self, name: str) -> AbstractContextManager[None]:
        return reading(self.folder / name, "a Parquet table", _DAMAGED)


def open_part(catalogue: Path, about: StoredPart) -> Part:
    """Open a part. Raises FileNotFoundError where it is not there, InputError where it is other than it was written."""
    folder = catalogue / PARTS / about.name
    for name, file in about.files.items():
        check_size(folder / name, file)
    arrays = {name: _mapped(folder / name) for name in about.files if name.endswith(".npy")}
    for name, array in arrays.items():
        if len(array) != about.rows:
            raise InputError(f"{folder / name}: {len(array):,} rows, and the manifest says {about.rows:,}; {_DAMAGED}")
    return Part(
        folder,
        about.rows,
        arrays[VECTORS],
        arrays[CONTENTS],
        arrays.get(CODES),
        arrays.get(SCALES),
        pyarrow.memory_map(str(folder / ITEMS)),
        pyarrow.memory_map(str(folder / PICTURES)) if PICTURES in about.files else None,
    )


def open_removed(catalogue: Path, about: StoredPart) -> NDArray[np.int64]:
    """Return the numbers of the rows that were removed; raises as `open_part`."""
    file = catalogue / PARTS / about.name / REMOVED
    check_size(file, about.files[REMOVED])
    return np.array(_mapped(file))


def _mapped(path: Path) -> NDArray[Any]:
    """Map an array: privately, as PyTorch takes no memory that cannot be written to; nobody writes."""
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({why(error)}); {_DAMAGED}") from None


@dataclass(frozen=True)
class Block:
    """Rows that were written at a time: what by, and the CRC-32 of their vectors and contents."""

    embedder: str
    dtype: str
    rows: int
    crc: int

    @classmethod
    def of(cls, manifest: Manifest, rows: int, vectors: bytes, contents: bytes) -> "Block":
        """Return what is noted of rows."""
        return cls(manifest.embedder, stored_dtype(manifest), rows, zlib.crc32(contents, zlib.crc32(vectors)))


def stored_dtype(manifest: Manifest) -> str:
    """Return what the vectors of a catalogue are stored as."""
    return "float32" if manifest.dtype == "float32" else "float16"


class PartWriter:
    """A part that is being written, in a context; where it is interrupted, the next change takes over what it holds.

    For that each block is noted once the files have it (`catalogue.embedded` reads it).
    """

    def __init__(self, catalogue: Path, rows: int, manifest: Manifest) -> None:
        self.folder = catalogue / PARTS / secrets.token_hex(8)
        self._rows, self._manifest = rows, manifest
        self._files = dict[str, BinaryIO]()
        self._noted = 0
        self._held = ExitStack()

    def __enter__(self) -> "PartWriter":
        make_folder(self.folder)
        try:
            self._begin(VECTORS, stored_dtype(self._manifest), self._manifest.dimensions)
            self._begin(CONTENTS, "uint8", 32)
            if self._manifest.dtype == "int8":
                self._begin(CODES, "int8", self._manifest.dimensions)
                self._begin(SCALES, "float32")
            self._files[BLOCKS] = self._held.enter_context((self.folder / BLOCKS).open("wb"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()
        if error and error[0] is not None and not self._noted:
            shutil.rmtree(self.folder, ignore_errors=True)

    def append(self, vectors: NDArray[Any], contents: NDArray[np.uint8]) -> None:
        """Write the next rows: vectors `(n, D)` of unit length, and the contents `(n, 32)` that they are of."""
        if not np.isfinite(vectors).all():
            raise InputError(f"{self.folder.parents[1]}: the model gives NaN or infinity; take another")
        for start in range(0, len(vectors), _ROWS):
            rows, of = vectors[start : start + _ROWS], contents[start : start + _ROWS]
            written = self._write(VECTORS, rows, stored_dtype(self._manifest)), self._write(CONTENTS, of, "uint8")
            if self._manifest.dtype == "int8":
                codes, scales = encoded(rows.astype(np.float16))
                self._write(CODES, codes, "int8")
                self._write(SCALES, scales, "float32")
            self._note(Block.of(self._manifest, len(rows), *written))

    def finish(
        self, items: Mapping[str, Sequence[Any]] | pyarrow.Table, pictures: Sequence[bytes | None] | None = None
    ) -> StoredPart:
        """Write what is known of the items, have all of it on the disk, and return what the manifest is to say.

        `pictures` are the images, as PNG, of those whose image is no file.
        """
        table = items if isinstance(items, pyarrow.Table) else pyarrow.table(items)
        assert table.num_rows == self._rows
        self._held.close()
        with writing(self.folder):
            (self.folder / BLOCKS).unlink()
            parquet.write_table(table, self.folder / ITEMS)
            if pictures is not None:
                column = pyarrow.table({"png": pyarrow.array(pictures, pyarrow.binary())})
                parquet.write_table(column, self.folder / PICTURES, row_group_size=_GROUP, compression="none")
        return stored_folder(self.folder, self._rows)

    def _begin(self, name: str, dtype: str, width: int | None = None) -> None:
        shape = (self._rows,) if width is None else (self._rows, width)
        with writing(self.folder / name):
            file = self._held.enter_context((self.folder / name).open("wb"))
            descr = np.lib.format.dtype_to_descr(np.dtype(dtype).newbyteorder("<"))
            np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        self._files[name] = file

    def _write(self, name: str, rows: NDArray[Any], dtype: str) -> bytes:
        written = rows.astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()
        with writing(self.folder / name):
            self._files[name].write(written)
        return written

    def _note(self, block: Block) -> None:
        with writing(self.folder):
            for name in (VECTORS, CONTENTS):  # which the next writer reads
                self._files[name].flush()
            self._files[BLOCKS].write(json.dumps(asdict(block)).encode() + b"\n")
            self._files[BLOCKS].flush()
        self._noted += 1


def write_removed(catalogue: Path, rows: NDArray[np.int64]) -> StoredPart:
    """Write the numbers of rows that are removed, as a part that holds nothing else."""
    folder = catalogue / PARTS / secrets.token_hex(8)
    make_folder(folder)
    with writing(folder):
        np.save(folder / REMOVED, rows.astype("<i8"))
    return stored_folder(folder, len(rows))
