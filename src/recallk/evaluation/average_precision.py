"""Average precision of the k nearest, as the Google Landmarks Dataset v2 and ILIAS measure retrieval."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, checked_ks
from recallk.evaluation.rankings import Numbers, relevant_items, similarity_matrix
from recallk.retrieval.exact import best_scores


@torch.no_grad()
def average_precision_at_k(similarities: ArrayLike, relevant: Sequence[ArrayLike], k: int = 100) -> Tensor:
    """Return each query's average precision among its `k` nearest: AP@k, whose mean is mAP@k.

    The sum of the precisions at the ranks of the relevant items among the first k, divided by the number of relevant
    items or by k, whichever is less. With k = 100 that of the Google Landmarks Dataset v2 (CVPR 2020, arXiv
    2004.01804), with k = 1,000 that of ILIAS (CVPR 2025, arXiv 2502.11748). `torch.nanmean` of it leaves out, as they
    do, the queries that have nothing to find.

    Args:
        similarities: `(Q, G)` numbers, a tensor, an array or lists; larger is more similar, equal ones come in the
            order of their index.
        relevant: for each query the different gallery numbers, 0 .. G-1, that answer it; may be none.
        k: at least 1; may be above the gallery's size.

    Returns:
        `(Q,)` float64 in 0 .. 1, on the CPU; NaN where nothing is relevant.

    Raises:
        InputError: for shapes, types or values that do not fit; the message names the query.

    >>> average_precision_at_k([[0.9, 0.8, 0.7], [0.1, 0.3, 0.2]], [[0, 2], []], k=2)
    tensor([0.5000,    nan], dtype=torch.float64)

    """
    (depth,) = checked_ks((k,))
    rows = similarity_matrix(similarities)
    items = relevant_items(relevant, *rows.shape)
    return average_precisions(best_scores(rows, min(depth, rows.shape[1])).indexes.cpu(), items, depth)


def average_precisions(nearest: Tensor, relevant: Sequence[Numbers], k: int) -> Tensor:
    """Return AP@k `(Q,)` float64 from the nearest gallery numbers `(Q, min(k, G))` of each query, best first."""
    values = torch.full((len(relevant),), torch.nan, dtype=torch.float64)
    for query, (found, items) in enumerate(zip(nearest.numpy(), relevant, strict=True)):
        if len(items):
            at = np.flatnonzero(np.isin(found[:k], items))
            values[query] = float(np.sum(np.arange(1, len(at) + 1) / (at + 1)) / min(len(items), k))
    return values
