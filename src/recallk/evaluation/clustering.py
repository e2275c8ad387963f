"""How well k-means finds the classes."""

import numpy as np
import torch
from numpy.typing import NDArray

from recallk.core.arrays import ArrayLike
from recallk.core.extras import require
from recallk.evaluation.evaluation_set import unit_embeddings

_ITERATIONS = 20


@torch.no_grad()
def nmi(embeddings: ArrayLike, labels: ArrayLike, seed: int = 0) -> float:
    """Cluster the embeddings into as many clusters as there are classes and compare the two.

    k-means is FAISS's, 20 iterations on all L2-normalised embeddings, always on the CPU. It depends on its random
    start: values are comparable for the same seed, and two runs on one machine with one seed agree.

    Args:
        embeddings: `(N, D)` floats of any precision, need not be normalised.
        labels: `(N,)` integers.
        seed: of the k-means start, 0 or more.

    Returns:
        The normalised mutual information of clusters and classes (arithmetic mean), 0 (independent) to 1 (the same).

    Raises:
        InputError: for shapes, types or values that do not fit, and NaN or infinite embeddings.
        MissingExtraError: where the extra `train`, which brings FAISS and scikit-learn, is not installed.

    >>> round(nmi([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], [5, 5, 8, 8]), 6)
    1.0

    """
    require("train", "nmi")
    rows, classes = unit_embeddings(embeddings, labels)
    truth = classes.cpu().numpy()
    from sklearn.metrics import normalized_mutual_info_score  # not above: it takes a second, and few need it

    return float(normalized_mutual_info_score(truth, _clusters(rows.cpu().numpy(), len(np.unique(truth)), seed)))


def _clusters(rows: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster `(N,)` of each row.

    FAISS rather than scikit-learn's MiniBatchKMeans, which with thousands of small clusters is far slower and finds
    far worse ones.
    """
    import faiss  # not above: torch comes first (each brings its own OpenMP), and few need it

    # the limits are only advice (39 to 256 points a cluster): classes here often have five items
    means = faiss.Kmeans(
        rows.shape[1],
        count,
        niter=_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    means.train(rows)
    nearest_mean: NDArray[np.int64] = means.index.search(rows, 1)[1][:, 0]
    return nearest_mean
