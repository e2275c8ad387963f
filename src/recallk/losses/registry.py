"""The losses by name: their papers and settings, what they need of a batch. Light: the command line reads it."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from recallk.core.errors import InputError

OURS = "recall@k"
MOST_BYTES = 8e9
"""A loss that would hold more than this of one batch is refused."""
_MAY_BE_ZERO = frozenset({"margin", "pos_margin", "neg_margin", "nu", "epsilon", "cutoff"})

Needs = Literal["pairs", "triples", "equal classes", "classes"]
Counted = Literal["pairs", "triples", "triplets of items", "positive pairs times pairs"]
Settings = Mapping[str, int | float]
Loss = str | dict[str, Any]
"""As in a recipe: a name, or a table with the name and further settings."""


@dataclass(frozen=True)
class Growth:
    """Bytes that forward and backward hold at once, for each of what is counted; measured on small batches."""

    bytes: float
    of: Counted

    def of_batch(self, batch: int, items_per_class: int) -> float:
        """Return the bytes for `batch` items, `items_per_class` of each class."""
        pairs, positives = batch**2, batch * (items_per_class - 1)
        counts: dict[Counted, int] = {
            "pairs": pairs,
            "triples": positives * batch,
            "triplets of items": batch**3,
            "positive pairs times pairs": positives * pairs,
        }
        return self.bytes * counts[self.of]


@dataclass(frozen=True)
class Entry:
    """A loss as it stands in the catalogue.

    `needs`: "pairs" (all B x B), "triples" (anchor, positive, negative), "equal classes" (as many items of each, and
    all B x B), or "classes" (the number of training classes, for `own_parameters` such as proxies).
    `growth` is missing where memory grows no faster than the embeddings, or is streamed.
    """

    name: str
    paper: str
    needs: Needs
    settings: Settings = field(default_factory=dict)
    own_parameters: bool = False
    growth: Growth | None = None

    def largest_batch(self, items_per_class: int) -> int | None:
        """Return the most items that a batch may have, in whole classes; None where there is no such number."""
        if self.growth is None:
            return None
        batch = items_per_class
        while self.growth.of_batch(batch + items_per_class, items_per_class) <= MOST_BYTES:
            batch += items_per_class
        return batch


_MULTI_SIMILARITY: Settings = {"alpha": 2.0, "beta": 50.0, "base": 0.5, "epsilon": 0.1}

# Settings are the library's defaults, except where a comment names another source. Growth was measured on a CPU, at 400
# to 2,400 items of 64 dimensions, 4 of a class.
_ENTRIES = (
    Entry(OURS, "Patel et al., CVPR 2022", "pairs"),  # its settings are keys of the configuration
    Entry(
        "contrastive",
        "Hadsell et al., CVPR 2006",
        "pairs",
        {"pos_margin": 0.0, "neg_margin": 1.0},
        growth=Growth(50, "pairs"),
    ),
    # semi-hard negatives, squared distances and margin as in the paper
    Entry("triplet", "Schroff et al., CVPR 2015", "triples", {"margin": 0.2}, growth=Growth(60, "triples")),
    # distance-weighted negatives, a learned boundary beta for each class
    Entry(
        "margin",
        "Wu et al., ICCV 2017",
        "triples",
        {"margin": 0.2, "beta": 1.2, "nu": 0.0, "cutoff": 0.5, "nonzero_loss_cutoff": 1.4},
        own_parameters=True,
        growth=Growth(1, "triplets of items"),
    ),
    Entry("n-pair", "Sohn, NeurIPS 2016", "pairs", growth=Growth(24, "pairs")),
    Entry(
        "lifted-structure",
        "Song et al., CVPR 2016",
        "triples",
        {"pos_margin": 0.0, "neg_margin": 1.0},
        growth=Growth(24, "positive pairs times pairs"),
    ),
    Entry("angular", "Wang et al., ICCV 2017", "triples", {"alpha": 40.0}, growth=Growth(35, "triples")),
    Entry("multi-similarity", "Wang et al., CVPR 2019", "pairs", _MULTI_SIMILARITY, growth=Growth(90, "pairs")),
    Entry("histogram", "Ustinova and Lempitsky, NeurIPS 2016", "pairs", {"n_bins": 100}, growth=Growth(55, "pairs")),
    Entry("fast-ap", "Cakir et al., CVPR 2019", "pairs", {"num_bins": 10}, growth=Growth(200, "pairs")),
    Entry(
        "smooth-ap",
        "Brown et al., ECCV 2020",
        "equal classes",
        {"temperature": 0.01},
        growth=Growth(24, "triplets of items"),
    ),
    Entry(
        "nt-xent",
        "Chen et al., ICML 2020",
        "triples",
        {"temperature": 0.07},
        growth=Growth(18, "positive pairs times pairs"),
    ),
    Entry(
        "supervised-contrastive",
        "Khosla et al., NeurIPS 2020",
        "pairs",
        {"temperature": 0.1},
        growth=Growth(65, "pairs"),
    ),
    Entry("circle", "Sun et al., CVPR 2020", "pairs", {"m": 0.4, "gamma": 80.0}, growth=Growth(100, "pairs")),
    # the scale is ProxyNCA++'s: temperature 1/9
    Entry(
        "proxy-nca",
        "Movshovitz-Attias et al., ICCV 2017; Teh et al., ECCV 2020 (++)",
        "classes",
        {"softmax_scale": 9.0},
        own_parameters=True,
    ),
    Entry(
        "soft-triple",
        "Qian et al., ICCV 2019",
        "classes",
        {"centers_per_class": 10, "la": 20.0, "gamma": 0.1, "margin": 0.01},
        own_parameters=True,
    ),
    Entry("normalised-softmax", "Zhai and Wu, BMVC 2019", "classes", {"temperature": 0.05}, own_parameters=True),
    Entry("arcface", "Deng et al., CVPR 2019", "classes", {"margin": 28.6, "scale": 64.0}, own_parameters=True),
    Entry("cosface", "Wang et al., CVPR 2018", "classes", {"margin": 0.35, "scale": 64.0}, own_parameters=True),
    # the paper's embeddings have lengths of their own, ours are of unit length: the scale stands in for them
    Entry("sphereface", "Liu et al., CVPR 2017", "classes", {"margin": 4, "scale": 30.0}, own_parameters=True),
    # similarities and margins of the cross-batch memory's own code
    Entry(
        "memory-contrastive",
        "Wang et al., CVPR 2020",
        "pairs",
        {"memory_size": 4096, "pos_margin": 1.0, "neg_margin": 0.5},
    ),
    Entry(
        "memory-multi-similarity",
        "Wang et al., CVPR 2020",
        "pairs",
        {"memory_size": 4096, **_MULTI_SIMILARITY},
    ),
    Entry("memory-recall@k", "Patel et al., CVPR 2022; Wang et al., CVPR 2020", "pairs", {"memory_size": 4096}),
)
CATALOGUE: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def entry_of(loss: Loss) -> Entry:
    """Return the entry of a checked loss."""
    return CATALOGUE[loss if isinstance(loss, str) else loss["name"]]


def settings_of(loss: Loss) -> dict[str, int | float]:
    """Return all settings of a checked loss, the entry's where none are given."""
    given = {} if isinstance(loss, str) else {key: value for key, value in loss.items() if key != "name"}
    return {**entry_of(loss).settings, **given}


