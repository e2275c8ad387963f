"""The state of a catalogue: opened as a whole, and followed by the next one in one step."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
import pyarrow
from numpy.typing import NDArray

from recallk.catalogue.manifest import (
    APPROXIMATE,
    MANIFEST,
    MODEL,
    PARTS,
    Manifest,
    StoredApproximate,
    StoredPart,
    VectorDtype,
    check_content,
    check_size,
    is_catalogue,
    read_manifest,
    write_manifest,
)
from recallk.catalogue.part import BLOCKS, Part, PartWriter, open_part, open_removed, write_removed
from recallk.core.errors import InputError
from recallk.core.files import UNFINISHED, make_folder
from recallk.core.lock import locked
from recallk.core.text import brief
from recallk.models import saved
from recallk.models.checksum import checksum
from recallk.models.embedder import Embedder
from recallk.retrieval.scan import StoredRows

MOST_PARTS = 16
"""More are put together into one: each is looked through by itself."""
MOST_REMOVED = 0.3
"""A larger share of rows that are no longer there is not carried on."""
_OWN = frozenset({MODEL, PARTS, ".lock"})
_TRIES = 20  # of opening, while writers replace one state after another
_ROWS = 2**14  # that are copied at a time


@dataclass(frozen=True)
class State:
    """What a catalogue holds at a time; later changes of the folder do not touch it.

    Rows are numbered through its parts, those that were removed included; `alive (N,)` says which are there.
    """

    folder: Path
    manifest: Manifest
    parts: tuple[Part, ...] = field(repr=False)
    removed: NDArray[np.int64] = field(repr=False)
    approximate: BinaryIO | None = field(default=None, repr=False)
    """The file of the index for approximate search, where there is one."""

    def __len__(self) -> int:
        return self.manifest.rows

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        """Which rows are there."""
        alive = np.ones(sum(part.rows for part in self.parts), np.bool_)
        alive[self.removed] = False
        return alive

    @cached_property
    def items(self) -> pyarrow.Table:
        """What is known of the item of each row: a column that a part does not have is empty there."""
        tables = [part.items for part in self.parts]
        return pyarrow.concat_tables(tables, promote_options="permissive") if tables else pyarrow.table({"id": []})

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Up to which row each part goes."""
        return np.cumsum([part.rows for part in self.parts], dtype=np.int64)

    def place(self, row: int) -> tuple[Part, int]:
        """Return the part that a row is of, and its number there."""
        number = int(np.searchsorted(self.ends, row, side="right"))
        part = self.parts[number]
        return part, row - (int(self.ends[number]) - part.rows)

    def searched(self) -> list[StoredRows]:
        """Return the rows of its parts as they are searched."""
        return [StoredRows(part.vectors, part.codes, part.scales) for part in self.parts]

    def vectors(self) -> NDArray[Any]:
        """Return the vectors `(N, D)` of the items that are there, as they are stored, in memory."""
        dtype = np.float32 if self.manifest.dtype == "float32" else np.float16
        found, start = [np.empty((0, self.manifest.dimensions), dtype)], 0
        for part in self.parts:
            found.append(part.vectors[self.alive[start : start + part.rows]])
            start += part.rows
        return np.concatenate(found)

    def vector(self, row: int) -> NDArray[Any]:
        """Return the vector `(D,)` of a row, as it is stored."""
        part, number = self.place(row)
        return np.array(part.vectors[number])

    def contents(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the SHA-256 `(n, 32)` of what some rows were embedded from."""
        found = np.empty((len(rows), 32), np.uint8)
        for number, row in enumerate(rows.tolist()):
            part, place = self.place(row)
            found[number] = part.contents[place]
        return found

    @cached_property
    def row_of(self) -> dict[str, int]:
        """By its id, the row of each item that is there."""
        ids = self.items["id"].to_pylist()
        return {ids[row]: row for row in np.flatnonzero(self.alive).tolist()}


def open_state(folder: Path) -> State:
    """Open a catalogue, whoever is changing it. Raises InputError, one line, where it is none, or damaged."""
    manifest = read_manifest(folder)
    for _ in range(_TRIES):
        try:
            return _open(folder, manifest)
        except FileNotFoundError as error:
            before, manifest = manifest, read_manifest(folder)
            if manifest == before:  # else it was replaced, with its files, before these were opened
                raise InputError(f"{error.filename}: no such file; the catalogue is damaged: copy it again") from None
    raise InputError(f"{folder}: changes faster than it can be opened; try again")


def _open(folder: Path, manifest: Manifest) -> State:
    parts = tuple(open_part(folder, part) for part in manifest.parts)
    removed = np.empty(0, np.int64) if manifest.removed is None else open_removed(folder, manifest.removed)
    approximate = None
    if (about := manifest.approximate) is not None:
        file = folder / PARTS / about.part.name / APPROXIMATE
        check_size(file, about.part.files[APPROXIMATE])
        approximate = file.open("rb")
    return State(folder, manifest, parts, removed, approximate)


def open_model(state: State) -> Embedder:
    """Return the model of a catalogue. Raises InputError where it is not the one that its vectors were made by."""
    embedder = saved.load(state.folder / MODEL)
    if checksum(embedder) != state.manifest.embedder:
        raise InputError(f"{state.folder / MODEL}: not the model that made the vectors; copy the catalogue again")
    return embedder


def check(folder: Path) -> State:
    """Open a catalogue, and read all of its files. Raises InputError for the first that is not as it was written."""
    open_state(folder)  # where there is none, no folder is made for a lock
    with locked(folder):
        state = open_state(folder)
        open_model(state)
        for part in state.manifest.stored:
            for name, file in part.files.items():
                check_content(folder / PARTS / part.name / name, file)
        return state


@contextmanager
def changing(folder: Path) -> Iterator[State]:
    """Keep other writers out while the state is changed; then remove what one that was interrupted has left.

    Raises InputError where another is writing, and as `open_state`.
    """
    with locked(folder):
        yield open_state(folder)
        remove_unused(folder, read_manifest(folder))


@contextmanager
def creating(folder: Path, embedder: Embedder, dtype: VectorDtype) -> Iterator[State]:
    """Give the state of a catalogue that is to be made: nobody sees it before its first `commit`.

    What was embedded stays where it is interrupted. Raises InputError where there is a catalogue already, or anything
    else than what an interrupted one has left.
    """
    if get_args(VectorDtype).count(dtype) != 1:
        raise InputError(f"dtype={brief(dtype)}: one of {', '.join(get_args(VectorDtype))}")
    if is_catalogue(folder):
        raise InputError(f"{folder}: a catalogue already; add to it, or update it (recallk index add, update)")
    if folder.exists() and (not folder.is_dir() or any(path.name not in _OWN for path in folder.iterdir())):
        raise InputError(f"{folder}: exists already, and is no catalogue; choose another folder")
    try:
        with locked(folder):
            make_folder(folder / PARTS)
            saved.save(embedder, folder / MODEL)
            manifest = Manifest(
                items=embedder.noun,
                embedder=checksum(embedder),
                dimensions=embedder.embedding_size,
                dtype=dtype,
            )
            yield State(folder, manifest, (), np.empty(0, np.int64))
    finally:
        if not is_catalogue(folder) and not any(folder.glob(f"{PARTS}/*/{BLOCKS}")):  # nothing came of it
            for name in (MODEL, PARTS):
                shutil.rmtree(folder / name, ignore_errors=True)
            with suppress(OSError):  # somebody else has come meanwhile
                folder.rmdir()


def commit(
    state: State,
    parts: tuple[StoredPart, ...],
    removed: NDArray[np.int64],
    approximate: StoredApproximate | None = None,
) -> State:
    """Put a state of these parts, without the removed rows, in the place of another, and return it.

    Many parts are put together into one, and so is what has lost many rows. An index for approximate search is
    replaced by another, or stays where its parts do. What is no longer used is removed; whoever has it open can go on
    reading.
    """
    new = _commit(state, parts, removed, approximate)
    if len(new.parts) > MOST_PARTS or len(removed) > MOST_REMOVED * max(1, len(new.alive)):
        return _commit(new, (_together(new),) if len(new) else (), np.empty(0, np.int64), None)
    return new


def _commit(
    state: State,
    parts: tuple[StoredPart, ...],
    removed: NDArray[np.int64],
    approximate: StoredApproximate | None,
) -> State:
    kept = approximate or state.manifest.approximate
    if kept is not None and kept.of != tuple(part.name for part in parts[: len(kept.of)]):
        kept = None
    written = write_removed(state.folder, np.sort(removed)) if len(removed) else None
    change = state.manifest.change + 1
    new = {"change": change, "parts": parts, "removed": written, "approximate": kept}
    manifest = state.manifest.model_copy(update=new)
    write_manifest(state.folder, manifest)
    opened = _open(state.folder, manifest)
    remove_unused(state.folder, manifest)
    return opened


def _together(state: State) -> StoredPart:
    """Write all rows that are there as one part."""
    with PartWriter(state.folder, len(state), state.manifest) as writer:
        start, pictures = 0, list[bytes | None]()
        for part in state.parts:
            rows = np.flatnonzero(state.alive[start : start + part.rows])
            for first in range(0, len(rows), _ROWS):
                some = rows[first : first + _ROWS]
                writer.append(part.vectors[some], part.contents[some])
            pictures += part.pictures(rows) or [None] * len(rows)
            start += part.rows
        drawn = pictures if any(picture is not None for picture in pictures) else None
        return writer.finish(state.items.filter(pyarrow.array(state.alive)), drawn)


def remove_unused(folder: Path, manifest: Manifest, but: Path | None = None) -> None:
    """Remove what lies in a catalogue's folder and is not of the state; the caller holds the lock."""
    used = {part.name for part in manifest.stored}
    with suppress(OSError):  # it is in nobody's way
        for path in (folder / PARTS).iterdir():
            if path.name not in used and path != but:
                shutil.rmtree(path, ignore_errors=True)
        for path in folder.glob(f"{MANIFEST}.*{UNFINISHED}"):
            path.unlink(missing_ok=True)
