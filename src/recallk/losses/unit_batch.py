"""The batch of a loss of our own: checked, and its rows of unit length."""

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, labelled_embeddings, normalised


def unit_batch(embeddings: ArrayLike, labels: ArrayLike) -> tuple[Tensor, Tensor]:
    """Return the rows of `embeddings (B, D)` divided by their length, float32 or float64, and `labels (B,)` int64.

    Raises InputError for what is no batch, and for embeddings that are no numbers any more.
    """
    rows, classes = labelled_embeddings(embeddings, labels)
    return normalised(rows if rows.dtype == torch.float64 else rows.float()), classes
