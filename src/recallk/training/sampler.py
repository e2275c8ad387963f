"""Which items make a batch: so many classes, so many items of each, none twice in an epoch; or all of them."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.data.label_sets import LabelSets

LARGEST_DEFAULT = 4000  # the paper's batch
LOOKED_AT = 10
"""Epochs whose labels are drawn beforehand, to see how large a batch can be."""


@dataclass(frozen=True)
class Sampler:
    """Batches of `classes_per_batch` different classes with `items_per_class` items each.

    Of items with several labels (`sets`) each has one of them in an epoch, drawn anew, which is its class there.

    Every epoch is a function of the seed and its number, on every process the same. It goes through the shuffled
    classes, taking items not yet used, and ends when no full batch can be made. Classes with fewer than
    `items_per_class` items are never drawn. Source: section 4 of the paper and the authors' code.
    """

    labels: NDArray[np.int64]
    classes_per_batch: int
    items_per_class: int
    seed: int
    sets: LabelSets | None = None

    def epoch(self, number: int) -> Iterator[NDArray[np.int64]]:
        """Yield the batches `(B,)` of epoch `number` as item numbers, classes side by side."""
        items, starts, groups = self._shuffled(number)
        n = self.items_per_class
        for chosen in self._classes(groups):
            yield np.concatenate([items[starts[i] + n * g : starts[i] + n * (g + 1)] for i, g in chosen])

    def batches(self, number: int) -> int:
        """Return how many batches epoch `number` has; with classes of unequal size, epochs differ a little."""
        random = np.random.default_rng([self.seed, number])
        random.permutation(len(self.labels))  # which items are drawn; here it matters only how many
        groups = np.bincount(self._labels(number)) // self.items_per_class
        groups = groups[random.permutation(np.flatnonzero(groups))]
        # the queue of `_classes` from its beginning to its end: all classes, then those with a second group, ...
        turns = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
        queue = np.argsort(turns, kind="stable")
        returns = np.cumsum((turns + 1 < np.repeat(groups, groups))[queue])  # to the end of the queue, until then
        taken = np.arange(0, len(queue) + 1, self.classes_per_batch)
        waiting = len(groups) + np.concatenate([[0], returns])[taken] - taken
        return int(np.argmax(waiting < self.classes_per_batch))

    @property
    def items_per_batch(self) -> int:
        """How many items a batch has."""
        return self.classes_per_batch * self.items_per_class

    @property
    def contents(self) -> str:
        """Say in words what is in a batch."""
        named = "classes" if self.sets is None else "labels"
        return f"{self.items_per_class} of each of {self.classes_per_batch:,} {named}"

    @property
    def regular(self) -> bool:
        """Whether every epoch has as many batches: all classes that are drawn give as many groups of items."""
        groups = np.bincount(self.labels) // self.items_per_class
        return self.sets is None and len(np.unique(groups[groups > 0])) == 1

    def _labels(self, number: int) -> NDArray[np.int64]:
        return self.labels if self.sets is None else self.sets.drawn(self.seed, number)

    def _shuffled(self, number: int) -> tuple[NDArray[np.int64], list[int], list[int]]:
        """Return the items class by class, where each class starts, and how many groups of items it gives."""
        random = np.random.default_rng([self.seed, number])
        shuffled, labels = random.permutation(len(self.labels)), self._labels(number)
        items = shuffled[np.argsort(labels[shuffled], kind="stable")]
        counts = np.bincount(labels)
        starts, groups = np.cumsum(counts) - counts, counts // self.items_per_class
        order = random.permutation(np.flatnonzero(groups))
        return items, starts[order].tolist(), groups[order].tolist()

    def _classes(self, groups: list[int]) -> Iterator[list[tuple[int, int]]]:
        """Yield for each batch its classes, by their place in the epoch's order, each with the group that it gives."""
        waiting = deque((i, 0) for i in range(len(groups)))
        while len(waiting) >= self.classes_per_batch:
            chosen = [waiting.popleft() for _ in range(self.classes_per_batch)]
            yield chosen
            waiting.extend((i, g + 1) for i, g in chosen if g + 1 < groups[i])


@dataclass(frozen=True)
class WholeSet:
    """One batch an epoch: all items, classes side by side; those of classes with one item are found by nobody.

    Of items with `several` labels each has one of them for its class here.
    """

    labels: NDArray[np.int64]
    several: bool = False

    def epoch(self, number: int) -> Iterator[NDArray[np.int64]]:  # noqa: ARG002
        """Yield the batch `(N,)`, the same in every epoch."""
        yield np.argsort(self.labels, kind="stable")

    def batches(self, number: int) -> int:  # noqa: ARG002
        """Return 1."""
        return 1

    @property
    def items_per_batch(self) -> int:
        """How many items there are."""
        return len(self.labels)

    @property
    def items_per_class(self) -> int:
        """How many an item finds in its class, and itself, on average: what the memory of a loss grows with."""
        counts = np.bincount(self.labels)
        return max(2, round(float(np.square(counts).sum() / counts.sum())))

    @property
    def equal_classes(self) -> bool:
        """Whether all classes have as many items."""
        return len(np.unique(np.bincount(self.labels))) == 1

    @property
    def contents(self) -> str:
        """Say in words what is in a batch."""
        return "all items" if self.several else f"all of {self.labels.max() + 1:,} classes"

    @property
    def regular(self) -> bool:
        """Every epoch has as many batches."""
        return True


