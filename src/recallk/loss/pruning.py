"""Positives too far down to count: of a large class only a query's nearest positives are ranked, with the same loss.

A positive with n others at least as similar to the query has a rank of at least 1 + n / 2: those others are ranked too,
and each adds half a rank or more. Once that is `MARGIN` recall temperatures beyond a k, its part of recall_k is below
exp(-MARGIN) = 4e-18, and so is that part's slope, in units of the steepest: less than float64 can tell from nothing.
"""

import math
from collections.abc import Sequence

from torch import Tensor

MARGIN = 40


def positive_limit(ks: Sequence[int], recall_temperatures: Sequence[float], items: int) -> int:
    """Return how many of a query's positives, most similar first, may count; never more than the `items` there are.

    Enough for the loss's normaliser too, which asks for min(k, number of positives).

    >>> positive_limit(ks=(1, 2, 4, 8, 16), recall_temperatures=(1.0,) * 5, items=4000)
    112

    """
    farthest = max(k + MARGIN * temperature for k, temperature in zip(ks, recall_temperatures, strict=True))
    return math.ceil(min(max(2 * farthest, 2 * max(ks) + 1), items))


def most_similar(similarities: Tensor, columns: Tensor, exists: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut similarities, columns and existence of positives `(T, P)` to the `limit` most similar ones of each row.

    Where no row has more than that, all are returned as they are. Of equal ones at the cut, any: they count alike.
    """
    if similarities.shape[1] <= limit:
        return similarities, columns, exists
    slots = similarities.masked_fill(~exists, float("-inf")).topk(limit, dim=1, sorted=False).indices
    return similarities.gather(1, slots), columns.gather(1, slots), exists.gather(1, slots)
