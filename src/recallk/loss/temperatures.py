"""The two temperatures of the loss: numbers above 0, as small as the arithmetic allows."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from recallk.core.errors import InputError
from recallk.core.text import brief


def checked_temperatures(rank: Any, recall: Any, ks: int) -> tuple[float, tuple[float, ...]]:
    """Return the rank temperature, and the recall temperature of each of `ks` k's, from one number or one per k.

    Raises InputError where they are not finite numbers above 0.
    """
    values = recall.tolist() if isinstance(recall, np.ndarray) else recall
    recalls = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str | bytes) else (values,) * ks
    if len(recalls) != ks:
        raise InputError(f"recall_temperature has {len(recalls)} values for {ks} ks: give one, or one per k")
    temperatures = [_temperature("recall_temperature", value) for value in recalls]
    return _temperature("rank_temperature", rank), tuple(temperatures)


def check_range(rank: float, recalls: Sequence[float], dtype: torch.dtype) -> None:
    """Raise InputError where a division by a temperature, or by both, could leave the range of `dtype`."""
    # 1e-31 in float32, 1e-292 in float64: the similarities keep their digits and gradients room to add up
    smallest = torch.finfo(dtype).tiny / torch.finfo(dtype).eps
    name = str(dtype).removeprefix("torch.")
    remedy = "" if dtype == torch.float64 else "; float64 embeddings allow smaller ones"
    if rank < smallest:
        raise InputError(f"rank_temperature={rank}: {smallest:.2g} is the smallest that {name} can divide by{remedy}")
    least = smallest / min(1, rank)
    if min(recalls) < least:
        raise InputError(
            f"recall_temperature={min(recalls)}: {least:.2g} is the smallest that {name} can divide by "
            f"beside rank_temperature={rank}{remedy}"
        )


def _temperature(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name}={brief(value)}: a number above 0 is needed")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{name}={brief(value)}: temperatures are above 0 and finite")
    return number
