"""Each instance-level test set in miniature through check, training and evaluation; the numbers by loops."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import recallk
from recallk.data.findings import Findings
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.data.instances.instance import Landmarks, Relevant, Revisited, Truth
from recallk.data.item import Item
from recallk.models.embedder import Embedder
from tests.cli.test_cli import recallk as run_recallk
from tests.data.instance_miniatures import VARIANTS, distractors, make_instances
from tests.training.test_trainer import save_patterns

TINY = [
    *("--backbone", "test_resnet", "--weights", "none", "--batch-norm", "per-chunk", "--embedding-size", "16"),
    *("--image-size", "32", "--resize", "32", "--crop-scale", "0.5,1", "--workers", "0", "--epochs", "1"),
    *("--select", "last", "--learning-rate", "1e-3"),
]


@pytest.fixture(scope="module", params=["square", "keep"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    patterns = save_patterns(tmp_path_factory.mktemp("patterns"), classes=8, images=4)
    path: Path = tmp_path_factory.mktemp("runs") / "run"
    assert run_recallk("train", "--data", patterns, "--run", path, *TINY, "--image-shape", request.param) == 0
    return path


def ranked(embedder: Embedder, query: Item, gallery: Sequence[Item]) -> tuple[list[int], list[float]]:
    """Return the gallery's numbers from the most similar on, and all similarities; the gallery is in float16."""
    asked = embedder.embed([query])[0].numpy()
    similarities = [float(asked @ embedder.embed([item])[0].half().float().numpy()) for item in gallery]
    return np.argsort([-value for value in similarities], kind="stable").tolist(), similarities


def trapezoids(ranks: list[int]) -> float:
    """Return average precision as revisited Oxford and Paris define it, of the positives' ranks, from 0."""
    total = 0.0
    for j, rank in enumerate(ranks):
        before = 1.0 if rank == 0 else j / rank
        total += (before + (j + 1) / (rank + 1)) / 2 / len(ranks)
    return total


def by_loops(truth: Truth, rankings: list[list[int]], best: list[float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    match truth:
        case Revisited():
            for ranking, answer in zip(rankings, truth.answers, strict=True):
                easy, hard, junk = (set(answer[grade]) for grade in ("easy", "hard", "junk"))
                for name, positives, out in (
                    ("easy", easy, junk | hard),
                    ("medium", easy | hard, junk),
                    ("hard", hard, junk | easy),
                ):
                    if not positives:
                        continue
                    left = [image for image in ranking if image not in out]
                    ranks = [place for place, image in enumerate(left) if image in positives]
                    found.setdefault(f"{name} map", []).append(trapezoids(ranks))
                    for k in (1, 5, 10):
                        depth = min(ranks[-1] + 1, k)
                        found.setdefault(f"{name} mp@{k}", []).append(sum(r < depth for r in ranks) / depth)
        case Relevant():
            subsets = truth.subsets or [""] * len(rankings)
            for ranking, items, subset in zip(rankings, truth.items, subsets, strict=True):
                if len(items) == 0:
                    continue
                hits, total = 0, 0.0
                for place, image in enumerate(ranking[: truth.k], 1):
                    if image in items:
                        hits += 1
                        total += hits / place
                name = f"{subset} map@{truth.k}".strip().lower()
                found.setdefault(name, []).append(total / min(len(items), truth.k))
        case Landmarks():
            right, precision = 0, 0.0
            order = sorted(range(len(rankings)), key=lambda query: -best[query])
            for place, query in enumerate(order, 1):
                if int(truth.gallery[rankings[query][0]]) in truth.queries[query]:
                    right += 1
                    precision += right / place
            found["gap"] = [precision / sum(bool(len(own)) for own in truth.queries)]
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_check_and_evaluate(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_instances(name, tmp_path / "data")
    assert run_recallk("data", "check", name, "--data", root) == 0
    read = INSTANCE_BENCHMARKS[name].read(root, Findings())
    assert read is not None
    embedder = recallk.load(run)
    folder = distractors(tmp_path / "distractors", 4)
    others = sorted(folder.rglob("*.jpg"))
    for among in ([], others):
        found = [ranked(embedder, query, [*read.gallery, *among]) for query in read.queries]
        truth = read.truth
        if among and isinstance(truth, Landmarks):
            truth = Landmarks(np.concatenate([truth.gallery, np.full(len(among), -1)]), truth.queries)
        expected = by_loops(truth, [ranking for ranking, _ in found], [max(similar) for _, similar in found])
        measured = recallk.evaluate(run, str(root), benchmark=name, distractors=folder if among else None)
        assert measured.metrics == pytest.approx(expected, abs=1e-6)
        assert list(measured.metrics) == list(expected) or len(expected) > 1
    capsys.readouterr()
    assert run_recallk("evaluate", run, "--benchmark", name, "--data", root) == 0
    printed = capsys.readouterr().out
    first = next(iter(recallk.evaluate(run, str(root), benchmark=name).metrics.items()))
    assert f"{100 * first[1]:.2f}" in printed
    assert first[0] in printed


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_the_models_own_descriptors_give_the_same(name: str, run: Path, tmp_path: Path) -> None:
    root = make_instances(name, tmp_path / "data")
    read = INSTANCE_BENCHMARKS[name].read(root, Findings())
    assert read is not None
    embedder = recallk.load(run)
    with torch.no_grad():
        np.savez(
            tmp_path / "vectors.npz",
            queries=embedder.embed(list(read.queries)).numpy(),
            gallery=embedder.embed(list(read.gallery)).half().numpy(),
        )
    given = recallk.evaluate(data=str(root), benchmark=name, descriptors=tmp_path / "vectors.npz")
    assert given.metrics == pytest.approx(dict(recallk.evaluate(run, str(root), benchmark=name).metrics), abs=1e-6)
