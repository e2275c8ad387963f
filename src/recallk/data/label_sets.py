"""Several labels of an item: written as one text, read as a set, and one of them drawn for each epoch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEPARATOR = "|"
"""What stands between the labels of an item."""


def label_set(text: str) -> frozenset[str]:
    """Return the labels that a text names: two or more between separators, or itself, as it is written.

    >>> sorted(label_set("red|round")), sorted(label_set("red"))
    (['red', 'round'], ['red'])

    """
    parts = [part for part in map(str.strip, text.split(SEPARATOR)) if part] if SEPARATOR in text else []
    return frozenset(parts if len(parts) > 1 else (text,) if text else ())


def has_several(texts: Iterable[str]) -> bool:
    """Whether some texts are more than one label, or none."""
    return any(label_set(text) != {text} for text in texts)


def labels_in(texts: Iterable[str]) -> set[str]:
    """Return all labels that texts name."""
    return {label for text in texts for label in label_set(text)}


@dataclass(frozen=True)
class LabelSets:
    """The labels of each of N items, as numbers: those of item i are `labels[offsets[i]:offsets[i + 1]]`."""

    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str], numbers: NDArray[np.int64]) -> "LabelSets":
        """Return those of items that have the labels of the text `numbers (N,)`."""
        number_of: dict[str, int] = {}
        sets = [
            sorted(number_of.setdefault(label, len(number_of)) for label in sorted(label_set(text))) for text in texts
        ]
        chosen = [sets[number] for number in numbers.tolist()]
        offsets = np.cumsum([0, *map(len, chosen)], dtype=np.int64)
        return cls(offsets, np.array([label for own in chosen for label in own], np.int64))

    def drawn(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return one label for each item `(N,)`, drawn anew for each epoch; a number of its own for one without any."""
        random = np.random.default_rng([seed, epoch, 1])
        counts = np.diff(self.offsets)
        places = self.offsets[:-1] + (random.random(len(counts)) * counts).astype(np.int64)
        alone = np.arange(len(counts)) + int(self.labels.max(initial=-1)) + 1
        if not len(self.labels):
            return alone
        labels: NDArray[np.int64] = np.where(counts > 0, self.labels[np.minimum(places, len(self.labels) - 1)], alone)
        return labels
