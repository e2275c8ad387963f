"""Descriptors that somebody else made, from one file: looked through once, then read a block at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recallk.core.arrays import normalised
from recallk.core.errors import InputError
from recallk.core.files import read_file
from recallk.core.progress import Advance, counting, silent
from recallk.core.text import brief, shown

Rows = NDArray[np.float16] | NDArray[np.float32]

_BLOCK = 8_192  # rows
_TOLERANCE = 1e-3  # of a row's length, which float16 keeps to 5e-4
_TYPES = {"F16": "float16", "F32": "float32", "F64": "float64"}
_NAMES = ("queries", "gallery", "distractors")
_KINDS = "float16, float32 or float64"
_REMEDY = "save queries (Q, D) and gallery (G, D), and distractors (N, D) if there are, as .safetensors or .npz"


class GivenRows:
    """Descriptors `(N, D)` of unit length in a file: a slice of it reads these rows, as float16 or float32."""

    def __init__(self, source: Any, shape: tuple[int, int], dtype: str) -> None:
        self._source, self.shape, self.scaled = source, shape, False
        self.dtype = np.dtype(np.float16 if dtype == "float16" else np.float32)

    def __len__(self) -> int:
        """Return how many there are."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Rows:
        """Return some rows `(n, D)`."""
        written = self._written(rows)
        if not self.scaled:
            return written.astype(self.dtype, copy=False)
        wide = written.astype(np.float64 if written.dtype == np.float64 else np.float32)
        unit: NDArray[np.float32] = normalised(torch.from_numpy(wide)).float().numpy()
        return unit

    def look_through(self, name: str, advance: Callable[[int], None]) -> None:
        """Find out whether the rows have to be divided by their length. Raises InputError where one is not finite."""
        for start in range(0, len(self), _BLOCK):
            rows = self._written(slice(start, start + _BLOCK)).astype(np.float64)
            finite = np.isfinite(rows).all(axis=1)
            if not finite.all():
                raise InputError(f"row {start + int(finite.argmin())} of {name} holds NaN or infinity")
            with np.errstate(over="ignore"):
                lengths = np.linalg.norm(rows, axis=1)
            if (np.abs(lengths - 1) > _TOLERANCE).any():
                self.scaled, self.dtype = True, np.dtype(np.float32)
            advance(len(rows))

    def _written(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(len(self))
        return np.asarray(self._source[start:stop])


@dataclass(frozen=True)
class GivenDescriptors:
    """What a file holds; `scaled` where rows were not of unit length, and are divided by theirs as they are read."""

    queries: NDArray[np.float32]
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
    asked = arrays["queries"][:].astype(np.float32)
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
    from safetensors import safe_open

    opened: Any = safe_open(path, framework="np")
    parts = {name: opened.get_slice(name) for name in _known(opened.keys())}
    return {name: _rows(name, part, part.get_shape(), part.get_dtype()) for name, part in parts.items()}


def _npz(path: Path) -> dict[str, GivenRows]:
    with np.load(path, allow_pickle=False) as opened:
        arrays = {name: opened[name] for name in _known(opened.files)}
    return {name: _rows(name, array, array.shape, array.dtype.name) for name, array in arrays.items()}


def _known(names: Iterable[str]) -> list[str]:
    """Return the names. Raises ValueError for others: a slip would leave the distractors out unseen."""
    for name in names:
        if name not in _NAMES:
            raise ValueError(f"it has {brief(name)}, which is none of {', '.join(_NAMES)}")
    return list(names)


def _rows(name: str, source: Any, shape: Sequence[int], kind: str) -> GivenRows:
    dtype = _TYPES.get(kind, kind.lower())
    if len(shape) != 2 or dtype not in _TYPES.values():
        raise ValueError(f"its {name} are {dtype} {tuple(shape)}, {_KINDS} (items, dimensions) are needed")
    return GivenRows(source, (shape[0], shape[1]), dtype)
