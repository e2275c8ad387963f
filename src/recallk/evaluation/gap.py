"""Global average precision: how far confidence tells right predictions from wrong ones."""

import numpy as np

from recallk.core.arrays import ArrayLike, as_tensor, class_labels
from recallk.core.errors import InputError


def gap(predicted: ArrayLike, confidence: ArrayLike, truth: ArrayLike) -> float:
    """Return the global average precision (GAP, micro-AP) of one prediction for each query.

    All predictions are sorted by falling confidence, equal ones in the order of their index; the precisions at the
    right ones are summed and divided by the number of queries that have an answer. A confident prediction for a query
    without an answer lowers all that come after it. Source: recognition on the Google Landmarks Dataset v2 (CVPR 2020,
    arXiv 2004.01804).

    Args:
        predicted: `(N,)` integers, the class predicted for each query.
        confidence: `(N,)` finite numbers, comparable between queries.
        truth: `(N,)` integers, each query's class, 0 or more; -1: it has no answer, and every prediction is wrong.

    Returns:
        A value in 0 .. 1.

    Raises:
        InputError: for shapes, types or values that do not fit, and where no query has an answer.

    >>> gap([7, 3, 7], [0.9, 0.8, 0.7], [7, -1, 7])  # (1 / 1 + 2 / 3) / 2
    0.8333333333333333

    """
    classes = class_labels(predicted, "predicted").cpu().numpy()
    answers = class_labels(truth, "truth").cpu().numpy()
    scores = as_tensor(confidence, "confidence", "numbers are needed").detach().cpu().double().numpy()
    if answers.ndim != 1 or not classes.shape == scores.shape == answers.shape:
        shapes = ", ".join(str(values.shape) for values in (classes, scores, answers))
        raise InputError(f"predicted, confidence and truth have shapes {shapes}: one value for each query is needed")
    if not np.isfinite(scores).all():
        raise InputError(f"confidence of query {np.flatnonzero(~np.isfinite(scores))[0]} is NaN or infinite")
    if (answers < -1).any():
        raise InputError(f"truth of query {np.flatnonzero(answers < -1)[0]} is below -1: classes are 0 or more")
    if not (answers >= 0).any():
        raise InputError("no query has an answer: truth is -1 for all")
    right = ((classes == answers) & (answers >= 0))[np.argsort(-scores, kind="stable")]
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    return float(precision[right].sum() / (answers >= 0).sum())
