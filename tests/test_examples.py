"""The examples in the docstrings run, and print what they say."""

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recallk

MODULES = ["recallk", *(module.name for module in pkgutil.walk_packages(recallk.__path__, "recallk."))]

pytestmark = pytest.mark.xdist_group("examples")  # one process trains the run that they name

NOT_CALLED = {"InputError", "MissingExtraError", "RecallkError"}
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
    "evaluation.evaluation_set.unit_embeddings",
    "evaluation.clustering.nmi",
    "models.whitening.pca_whitening",
    "models.whitening.learned_whitening",
    "models.whitening.pairs_of_classes",
    "evaluation.revisited.revisited_metrics",
    "evaluation.average_precision.average_precision_at_k",
    "evaluation.gap.gap",
    "evaluation.instances.measure_instances",
    "retrieval.stored.nearest_stored",
    "retrieval.stored.ranks_stored",
    "losses.listwise_ap.listwise_ap_loss",
]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name: photos, a finished run, and a catalogue of two pictures with a query."""
    folder = tmp_path_factory.mktemp("examples")
    random = np.random.default_rng(0)
    for label in range(16):
        (folder / "photos" / f"class{label}").mkdir(parents=True)
        for number in range(4):
            noise = random.integers(0, 255, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(noise).save(folder / "photos" / f"class{label}" / f"{number}.png")
    small = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "embedding_size": 16}
    config = {"data": str(folder / "photos"), **small, "epochs": 1, "workers": 0}
    recallk.train(config, folder / "runs" / "letters")
    (folder / "catalogue").mkdir()
    for name, grey in (("catalogue/a.png", 0), ("catalogue/b.png", 200), ("query.png", 210)):
        pixels = np.full((40, 40), 255, dtype=np.uint8)
        pixels[10:30, 10:30] = grey
        Image.fromarray(pixels).save(folder / name)
    recallk.Index.build(folder / "runs" / "letters", folder / "catalogue", folder / "kept", workers=0)
    return folder


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    if module.endswith(".fused"):
        pytest.importorskip("triton")
    assert not doctest.testmod(import_module(module)).failed


def test_all_modules_are_found() -> None:
    assert {"recallk.core.relevance", "recallk.loss.kernels.tiled", "recallk.evaluation.metrics"} <= set(MODULES)


@pytest.mark.parametrize("name", sorted(set(recallk.__all__) - NOT_CALLED))
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>>" in (getattr(recallk, name).__doc__ or "")


@pytest.mark.parametrize("name", WITH_AN_EXAMPLE)
def test_what_a_caller_uses_has_an_example(name: str) -> None:
    module = next(name.rsplit(".", parts)[0] for parts in (1, 2) if f"recallk.{name.rsplit('.', parts)[0]}" in MODULES)
    value = import_module(f"recallk.{module}")
    for part in name.removeprefix(f"{module}.").split("."):
        value = getattr(value, part)
    assert ">>>" in (value.__doc__ or "")
