"""Which epoch's model is kept: training classes set aside choose it, where they are enough to tell."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from recallk.data.source import Part, part
from recallk.runs.history import Row

FEWEST_CLASSES = 10
"""Training classes of two images or more: of fewer, those set aside would be missed in training."""
FEWEST_QUERIES = 100
"""Validation queries: a share measured on n has a standard error of up to 50 / sqrt(n) points, here 5; of fewer, the
best of many epochs is mostly the luckiest."""


@dataclass(frozen=True)
class Aside:
    """The training classes that are left, and those set aside; `why_not` says why there are none."""

    train: Part
    validation: Part | None
    why_not: str = ""


def set_aside(train: Part, fraction: float, seed: int, recorded: Collection[str] | None = None) -> Aside:
    """Set a share of the training classes aside, at least two; classes of one image have nothing to find.

    `recorded` are the classes that an earlier start of the same run set aside: then these, and no others.
    """
    if recorded is not None and not recorded:
        anew = set_aside(train, fraction, seed)
        return Aside(train, None, anew.why_not or "no classes were set aside when the run began")
    able = np.flatnonzero(np.bincount(train.labels) > 1)
    if recorded is not None:
        chosen = np.flatnonzero(np.isin(train.classes, list(recorded)))
    elif len(able) < FEWEST_CLASSES:
        few = f"{len(able)} training classes are too few to set some aside ({FEWEST_CLASSES} are needed)"
        return Aside(train, None, few)
    else:
        count = min(max(2, round(fraction * len(able))), len(able) - 2)
        chosen = np.random.default_rng(seed).permutation(able)[:count]
    aside = np.isin(train.labels, chosen)
    queries = int(aside.sum())
    if recorded is None and queries < FEWEST_QUERIES:
        return Aside(train, None, f"{queries} validation queries could not tell ({FEWEST_QUERIES} are needed)")

    def side(validation: bool) -> Part:
        return part([train.records[i] for i in np.flatnonzero(aside == validation).tolist()], None)

    return Aside(side(False), side(True))


def below_start(before: Row, after: Row, first_k: int, selection: str) -> list[str]:
    """Say where the test metrics, as they are shown, are below those before training, and what to try."""
    fell = [
        f"{name} fell from {100 * before[name]:.1f} to {100 * after[name]:.1f}"
        for name in (f"recall@{first_k}", "map@r")
        if name in before and name in after and round(100 * after[name], 1) < round(100 * before[name], 1)
    ]
    if not fell:
        return []
    other = "" if selection == "last" else ", --select last"
    remedy = f"try a lower --learning-rate, more steps (a smaller --batch-size, more --epochs){other}, or more classes"
    return [f"worse than before training on the test classes: {' and '.join(fell)}; {remedy}"]
