"""What a search answered: for every query the nearest items, which of them are right, and pictures of both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from recallk.core.errors import InputError
from recallk.data.further import Cells, further_cells
from recallk.data.images import read_image
from recallk.data.item import Record
from recallk.data.records import LabelledItems
from recallk.data.searches import Search
from recallk.data.settings import DataSettings
from recallk.data.texts import Text
from recallk.data.vectors import Vector
from recallk.reporting.pictures import Retrieval, Retrieved
from recallk.retrieval.exact import nearest

DEPTH = 100
SHOWN_RESULTS = 8
LONGEST_TEXT = 300
"""Characters of a text that a page has: more would not be read there."""


@dataclass(frozen=True)
class Answers:
    """The answers to the Q queries that have something to find.

    `queries (Q,)` and the `items (Q, k)` found are numbers of items in `test`, best first, with their `similarities`
    and whether they are `right`; `relevant (Q,)` is how many there are to find.
    """

    test: LabelledItems
    queries: NDArray[np.int64]
    relevant: NDArray[np.int64]
    items: NDArray[np.int64]
    similarities: NDArray[np.float32]
    right: NDArray[np.bool_]

    @property
    def first_right(self) -> NDArray[np.int64]:
        """Where the first right item stands, from 0; k where none is among those found `(Q,)`."""
        first: NDArray[np.int64] = np.where(self.right.any(1), self.right.argmax(1), self.right.shape[1])
        return first

    def of_different_classes(self, order: Iterable[int], count: int) -> list[int]:
        """Return the first `count` of the queries in `order` that have different classes."""
        chosen: dict[int, int] = {}
        for q in order:
            chosen.setdefault(int(self.test.labels[self.queries[q]]), q)
            if len(chosen) == count:
                break
        return list(chosen.values())

    def retrievals(self, chosen: Sequence[int], settings: DataSettings) -> list[Retrieval]:
        """Return some queries with their first results, as pictures, and with what the data says of them besides."""
        shown = np.union1d(self.queries[chosen], self.items[chosen, :SHOWN_RESULTS]).tolist()
        items = [self.test.records[item].item for item in shown]
        cells = dict(zip(shown, further_cells(settings.data, settings.layout, items), strict=True))
        return [self._retrieval(q, cells) for q in chosen]

    def _retrieval(self, q: int, cells: Mapping[int, Cells]) -> Retrieval:
        found = zip(self.items[q, :SHOWN_RESULTS].tolist(), self.similarities[q], self.right[q], strict=False)
        results = []
        for item, similarity, right in found:
            record = self.test.records[item]
            picture, text = _picture(record), _text(record)
            results.append(
                Retrieved(picture, _name(record), record.label, float(similarity), bool(right), text, cells[item])
            )
        first, depth = self.first_right[q], self.right.shape[1]
        note = f"first right one at {first + 1}" if first < depth else f"none right among {depth}"
        query, number = self.test.records[self.queries[q]], int(self.queries[q])
        return Retrieval(_picture(query), _name(query), query.label, results, note, _text(query), cells[number])


def answers(embeddings: torch.Tensor, test: LabelledItems, search: Search) -> Answers:
    """Search with the embeddings `(N, D)` of the items of `test`."""
    gallery = search.queries if search.gallery is None else search.gallery
    positives = test.positives(search.queries, search.gallery)
    able = positives.counts.nonzero()[:, 0]
    rows = positives.query_rows[able]
    itself = bool((rows >= 0).any())
    queries = search.queries[able.numpy()]
    depth = min(DEPTH, len(gallery) - itself)
    found = nearest(embeddings[queries], embeddings[gallery], depth, exclude=rows if itself else None)
    right = positives.are_relevant(able, found.indexes)
    return Answers(
        test,
        queries,
        positives.counts[able].numpy(),
        gallery[found.indexes.numpy()],
        found.similarities.numpy(),
        right.numpy(),
    )


def _picture(record: Record) -> Image.Image | None:
    """Return a record's image; None where it cannot be read by now, which must not cost the whole page."""
    try:
        item = record.item.shown if isinstance(record.item, Vector) else record.item
        return None if item is None or isinstance(item, str) else read_image(item)
    except InputError:
        return None


def _text(record: Record) -> str:
    """Return what is shown of a record that is no image: its text; of a vector without one, what it is called."""
    item = record.item
    if isinstance(item, Vector) and (item.shown is None or isinstance(item.shown, str)):
        return _shortened(item.shown or item.name)
    return _shortened(item) if isinstance(item, str) else ""


def _shortened(text: str) -> str:
    """Return a text in one line; of a long one the beginning."""
    line = " ".join(text[: 2 * LONGEST_TEXT].split())
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]}…"


def _name(record: Record) -> str:
    if isinstance(record.item, Vector):
        return record.item.name if record.item.table.ids is not None else record.label
    if isinstance(record.item, Text):
        return record.item.id or record.label
    return record.item.name if isinstance(record.item, Path) else record.label
