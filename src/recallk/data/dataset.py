"""From the settings of the data to what is trained on, chosen by and tested on: all of it read here, once."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recallk.core.collection import no_cycle_search
from recallk.core.errors import InputError
from recallk.core.progress import Advance, silent
from recallk.data.benchmarks.benchmark import ALL_AGAINST_ALL, TestSet
from recallk.data.benchmarks.catalogue import BENCHMARKS
from recallk.data.benchmarks.check import other_counts
from recallk.data.findings import Finding
from recallk.data.item import Files, Record
from recallk.data.layout import USUAL, Layout
from recallk.data.mirrored import Mirrored, look_at_mirrored
from recallk.data.opening import MINUTE, check_files
from recallk.data.records import (
    VALIDATION,
    LabelledItems,
    files_of,
    labelled,
    not_of_split,
    of_split,
    splits_of,
    with_roles,
    without_splits,
)
from recallk.data.searches import Search
from recallk.data.settings import CHOSEN_BY, DataSettings
from recallk.data.sides import (
    Aside,
    limit_classes,
    require_all_or_no_roles,
    require_positives,
    set_aside,
    split_classes,
    unseen_in_training,
)
from recallk.data.source import are_looked_for, read_benchmark, read_own, root_of
from recallk.data.split import FoundRecords, Split, find_records, split_of
from recallk.data.tested import TestItems
from recallk.data.unreadable import first_of, unreadable

log = logging.getLogger("recallk")


@dataclass(frozen=True)
class Dataset:
    """A data set, read, split and looked into; `split` is what a run's folder writes down of it."""

    train: LabelledItems
    validation: LabelledItems | None  # to choose the best epoch by: given with the data, or training classes set aside
    why_no_validation: str  # where there should have been some
    test: TestItems
    split: Split
    split_by_us: bool  # not given with the data
    notes: Sequence[Finding]
    files: int  # of the items that are trained on, set aside or tested on
    opened: int  # of these, to see whether they are whole
    validation_given: bool = False

    @cached_property
    def mirrored(self) -> Mirrored:
        """What becomes of the training images where they are mirrored; raises as `look_at_mirrored`."""
        return look_at_mirrored(self.train)


@dataclass(frozen=True)
class _Read:
    """The records of a source, each with its split; an item of several test sets has one for each."""

    records: Sequence[Record]
    tests: Sequence[TestSet]
    split_by_us: bool
    validation_given: bool
    notes: list[Finding]
    found: FoundRecords | None  # what is there of a recorded split


@no_cycle_search()
def read_for_training(settings: DataSettings, recorded: Split | None = None, advance: Advance = silent) -> Dataset:
    """Read and split the data, and open files; with the `recorded` split of a run that has begun, as it was then.

    What is new since then is left out, and a note says so. With `on_bad_image="skip"` a new run has all files decoded,
    and leaves out those that cannot be read; the split names them. Raises InputError for whatever would not train, and
    where items of the recorded split are gone.
    """
    started = time.perf_counter()
    read = _read(settings, recorded)
    took = time.perf_counter() - started
    log.debug("the lists of %s name %s items, read in %.2f s", settings.data, f"{len(read.records):,}", took)
    _require_sides(settings.data, read, ["train", *_sides(read.tests)])
    if read.found is not None and (gone := read.found.gone.total()):
        named = f" ({read.found.first_gone} among them)" if read.found.first_gone else ""
        raise InputError(
            f"{settings.data}: {gone:,} of the run's items cannot be found{named}, so it cannot be repeated: put them "
            f"back, or start a new run"
        )
    skipped: dict[str, str] = {}
    if recorded is None and settings.on_bad_image == "skip":
        read, skipped = _readable(settings, read, advance)
    aside, test = _aside(settings, read, recorded), _test_items(read.records, read.tests)
    root = root_of(settings.data, settings.layout)
    split = recorded if recorded is not None else _split(settings, read.records, aside, root, skipped)
    sides = [side for side in (aside.train, aside.validation, test.labelled) if side is not None]
    files = Files([name for side in sides for name in files_of(side.records).names])
    all_opened = recorded is None and settings.on_bad_image == "skip"
    seconds = MINUTE if settings.dataset == "own" and recorded is None else 0
    looked_for = are_looked_for(settings.data)
    opened = len(files) if all_opened else check_files(files, looked_for=looked_for, seconds=seconds, advance=advance)
    items = aside.train, aside.validation, aside.why_not, test, split
    read.notes.extend(test.remarks(settings.data))
    return Dataset(*items, read.split_by_us, read.notes, len(files), opened, read.validation_given)


