"""A catalogue is sent elsewhere: to a collection of Qdrant, or into a file that other programs read."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch

from recallk.catalogue.files import FILES, write_table
from recallk.catalogue.found import plain
from recallk.catalogue.qdrant import FORM, SCHEME, Collection, Meaning, Point
from recallk.catalogue.source import ID
from recallk.catalogue.state import State, open_state
from recallk.catalogue.where import numbers, texts
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.progress import Advance, counting, silent
from recallk.core.text import brief, shown
from recallk.retrieval.exact import blocks
from recallk.retrieval.scan import nearest_rows

CHECKED, K = 100, 10
"""So many items are searched for after a push, and so many results compared."""
LEAST = 0.99
"""Of these results a place that searches exactly has to have; float32 may exchange those that are nearly equal."""
_AT_ONCE, _BYTES = 256, 8_000_000  # items and bytes that are sent at a time: servers take 32 MB
_DIGITS = 24  # of a number, as it is written
_NEAR = 1e-5


@dataclass(frozen=True)
class Pushed:
    """What was sent, replaced ones among it, and removed; how many are there now, and what a search there finds.

    `recall` is the share of the `k` nearest that the place finds where it searches exactly, `usual_recall` where it
    searches as it does by itself, both by `queries` items; of a file, which is compared number by number, there are
    none.
    """

    items: int
    sent: int
    removed: int
    k: int = 0
    queries: int = 0
    recall: float | None = None
    usual_recall: float | None = None


def push(folder: Path, to: str, advance: Advance = silent) -> Pushed:
    """Send the items of a catalogue to `to`: `qdrant://HOST/COLLECTION`, `parquet:FILE` or `lance:FOLDER`.

    A collection that was filled from a catalogue of the same model gets what it lacks or has otherwise, and loses what
    is not in the catalogue: a push that was interrupted goes on. In the end searches there are compared with exact
    search here. A file is written whole or not at all, and read again. Raises InputError, one line.
    """
    state, scheme = open_state(folder), to.partition(":")[0]
    if scheme in FILES:
        write_table(scheme, user_path(to.partition(":")[2]), _columns(state), state.vectors())
        return Pushed(len(state), len(state), 0)
    if not to.startswith(SCHEME):
        raise InputError(f"--to {brief(to)}: one of {FORM}, {', '.join(f'{name}:PATH' for name in FILES)}")
    collection = Collection(to, fill=True)
    try:
        return _push(state, collection, advance)
    finally:
        collection.close()


def _push(state: State, collection: Collection, advance: Advance) -> Pushed:
    items, rows = _columns(state), np.flatnonzero(state.alive)
    manifest = state.manifest
    meaning = Meaning(items=manifest.items, embedder=manifest.embedder, columns=tuple(items.column_names))
    if (there := collection.meaning()) is None:
        collection.create(manifest.dimensions, meaning)
    elif there.embedder != meaning.embedder:
        raise InputError(f"{collection.url}: filled by another model; choose another collection")
    elif there != meaning:
        collection.rename(meaning)
    marks, payloads = collection.marks(), _payloads(items)
    told, sent = counting(advance, "sending", len(rows)), 0
    ids = items[ID].to_pylist()
    new, size = list[Point](), 0
    for number, row in enumerate(rows.tolist()):
        vector, payload = state.vector(row).astype(np.float32), payloads(number)
        written = json.dumps(payload, sort_keys=True)
        mark = hashlib.sha256(vector.tobytes() + written.encode()).hexdigest()[:32]
        if marks.get(ids[number]) != mark:
            new.append(Point(ids[number], vector.tolist(), payload, mark))
            size += len(written) + _DIGITS * len(vector)
        if len(new) >= _AT_ONCE or size >= _BYTES or (new and number == len(rows) - 1):
            collection.put(new)
            sent, new, size = sent + len(new), [], 0
        told(1)
    gone = sorted(marks.keys() - set(ids))
    for some in blocks(len(gone), _AT_ONCE):
        collection.remove(gone[some])
    if (count := collection.count()) != len(state):
        raise InputError(f"{collection.url}: {count:,} items, and {len(state):,} are in {state.folder}; push again")
    return _checked(state, collection, Pushed(len(state), sent, len(gone)))


def _checked(state: State, collection: Collection, pushed: Pushed) -> Pushed:
    """Compare searches there with exact search here. Raises InputError where it does not find the same."""
    rows = np.flatnonzero(state.alive)
    if not len(rows):
        return pushed
    some = np.sort(np.random.default_rng(0).choice(rows, min(CHECKED, len(rows)), replace=False))
    queries = torch.from_numpy(np.stack([state.vector(row) for row in some.tolist()]).astype(np.float32))
    exact = nearest_rows(queries, state.searched(), K, allowed=state.alive)
    ids, recalls = state.items[ID], list[float]()
    for exactly in (True, False):
        found, shares = collection.nearest(queries.tolist(), K, exact=exactly), list[float]()
        for there, here, similarities in zip(found, exact.indexes, exact.similarities, strict=True):
            names = {ids[row].as_py() for row in here.tolist()}
            least = float(similarities[-1]) - _NEAR  # equal ones may come in any order
            right = sum(each.id in names or each.similarity >= least for each in there)
            shares.append(right / len(names))
        recalls.append(float(np.mean(shares)))
    if recalls[0] < LEAST:
        told = f"finds {100 * recalls[0]:.1f} % of what exact search finds"
        raise InputError(f"{collection.url}: {told}; push again, and if it stays so, into another collection")
    return Pushed(pushed.items, pushed.sent, pushed.removed, K, len(some), recalls[0], recalls[1])


def _columns(state: State) -> pyarrow.Table:
    """Return what is known of the items that are there; images are named by whole paths, which hold elsewhere too."""
    items = state.items.filter(pyarrow.array(state.alive))
    if "image" in items.column_names:
        base = state.folder.resolve()
        paths = [None if name is None else str(base / name) for name in items["image"].to_pylist()]
        place = items.column_names.index("image")
        items = items.set_column(place, "image", pyarrow.array(paths, pyarrow.string()))
    for name in items.column_names:
        if '"' in name or "\\" in name:
            raise InputError(
                f"{state.folder}: a quotation mark or a backslash in the name of column {shown(name)}; rename it"
            )
    return items


def _payloads(items: pyarrow.Table) -> Callable[[int], dict[str, dict[str, Any]]]:
    """Return what is kept of an item beside its vector: its cells, and each as conditions compare it."""
    cells = {
        "known": {name: [plain(cell) for cell in items[name].to_pylist()] for name in items.column_names},
        "text": {name: texts(items[name]).to_pylist() for name in items.column_names},
        "number": {name: numbers(items[name]).to_pylist() for name in items.column_names},
    }

    def of(number: int) -> dict[str, dict[str, Any]]:
        return {
            kind: {name: cell for name, column in columns.items() if (cell := column[number]) is not None}
            for kind, columns in cells.items()
        }

    return of
