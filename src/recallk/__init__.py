"""Train embedding models for retrieval directly on recall@k."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recallk.catalogue.index import Index
    from recallk.comparison.compare import compare
    from recallk.core.errors import InputError, MissingExtraError, RecallkError
    from recallk.core.extras import Extra
    from recallk.core.relevance import Positives
    from recallk.loss.mixup import SimilarityMixup
    from recallk.loss.recall_at_k import RecallAtKLoss, recall_at_k_loss
    from recallk.models.made_by import compose
    from recallk.models.saved import load
    from recallk.models.transforms import TestTransform, TrainTransform
    from recallk.reporting.run import report
    from recallk.retrieval.search import search
    from recallk.runs.embed import embed
    from recallk.runs.evaluate import evaluate
    from recallk.runs.whiten import whiten
    from recallk.training.class_batch_sampler import ClassBatchSampler
    from recallk.training.labelled_images import LabelledImages, read_images
    from recallk.training.large_batch import large_batch_backward
    from recallk.training.train import resume, train

__version__ = version("recallk")

__all__ = [
    "ClassBatchSampler",
    "Index",
    "InputError",
    "LabelledImages",
    "MissingExtraError",
    "Positives",
    "RecallAtKLoss",
    "RecallkError",
    "SimilarityMixup",
    "TestTransform",
    "TrainTransform",
    "compare",
    "compose",
    "embed",
    "evaluate",
    "large_batch_backward",
    "load",
    "read_images",
    "recall_at_k_loss",
    "report",
    "resume",
    "search",
    "train",
    "whiten",
]

# imported when first used: `import recallk` and `recallk --help` are instant
_MODULES = {
    "Index": "recallk.catalogue.index",
    "InputError": "recallk.core.errors",
    "MissingExtraError": "recallk.core.errors",
    "RecallkError": "recallk.core.errors",
    "Positives": "recallk.core.relevance",
    "SimilarityMixup": "recallk.loss.mixup",
    "RecallAtKLoss": "recallk.loss.recall_at_k",
    "recall_at_k_loss": "recallk.loss.recall_at_k",
    "ClassBatchSampler": "recallk.training.class_batch_sampler",
    "large_batch_backward": "recallk.training.large_batch",
    "LabelledImages": "recallk.training.labelled_images",
    "read_images": "recallk.training.labelled_images",
    "TestTransform": "recallk.models.transforms",
    "TrainTransform": "recallk.models.transforms",
    "load": "recallk.models.saved",
    "compose": "recallk.models.made_by",
    "compare": "recallk.comparison.compare",
    "train": "recallk.training.train",
    "resume": "recallk.training.train",
    "evaluate": "recallk.runs.evaluate",
    "embed": "recallk.runs.embed",
    "search": "recallk.retrieval.search",
    "report": "recallk.reporting.run",
    "whiten": "recallk.runs.whiten",
}
_EXTRAS: "dict[str, Extra]" = {
    **dict.fromkeys(("load", "compose", "train", "resume", "evaluate", "embed", "search", "whiten", "Index"), "train"),
    **dict.fromkeys(("LabelledImages", "read_images", "TestTransform", "TrainTransform"), "train"),
    "report": "report",
    "compare": "compare",
}
"""The names that need more than the base install, and what they need."""

_ROOMS = (
    *("core", "loss", "data", "models", "losses", "retrieval"),
    *("catalogue", "evaluation", "runs", "training", "comparison", "reporting", "serve", "integrations"),
)


def __getattr__(name: str) -> Any:
    if name in _EXTRAS:
        from recallk.core.extras import require

        require(_EXTRAS[name], f"recallk.{name}")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name in _ROOMS:
        return import_module(f"recallk.{name}")
    raise AttributeError(f"module 'recallk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
