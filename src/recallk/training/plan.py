"""From a configuration to a run that is known to be able to start."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.data.benchmarks.benchmark import Problem, TestSet
from recallk.data.benchmarks.catalogue import BENCHMARKS
from recallk.data.benchmarks.check import other_counts
from recallk.data.item import Record
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
from recallk.losses.registry import check_batch
from recallk.runs.config import TrainConfig
from recallk.runs.folder import RunFolder
from recallk.runs.recipes import differences
from recallk.runs.split import VALIDATION, Split, find_records, root_of, split_of
from recallk.training.sampler import LeftOut, Lengths, Sampler, make_sampler
from recallk.training.selection import Aside, set_aside


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
    records: Sequence[Record] = ()  # of both, each with its split; an image of several test sets has one for each
    recorded: Split | None = None  # that of the run, where it has begun before
    gone: int = 0  # images of the recorded split that are no longer there
    first_gone: str = ""  # one of them


@dataclass(frozen=True)
class Plan:
    """A run whose data, batches and settings have been checked; nothing has been written yet."""

    config: TrainConfig
    data: Data
    train: Part
    validation: Part | None  # training classes set aside to choose the best epoch
    sampler: Sampler
    left_out: LeftOut
    lengths: Lengths  # of the epochs, in batches
    why_last: str = ""  # why no training classes were set aside, where they should have been
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
            return "the best by MAP@R on training classes set aside; the test classes had no say"
        if self.selection == "last":
            return f"the last: {self.why_last}" if self.why_last else "the last"
        return "the best on the test classes, as in the paper: an optimistic number"

    @property
    def headline(self) -> list[str]:
        """Names of the metrics that tell how the run went."""
        names = [*(f"recall@{k}" for k in self.config.evaluate_ks), "map@r"]
        return [name if n == 0 else f"{s.name} {name}" for n, s in enumerate(self.test.searches) for name in names]

    @property
    def steps(self) -> int:
        """Steps of the whole run; expected from the first epochs, where there are very many."""
        return self.lengths.total

    @property
    def batches(self) -> tuple[int, int]:
        """Return the fewest and the most batches of an epoch."""
        return self.lengths.fewest_and_most

    @property
    def cut(self) -> str | None:
        """Say in words where the batches are smaller than asked for; None where they are not."""
        asked, classes = self.config.batch_size, self.sampler.classes_per_batch
        if asked in (None, self.images_per_step):
            return None
        return (
            f"batches of {self.images_per_step:,} images, and not of the {asked:,} asked for: "
            f"only {classes:,} training classes have {self.config.items_per_class} images"
        )

    @property
    def split(self) -> Split:
        """The split as the run's folder keeps it."""
        if self.data.recorded is not None:
            return self.data.recorded
        aside = frozenset(self.validation.classes) if self.validation is not None else frozenset()
        splits: dict[str, list[Record]] = {}
        for record in self.data.records:
            own = VALIDATION if record.split == "train" and record.label in aside else str(record.split)
            splits.setdefault(own, []).append(record)
        return split_of(splits, root_of(self.config.data))

    @property
    def differences(self) -> list[str]:
        """Say in words where the run is not as its recipe, or its data not as published."""
        told = differences(self.config)
        if self.cut is not None:
            told.append(self.cut)
        if self.selection == "test" and len(self.test.searches) > 1:
            first = self.test.searches[0].name
            told.append(f"one epoch is kept, the best on the {first} test set, and not one for each test set")
        return told + [note.message for note in self.data.notes if note.kind == "other counts"]

    def steps_until(self, epoch: int) -> int:
        """Return the steps of all epochs up to and with `epoch`, counted from 1."""
        return self.lengths.until(epoch)

    @property
    def images(self) -> int:
        """Images seen in the whole run."""
        return self.steps * self.images_per_step

    @property
    def images_per_step(self) -> int:
        """Images of a batch."""
        return self.sampler.classes_per_batch * self.sampler.items_per_class


