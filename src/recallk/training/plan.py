"""From a configuration to a run that is known to be able to start."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recallk.data.benchmark import Problem, TestSet
from recallk.data.catalogue import BENCHMARKS
from recallk.data.check import other_counts
from recallk.data.record import Record
from recallk.data.source import (
    Part,
    check_images,
    check_test_positives,
    limit_classes,
    part,
    read_benchmark,
    read_data,
    split_classes,
)
from recallk.evaluation.protocols import Search
from recallk.training.config import TrainConfig
from recallk.training.loss_catalogue import check_batch
from recallk.training.recipes import differences
from recallk.training.sampler import LeftOut, Sampler, make_sampler

FEWEST_TO_VALIDATE = 10
"""Training classes of two images or more: where there are fewer, those set aside would tell nothing, and the last
epoch's model is kept."""


@dataclass(frozen=True)
class TestImages:
    """The images of all test sets, each once, and who searches what among them."""

    __test__ = False

    part: Part
    searches: Sequence[Search]


@dataclass(frozen=True)
class Data:
    """The images of a configuration, read and split."""

    train: Part
    test: TestImages
    split_by_us: bool  # not given with the data
    notes: Sequence[Problem]


@dataclass(frozen=True)
class Plan:
    """A run whose data, batches and settings have been checked; nothing has been written yet."""

    config: TrainConfig
    data: Data
    train: Part
    validation: Part | None  # training classes set aside to choose the best epoch
    sampler: Sampler
    left_out: LeftOut
    batches: tuple[int, ...]  # of each epoch
    opened: int = 0  # images that were opened to see whether they are whole

    @property
    def test(self) -> TestImages:
        """What the run is measured on."""
        return self.data.test

    @property
    def selection(self) -> Literal["validation", "test", "last"]:
        """How the kept epoch is chosen; the last where there are too few classes to validate on."""
        return "last" if self.config.select == "validation" and self.validation is None else self.config.select

    @property
    def how_chosen(self) -> str:
        """Say in words how the kept epoch is chosen."""
        if self.selection == "validation":
            return "the best on training classes set aside; the test classes had no say"
        if self.selection == "last":
            return "the last"
        return "the best on the test classes, as in the paper: an optimistic number"

    @property
    def headline(self) -> list[str]:
        """Names of the metrics that tell how the run went."""
        names = [*(f"recall@{k}" for k in self.config.evaluate_ks), "map@r"]
        return [name if n == 0 else f"{s.name} {name}" for n, s in enumerate(self.test.searches) for name in names]

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return sum(self.batches)

    @property
    def differences(self) -> list[str]:
        """Say in words where the run is not as its recipe, or its data not as published."""
        told = differences(self.config)
        if self.config.batch_size not in (None, self.images_per_step):
            told.append(f"batches of {self.images_per_step:,} images, for only so many classes are left")
        if self.selection == "test" and len(self.test.searches) > 1:
            first = self.test.searches[0].name
            told.append(f"one epoch is kept, the best on the {first} test set, and not one for each test set")
        return told + [note.message for note in self.data.notes if note.kind == "other counts"]

    def steps_until(self, epoch: int) -> int:
        """Return the steps of all epochs up to and with `epoch`, counted from 1."""
        return sum(self.batches[:epoch])

    @property
    def images(self) -> int:
        """Images seen in the whole run."""
        return self.steps * self.images_per_step

    @property
    def images_per_step(self) -> int:
        """Images of a batch."""
        return self.sampler.classes_per_batch * self.sampler.items_per_class


def read(config: TrainConfig) -> Data:
    """Read and split the data. Raises InputError for whatever is wrong with it."""
    notes: Sequence[Problem] = ()
    tests: Sequence[TestSet]
    if config.dataset == "own":
        given, notes = read_data(config.data)
        records = split_classes(given, config.test_fraction, config.split_seed)
        tests, split_by_us = (TestSet("", "test"),), given[0].split is None
    else:
        benchmark = BENCHMARKS[config.dataset]
        records, notes = read_benchmark(config.dataset, config.data)
        notes = [*notes, *other_counts(benchmark, records)]
        tests, split_by_us = benchmark.tests, False
    if config.limit_classes is not None:
        records = limit_classes(records, config.limit_classes)
    test = _test_images(records, tests)
    check_test_positives(test.part)
    return Data(part(records, "train"), test, split_by_us, notes)


def all_of(data: str) -> TestImages:
    """Return own images that all search each other. Raises InputError as `read`."""
    images = part(read_data(data)[0], None)
    check_test_positives(images)
    return TestImages(images, [Search("", np.arange(len(images.labels)))])


def prepare(config: TrainConfig) -> Plan:
    """Read and split the data, open images, lay out the batches. Raises InputError for whatever would not train."""
    data = read(config)
    plan = lay_out(config, data)
    return replace(plan, opened=check_images([*data.train.records, *data.test.part.records]))


def lay_out(config: TrainConfig, data: Data) -> Plan:
    """Lay out the batches for data that has been read. Raises InputError for a batch that it does not allow."""
    train, validation = data.train, None
    if config.select == "validation":
        train, validation = _set_aside(train, config.validation_fraction, config.split_seed)
    fewer = validation is not None or config.limit_classes is not None  # classes than the batch was chosen for
    sampler, left_out = make_sampler(train.labels, config.batch_size, config.items_per_class, config.seed, shrink=fewer)
    check_batch(config.loss, sampler.classes_per_batch * sampler.items_per_class, sampler.items_per_class)
    batches = tuple(sampler.batches(epoch) for epoch in range(1, config.epochs + 1))
    return Plan(config, data, train, validation, sampler, left_out, batches)


def _test_images(records: Sequence[Record], tests: Sequence[TestSet]) -> TestImages:
    """Put the images of the test sets together; one that is in several is embedded once."""
    splits = {split for test in tests for split in (test.queries, test.gallery) if split is not None}
    once = {_key(record): record for record in records if record.split in splits}
    place = {key: number for number, key in enumerate(once)}

    def indexes(split: str) -> NDArray[np.int64]:
        return np.array([place[_key(record)] for record in records if record.split == split], dtype=np.int64)

    searches = [Search(t.name, indexes(t.queries), None if t.gallery is None else indexes(t.gallery)) for t in tests]
    return TestImages(part(list(once.values()), None), searches)


def _key(record: Record) -> object:
    return record.image if isinstance(record.image, Path) else id(record)


def _set_aside(train: Part, fraction: float, seed: int) -> tuple[Part, Part | None]:
    """Set a share of the training classes aside, at least two; classes of one image have nothing to find."""
    able = np.flatnonzero(np.bincount(train.labels) > 1)
    if len(able) < FEWEST_TO_VALIDATE:
        return train, None
    count = min(max(2, round(fraction * len(able))), len(able) - 2)
    aside = np.isin(train.labels, np.random.default_rng(seed).permutation(able)[:count])

    def side(validation: bool) -> Part:
        return part([train.records[i] for i in np.flatnonzero(aside == validation).tolist()], None)

    return side(False), side(True)
