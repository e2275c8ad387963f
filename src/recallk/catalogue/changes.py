"""What is done to a catalogue: made, added to, updated, items removed; a change is there as a whole or not at all."""

import operator
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from torch import Tensor

from recallk.catalogue.embedded import Embedded
from recallk.catalogue.part import PartWriter
from recallk.catalogue.source import ID, Given, Source, contents_of, read_source
from recallk.catalogue.state import State, changing, commit, remove_unused
from recallk.core import processes
from recallk.core.cores import own_cores
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.group import joined
from recallk.core.progress import Advance, counting
from recallk.core.text import brief
from recallk.data.findings import Finding
from recallk.data.layout import Layout
from recallk.models.embedder import Embedder
from recallk.models.together import embed_together
from recallk.models.vector_embedder import ROWS

BLOCK = 4_096
"""Items of each process whose embeddings are held at a time."""
Embed = Callable[[Sequence[Any], Callable[[int], None]], Tensor]
"""Embeds items together with all processes, `(n, D)` in the first; told how many more are done."""
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Changed:
    """How many items a change has added, embedded again, told anew (other columns, the same content), and removed.

    `items` are there afterwards; `notes` say what is worth knowing of the source, and how many of the items an earlier
    change had embedded that was interrupted.
    """

    items: int
    added: int = 0
    embedded_again: int = 0
    told_anew: int = 0
    removed: int = 0
    notes: Sequence[Finding] = ()


@dataclass(frozen=True)
class _Plan:
    """Which items of a source are embedded already, which will be, which are copied from where, which rows go."""

    embedded: NDArray[np.int64]
    fresh: NDArray[np.int64]
    copied: NDArray[np.int64]
    copied_from: NDArray[np.int64]
    removed: NDArray[np.int64]
    again: int = 0


def put(
    into: AbstractContextManager[State],
    source: Source,
    embed: Embed,
    *,
    replace: bool,
    remove_missing: bool = False,
    advance: Advance,
) -> Changed:
    """Put the items of a source into a state, and commit that.

    What is there under the same id is refused, or, with `replace`, embedded again where its content is another, and
    told anew where its columns are. With `remove_missing`, items that the source does not have are removed. Raises
    InputError, one line, and nothing is changed.
    """
    work = _Work(into, source, replace, remove_missing, advance)
    with processes.entered_by_first(work):
        fresh = processes.from_first(lambda: work.plan.fresh)
        told, block = counting(advance, "embedding", len(fresh)), BLOCK * processes.count()
        for start in range(0, len(fresh), block):
            some = fresh[start : start + block]
            vectors = embed(_chosen(source.items, some), told)
            processes.from_first(partial(work.append, vectors, some))
        return processes.from_first(work.finish)


def put_source(
    into: AbstractContextManager[State],
    embedder: Embedder,
    source: Given,
    folder: Path,
    layout: Layout,
    workers: int | None,
    advance: Advance,
    *,
    replace: bool = False,
    remove_missing: bool = False,
) -> Changed:
    """Read a source, and put its items into a state, embedded by all processes together; raises as `put`."""
    device = available_device()
    how: dict[str, Any] = {}
    if embedder.noun == "images":
        how = {"workers": own_cores() if workers is None else workers}
    elif embedder.noun == "vectors":
        how = {"chunk_size": ROWS}

    def embed(items: Sequence[Any], told: Callable[[int], None]) -> Tensor:
        return embed_together(embedder.to(device), items, advance=told, **how)

    with joined(device.type):
        with processes.failing_together():
            read = read_source(source, embedder.noun, folder, layout)
        return put(into, read, embed, replace=replace, remove_missing=remove_missing, advance=advance)


def remove(folder: Path, ids: Collection[str]) -> Changed:
    """Remove items. Raises InputError for an id that is not there; then none is removed."""
    with changing(folder) as state:
        rows = [_row(state, name) for name in dict.fromkeys(ids)]
        if not rows:
            return Changed(len(state))
        removed = np.union1d(state.removed, np.array(rows, np.int64))
        return Changed(len(commit(state, state.manifest.parts, removed)), removed=len(rows))


def _row(state: State, name: str) -> int:
    if (row := state.row_of.get(name)) is None:
        raise InputError(f"{state.folder}: no item {brief(name)} in it; nothing was removed")
    return row


