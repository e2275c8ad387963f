"""Each benchmark of the field in miniature, through check, training and evaluation; the numbers by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import recallk
from recallk.data.benchmarks.benchmark import ALL_AGAINST_ALL, TestSet
from recallk.data.benchmarks.catalogue import BENCHMARKS
from recallk.data.findings import Findings
from recallk.data.item import Record
from recallk.models.embedder import Embedder
from recallk.runs.recipes import find_recipe
from tests.cli.test_cli import recallk as run_recallk
from tests.data import miniatures

TINY = [
    *("--backbone", "test_resnet", "--weights", "none", "--batch-norm", "per-chunk", "--embedding-size", "16"),
    *("--image-size", "32", "--resize", "32", "--crop-scale", "0.5,1", "--workers", "0", "--pooling", "gem"),
    *("--epochs", "1", "--batch-size", "16", "--chunk-size", "8", "--milestones", "1", "--learning-rate", "1e-3"),
]
RECIPES = {
    "cub": "cub200-resnet50-simix",
    "cars": "cars196-vit-b32",
    "sop": "sop-resnet50",
    "inaturalist": "inaturalist-vit-b16",
    "vehicleid": "vehicleid-resnet50",
    "inshop": "inshop-vit-b32",
}
"""Those without a recipe are trained by their name."""


def rated_by_hand(embedder: Embedder, records: Sequence[Record], test: TestSet, ks: Sequence[int]) -> dict[str, float]:
    """Rank with a loop over queries, from the images and labels that the loader gives."""
    queries = [record for record in records if record.split == test.queries]
    gallery = queries if test.gallery is None else [record for record in records if record.split == test.gallery]
    embeddings = {id(r): embedder.embed([r.item])[0].numpy() for r in {id(r): r for r in queries + gallery}.values()}
    ranks = list[int]()  # of the first image of the query's class
    for query in queries:
        others = [item for item in gallery if item is not query]
        order = np.argsort([-float(embeddings[id(query)] @ embeddings[id(item)]) for item in others], kind="stable")
        ranks.append(1 + [others[i].label == query.label for i in order].index(True))
    recalls = {f"recall@{k}": float(np.mean([rank <= k for rank in ranks])) for k in ks}
    return {**recalls, "mrr": float(np.mean([1 / rank for rank in ranks]))}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_check_train_evaluate(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = miniatures.make(name, tmp_path / "data")
    run = tmp_path / "run"
    assert run_recallk("data", "check", name, "--data", root) == 0
    capsys.readouterr()

    recipe = [RECIPES[name]] if name in RECIPES else ["--dataset", name, "--select", "test"]
    assert run_recallk("train", *recipe, "--data", root, "--run", run, *TINY) == 0
    printed = capsys.readouterr().out
    if name in RECIPES and find_recipe(RECIPES[name]).published:
        assert "published" in printed
        assert "epochs 1 instead of" in printed
        assert "backbone test_resnet instead of" in printed
    assert "the best on the test classes, as in the paper" in printed
    result = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert result["kind"] == "result"
    embedder = recallk.load(run)
    ks = [int(key.removeprefix("recall@")) for key in result if key.startswith("recall@")]
    tests, records = BENCHMARKS[name].tests, BENCHMARKS[name].read(root, Findings())
    if not tests:
        assert "split     by the classes' names: about 50% for testing, seed 0" in printed
        tested = json.loads((run / "split.json").read_text())["splits"]["test"]
        records = [Record(record.item, record.label, "test" if record.label in tested else "") for record in records]
    for number, test in enumerate(tests or ALL_AGAINST_ALL):
        by_hand = rated_by_hand(embedder, records, test, [1, *ks])
        assert 0 < by_hand["recall@1"] < 1  # where everything is found, any protocol gives the right numbers
        rated = [*(f"recall@{k}" for k in ks), "mrr"]
        measured = {key: result[key if number == 0 else f"{test.name} {key}"] for key in rated}
        assert measured == pytest.approx({key: by_hand[key] for key in rated})

    assert run_recallk("evaluate", run) == 0
    printed = capsys.readouterr().out
    assert f"{100 * result[f'recall@{ks[0]}']:.2f}" in printed
    assert all(f"{test.name} recall@{ks[0]}" in printed for test in tests[1:])


def test_a_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = miniatures.make("sop", tmp_path / "data")
    assert run_recallk("train", "sop-resnet50", "--data", root, "--run", tmp_path / "run", *TINY, "--dry-run") == 0
    printed = capsys.readouterr().out
    for word in (
        "batch     16 images",
        "steps     1 in 1 epochs, 1 an epoch",
        "memory    about",
        "nothing was trained",
    ):
        assert word in printed
    assert not (tmp_path / "run").exists()


def test_a_quick_look_at_a_few_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = miniatures.make("vehicleid", tmp_path / "data")
    words = ["train", "vehicleid-resnet50", "--data", root, "--run", tmp_path / "run", *TINY, "--limit-classes", "4"]
    assert run_recallk(*words) == 0
    assert "limit_classes 4 instead of none" in capsys.readouterr().out
    assert run_recallk("evaluate", tmp_path / "run", "--protocol", "re-identification") == 0
    printed = capsys.readouterr().out
    assert "one gallery item each" in printed
    assert "spread" in printed


def test_what_is_wrong_with_the_data_stops_a_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = miniatures.make("sop", tmp_path / "data")
    listing = next(root.rglob("Ebay_train.txt"))
    lines = listing.read_text().splitlines()
    listing.write_text("\n".join([*lines, lines[3]]))
    assert run_recallk("train", "sop-resnet50", "--data", root, "--run", tmp_path / "run", *TINY) == 2
    error = capfd.readouterr().err.strip()
    assert f"Ebay_train.txt, line {len(lines) + 1}" in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()
