"""Evaluation: metrics of retrieval, the protocols of benchmarks, clustering."""

from typing import Any

from recallk.evaluation.average_precision import average_precision_at_k as average_precision_at_k
from recallk.evaluation.gap import gap as gap
from recallk.evaluation.judged import judged_metrics as judged_metrics
from recallk.evaluation.judged import judged_metrics_by_query as judged_metrics_by_query
from recallk.evaluation.judged import write_by_query as write_by_query
from recallk.evaluation.metrics import retrieval_metrics as retrieval_metrics
from recallk.evaluation.revisited import revisited_metrics as revisited_metrics
from recallk.retrieval.exact import nearest as nearest

__all__ = [
    "average_precision_at_k",
    "gap",
    "judged_metrics",
    "judged_metrics_by_query",
    "nearest",
    "nmi",
    "retrieval_metrics",
    "revisited_metrics",
    "write_by_query",
]


def __getattr__(name: str) -> Any:
    if name == "nmi":  # not above: k-means needs more than PyTorch and NumPy
        from recallk.evaluation.clustering import nmi

        return nmi
    raise AttributeError(f"module 'recallk.evaluation' has no attribute {name!r}")