class _Work:
    """A change that is being made, in the context of its state: plan, rows written, commit."""

    def __init__(
        self,
        into: AbstractContextManager[State],
        source: Source,
        replace: bool,
        remove_missing: bool,
        advance: Advance,
    ) -> None:
        self._into, self._source, self._replace = into, source, replace
        self._remove_missing, self._advance = remove_missing, advance
        self._held = ExitStack()

    def __enter__(self) -> "_Work":
        with ExitStack() as held:
            self._state = held.enter_context(self._into)
            self._contents = contents_of(self._source.items, self._advance)
            manifest, folder = self._state.manifest, self._state.folder
            embedded = Embedded(folder, manifest)
            self.plan = _plan(self._state, self._source, self._contents, embedded, self._replace, self._remove_missing)
            rows = len(self.plan.embedded) + len(self.plan.fresh) + len(self.plan.copied)
            self._writer = None
            if rows:
                self._writer = held.enter_context(PartWriter(folder, rows, manifest))
                for start in range(0, len(self.plan.embedded), BLOCK):
                    contents = self._contents[self.plan.embedded[start : start + BLOCK]]
                    self._writer.append(embedded.vectors(contents), contents)
                remove_unused(folder, manifest, self._writer.folder)
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def append(self, vectors: Tensor, numbers: NDArray[np.int64]) -> None:
        assert self._writer is not None
        self._writer.append(vectors.numpy(), self._contents[numbers])

    def finish(self) -> Changed:
        plan, state, parts = self.plan, self._state, self._state.manifest.parts
        notes, count = tuple(self._source.notes), len(plan.embedded)
        if count:
            told = f"{count:,} {state.manifest.items} that an interrupted change had embedded are taken over"
            notes = (*notes, Finding("embedded before", str(state.folder), told))
        if self._writer is not None:
            for start in range(0, len(plan.copied), BLOCK):
                vectors = [state.vector(row) for row in plan.copied_from[start : start + BLOCK].tolist()]
                self._writer.append(np.stack(vectors), self._contents[plan.copied[start : start + BLOCK]])
            written = np.concatenate([plan.embedded, plan.fresh, plan.copied])
            known, pictures = self._source.known.take(written), self._source.pictures(written)
            parts = (*parts, self._writer.finish(known, pictures))
        if self._writer is None and not len(plan.removed) and state.manifest.change:
            return Changed(len(state), notes=notes)
        state = commit(state, parts, np.union1d(state.removed, plan.removed))
        return Changed(
            len(state),
            added=count + len(plan.fresh) - plan.again,
            embedded_again=plan.again,
            told_anew=len(plan.copied),
            removed=len(plan.removed) - plan.again - len(plan.copied),
            notes=notes,
        )


def _plan(
    state: State,
    source: Source,
    contents: NDArray[np.uint8],
    embedded: Embedded,
    replace: bool,
    remove_missing: bool,
) -> _Plan:
    ids = source.known[ID].to_pylist()
    rows = np.array([state.row_of.get(name, -1) for name in ids], np.int64)
    there = np.flatnonzero(rows >= 0)
    if len(there) and not replace:
        more = f" and {len(there) - 1:,} others are" if len(there) > 1 else " is"
        raise InputError(
            f"{state.folder}: {brief(ids[there[0]])}{more} there already; recallk index update replaces them"
        )
    same = np.zeros(len(ids), np.bool_)
    same[there] = (state.contents(rows[there]) == contents[there]).all(1)
    alike = np.zeros(len(ids), np.bool_)
    alike[there] = _alike(state.items.take(rows[there]), source.known.take(there))
    new, copied = np.flatnonzero(~same), np.flatnonzero(same & ~alike)
    again, had = new[rows[new] >= 0], embedded.has(contents[new])
    missing = np.setdiff1d(np.flatnonzero(state.alive), rows) if remove_missing else _NONE
    removed = np.concatenate([rows[again], rows[copied], missing])
    return _Plan(new[had], new[~had], copied, rows[copied], removed, len(again))


def _alike(one: pyarrow.Table, other: pyarrow.Table) -> NDArray[np.bool_]:
    """Return in which rows two tables say the same, whatever columns they have; an empty cell says nothing."""
    alike = np.ones(one.num_rows, np.bool_)
    for name in dict.fromkeys((*one.column_names, *other.column_names)):
        left, right = (_cells(table, name) for table in (one, other))
        alike &= np.fromiter(map(operator.eq, left, right), np.bool_, len(alike))
    return alike


def _cells(table: pyarrow.Table, name: str) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else [None] * table.num_rows


def _chosen(items: Sequence[Any], numbers: NDArray[np.int64]) -> Sequence[Any]:
    """Return some items: those side by side as they are, which of vectors are read together."""
    if len(numbers) and numbers[-1] - numbers[0] + 1 == len(numbers):
        return items[int(numbers[0]) : int(numbers[-1]) + 1]
    return [items[number] for number in numbers.tolist()]