def describe(loss: Loss) -> str:
    """Say in words which loss a checked one is."""
    settings = ", ".join(f"{key} {value:g}" for key, value in settings_of(loss).items())
    return f"{entry_of(loss).name} ({settings})" if settings else entry_of(loss).name


def checked(loss: object) -> Loss:
    """Return a loss as it stands in a recipe, its settings as numbers; a table without settings is its name.

    Raises InputError, one line naming what is known, for an unknown name or setting, or a value that cannot be.
    """
    given = {"name": loss} if isinstance(loss, str) else loss
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise InputError("give a name, or in a recipe a table {name: ..., further settings}")
    entry = CATALOGUE.get(given["name"])
    if entry is None:
        near = difflib.get_close_matches(given["name"], CATALOGUE, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"no such loss: {hint}the losses are {', '.join(CATALOGUE)}")
    settings: dict[str, Any] = {}
    for key, value in given.items():
        if key == "name":
            continue
        if key not in entry.settings:
            known = f"its settings are {', '.join(entry.settings)}" if entry.settings else "it has no settings"
            raise InputError(f"unknown setting {key!r} of {entry.name}: {known}")
        settings[key] = _number(key, value, whole=isinstance(entry.settings[key], int))
    return {"name": entry.name, **settings} if settings else entry.name


def check_batch(loss: Loss, batch: int, items_per_class: int) -> None:
    """Raise InputError where a checked loss would not hold a batch of `batch` images."""
    entry, memory = entry_of(loss), settings_of(loss).get("memory_size")
    if memory is not None and memory < batch:
        raise InputError(
            f"loss={entry.name}: a memory of {memory:,} is smaller than the batch of {batch:,} images: "
            f"raise memory_size, or lower batch_size"
        )
    largest = entry.largest_batch(items_per_class)
    if entry.growth is not None and largest is not None and batch > largest:
        gigabytes = entry.growth.of_batch(batch, items_per_class) / 1e9
        raise InputError(
            f"loss={entry.name}: a batch of {batch:,} images needs about {gigabytes:,.0f} GB for its "
            f"{entry.growth.of}: choose batch_size={largest} or less, or another loss"
        )


def _number(key: str, value: object, whole: bool) -> int | float:
    """Return a setting as a number; YAML reads 1e-3 as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    fits = math.isfinite(number) and (number > 0 or (number == 0 and key in _MAY_BE_ZERO))
    if not fits or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{key} is {kind}{', 0 or more' if key in _MAY_BE_ZERO else ' above 0'}")
    return int(number) if whole else number
