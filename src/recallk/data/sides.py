"""On which side a class is: trained on, set aside to choose the epoch by, or tested on. Never on two."""

import hashlib
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from recallk.core.errors import InputError
from recallk.core.text import shown
from recallk.data.item import Record
from recallk.data.label_sets import has_several, labels_in
from recallk.data.records import (
    VALIDATION,
    LabelledItems,
    chosen_records,
    in_classes,
    in_splits,
    labelled,
    labels_of,
    of_split,
    splits_of,
    with_roles,
)

FEWEST_CLASSES = 10
"""Training classes of two items or more: of fewer, those set aside would be missed in training."""
FEWEST_QUERIES = 100
"""Validation queries: a share measured on n has a standard error of up to 50 / sqrt(n) points, here 5; of fewer, the
best of many epochs is mostly the luckiest."""


def split_classes(
    records: Sequence[Record], test_fraction: float, seed: int, *, closed_set: bool = False
) -> Sequence[Record]:
    """Split the classes into disjoint train and test sets, unless the records are split already.

    The side of a class is a function of the seed and its name: both are hashed to a number from 0 to 1, and those below
    `test_fraction` are for testing. So other classes that come or go do not move it. Only where a side would have
    fewer than two classes (one, of two or three classes in all) do the nearest to the threshold change sides.

    With a `test_fraction` of 0 all are for training. In a `closed_set` the given split may have a class on two sides.

    Raises InputError for fewer than two classes, for a given split that leaves a side empty or has a class on two, and
    for a closed set that is not split. Items with several labels have to come with a split.
    """
    classes = labels_of(records)
    several = has_several(classes)
    if len(classes) < 2:
        only = f"only one class ({shown(*classes)})" if classes else "no items"
        raise InputError(f"{only}: retrieval is trained and tested on different classes")
    if splits_of(records) == {None}:
        if several and test_fraction > 0:
            raise InputError(
                "items have several labels (with | between them), so classes cannot be on one side each: give a split "
                "(a column split, or folders train and test), or train on everything (--test-fraction 0)"
            )
        if closed_set:
            raise InputError("closed_set is for data that come with a split, and these have none: leave it out")
        test: Set[str]
        test = set() if test_fraction == 0 else _test_classes(classes, test_fraction, seed)
        return in_splits(records, {name: "test" if name in test else "train" for name in classes})
    sides = {side: labels_in(labels_of(of_split(records, side))) for side in ("train", VALIDATION, "test")}
    for side in ("train", "test"):
        if not sides[side] and not (side == "test" and test_fraction == 0):
            instead = " (--test-fraction 0 does without)" if side == "test" else ""
            raise InputError(f"the given split has no {side} items{instead}; --split classes splits by classes instead")
    if closed_set and not sides["train"] & sides["test"]:
        raise InputError("no class is trained and tested on: it is no closed set, leave closed_set out")
    for one, other in combinations(() if closed_set else sides, 2):
        if both := sides[one] & sides[other]:
            raise InputError(
                f"class {shown(min(both))} is in the {one} and in the {other} split: retrieval is tested on unseen "
                "classes; --split classes splits by classes instead, --closed-set tests on classes that are seen"
            )
    return records


def require_positives(items: LabelledItems, side: str) -> None:
    """Raise InputError where no query would have anything to find among the items of a side."""
    if items.answerable.any():
        return
    if items.roles is not None:
        told = f"no {side} class has a query and a gallery item"
        raise InputError(f"{told}: there is nothing to retrieve; give both of a class")
    raise InputError(f"every {side} class has one item: there is nothing to retrieve; give at least two of a class")


def unseen_in_training(records: Sequence[Record]) -> str:
    """Say how many test classes of a closed set are not trained on, where there are some."""
    trained, tested = (labels_in(labels_of(of_split(records, side))) for side in ("train", "test"))
    unseen = len(tested - trained)
    return f"{unseen:,} of {len(tested):,} test classes are not trained on, in a closed set" if unseen else ""


