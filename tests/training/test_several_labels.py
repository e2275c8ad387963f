"""Runs on items with several labels: what a step's loss is of, what is measured, and what is refused."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet

import recallk
from recallk import InputError, Positives, RecallAtKLoss
from recallk.evaluation.metrics import retrieval_metrics
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row
from recallk.training.plan import Plan, prepare
from recallk.training.trainer import Trainer
from tests.cli.test_cli import recallk as command
from tests.processes import in_processes
from tests.rows import losses_of, measured, steps, without_time

COLOURS, SHAPES, SIZE = 8, 6, 16
SMALL: dict[str, Any] = {"embedding_size": 8, "epochs": 6, "batch_size": 32, "accelerator": "cpu", "select": "last"}


def written(side: str) -> list[str]:
    """Return the labels of the items of a side: a colour, a shape, or both."""
    pairs = [f"{side} colour {c}|{side} shape {s}" for c, s in product(range(COLOURS), range(SHAPES))]
    return [
        *pairs,
        *pairs,
        *(f"{side} colour {c}" for c in range(COLOURS)),
        *(f"{side} shape {s}" for s in range(SHAPES)),
    ]


def vectors(labels: list[str]) -> NDArray[np.float32]:
    """Return what half of the dimensions say of colour and shape; the others are louder, and say nothing."""
    random = np.random.default_rng(0)
    direction: dict[str, NDArray[Any]] = {}
    rows = 5 * random.standard_normal((len(labels), SIZE))
    for row, text in enumerate(labels):
        own = [direction.setdefault(label, random.standard_normal(SIZE // 2)) for label in text.split("|")]
        rows[row, : SIZE // 2] = np.sum(own, 0) + 0.2 * random.standard_normal(SIZE // 2)
    return rows.astype(np.float32)


def write(folder: Path, test: str = "test", lists: bool = False) -> Path:
    labels = [*written("train"), *written(test)]
    split = np.repeat(["train", "test"], len(labels) // 2).tolist()
    table = {
        "embedding": list(vectors(labels)),
        "label": [t.split("|") for t in labels] if lists else labels,
        "split": split,
    }
    parquet.write_table(pyarrow.table(table), folder / "v.parquet")
    return folder / "v.parquet"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("table"))


def plan_of(data: Path, **changes: Any) -> Plan:
    return prepare(make_config(SMALL, {"data": str(data)}, changes))


def trained(data: Path | str, run: Path | str, **changes: Any) -> list[Row]:
    return list(Trainer(plan_of(Path(data), **changes), RunFolder(Path(run))).rows())


def test_they_are_learned_and_measured(table: Path, tmp_path: Path) -> None:
    rows = trained(table, tmp_path / "run", epochs=20)
    before, *_, result = measured(rows)
    assert result.metrics["recall@1"] > before.metrics["recall@1"] + 0.1
    test = plan_of(table).data.test.labelled
    assert test.counted == "110 vectors with 14 labels, several of an item"
    embeddings = recallk.load(tmp_path / "run").embed(test.items)
    sets = [set(test.classes[number].split("|")) for number in test.labels]
    again = retrieval_metrics(embeddings, positives=Positives.from_label_sets(sets), ks=(1, 2, 4, 8))
    assert again == {name: pytest.approx(result.metrics[name], abs=1e-6) for name in again}
    assert "nmi" not in result.metrics
    found = recallk.evaluate(tmp_path / "run")
    assert found.metrics == {name: pytest.approx(value, abs=1e-6) for name, value in again.items()}


def test_a_step_is_the_loss_of_its_positives(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    forward = RecallAtKLoss.forward

    def watched(loss: RecallAtKLoss, embeddings: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        seen.append(embeddings.detach().clone())
        return forward(loss, embeddings, *args, **more)

    monkeypatch.setattr(RecallAtKLoss, "forward", watched)
    trainer = Trainer(plan_of(table, chunk_size=16), RunFolder(tmp_path / "run"))
    made = steps(list(trainer.rows()))
    batches = [batch for epoch in range(1, 7) for batch in trainer.plan.sampler.epoch(epoch)]
    assert len(made) == len(batches) == len(seen) > 12
    train = trainer.plan.data.train
    for row, batch, embeddings in zip(made, batches, seen, strict=True):
        sets = [set(train.classes[number].split("|")) for number in train.labels[batch]]
        expected = recallk.recall_at_k_loss(embeddings, positives=Positives.from_label_sets(sets), ks=(1, 2, 4, 8, 16))
        assert row.loss == pytest.approx(float(expected), abs=1e-6)
        single = recallk.recall_at_k_loss(embeddings, train.labels[batch], ks=(1, 2, 4, 8, 16))
        assert row.loss != pytest.approx(float(single), abs=1e-4)
    assert made[0].reached is not None


def test_each_batch_has_labels_with_so_many_items(table: Path) -> None:
    plan = plan_of(table)
    train = plan.data.train
    for epoch in (1, 2):
        seen = set[int]()
        for batch in plan.sampler.epoch(epoch):
            groups = batch.reshape(-1, plan.config.of_a_class)
            for group in groups:
                assert set.intersection(*(set(train.classes[train.labels[item]].split("|")) for item in group))
            assert not seen & set(batch.tolist())
            seen |= set(batch.tolist())
        assert plan.steps_until(epoch) - plan.steps_until(epoch - 1) == len(list(plan.sampler.epoch(epoch)))
    first = [next(iter(plan.sampler.epoch(epoch))).tolist() for epoch in (1, 2)]
    assert first[0] != first[1]


def test_lists_and_a_whole_set_as_a_batch(table: Path, tmp_path: Path) -> None:
    lists = write(tmp_path, lists=True)
    assert without_time(trained(lists, tmp_path / "one")) == without_time(trained(table, tmp_path / "other"))
    rows = trained(table, tmp_path / "whole", batch_size="all", epochs=3)
    assert [row.items for row in steps(rows)] == [110] * 3


def test_resumed_it_ends_alike(table: Path, tmp_path: Path) -> None:
    rows = trained(table, tmp_path / "whole")
    half = Trainer(plan_of(table), RunFolder(tmp_path / "run"))
    for row in half.rows():
        if steps([row]) and steps([row])[0].epoch == 4:  # the checkpoint is of the third
            break
    again = list(Trainer(plan_of(table), RunFolder(tmp_path / "run")).rows(resume=True))
    assert losses_of(again) == losses_of(rows)[-len(losses_of(again)) :]
    assert {row.epoch for row in steps(again)} == {4, 5, 6}
    assert measured(again)[-1].metrics == measured(rows)[-1].metrics


def _train(folder: str, data: str) -> list[float]:
    return losses_of(trained(data, folder, chunk_size=8))


def test_two_processes_train_as_one(table: Path, tmp_path: Path) -> None:
    alone = losses_of(trained(table, tmp_path / "one", chunk_size=8))
    for losses in in_processes(_train, 2, str(tmp_path / "run"), str(table)):
        assert losses == pytest.approx(alone, abs=1e-5)


def test_labels_on_both_sides_are_a_closed_set(tmp_path: Path) -> None:
    data = write(tmp_path, test="train")
    with pytest.raises(InputError, match=r"is in the train and in the test split: .*--closed-set"):
        plan_of(data)
    rows = trained(data, tmp_path / "run", closed_set=True)
    assert measured(rows)[-1].metrics["recall@1"] > 0
    assert "a closed set" in recallk.evaluate(tmp_path / "run").items


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss": "multi-similarity"}, "loss=multi-similarity is for one label an item, and these have several"),
        ({"mixup": True}, "mixup mixes items of one class, and these have several labels"),
        ({"limit_classes": 3}, "limit_classes is for items with one label each"),
        ({"split": "classes"}, "items have several labels .*: give a split"),
    ],
)
def test_what_is_refused(table: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        plan_of(table, **changes)
    assert "\n" not in str(caught.value)


def test_by_the_command(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [word for key, value in SMALL.items() for word in (f"--{key.replace('_', '-')}", value)]
    run = tmp_path / "run"
    assert command("train", "--data", table, "--run", run, *words, "--explain") == 0
    printed = capfd.readouterr().out
    assert "14 labels, several of an item" in printed
    assert "these have several labels" in printed, "why there is no mixup"
    assert command("evaluate", run) == 0
    assert "with 14 labels, several of an item" in capfd.readouterr().out
    page = (run / "report.html").read_text()
    assert "test colour 0|test shape" in page
    assert "Answered worst" in page
    assert command("search", run, table, "--gallery", table, "--k", "1") == 0
    assert "|" in capfd.readouterr().out
    assert command("evaluate", run, "--protocol", "re-identification") == 2
    assert "is for one label an item" in capfd.readouterr().err
    assert command("whiten", run, "--data", table, "--method", "learned") == 2
    assert "items have several labels" in capfd.readouterr().err