def _aside(settings: DataSettings, read: _Read, recorded: Split | None) -> Aside:
    """Return what is trained on, and what the epoch is chosen by."""
    train = _labelled(read.records, "train")
    if settings.select not in (None, "validation"):
        return Aside(train, None)
    if (recorded is None or settings.closed_set) and VALIDATION in splits_of(read.records):
        given = _labelled(read.records, VALIDATION)
        require_positives(given, "validation")
        return Aside(train, given)
    if settings.closed_set:
        return Aside(train, None, "of a closed set no classes are set aside, and it has no val")
    before = None if recorded is None else recorded.validation
    fewest = 2 if settings.select == "validation" else CHOSEN_BY
    return set_aside(train, settings.validation_fraction, settings.split_seed, before, fewest)


@no_cycle_search()
def read_for_test(settings: DataSettings, recorded: Split | None = None) -> tuple[TestItems, Sequence[Finding]]:
    """Return the test items, and what is worth knowing; with the `recorded` split, the test items of that run.

    Those that are gone are left out, and a note says so. Raises InputError for whatever cannot be measured.
    """
    read = _read(settings, recorded)
    _require_sides(settings.data, read, _sides(read.tests))
    test = _test_items(read.records, read.tests)
    if test.none:
        raise InputError("nothing was kept for testing (test_fraction=0): measure it on other data (--data)")
    check_files(test.labelled.items, looked_for=are_looked_for(settings.data))
    if recorded is None and read.split_by_us:
        told = "no split.json in the run, so split anew: it may have been trained on classes tested here"
        read.notes.append(Finding("other counts", settings.data, told))
    return test, [*read.notes, *test.remarks(settings.data)]


def read_all(data: str, layout: Layout = USUAL) -> tuple[TestItems, Sequence[Finding]]:
    """Return own items that search each other, or the queries the gallery, and what is worth knowing of them.

    Raises as `read_for_test`.
    """
    records, notes = read_own(data, layout=layout)
    searching = with_roles(records)
    if left_out := len(records) - len(searching):
        told = f"{left_out:,} items that are neither query nor gallery are left out"
        notes = [*notes, Finding("other counts", data, told)]
    items = labelled(searching)
    require_positives(items, "test")
    check_files(items.items, looked_for=are_looked_for(data))
    test = TestItems(items, [items.search])
    return test, [*notes, *test.remarks(data)]


def _read(settings: DataSettings, recorded: Split | None) -> _Read:
    notes: Sequence[Finding]
    tests: Sequence[TestSet]
    own, validation_given = settings.dataset == "own", False
    if own:
        (records, notes), tests = read_own(settings.data, settings.items, settings.layout), ALL_AGAINST_ALL
        if settings.split == "classes":
            records = without_splits(records)
            require_all_or_no_roles(records)
        there = splits_of(records)
        split_by_us, validation_given = there == {None}, VALIDATION in there and settings.select in (None, "validation")
        if VALIDATION in there and not validation_given:
            records = not_of_split(records, VALIDATION)
    else:
        benchmark = BENCHMARKS[settings.dataset]
        records, notes = read_benchmark(settings.dataset, settings.data)
        notes = [*notes, *other_counts(benchmark, records)]
        tests, split_by_us = benchmark.tests or ALL_AGAINST_ALL, not benchmark.tests
    if settings.test_fraction == 0:
        tests = _no_tests(settings, records, tests, split_by_us)
    given = not own and not split_by_us
    if recorded is None:
        if not given:
            closed = settings.closed_set
            records = split_classes(records, settings.test_fraction, settings.split_seed, closed_set=closed)
        if settings.limit_classes is not None:
            records = limit_classes(records, settings.limit_classes, closed_set=settings.closed_set)
        if settings.closed_set and (unseen := unseen_in_training(records)):
            notes = [*notes, Finding("other counts", settings.data, unseen)]
        return _Read(records, tests, split_by_us, validation_given, list(notes), None)
    all_classes, root = settings.limit_classes is None, root_of(settings.data, settings.layout)
    found = find_records(recorded, records, root, by_split=given, of_all=all_classes)
    changed = [Finding("other counts", settings.data, told) for told in found.told]
    return _Read(found.records, tests, split_by_us, validation_given, [*notes, *changed], found)