def require_all_or_no_roles(records: Sequence[Record]) -> None:
    """Raise InputError where some items are queries or gallery and others neither: of any class, some may be tested."""
    if without := len(records) - len(with_roles(records)):
        told = f"with split=classes any class may be tested on, and {without:,} items are neither query nor gallery"
        raise InputError(f"{told}: say it of all, or of none")


def _test_classes(classes: Set[str], test_fraction: float, seed: int) -> Set[str]:
    hashed = {name: _hashed(seed, name) for name in classes}
    in_order = sorted(classes, key=lambda name: (hashed[name], name))
    below = sum(number < test_fraction for number in hashed.values())
    fewest = min(2, len(classes) // 2)
    return set(in_order[: min(max(below, fewest), len(classes) - fewest)])


def _hashed(seed: int, name: str) -> float:
    """Return a number from 0 to below 1, the same in every process and version."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def limit_classes(records: Sequence[Record], classes: int, *, closed_set: bool = False) -> Sequence[Record]:
    """Return the records of the first `classes` classes of each split, by name.

    Of queries and a gallery apart, the first of those that are in both, and of a closed set, the first of those that
    are trained and tested on. Raises InputError where there is none, and for items with several labels.
    """
    if has_several(labels_of(records)):
        raise InputError("limit_classes is for items with one label each, and these have several: leave it out")
    labels = {split: _searched(of_split(records, split)) for split in splits_of(records) if split is not None}
    if {"query", "gallery"} <= labels.keys():
        # cut by itself, a gallery with more classes than the queries would lose what they are to find
        both = labels["query"] & labels["gallery"]
        if not both:
            raise InputError("no class is in query and in gallery: there is nothing to retrieve; get the lists again")
        labels |= {"query": both, "gallery": both}
    if closed_set:
        labels = {split: names & labels["train"] & labels["test"] for split, names in labels.items()}
    first = {split: set(sorted(names)[:classes]) for split, names in labels.items()}
    return in_classes(records, first)


def _searched(records: Sequence[Record]) -> set[str]:
    """Return the classes; where all items have a role, those that are asked for and can be found, if there are any."""
    items = labelled(records)
    if items.roles is None or not items.answerable.any():
        return set(items.classes)
    return {name for name, able in zip(items.classes, items.answerable.tolist(), strict=True) if able}


@dataclass(frozen=True)
class Aside:
    """The training classes that are left, and those set aside; `why_not` says why there are none."""

    train: LabelledItems
    validation: LabelledItems | None
    why_not: str = ""


def set_aside(
    train: LabelledItems, fraction: float, seed: int, recorded: Collection[str] | None = None, fewest: int = 2
) -> Aside:
    """Set a share of the training classes aside, at least two, and none where that would be less than the `fewest`.

    Classes of one item have nothing to find. `recorded` are the classes that an earlier start of the same run set
    aside: then these, and no others.
    """
    if recorded is not None and not recorded:
        anew = set_aside(train, fraction, seed)
        return Aside(train, None, anew.why_not or "no classes were set aside when the run began")
    if train.label_sets is not None:
        return Aside(train, None, "of items with several labels no classes are set aside, and there is no val")
    able = np.flatnonzero(train.answerable)
    if recorded is not None:
        chosen = np.flatnonzero(np.isin(train.classes, list(recorded)))
    elif len(able) < FEWEST_CLASSES:
        few = f"{len(able)} training classes are too few to set some aside ({FEWEST_CLASSES} are needed)"
        return Aside(train, None, few)
    else:
        count = min(max(2, round(fraction * len(able))), len(able) - 2)
        if count < fewest:
            few = f"{count} classes set aside would be too few to choose an epoch by (--select validation does it)"
            return Aside(train, None, few)
        chosen = np.random.default_rng(seed).permutation(able)[:count]
    aside = np.isin(train.labels, chosen)
    queries = int(aside[train.search.queries].sum())
    if recorded is None and queries < FEWEST_QUERIES:
        return Aside(
            train, None, f"{queries} validation queries are too few to choose an epoch by ({FEWEST_QUERIES} are needed)"
        )

    def side(validation: bool) -> LabelledItems:
        return labelled(chosen_records(train.records, aside == validation))

    return Aside(side(False), side(True))
