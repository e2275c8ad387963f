"""Pickles of plain data: containers, numbers, strings and NumPy arrays of them; whatever else one wants is refused."""

from pathlib import Path
from typing import Any

import numpy as np

from recallk.core.files import read_file
from recallk.data.plain_calls import Named, UnfinishedArray
from recallk.data.plain_opcodes import Program

MOST_BYTES = 128 * 2**20
"""Larger files are refused; the lists of the field have a few megabytes."""
DEEPEST = 50
"""Containers within containers."""
_ATOMS = (str, int, float, complex, bytes, bytearray, np.generic, type(None))


def read_plain_pickle(path: Path, what: str, remedy: str) -> Any:
    """Return what a pickle of plain data holds: written by Python 2 (its strings as Latin-1) or 3, protocols 0 to 5.

    Containers, numbers, strings, bytes, bools and None, NumPy's arrays and scalars of numbers and strings, and arrays
    of objects where these are plain too. Raises InputError, one line ("PATH: not WHAT (why); REMEDY"), for everything
    else, such as a file that wants to call something, and for a truncated one; nothing in the file is run.
    """
    return read_file(path, _read, what, remedy)


def _read(path: Path) -> Any:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"larger than the {MOST_BYTES // 2**20} MB that are read")
    value = Program(path.read_bytes()).run()
    _require_plain(value, 0, {})
    return value


def _require_plain(value: Any, depth: int, reached: dict[int, int]) -> None:
    """Raise ValueError for what is no plain data, or nested too deeply, as what holds itself is."""
    if isinstance(value, _ATOMS):
        return
    parts: Any = value
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return
        parts = value.flat
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, Named):
        raise ValueError(f"it holds {value.name} itself, which is no data")
    elif not isinstance(value, list | tuple | set | frozenset):
        raise ValueError("it holds an array without elements" if isinstance(value, UnfinishedArray) else "no data")
    if depth == DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    if reached.get(id(value), -1) >= depth:  # what is held many times is looked at once for each depth
        return
    reached[id(value)] = depth
    for part in parts:
        _require_plain(part, depth + 1, reached)