def _no_tests(
    settings: DataSettings, records: Sequence[Record], tests: Sequence[TestSet], split_by_us: bool
) -> Sequence[TestSet]:
    """Return no test sets. Raises InputError where the data comes with some."""
    if not split_by_us and splits_of(records) & set(_sides(tests)):
        instead = "--split classes passes over its split" if settings.dataset == "own" else "leave it out"
        raise InputError(f"test_fraction=0 keeps no class for testing, and the data comes with test items: {instead}")
    return ()


def _readable(settings: DataSettings, read: _Read, advance: Advance) -> tuple[_Read, dict[str, str]]:
    """Return what is left without the files that cannot be read, and these with the reasons."""
    files = list(dict.fromkeys(files_of(read.records).names))
    skipped = unreadable(files, settings.max_bad_images, advance)
    left = replace(read, records=[record for record in read.records if record.file not in skipped])
    there = splits_of(left.records)
    needed = ["train", *([VALIDATION] if read.validation_given else []), *_sides(read.tests)]
    if missing := [side for side in needed if side not in there]:
        raise InputError(f"{settings.data}: none of the {missing[0]} images can be read: {first_of(skipped)}")
    return left, skipped


def _sides(tests: Sequence[TestSet]) -> list[str]:
    """Return the splits that are tested on."""
    return [side for test in tests for side in (test.queries, test.gallery) if side is not None]


def _require_sides(data: str, read: _Read, sides: Sequence[str]) -> None:
    """Raise InputError where a split that was recorded has nothing left on one of the sides."""
    there = splits_of(read.records)
    if read.found is not None and (missing := [side for side in sides if side not in there]):
        raise InputError(f"{data}: none of the run's {missing[0]} items is there: give the data that it had")


def _labelled(records: Sequence[Record], split: str) -> LabelledItems:
    return labelled(of_split(records, split))


def _test_items(records: Sequence[Record], tests: Sequence[TestSet]) -> TestItems:
    """Put the items of the test sets together; one that is in several is embedded once."""
    if not tests:
        return TestItems(_labelled(records, "test"), [])
    if tests is ALL_AGAINST_ALL:  # own data, and benchmarks that have an item once
        items = _labelled(records, "test")
        require_positives(items, "test")
        return TestItems(items, [items.search])
    splits = set(_sides(tests))
    once = {_key(record): record for record in records if record.split in splits}
    place = {key: number for number, key in enumerate(once)}

    def indexes(split: str) -> NDArray[np.int64]:
        return np.array([place[_key(record)] for record in records if record.split == split], dtype=np.int64)

    searches = [Search(t.name, indexes(t.queries), None if t.gallery is None else indexes(t.gallery)) for t in tests]
    items = labelled(list(once.values()))
    require_positives(items, "test")
    return TestItems(items, searches)


def _split(
    settings: DataSettings, records: Sequence[Record], aside: Aside, root: Path, skipped: dict[str, str]
) -> Split:
    """Return the split as a run's folder writes it down."""
    splits = {"train": aside.train.records}
    if aside.validation is not None:
        splits[VALIDATION] = aside.validation.records
    splits |= {split: of_split(records, split) for split in sorted(map(str, splits_of(records) - {"train"}))}
    splits.setdefault("test", [])  # where nothing is tested on, the split says so
    return split_of(splits, root, skipped, closed_set=settings.closed_set)


def _key(record: Record) -> object:
    return id(record) if record.file is None else record.file