def read(config: TrainConfig, recorded: Split | None = None) -> Data:
    """Read and split the data; with a `recorded` split (`RunFolder.read_split`), as the run had it.

    What is new since then is left out, and what is gone is missing: the notes say so.
    Raises InputError for whatever is wrong with the data.
    """
    notes: Sequence[Problem]
    tests: Sequence[TestSet]
    own = config.dataset == "own"
    if own:
        (records, notes), tests = read_data(config.data), (TestSet("", "test"),)
        split_by_us = records[0].split is None
        if recorded is None:
            records = split_classes(records, config.test_fraction, config.split_seed)
    else:
        benchmark = BENCHMARKS[config.dataset]
        records, notes = read_benchmark(config.dataset, config.data)
        notes = [*notes, *other_counts(benchmark, records)]
        tests, split_by_us = benchmark.tests, False
    gone, first_gone = 0, ""
    if recorded is not None:
        all_classes = config.limit_classes is None
        found = find_records(recorded, records, root_of(config.data), by_split=not own, of_all=all_classes)
        records, gone, first_gone = list(found.records), found.gone.total(), found.first_gone
        notes = [*notes, *(Problem("other counts", config.data, told) for told in found.told)]
        _check_sides(config, records, tests)
    elif config.limit_classes is not None:
        records = limit_classes(records, config.limit_classes)
    test = _test_images(records, tests)
    check_test_positives(test.part)
    return Data(part(records, "train"), test, split_by_us, notes, records, recorded, gone, first_gone)


def read_run(folder: RunFolder) -> Data:
    """Read the data of a run that has begun, split as it was then; a note says where the run kept no split.

    `.test` are the images that it was kept away from. Raises InputError as `read`.
    """
    recorded = folder.read_split()
    data = read(folder.read_config(), recorded)
    if recorded is not None or not data.split_by_us:
        return data
    told = "of an earlier version, which kept no split: split anew, so it may have been trained on classes tested here"
    return replace(data, notes=[*data.notes, Problem("other counts", str(folder.path), told)])


def all_of(data: str) -> tuple[TestImages, Sequence[Problem]]:
    """Return own images that all search each other, and what is worth knowing of them. Raises InputError as `read`."""
    records, notes = read_data(data)
    images = part(records, None)
    check_test_positives(images)
    return TestImages(images, [Search("", np.arange(len(images.labels)))]), notes


def prepare(config: TrainConfig, recorded: Split | None = None) -> Plan:
    """Read and split the data, open images, lay out the batches; with a `recorded` split, as the run began.

    Raises InputError for whatever would not train, and where images of the recorded split are gone.
    """
    data = read(config, recorded)
    if data.gone:
        raise InputError(
            f"{config.data}: {data.gone:,} of the run's images cannot be found ({data.first_gone or 'drawn in memory'} "
            "among them), so it cannot be repeated: put them back, or start a new run"
        )
    plan = lay_out(config, data)
    return replace(plan, opened=check_images([*data.train.records, *data.test.part.records]))


def lay_out(config: TrainConfig, data: Data) -> Plan:
    """Lay out the batches for data that has been read. Raises InputError for a batch that it does not allow."""
    aside = Aside(data.train, None)
    if config.select == "validation":
        chosen = None if data.recorded is None else data.recorded.validation
        aside = set_aside(data.train, config.validation_fraction, config.split_seed, chosen)
    fewer = aside.validation is not None or config.limit_classes is not None  # classes than the batch was chosen for
    labels = aside.train.labels
    sampler, left_out = make_sampler(labels, config.batch_size, config.items_per_class, config.seed, shrink=fewer)
    check_batch(config.loss, sampler.classes_per_batch * sampler.items_per_class, sampler.items_per_class)
    lengths = Lengths(sampler, config.epochs)
    return Plan(config, data, aside.train, aside.validation, sampler, left_out, lengths, aside.why_not)


def _check_sides(config: TrainConfig, records: Sequence[Record], tests: Sequence[TestSet]) -> None:
    """Raise InputError where a split that was recorded has nothing left on one side."""
    there = {record.split for record in records}
    for side in ("train", *(test.queries for test in tests), *(test.gallery for test in tests)):
        if side is not None and side not in there:
            raise InputError(f"{config.data}: none of the run's {side} images is there: give the data that it had")


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
