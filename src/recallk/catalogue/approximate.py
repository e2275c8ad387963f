"""Approximate search in a catalogue: an index of FAISS is part of its state; rows added since are searched too."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk.catalogue.manifest import APPROXIMATE, PARTS, StoredApproximate, stored_folder
from recallk.catalogue.state import State, changing, commit
from recallk.core.errors import InputError
from recallk.core.files import make_folder, reading, writing
from recallk.core.progress import Advance
from recallk.core.text import brief
from recallk.retrieval.approximate import Approximate, Kind, Measured, fit, library
from recallk.retrieval.exact import Neighbours, check_k
from recallk.retrieval.scan import nearest_rows

FEWEST = 100
"""Items: fewer are searched exactly in no time, and hold out too few."""


def build_approximate(folder: Path, kind: Kind, least: float, k: int, advance: Advance) -> Measured:
    """Build an index over all items that are there, and put it into the state. Raises InputError as `changing`."""
    if kind not in get_args(Kind):
        raise InputError(f"kind={brief(kind)}: one of {', '.join(get_args(Kind))}")
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 < least <= 1:
        raise InputError(f"recall={brief(least)}: a share above 0 and up to 1")
    check_k(k)
    with changing(folder) as state:
        if len(state) < max(FEWEST, 20 * k):
            needed = f"{max(FEWEST, 20 * k):,} are needed for recall@{k}"
            raise InputError(f"{folder}: {len(state):,} items, and {needed}; fewer are searched exactly in no time")
        found, measured = fit(state.searched(), state.alive, kind, least=least, k=k, advance=advance)
        commit(state, state.manifest.parts, state.removed, _write(state, found, measured))
    return measured


def _write(state: State, found: Approximate, measured: Measured) -> StoredApproximate:
    folder = state.folder / PARTS / secrets.token_hex(8)
    make_folder(folder)
    with writing(folder / APPROXIMATE):
        library().write_index(found.index, str(folder / APPROXIMATE))
    return StoredApproximate(
        part=stored_folder(folder, int(state.alive.sum())),
        of=tuple(part.name for part in state.manifest.parts),
        kind=found.kind,
        width=found.width,
        k=measured.k,
        recall=measured.recall,
    )


class OpenApproximate:
    """The approximate index of a state: read when it is first searched."""

    def __init__(self, state: State) -> None:
        """Take that of a state. Raises InputError where there is none."""
        if (about := state.manifest.approximate) is None:
            make = f"recallk index approximate {state.folder}"
            raise InputError(f"{state.folder}: no approximate index in it (a change that rewrites it drops it): {make}")
        assert state.approximate is not None
        self._file, self._about, self._lock = state.approximate, about, Lock()
        self._path = state.folder / PARTS / about.part.name / APPROXIMATE
        self._read: Approximate | None = None

    @property
    def _index(self) -> Approximate:
        with self._lock:
            if self._read is None:
                self._file.seek(0)
                with reading(self._path, "an index of FAISS", "it is damaged: copy the catalogue again"):
                    index = library().read_index(library().PyCallbackIOReader(self._file.read))
                self._read = Approximate(index, self._about.kind, self._about.width)
            return self._read

    def nearest(self, state: State, queries: Tensor, k: int, exclude: Sequence[int] | None) -> Neighbours:
        """Find each query's k rows: approximately among those that it was built of, exactly among later ones."""
        parts, covered = state.searched(), len(self._about.of)
        first = sum(map(len, parts[:covered]))
        allowed = None if state.alive[:first].all() else state.alive[:first]
        found = self._index.nearest(queries, parts[:covered], k, allowed=allowed, exclude=exclude)
        if parts[covered:]:
            # one more, of which each leaves its own out: with `exclude` all would get as few as one of them
            exact = nearest_rows(queries, parts[covered:], k + (exclude is not None), allowed=state.alive[first:])
            for number, (similarities, rows) in enumerate(
                zip(exact.similarities.numpy(), exact.indexes.numpy() + first, strict=True)
            ):
                others = rows != (-1 if exclude is None else exclude[number])
                found[number] = _best([found[number], (similarities[others], rows[others])], k)
        depth = min(k, len(state) - (exclude is not None and max(exclude) >= 0))
        for number, (_, rows) in enumerate(found):
            if len(rows) < depth:  # a graph may not reach that many
                own = None if exclude is None else exclude[number : number + 1]
                exact = nearest_rows(queries[number : number + 1], parts, depth, allowed=state.alive, exclude=own)
                found[number] = exact.similarities[0].numpy(), exact.indexes[0].numpy()
        return Neighbours(
            torch.from_numpy(np.stack([similarities[:depth] for similarities, _ in found])),
            torch.from_numpy(np.stack([rows[:depth] for _, rows in found])),
        )


def _best(
    lists: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    similarities = np.concatenate([own for own, _ in lists])
    rows = np.concatenate([own for _, own in lists])
    best = np.lexsort((rows, -similarities))[:k]
    return similarities[best], rows[best]
