"""Descriptors that somebody else made, from one file: looked through once, then read a block at a time."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from recallk.core.arrays import normalised
from recallk.core.errors import InputError
from recallk.core.files import read_file
from recallk.core.progress import Advance, counting, silent
from recallk.core.text import brief, shown
from recallk.retrieval.parts import Numbers, Parts, RowsOnDemand, let_go

_TOLERANCE = 1e-3  # of a row's length, which float16 keeps to 5e-4
_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_NAMES = ("queries", "gallery", "distractors")
_REMEDY = "save queries (Q, D) and gallery (G, D), and distractors (N, D) if there are, as .safetensors or .npz"


class GivenRows(RowsOnDemand):
    """Descriptors `(N, D)` of an array or a memory map, of unit length once it is `scaled`."""

    def __init__(self, written: NDArray[Any]) -> None:
        self._written, self.scaled = written, False
        self.shape = (written.shape[0], written.shape[1])
        self.dtype = np.dtype(np.float16 if written.dtype == np.float16 else np.float32)

    def __getitem__(self, rows: slice | Numbers) -> NDArray[Any]:
        """Return some rows `(n, D)`, float16 where they are written so and need no scaling, else float32."""
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite there, and refused
            block = self._written[rows].astype(self.dtype)
        let_go(self._written)
        return normalised(torch.from_numpy(block)).numpy() if self.scaled else block

    def look_through(self, name: str, advance: Callable[[int], None]) -> None:
        """Find out whether the rows have to be scaled. Raises InputError where one is not finite."""
        scaled = False
        for numbers, block in Parts([self]).blocks() if len(self) else ():
            rows = block[: len(numbers)]
            lengths = torch.linalg.vector_norm(rows, dim=1)
            for row in lengths.isfinite().logical_not().nonzero()[:, 0].tolist():
                if not rows[row].isfinite().all():  # and not only too long for its length to be told
                    told = "holds NaN, infinity, or numbers beyond float32"
                    raise InputError(f"row {int(numbers[row])} of {name} {told}")
            scaled |= bool(((lengths - 1).abs() > _TOLERANCE).any())
            advance(len(numbers))
        if scaled:
            self.scaled, self.dtype = True, np.dtype(np.float32)


@dataclass(frozen=True)
class GivenDescriptors:
    """What a file holds; `scaled` where rows were not of unit length, and are divided by theirs as they are read."""

    queries: Tensor
    gallery: GivenRows
    distractors: GivenRows | None
    scaled: bool


def read_descriptors(path: Path, queries: int, gallery: int, advance: Advance = silent) -> GivenDescriptors:
    """Return the descriptors in a `.safetensors` file, of which only blocks are in memory at a time, or a `.npz`.

    There are so many `queries` and images of the `gallery`, in the order of the test set's lists. Raises InputError,
    one line, for whatever is not as it should be.
    """
    if path.suffix not in (".safetensors", ".npz"):
        raise InputError(f"{path}: neither a .safetensors nor a .npz file; {_REMEDY}")
    arrays = read_file(path, _safetensors if path.suffix == ".safetensors" else _npz, "a file of descriptors", _REMEDY)
    try:
        _check(arrays, {"queries": queries, "gallery": gallery})
        told = counting(advance, "looking through the descriptors", sum(map(len, arrays.values())))
        for name, rows in arrays.items():
            rows.look_through(name, told)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    asked = torch.from_numpy(arrays["queries"][:].astype(np.float32))
    scaled = any(rows.scaled for rows in arrays.values())
    return GivenDescriptors(asked, arrays["gallery"], arrays.get("distractors") or None, scaled)


def _check(arrays: dict[str, GivenRows], wanted: dict[str, int]) -> None:
    for name, count in wanted.items():
        if name not in arrays:
            raise InputError(f"has no {name}, but {', '.join(map(shown, arrays)) or 'nothing'}; {_REMEDY}")
        if len(arrays[name]) != count:
            raise InputError(
                f"{name} has {len(arrays[name]):,} rows, the test set {count:,}: give one for each, in its lists' order"
            )
    dimensions = {rows.shape[1] for rows in arrays.values()}
    if len(dimensions) > 1 or 0 in dimensions:
        told = ", ".join(f"{name} {rows.shape[1]}" for name, rows in arrays.items())
        raise InputError(f"descriptors of different dimensions ({told}): make all with one model")


def _safetensors(path: Path) -> dict[str, GivenRows]:
    """Map the arrays of a file into memory, once safetensors has found it to be whole."""
    opened: Any = safe_open(path, framework="np")
    _require_known(opened.keys())
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    arrays = {}
    for name in opened.keys():  # noqa: SIM118 (no mapping)
        shape, dtype = tuple(header[name]["shape"]), _checked(name, header[name]["shape"], header[name]["dtype"])
        start = 8 + length + header[name]["data_offsets"][0]
        mapped = np.memmap(path, dtype, "r", start, shape) if 0 not in shape else np.empty(shape, dtype)
        arrays[name] = GivenRows(mapped)
    return arrays


def _npz(path: Path) -> dict[str, GivenRows]:
    with np.load(path, allow_pickle=False) as opened:
        _require_known(opened.files)
        arrays = {name: opened[name] for name in opened.files}
    for name, array in arrays.items():
        _checked(name, array.shape, array.dtype.newbyteorder("<").str)
    return {name: GivenRows(array) for name, array in arrays.items()}


def _require_known(names: Iterable[str]) -> None:
    """Raise ValueError for other names: a slip would leave the distractors out unseen."""
    for name in names:
        if name not in _NAMES:
            raise ValueError(f"it has {brief(name)}, which is none of {', '.join(_NAMES)}")


def _checked(name: str, shape: Sequence[int], kind: str) -> str:
    """Return NumPy's name for the type. Raises ValueError where the array is not of a kind that is read."""
    dtype = _TYPES.get(kind, kind)
    if len(shape) != 2 or dtype not in _TYPES.values():
        needed = "float16, float32 or float64 (items, dimensions) are needed"
        raise ValueError(f"its {name} are {kind} {tuple(shape)}, {needed}")
    return dtype
