"""A gallery that is kept in parts, mostly on disk, read block by block as float32."""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.errors import InputError
from recallk.retrieval.exact import blocks

Numbers = NDArray[np.int64]
_BLOCK_VALUES = 2**24  # 64 MB of float32: products of larger blocks are no faster
_BLOCK_ROWS = 2**16
_TILE = 64  # rows: a product of a few queries with an odd number of rows sums up the last ones in another order
_STAGED_VALUES = 2**20  # what is converted at a time stays in the processor's cache


class RowsOnDemand(ABC):
    """Rows of a gallery that are made as they are read, as those of a file whose vectors have to be scaled."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    """float16 or float32, as for arrays."""

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, rows: slice | Numbers) -> NDArray[Any]:
        """Return the rows of a slice, or those of some rising numbers."""


Part = NDArray[Any] | RowsOnDemand


class Parts:
    """The rows of several arrays, one array after another, numbered from 0.

    Every block that is read has the same shape, of whole tiles, so that equal rows have equal products wherever they
    stand. A block is the same memory each time: it holds until the next is read.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        """Check the parts: `(n_i, D)` float16 or float32, at least one row in all. Raises InputError."""
        self._parts = _checked(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.dimensions: int = self._parts[0].shape[1]
        if len(self) == 0:
            raise InputError("the gallery is empty: give at least one item to search")
        most = min(_BLOCK_ROWS, _BLOCK_VALUES // max(1, self.dimensions), len(self) + _TILE - 1)
        self.height = max(1, most // _TILE) * _TILE
        self._block = torch.zeros(self.height, self.dimensions)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def blocks(self) -> Iterator[tuple[Numbers, Tensor]]:
        """Yield all rows in order: the numbers `(n,)` of a block's rows, and the block."""
        for rows in blocks(len(self), self.height):
            yield from self.rows(np.arange(rows.start, rows.stop))

    def rows(self, numbers: Numbers) -> Iterator[tuple[Numbers, Tensor]]:
        """Yield the rows of some rising numbers: those `(n,)` of a block's rows, and the block.

        A block is `(height, D)` float32, on the CPU; the rows beyond its `n` hold nothing of use.
        """
        for some in blocks(len(numbers), self.height):
            self._read(numbers[some])
            yield numbers[some], self._block

    def name_of(self, number: int) -> str:
        """Say in words where a row stands: "row 3", or "row 3 of part 2" where there are several (both from 0)."""
        part = int(np.searchsorted(self._ends, number, side="right"))
        row = number - self._start(part)
        return f"row {row} of part {part}" if len(self._parts) > 1 else f"row {row}"

    def _start(self, part: int) -> int:
        return int(self._ends[part]) - len(self._parts[part])

    def _read(self, numbers: Numbers) -> None:
        """Read rows of rising numbers into the first rows of the block."""
        first, last = np.searchsorted(self._ends, numbers[[0, -1]], side="right")
        done = 0
        for part in range(first, last + 1):
            below = int(np.searchsorted(numbers, self._ends[part]))
            _convert(self._parts[part], numbers[done:below] - self._start(part), self._block[done:below])
            if isinstance(read := self._parts[part], np.ndarray):
                let_go(read)
            done = below


def _checked(parts: Sequence[Part]) -> list[Part]:
    given = list(parts)
    if not given:
        raise InputError("the gallery is empty: give at least one item to search")
    for number, part in enumerate(given):
        needed = "arrays or memory maps (rows, dimensions) of float16 or float32 are needed"
        if not isinstance(part, np.ndarray | RowsOnDemand):
            raise InputError(f"part {number} of the gallery is of type {type(part).__name__}: {needed}")
        if part.dtype.kind != "f" or part.dtype.itemsize not in (2, 4) or len(part.shape) != 2:
            raise InputError(f"part {number} of the gallery is {part.dtype} of shape {part.shape}: {needed}")
        if part.shape[1] != given[0].shape[1]:
            raise InputError(
                f"part {number} of the gallery has {part.shape[1]} dimensions, part 0 has {given[0].shape[1]}: "
                "embed both with one model"
            )
    return given


def _convert(part: Part, rows: Numbers, out: Tensor) -> None:
    """Write rows of a part into `out`, as float32.

    PyTorch converts float16 several times faster than NumPy, but takes no read-only memory as it is: so each piece is
    copied first.
    """
    height = max(1, _STAGED_VALUES // max(1, part.shape[1]))
    staged = np.empty((min(height, len(rows)), part.shape[1]), part.dtype.newbyteorder("="))
    for piece in blocks(len(rows), height):
        wanted = rows[piece]
        in_a_row = wanted[-1] - wanted[0] + 1 == len(wanted)
        values = part[int(wanted[0]) : int(wanted[-1]) + 1] if in_a_row else part[wanted]
        np.copyto(staged[: len(wanted)], values)
        out[piece].copy_(torch.from_numpy(staged[: len(wanted)]))


def let_go(part: NDArray[Any]) -> None:
    """Give back the pages of a memory map that have been read, which the system would count as ours.

    They stay in the system's cache. Only of a map that nobody can write to: else what was written could be lost.
    """
    array: object = part
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        array = array.base
    if isinstance(array, np.memmap) and array.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        pages: object = array.base
        if isinstance(pages, mmap.mmap):
            pages.madvise(mmap.MADV_DONTNEED)
