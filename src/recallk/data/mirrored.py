"""Whether images that are mirrored are still of their class: letters are not, nor are two sides of a street."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from recallk.data.images import read_image
from recallk.data.item import Depicted
from recallk.data.label_sets import LabelSets
from recallk.data.records import LabelledItems

SAMPLE, OF_A_CLASS = 1_000, 4
"""How many images are looked at, and how many of a class at most."""
SIDE = 16  # pixels; what is left of an image at this size is enough to tell a letter from its mirror image
SHARE = 0.5
"""Mirrored images that find their class less than half as often as upright ones do are taken for those of another.
Measured (benchmarks/NOTES.md): 0.35 on characters, where mirroring costs much; 0.57 on icons, where it costs little."""
KNOWN = 0.1
"""Where fewer of the upright ones find it, such small pictures do not tell, and images are taken to be photographs."""


@dataclass(frozen=True)
class Mirrored:
    """How many of the images looked at have an image of their class as the nearest other, upright and mirrored."""

    images: int
    upright: int
    mirrored: int

    @property
    def is_another(self) -> bool:
        """Whether a mirrored image is of another class: far fewer find theirs, and by more than chance."""
        fewer, known = self.mirrored < SHARE * self.upright, self.upright >= KNOWN * self.images
        return known and fewer and self.upright - self.mirrored > 3 * (self.upright + self.mirrored) ** 0.5


def look_at_mirrored(train: LabelledItems) -> Mirrored:
    """Look at some images of some classes, always the same ones, as tiny grey pictures.

    Reads up to 1,000 images. Raises InputError, with the path, for one that cannot be read.
    """
    several = train.label_sets is not None
    classes = LabelSets.of(train.classes, train.labels).drawn(0, 0) if several else train.labels
    chosen = _sample(classes)
    if not len(chosen):
        return Mirrored(0, 0, 0)
    labels, items = classes[chosen], train.items
    pictures = np.stack([_picture(items[number]) for number in chosen])
    upright, mirrored = (_directions(views) for views in (pictures, pictures[:, :, ::-1]))

    def found(queries: NDArray[np.float32]) -> int:
        similarities = queries @ upright.T
        np.fill_diagonal(similarities, -np.inf)  # the image itself, whose mirror image may be itself
        return int((labels[similarities.argmax(1)] == labels).sum())

    return Mirrored(len(chosen), found(upright), found(mirrored))


def _sample(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of the images, class by class, of classes that have two or more."""
    random = np.random.default_rng(0)
    shuffled = random.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    starts, taken = np.cumsum(counts) - counts, np.minimum(counts, OF_A_CLASS)
    order = random.permutation(np.flatnonzero(counts > 1))
    last = int(np.searchsorted(np.cumsum(taken[order]), SAMPLE)) + 1
    parts = [by_class[starts[label] : starts[label] + taken[label]] for label in order[:last]]
    return np.concatenate([np.empty(0, np.int64), *parts])[:SAMPLE]


def _picture(image: Depicted) -> NDArray[np.float32]:
    """Return an image as `(SIDE, SIDE)` grey values."""
    grey = ImageOps.fit(read_image(image).convert("L"), (SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(grey, np.float32)


def _directions(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return pictures `(N, SIDE, SIDE)` as rows `(N, SIDE * SIDE)` of unit length around their mean brightness."""
    rows = pictures.reshape(len(pictures), -1)
    rows = rows - rows.mean(1, keepdims=True)
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    directions: NDArray[np.float32] = rows / np.maximum(lengths, 1e-6)
    return directions
