"""The images of a data set, split as `recallk train` splits them, for a loop of one's own."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from recallk.core.errors import InputError
from recallk.core.text import brief
from recallk.core.whole import check_whole
from recallk.data.dataset import read_for_training
from recallk.data.images import read_image
from recallk.data.item import Depicted
from recallk.data.records import LabelledItems
from recallk.data.settings import DataSettings
from recallk.models.transforms import TrainTransform
from recallk.runs.config import make_config

_KEYS = [key for key in DataSettings.model_fields if key not in ("data", "items")]


class LabelledImages(Dataset[tuple[Any, int]]):
    """Images with their classes, for a `DataLoader`: `images[3]` is `(image, label)`.

    The image is PIL's, RGB and upright, or what the transforms of `with_transforms` make of it. What
    `recallk.read_images` gives.

    Attributes:
        labels: `(N,)` int64, into `classes`.
        classes: their names.
        items: what each image is read from: a path, or pixels `(H, W)` or `(H, W, 3)` uint8.

    >>> items = [np.full((40, 40), grey, np.uint8) for grey in (0, 90, 180)]
    >>> images = LabelledImages(items, np.array([0, 0, 1]), ["dark", "light"])
    >>> view, label = images.with_transforms(TrainTransform(32), lambda view: view.float() / 255)[2]
    >>> view.shape, round(float(view.mean()), 2), images.classes[label]
    (torch.Size([3, 32, 32]), 0.71, 'light')

    """

    def __init__(self, items: Sequence[Depicted], labels: NDArray[np.int64], classes: Sequence[str]) -> None:
        self.items, self.labels, self.classes = items, labels, classes
        self._transforms: Sequence[Callable[..., Any]] = ()
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call] # seen by workers that live on

    def with_transforms(self, *transforms: Callable[..., Any]) -> "LabelledImages":
        """Return the same images, each after `transforms` in their order; `TrainTransform` knows its epoch and item.

        Raises InputError for a transform that cannot be called.
        """
        for transform in transforms:
            if not callable(transform):
                raise InputError(f"transforms: {brief(transform)} cannot be called with an image")
        images = LabelledImages(self.items, self.labels, self.classes)
        images._transforms = transforms
        return images

    def set_epoch(self, epoch: int) -> None:
        """Set which epoch's views `TrainTransform` gives, 0 and up, in the workers too. Raises InputError for none."""
        check_whole("epoch", epoch, 0)
        self._epoch.fill_(int(epoch))

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        """Return an image and its label. Raises InputError, with the path, for a file that cannot be read."""
        place = operator.index(number)
        if not -len(self) <= place < len(self):
            raise IndexError(f"image {place} of {len(self)}")
        number = place % len(self)
        image: Any = read_image(self.items[number])
        for transform in self._transforms:
            known = isinstance(transform, TrainTransform)
            image = transform(image, epoch=int(self._epoch), item=number) if known else transform(image)
        return image, int(self.labels[number])


@dataclass(frozen=True)
class SplitImages:
    """The images to train on, to choose the epoch by (None where there are none), and to test on."""

    train: LabelledImages
    validation: LabelledImages | None
    test: LabelledImages
    notes: Sequence[str]
    """What is worth knowing about the data, such as how many files were passed over."""


def read_images(data: str, **settings: Any) -> SplitImages:
    """Return the images of a folder, a table or a benchmark, split as `recallk train` splits them.

    `settings` are the keys of the data, as `recallk train --help` lists them: `test_fraction`, `columns`, `dataset`,
    `select="last"` to set no validation classes aside, and others. Own images are opened, for up to a minute.

    Raises InputError for data that would not train, and for keys that are not of the data.

    >>> glyphs = read_images("glyphs", limit_classes=20)
    >>> image, label = glyphs.train[0]
    >>> image.size, glyphs.train.classes[label] not in glyphs.test.classes
    ((32, 32), True)

    """
    for key in settings:
        if key not in _KEYS:
            raise InputError(f"{brief(key)} is no key of images: one of {', '.join(_KEYS)}")
    read = read_for_training(make_config(settings | {"data": str(data), "items": "images"}))
    return SplitImages(
        _images(read.train),
        None if read.validation is None else _images(read.validation),
        _images(read.test.labelled),
        [str(note) for note in read.notes],
    )


def _images(side: LabelledItems) -> LabelledImages:
    if side.label_sets is not None:
        raise InputError("read_images is for one label an image, and these have several: see recallk.Positives")
    return LabelledImages(side.items, side.labels, side.classes)  # type: ignore[arg-type]
