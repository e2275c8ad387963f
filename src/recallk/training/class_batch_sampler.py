"""The trainer's batches for a loop of one's own."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recallk.core.arrays import ArrayLike
from recallk.core.errors import InputError
from recallk.core.whole import check_whole
from recallk.training.sampler import make_sampler


class ClassBatchSampler:
    """Batches with `items_per_class` items of each of `batch_size / items_per_class` classes, for a `DataLoader`.

    None is drawn twice in an epoch, and every batch is whole. An epoch goes through the shuffled classes and ends when
    no full batch can be made; classes with fewer than `items_per_class` items are never drawn. The batches are a
    function of the seed and the epoch that `set_epoch` sets, the same on every process.

        loader = DataLoader(dataset, batch_sampler=ClassBatchSampler(labels, 400))
        for epoch in range(10):
            loader.batch_sampler.set_epoch(epoch)
            for images, labels in loader: ...

    Args:
        labels: `(N,)` of the items of the data set, in its order: whole numbers or texts.
        batch_size: items of a batch, a multiple of `items_per_class`; by default all classes that are large enough, as
            far as that is at most 4,000 items.
        items_per_class: at least 2: an item alone in its class finds nothing.
        seed: of what is drawn.

    Raises:
        InputError: for labels that are no row of numbers or texts, a seed or a size that does not fit, and classes too
            few or too small for a batch.

    >>> sampler = ClassBatchSampler(["cat"] * 4 + ["dog"] * 5 + ["owl"], batch_size=4, items_per_class=2)
    >>> len(sampler), [sorted(batch) for batch in sampler][0][2] > 3
    (2, True)

    """

    def __init__(
        self,
        labels: ArrayLike,
        batch_size: int | None = None,
        items_per_class: int = 4,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("items_per_class", items_per_class, 2), ("seed", seed, 0)):
            check_whole(name, value, least)
        if batch_size is not None:
            check_whole("batch_size", batch_size, 2 * items_per_class)
            if batch_size % items_per_class:
                raise InputError(f"batch_size={batch_size} is no multiple of items_per_class={items_per_class}")
        given = _row(labels)
        numbers = np.unique(given, return_inverse=True)[1].astype(np.int64)
        self._sampler, _ = make_sampler(numbers, batch_size, items_per_class, seed)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set which epoch is drawn, 0 and up; without, it is the same one again. Raises InputError for no number."""
        check_whole("epoch", epoch, 0)
        self._epoch = int(epoch)

    @property
    def sampler(self) -> "ClassBatchSampler":
        """Itself: Lightning calls the `set_epoch` of the sampler that a batch sampler has, as PyTorch's has one."""
        return self

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch as places in `labels`, classes side by side."""
        for batch in self._sampler.epoch(self._epoch + 1):  # those of the trainer are counted from 1
            yield batch.tolist()

    def __len__(self) -> int:
        """Return how many batches the epoch has."""
        return self._sampler.batches(self._epoch + 1)


def _row(labels: object) -> NDArray[Any]:
    """Return labels as an array of numbers or texts `(N,)`. Raises InputError for anything else."""
    try:
        row = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    except (ValueError, TypeError):  # rows of different lengths
        raise InputError("labels: a row of whole numbers or texts is needed") from None
    if row.dtype == object and all(isinstance(label, str) for label in row.flat):  # a column of pandas
        row = row.astype(str)
    if row.ndim != 1 or not len(row) or row.dtype.kind not in "iubUS":
        raise InputError(f"labels: a row of whole numbers or texts is needed, got {row.dtype} {row.shape}")
    return row
