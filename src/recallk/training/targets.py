"""What a batch is compared with: a number for each row, or whatever else a loss takes."""

from collections.abc import Sequence
from numbers import Number
from typing import Any

from torch import Tensor

from recallk.core.arrays import as_tensor
from recallk.core.errors import InputError
from recallk.core.text import brief


def as_targets(labels: Any) -> Any:
    """Return an array or a list of numbers as a tensor, and anything else as it is.

    Raises InputError for a single number or string, which cannot stand for rows.
    """
    if _is_single(labels):
        raise InputError(f"labels={brief(labels)}: one label for each row is needed")
    if isinstance(labels, Tensor) or not _is_row_by_row(labels):
        return labels
    try:
        return as_tensor(labels, "labels", "numbers are needed")
    except InputError:  # strings, dictionaries, rows of several lengths: the loss knows what to do with them
        return labels


def rows_of(targets: Any) -> int | None:
    """Return the number of rows that targets are for; None where it cannot be known."""
    if isinstance(targets, Tensor):
        return targets.size(0)
    return len(targets) if _is_row_by_row(targets) else None


def _is_row_by_row(targets: Any) -> bool:
    """Whether each item is that of a row: in an array and in a list; in a tuple, where all are single values."""
    if isinstance(targets, tuple):
        return all(map(_is_single, targets))
    return isinstance(targets, Sequence) or hasattr(targets, "__array__")


def _is_single(value: Any) -> bool:
    return isinstance(value, Number | str | bytes) or getattr(value, "ndim", None) == 0
