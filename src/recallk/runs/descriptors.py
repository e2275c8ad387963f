"""Descriptors of many items in a file: written block by block, resumed after a kill, used again while they fit."""

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recallk.core import processes
from recallk.core.errors import InputError
from recallk.core.files import make_folder, read_file, write_text, writing
from recallk.data.item import Item

BLOCK = 4_096
"""Items of each process between two writes: what a kill costs. Reading processes are started once for each block."""
FORMAT = 1
_LARGEST = float(np.finfo(np.float16).max)
_DAMAGED = "remove it, and it is made anew"


@dataclass(frozen=True)
class _Facts:
    """What the file beside the descriptors says: what they are of, their shape, and how many rows are written."""

    format: int
    fingerprint: str
    rows: int
    dimension: int
    done: int


def stored_descriptors(
    path: Path,
    fingerprint: str,
    items: Sequence[Item],
    embed: Callable[[Sequence[Item]], Tensor],
    advance: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float16]:
    """Return `(N, D)` float16 descriptors of items, at least one, as a memory map of the file `path`, a `.npy`.

    `embed` makes `(n, D)` of a block of items; `advance` is told how many rows there are already. A file beside it,
    `.json`, says what the descriptors are of and how many are written: those that an earlier process has left are used,
    and only the missing ones made, unless the `fingerprint` is another (`runs.fingerprint`); then all are made anew.
    The caller keeps other processes out of the folder. In a group of processes all call `embed` for each block, which
    gives the first one the embeddings; that one alone reads and writes files, and the others return no rows, `(0, D)`.
    Raises InputError, one line, in all processes alike, for a file that is damaged or cannot be written, and for
    descriptors that float16 cannot hold.
    """
    facts = processes.from_first(partial(_resumed, path, fingerprint, len(items)))
    if facts is not None and facts.done:
        advance(facts.done)
    block = BLOCK * processes.count()
    for start in range(facts.done if facts else 0, len(items), block):
        embeddings = embed(items[start : start + block])
        facts = processes.from_first(partial(_written, path, facts, fingerprint, len(items), embeddings))
    assert facts is not None
    with processes.failing_together():
        if processes.is_first():
            return read_file(path, _mapped, "descriptors", _DAMAGED)
    return np.empty((0, facts.dimension), dtype=np.float16)


def _resumed(path: Path, fingerprint: str, rows: int) -> _Facts | None:
    """Return what is there of these descriptors; None where nothing is. Those of others are removed."""
    make_folder(path.parent)
    facts = _begun(path, fingerprint, rows)
    if facts is None:
        with writing(path):
            for earlier in (_facts_of(path), path):  # what it says first: without it, the rest is of nothing
                earlier.unlink(missing_ok=True)
    return facts


def _written(path: Path, facts: _Facts | None, fingerprint: str, rows: int, embeddings: Tensor) -> _Facts:
    """Write a block of so many rows in all, the first where there are no facts yet; return what is there then."""
    block = _as_float16(embeddings, path)
    if facts is None:
        facts = _Facts(FORMAT, fingerprint, rows, block.shape[1], 0)
        _require_room(path, facts)
    return _append(path, facts, block)


def _facts_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _begun(path: Path, fingerprint: str, rows: int) -> _Facts | None:
    """Return what is there of these descriptors; None where nothing is, or where it is of others."""
    about = _facts_of(path)
    if not os.path.lexists(about):
        return None
    facts = read_file(about, _parse, "what descriptors are of", _DAMAGED)
    if facts is None or (facts.fingerprint, facts.rows) != (fingerprint, rows):
        return None
    try:
        with path.open("rb") as file:
            header = file.read(len(_header(facts)))
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); remove {about.name} beside it") from None
    end = len(header) + 2 * facts.done * facts.dimension
    if header != _header(facts) or size < end or (facts.done == rows and size > end):
        raise InputError(f"{path}: not the descriptors that {about.name} speaks of; {_DAMAGED}")
    return facts


def _parse(path: Path) -> _Facts | None:
    written = json.loads(path.read_bytes())
    if not isinstance(written, dict):
        raise ValueError("no table of keys and values")
    if written.get("format") != FORMAT:  # of another version: made anew
        return None
    facts = _Facts(**written)
    counts = (facts.rows, facts.dimension, facts.done)
    if not all(type(count) is int for count in counts) or not 0 <= facts.done <= facts.rows or facts.dimension < 1:
        raise ValueError("its counts are none")
    return facts


def _header(facts: _Facts) -> bytes:
    """Return how the `.npy` file begins."""
    header = io.BytesIO()
    shape = (facts.rows, facts.dimension)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _require_room(path: Path, facts: _Facts) -> None:
    """Raise InputError where the disk is too small: better now than after hours."""
    needed, free = 2 * facts.rows * facts.dimension, shutil.disk_usage(path.parent).free
    if needed > free:
        sizes = f"{needed / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB free"
        raise InputError(f"{path}: {facts.rows:,} descriptors do not fit on the disk ({sizes}); make room")


def _append(path: Path, facts: _Facts, rows: NDArray[np.float16]) -> _Facts:
    """Write a block after those that are there; only once it is on the disk is it counted."""
    header = _header(facts)
    # not through a memory map: on a full disk that kills the process
    with writing(path), path.open("r+b" if facts.done else "wb") as file:
        if not facts.done:
            file.write(header)
        file.seek(len(header) + 2 * facts.done * facts.dimension)  # over what a kill may have left of this block
        file.write(rows.astype("<f2", copy=False).tobytes())
        file.flush()
        os.fsync(file.fileno())
    facts = _Facts(FORMAT, facts.fingerprint, facts.rows, facts.dimension, facts.done + len(rows))
    write_text(_facts_of(path), json.dumps(asdict(facts)) + "\n")
    return facts


def _as_float16(embeddings: Tensor, path: Path) -> NDArray[np.float16]:
    if not (embeddings.abs() <= _LARGEST).all():  # NaN is not
        raise InputError(f"{path}: the model gives NaN, or numbers beyond float16: did its training diverge?")
    return embeddings.numpy().astype(np.float16)


def _mapped(path: Path) -> NDArray[np.float16]:
    descriptors: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return descriptors
