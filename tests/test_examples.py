"""The examples in the docstrings run, and print what they say."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import recallk

MODULES = ["recallk", *(module.name for module in pkgutil.walk_packages(recallk.__path__, "recallk."))]

WITH_AN_EXAMPLE = [
    "core.relevance.Positives",
    "core.relevance.Positives.from_labels",
    "core.relevance.Positives.nth",
    "core.relevance.Positives.numbered",
    "core.relevance.Positives.are_relevant",
    "loss.recall_at_k.recall_at_k_loss",
    "loss.recall_at_k.RecallAtKLoss",
    "loss.definition.losses",
    "loss.mixup.SimilarityMixup",
    "loss.mixup.pairs_of_a_class",
    "loss.pruning.positive_limit",
    "loss.reached.reached_share",
    "retrieval.exact.nearest",
    "retrieval.exact.blocks",
    "retrieval.exact.inner_products",
    "evaluation.metrics.retrieval_metrics",
    "evaluation.metrics.unit_embeddings",
    "evaluation.clustering.nmi",
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str) -> None:
    if module.endswith(".fused"):
        pytest.importorskip("triton")
    assert not doctest.testmod(import_module(module)).failed


def test_all_modules_are_found() -> None:
    assert {"recallk.core.relevance", "recallk.loss.kernels.tiled", "recallk.evaluation.metrics"} <= set(MODULES)


@pytest.mark.parametrize("name", WITH_AN_EXAMPLE)
def test_what_a_caller_uses_has_an_example(name: str) -> None:
    module = next(name.rsplit(".", parts)[0] for parts in (1, 2) if f"recallk.{name.rsplit('.', parts)[0]}" in MODULES)
    value = import_module(f"recallk.{module}")
    for part in name.removeprefix(f"{module}.").split("."):
        value = getattr(value, part)
    assert ">>>" in (value.__doc__ or "")
