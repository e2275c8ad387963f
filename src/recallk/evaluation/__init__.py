"""Evaluation: exact search and the metrics computed from it."""

from recallk.evaluation.clustering import nmi as nmi
from recallk.evaluation.metrics import retrieval_metrics as retrieval_metrics
from recallk.retrieval.exact import nearest as nearest
