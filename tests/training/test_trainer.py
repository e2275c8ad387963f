"""Whole runs on small pictures: repeatable, resumable, nothing half-written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import recallk
from recallk import InputError, load
from recallk.data import sides
from recallk.evaluation.protocols import measure
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import MeasurementKind, Row, Step
from recallk.training.plan import prepare
from recallk.training.schedule import learning_rate
from recallk.training.trainer import Trainer
from tests.rows import kind_of, losses_of, measured, steps, without_time

SMALL: dict[str, Any] = {
    "backbone": "test_resnet",
    "weights": "none",
    "batch_norm": "per-chunk",
    "embedding_size": 16,
    "image_size": 32,
    "resize": 32,
    "crop_scale": (0.5, 1.0),
    "epochs": 2,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "schedule": "milestones",  # and none of them: a longer run begins as a shorter one
    "select": "validation",
    "chunk_size": 7,
    "workers": 0,
    "accelerator": "cpu",
}


def save_patterns(root: Path, classes: int, images: int) -> Path:
    """Write classes that have a pattern of their own each, with noise over it."""
    random = np.random.default_rng(0)
    for label in range(classes):
        pattern = random.integers(0, 255, (5, 5, 3))
        (root / f"class{label}").mkdir()
        for number in range(images):
            noisy = (pattern + random.normal(0, 40, pattern.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((40, 36)).save(root / f"class{label}" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=6)


def train(pictures: Path, run: Path, **changes: Any) -> list[Row]:
    plan = prepare(make_config(SMALL, {"data": str(pictures)}, changes))
    return list(Trainer(plan, RunFolder(run)).rows())


def test_a_run_leaves_everything_in_its_folder(pictures: Path, tmp_path: Path) -> None:
    rows = train(pictures, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert folder.history()[1:] == rows
    assert kind_of(folder.history()[0]) == "start"
    assert [kind_of(row) for row in rows] == ["evaluation", *["step", "evaluation"] * 2, "result"]
    assert folder.read_config().data == str(pictures)
    assert {path.name for path in folder.path.iterdir()} == {
        "config.yaml",
        "split.json",
        "metrics.jsonl",
        "checkpoint",
        "model",
    }
    assert {path.name for path in folder.model.iterdir()} == {"embedder.json", "weights.safetensors"}
    assert load(folder.path).embed([pictures / "class0" / "0.png"]).shape == (1, 16)


@pytest.mark.parametrize("mixup", [False, True])
def test_the_share_of_queries_that_the_loss_reaches_is_told_as_often_as_the_model_is_measured(
    pictures: Path, tmp_path: Path, mixup: bool
) -> None:
    taken = steps(train(pictures, tmp_path / "ours", batch_size=8, mixup=mixup, epochs=5, evaluate_every=3))
    firsts = [
        row for row, before in zip(taken, [None, *taken], strict=False) if before is None or row.epoch > before.epoch
    ]
    assert len(taken) > len(firsts) == 5
    told = [row for row in taken if row.reached is not None]
    assert told == [row for row in firsts if row.epoch in (1, 3, 5)]
    assert all(0 < row.reached <= 1 for row in told if row.reached is not None)
    others = steps(train(pictures, tmp_path / "other", loss="contrastive"))
    assert others
    assert all(row.reached is None for row in others)


@pytest.mark.slow
def test_one_seed_gives_one_result_and_another_another(pictures: Path, tmp_path: Path) -> None:
    rows = train(pictures, tmp_path / "1")
    first = without_time(rows)
    assert first == without_time(train(pictures, tmp_path / "2", workers=2))
    assert first == without_time(train(pictures, tmp_path / "3", host_memory_gb=0))
    other = train(pictures, tmp_path / "4", seed=2)
    assert steps(rows)[0].loss != steps(other)[0].loss
    assert measured(rows)[-1].metrics["map@r"] != measured(other)[-1].metrics["map@r"]


@pytest.mark.parametrize("stop_after", ["step", "evaluation"])
def test_an_interrupted_run_goes_on_to_the_same_end(pictures: Path, tmp_path: Path, stop_after: str) -> None:
    changes = {"epochs": 3, "schedule": "cosine", "warmup_steps": 2, "optimizer": "adamw"}
    whole = without_time(train(pictures, tmp_path / "whole", **changes))
    config = make_config(SMALL, {"data": str(pictures)}, changes)
    folder = RunFolder(tmp_path / "cut")
    for row in Trainer(prepare(config), folder).rows():
        if row.epoch == 2 and kind_of(row) == stop_after:
            break
    assert not folder.model.exists()
    list(Trainer(prepare(folder.read_config()), folder).rows(resume=True))
    assert without_time(folder.history()) == whole
    ends = [load(tmp_path / name).state_dict() for name in ("whole", "cut")]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.parametrize("select", ["validation", pytest.param("test", marks=pytest.mark.slow)])
def test_the_best_epoch_is_kept_and_measured(tmp_path: Path, select: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "FEWEST_QUERIES", 8)
    (tmp_path / "data").mkdir()
    data = save_patterns(tmp_path / "data", classes=40, images=4)
    run = RunFolder(tmp_path / "run")
    rows = train(data, run.path, epochs=4, learning_rate=1e-2, select=select)
    kind: MeasurementKind = "validation" if select == "validation" else "evaluation"
    assert [row.epoch for row in measured(rows, kind)] == [0, 1, 2, 3, 4]
    assert [row.epoch for row in measured(rows, "evaluation")] == ([0] if select == "validation" else [0, 1, 2, 3, 4])
    by = "map@r" if select == "validation" else "recall@1"
    chosen = max((row for row in measured(rows, kind) if row.epoch), key=lambda row: row.metrics[by])
    (result,) = measured(rows, "result")
    assert result == rows[-1]
    assert result.epoch == chosen.epoch
    test = prepare(run.read_config()).data.test
    embeddings = load(run.path).embed(test.labelled.items)
    again = measure(embeddings, test.labelled, test.searches, run.read_config().evaluate_ks)
    assert again == {name: pytest.approx(result.metrics[name], abs=1e-6) for name in again}


def test_a_finished_run_resumed_stays_as_it_is(pictures: Path, tmp_path: Path) -> None:
    rows = train(pictures, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    list(Trainer(prepare(folder.read_config()), folder).rows(resume=True))
    assert without_time(folder.history()) == without_time(rows)


def test_training_learns(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = save_patterns(tmp_path / "data", classes=32, images=4)
    rows = train(data, tmp_path / "run", epochs=12, evaluate_every=12, learning_rate=3e-3, chunk_size=32)
    losses = losses_of(rows)
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1


def test_a_taken_folder_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        train(pictures, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_image_that_breaks_during_the_first_epoch_leaves_no_run(pictures: Path, tmp_path: Path) -> None:
    plan = prepare(make_config(SMALL, {"data": str(pictures)}))
    item = plan.data.train.items[0]
    assert isinstance(item, Path)
    whole = item.read_bytes()
    item.write_bytes(whole[:60])
    try:
        with pytest.raises(InputError, match="truncated or broken"):
            list(Trainer(plan, RunFolder(tmp_path / "run")).rows())
    finally:
        item.write_bytes(whole)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_interrupted_run_stays_only_if_it_can_go_on(pictures: Path, tmp_path: Path, epoch: int) -> None:
    rows = Trainer(prepare(make_config(SMALL, {"data": str(pictures)})), RunFolder(tmp_path / "run")).rows()
    while next(rows).epoch < epoch:
        pass
    with pytest.raises(KeyboardInterrupt):
        rows.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert (tmp_path / "run").exists() == (epoch > 0)


def test_resuming_needs_a_checkpoint(pictures: Path, tmp_path: Path) -> None:
    plan = prepare(make_config(SMALL, {"data": str(pictures)}))
    with pytest.raises(InputError, match="no checkpoint"):
        next(Trainer(plan, RunFolder(tmp_path)).rows(resume=True))


def test_an_accelerator_that_is_not_there(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accelerator='warp'"):
        train(pictures, tmp_path / "run", accelerator="warp")


def test_the_learning_rate_is_a_function_of_the_step() -> None:
    milestones = make_config({"data": "x", "learning_rate": 1, "milestones": (2, 3), "warmup_steps": 4, "epochs": 4})
    rates = [learning_rate(milestones, epoch, step, 8) for step, epoch in enumerate([1, 1, 2, 2, 3, 3, 4, 4], 1)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 0.3, 0.3, 0.09, 0.09])
    cosine = make_config({"data": "x", "learning_rate": 1, "schedule": "cosine"})
    assert learning_rate(cosine, 1, 1, 10) == 1
    assert learning_rate(cosine, 1, 6, 10) == pytest.approx(0.5)
    assert 0 < learning_rate(cosine, 1, 10, 10) < 0.03
    assert learning_rate(cosine, 1, 99, 10) == 0  # a run of very many epochs may have more steps than expected
    keys = {"schedule": "exponential", "epoch_factor": 0.9, "warmup_steps": 2}
    exponential = make_config({"data": "x", "learning_rate": 1, **keys})
    rates = [learning_rate(exponential, epoch, step, 6) for step, epoch in enumerate([1, 1, 2, 2, 3, 3], 1)]
    assert rates == pytest.approx([0.5, 1, 0.9, 0.9, 0.81, 0.81])


def test_an_evaluation_that_meets_a_divergence_says_what_to_do(pictures: Path, tmp_path: Path) -> None:
    plan = prepare(make_config(SMALL, {"data": str(pictures), "learning_rate": 0.25}))
    trainer = Trainer(plan, RunFolder(tmp_path / "run"))
    rows = trainer.rows()
    while not isinstance(next(rows), Step):
        pass
    torch.nn.init.constant_(trainer.embedder.get_parameter("head.weight"), float("nan"))
    with pytest.raises(InputError, match=r"epoch 1: the embeddings hold NaN or infinity; lower the learning .*0.25"):
        list(rows)
    assert not (tmp_path / "run").exists()


def test_a_network_that_gives_no_numbers_is_not_trained(pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(prepare(make_config(SMALL, {"data": str(pictures)})), RunFolder(tmp_path / "run"))
    torch.nn.init.constant_(trainer.embedder.get_parameter("head.weight"), float("nan"))
    with pytest.raises(InputError, match="test_resnet gives NaN or infinity before it is trained"):
        list(trainer.rows())


@pytest.mark.parametrize("resumed", [False, True])
def test_the_test_items_may_be_left_alone(pictures: Path, tmp_path: Path, resumed: bool) -> None:
    """Also where no validation classes are measured in between, and a run is lengthened."""
    values = SMALL | {"data": str(pictures), "select": "last", "epochs": 2}
    values |= {"measure_before": False, "measure_after": False}
    summary = recallk.train(values, tmp_path / "run")
    if resumed:
        summary = recallk.resume(tmp_path / "run", {"epochs": 3})
    (only,) = measured(summary.rows)
    assert (only.kind, only.epoch, only.metrics) == ("result", 3 if resumed else 2, {})
    with pytest.raises(InputError, match="select=test measures the test items after each epoch"):
        make_config(values | {"select": "test"})
