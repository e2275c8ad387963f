"""The whitening that a head begins as: fitted to the features of the network before it is trained."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recallk.core import processes
from recallk.core.errors import InputError
from recallk.data.records import LabelledItems
from recallk.models.embedder import Embedder
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.together import embed_together
from recallk.models.whitening import Method, Whitening, fit_whitening

MOST_ITEMS = 20_000
"""To which it is fitted: more would change little, and take long."""


def begin_as_whitening(
    embedder: Embedder, train: LabelledItems, method: Method, *, chunk_size: int, workers: int
) -> None:
    """Make a whitening of the head of an embedder with `head=whitening`, fitted to the features of training items.

    To those of the first classes, at most `MOST_ITEMS` in all, as at test. The processes of a group embed a share each,
    the first one fits it, and all have its weights. Raises InputError, in all of them, where an item cannot be read,
    or a whitening cannot be fitted to the features.

    A learned one is for more pairs of items than there are features: of fewer it tells the training items apart from
    the start, and the loss has little left to teach.
    """
    if not isinstance(embedder, ImageEmbedder) or not isinstance(embedder.head, nn.Linear):
        raise processes.SharedError(f"head=whitening: this network for {embedder.noun} has no such head; take another")
    chosen = first_classes(train.labels, MOST_ITEMS)
    items = [train.records[number].item for number in chosen]
    features = embed_together(embedder.without_head(), items, chunk_size=chunk_size, workers=workers)

    def fitted() -> Whitening:
        try:
            return fit_whitening(method, features, train.labels[chosen], embedder.settings.embedding_size)
        except InputError as error:
            raise InputError(f"head=whitening: {error}") from None

    whitening = processes.from_first(fitted)
    with torch.no_grad():
        embedder.head.weight.copy_(whitening.projection)
        embedder.head.bias.copy_(whitening.bias)


def first_classes(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the numbers of the items of the classes that come first, whole ones, at most so many items in all.

    Of a first class that is larger, as many of its items.

    >>> first_classes(np.array([5, 5, 2, 5, 2, 9]), most=5)
    array([0, 1, 2, 3, 4])

    """
    classes, first, counts = np.unique(labels, return_index=True, return_counts=True)
    order = first.argsort()
    whole = classes[order][counts[order].cumsum() <= most]
    chosen = whole if len(whole) else classes[order][:1]
    numbers: NDArray[np.int64] = np.flatnonzero(np.isin(labels, chosen))[:most]
    return numbers