COUNTED_ITEMS, COUNTED_EPOCHS, ALWAYS_COUNTED = 30_000_000, 10_000, 100
"""Before a run starts, batches are counted one by one for its first epochs: until so many items have been shuffled,
and for so many epochs at most; the length of all the others is taken from the mean. That takes a few seconds."""


class Lengths:
    """How many batches the epochs of a run have, counted when asked for, and no further than needed."""

    def __init__(self, sampler: Sampler | WholeSet, epochs: int) -> None:
        self._sampler, self._epochs = sampler, epochs
        self._regular = sampler.regular
        self._until = [0]  # batches of all epochs up to and with each

    def until(self, epoch: int) -> int:
        """Return the batches of all epochs up to and with this one."""
        if self._regular:
            return epoch * self._of_first
        while len(self._until) <= epoch:
            self._until.append(self._until[-1] + self._sampler.batches(len(self._until)))
        return self._until[epoch]

    @cached_property
    def total(self) -> int:
        """Batches of the whole run; in a very long one, as many as the epochs that were counted let expect."""
        return self.until(self._epochs) if self._regular else round(self.until(self._counted) * self._share)

    @cached_property
    def fewest_and_most(self) -> tuple[int, int]:
        """The batches of the shortest epoch and of the longest, of those that were counted."""
        counts = np.diff([self.until(epoch) for epoch in range(self._counted + 1)])
        return int(counts.min()), int(counts.max())

    @cached_property
    def _of_first(self) -> int:
        return self._sampler.batches(1)

    @property
    def _counted(self) -> int:
        if self._regular:
            return 1
        quick = min(COUNTED_EPOCHS, COUNTED_ITEMS // len(self._sampler.labels))
        return min(self._epochs, max(ALWAYS_COUNTED, quick))

    @property
    def _share(self) -> float:
        return self._epochs / self._counted


@dataclass(frozen=True)
class LeftOut:
    """What the sampler can never draw."""

    classes: int
    items: int


def whole_set(labels: NDArray[np.int64], *, several: bool = False) -> WholeSet:
    """Return the batch of all items. Raises InputError where no two of them are of one class, or all are."""
    counts = np.bincount(labels)
    if len(counts) < 2 or counts.max() < 2:
        raise InputError(
            f"{len(counts)} training classes of at most {counts.max()} items: at least two classes are needed, and two "
            f"items of one of them"
        )
    return WholeSet(labels, several)


def make_sampler(
    labels: NDArray[np.int64],
    batch_size: int | None,
    items_per_class: int,
    seed: int,
    shrink: bool = False,
    sets: LabelSets | None = None,
) -> tuple[Sampler, LeftOut]:
    """Return the sampler for class numbers `(N,)`, and what it leaves out for being too small.

    Of items with several labels these are `sets`, and `labels` those that are drawn for an epoch.

    Without a batch size: all classes that are large enough, as far as that is at most 4,000 items. `shrink` makes a
    batch smaller that the classes are too few for. Raises InputError where the classes are too small or too few for
    the batch.
    """
    _, counts = np.unique(labels, return_counts=True)
    drawable = int((counts >= items_per_class).sum())
    small = counts[counts < items_per_class]
    if sets is not None:  # the labels that are drawn differ: what some epochs allow, as a rule all do
        others = (np.bincount(sets.drawn(seed, epoch)) for epoch in range(1, LOOKED_AT + 1))
        drawable, small = min(int((of_epoch >= items_per_class).sum()) for of_epoch in others), small[:0]
    if drawable < 2:
        raise InputError(
            f"{drawable} of {len(counts)} training classes have {items_per_class} items or more; a batch needs at "
            f"least 2 such classes: add classes or items, lower --items-per-class, or keep fewer classes for testing "
            f"(--test-fraction)"
        )
    if batch_size is None:
        batch_size = min(drawable, LARGEST_DEFAULT // items_per_class) * items_per_class
    if shrink:
        batch_size = min(batch_size, drawable * items_per_class)
    classes = batch_size // items_per_class
    if not 2 <= classes <= drawable:
        raise InputError(
            f"batch_size={batch_size} is {classes} classes of {items_per_class} items, and {drawable} training classes "
            f"have as many: choose {2 * items_per_class} to {drawable * items_per_class}, or lower items_per_class"
        )
    return Sampler(labels, classes, items_per_class, seed, sets), LeftOut(len(small), int(small.sum()))
