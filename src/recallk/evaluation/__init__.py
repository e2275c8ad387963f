"""Evaluation: metrics of retrieval, the protocols of benchmarks, clustering."""

from typing import Any

from recallk.evaluation.average_precision import average_precision_at_k as average_precision_at_k
from recallk.evaluation.gap import gap as gap
from recallk.evaluation.metrics import retrieval_metrics as retrieval_metrics
from recallk.evaluation.revisited import revisited_metrics as revisited_metrics
from recallk.retrieval.exact import nearest as nearest

__all__ = ["average_precision_at_k", "gap", "nearest", "nmi", "retrieval_metrics", "revisited_metrics"]


def __getattr__(name: str) -> Any:
    if name == "nmi":  # not above: k-means needs more than PyTorch and NumPy
        from recallk.evaluation.clustering import nmi

        return nmi
    raise AttributeError(f"module 'recallk.evaluation' has no attribute {name!r}")
