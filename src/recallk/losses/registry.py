"""The losses by name. Light: the command line reads it. A new loss is one entry in the file of its kind."""

import difflib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from recallk.core.errors import InputError
from recallk.losses.entry import Entry
from recallk.losses.memories import MEMORIES
from recallk.losses.ours import RECALL_AT_K
from recallk.losses.pairs import PAIRS
from recallk.losses.proxies import PROXIES
from recallk.losses.ranking import RANKING

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {entry.name: entry for entry in (RECALL_AT_K, *PAIRS, *RANKING, *PROXIES, *MEMORIES)}
)
OURS = RECALL_AT_K.name
MOST_BYTES = 8e9
"""A loss that would hold more than this of one batch is refused."""

Loss = str | dict[str, Any]
"""As in a recipe: a name, or a table with the name and further settings."""


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
        settings[key] = _number(entry, key, value)
    return {"name": entry.name, **settings} if settings else entry.name


def check_batch(loss: Loss, batch: int, items_per_class: int) -> None:
    """Raise InputError where a checked loss would not hold a batch of `batch` items."""
    entry, memory = entry_of(loss), settings_of(loss).get("memory_size")
    if memory is not None and memory < batch:
        raise InputError(
            f"loss={entry.name}: a memory of {memory:,} is smaller than the batch of {batch:,} items: "
            f"raise memory_size, or lower batch_size"
        )
    if entry.growth is None:
        return
    largest = entry.growth.largest_batch(items_per_class, MOST_BYTES)
    if batch > largest:
        gigabytes = entry.growth.of_batch(batch, items_per_class) / 1e9
        raise InputError(
            f"loss={entry.name}: a batch of {batch:,} items needs about {gigabytes:,.0f} GB for its "
            f"{entry.growth.of}: choose batch_size={largest} or less, or another loss"
        )


def _number(entry: Entry, key: str, value: object) -> int | float:
    """Return a setting as a number; YAML reads 1e-3 as text."""
    whole, zero = isinstance(entry.settings[key], int), key in entry.may_be_zero
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    fits = math.isfinite(number) and (number > 0 or (number == 0 and zero))
    if not fits or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{key} is {kind}{', 0 or more' if zero else ' above 0'}")
    return int(number) if whole else number
