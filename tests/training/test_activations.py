"""Activations that the first pass keeps: the same gradients, and less that is read and computed twice."""

from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from recallk.models.batches import read_batches
from recallk.models.views import train_view
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Step
from recallk.training import activations
from recallk.training import step as steps_of_trainers
from recallk.training.activations import KeptActivations, kept_activations
from recallk.training.memory import left_by_an_item
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer
from tests.models.preparations import Counting
from tests.rows import losses_of, steps
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "epochs": 3, "evaluate_every": 3, "chunk_size": 5}
ALL = 100.0  # GB


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=6)


def trainer_of(pictures: Path, run: Path, **changes: Any) -> Trainer:
    return Trainer(prepare(make_config(TINY, {"data": str(pictures)}, changes)), RunFolder(run))


def of_half(trainer: Trainer) -> float:
    """Return the gigabytes in which the activations of half a batch fit, and of an item more."""
    items = trainer.plan.items_per_step // 2 + 1
    return left_by_an_item(trainer.embedder, trainer.fabric) * items / 2**30


def first_step(pictures: Path, run: Path, double: bool, memory: float, **changes: Any) -> tuple[list[Tensor], float]:
    """Return the gradients of a run's first step, and the share of chunks that were kept."""
    trainer = trainer_of(pictures, run, activation_memory_gb=memory, mixup=True, batch_norm="frozen", **changes)
    if double:
        trainer.embedder.double()
    found: list[Tensor] = []

    def see(*_: Any) -> None:
        found.extend(p.grad.clone() for p in trainer.embedder.parameters() if p.grad is not None)

    with mock.patch.object(steps_of_trainers, "check_gradients", see):
        row = next(row for row in trainer.rows() if isinstance(row, Step))
    assert row.kept is not None
    return found, row.kept


@pytest.mark.parametrize(
    ("double", "chunk_sizes"),
    [
        (True, ("auto", 3)),
        pytest.param(True, (1, 16), marks=pytest.mark.slow),
        pytest.param(False, ("auto", 1, 3, 16), marks=pytest.mark.slow),
    ],
)
def test_gradients_are_the_same_whatever_is_kept_and_however_it_is_cut(
    pictures: Path, tmp_path: Path, double: bool, chunk_sizes: tuple[int | str, ...]
) -> None:
    allowed = 1e-10 if double else 1e-5
    half = of_half(trainer_of(pictures, tmp_path / "half"))
    expected, kept = first_step(pictures, tmp_path / "plain", double, 0, chunk_size=5)
    assert kept == 0
    largest = max(float(gradient.abs().max()) for gradient in expected)
    shares = set()
    for chunk_size in chunk_sizes:
        for memory in (0, half, ALL):
            run = tmp_path / f"{chunk_size}-{memory}"
            gradients, kept = first_step(pictures, run, double, memory, chunk_size=chunk_size)
            shares.add(kept)
            for gradient, other in zip(gradients, expected, strict=True):
                torch.testing.assert_close(gradient, other, rtol=allowed, atol=allowed * largest)
    assert {0, 1} < shares, "some only was never kept"


def test_a_run_is_the_same_and_reads_less(pictures: Path, tmp_path: Path) -> None:
    """Without memory for decoded images: what is not kept is read twice, from the first step on."""
    found: dict[str, tuple[list[float], int, list[Step]]] = {}
    half = of_half(trainer_of(pictures, tmp_path / "try"))
    for name, memory in (("none", 0.0), ("half", half), ("all", ALL)):
        trainer = trainer_of(pictures, tmp_path / name, activation_memory_gb=memory, host_memory_gb=0, chunk_size=4)
        with mock.patch("recallk.models.views.train_view", wraps=train_view) as read:
            rows = list(trainer.rows())
        found[name] = losses_of(rows), sum(Counter(map(str, read.call_args_list)).values()), steps(rows)
    images = sum(row.items for row in found["none"][2])
    assert [row.kept for row in found["none"][2]] == [0, 0, 0]
    assert [row.kept for row in found["half"][2]] == [0.5, 0.5, 0.5]
    assert [row.kept for row in found["all"][2]] == [1, 1, 1]
    assert [found[name][1] for name in ("none", "half", "all")] == [2 * images, 1.5 * images, images]
    for name in ("half", "all"):
        assert found[name][0] == pytest.approx(found["none"][0], abs=1e-3)


@pytest.mark.parametrize("expected", [0, 0.34, 0.67, 1])
@pytest.mark.parametrize("kept", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("budget", "workers"),
    [(0, 0), (12, 0), (1000, 0), *(pytest.param(budget, 2, marks=pytest.mark.slow) for budget in (0, 1000)), (12, 2)],
)
def test_the_second_reading_begins_behind_what_was_kept(expected: float, kept: int, budget: int, workers: int) -> None:
    """Whatever was expected, and in the next batches too; three chunks, of which some wait."""
    batches = [np.arange(10 * n, 10 * n + 10) for n in range(3)]
    stream = read_batches(Counting(), batches, 4, budget_bytes=budget, workers=workers, kept=lambda: expected)
    for number, batch in enumerate(stream):
        first = [chunk.clone() for chunk in batch]
        second = list(batch.second_reading(kept)) if number != 1 else []
        batch.pass_over()
        assert torch.cat(first)[:, 0, 0, 0].tolist() == batches[number].tolist()
        if number != 1:
            assert len(second) == 3 - kept
            assert all(torch.equal(*pair) for pair in zip(first[kept:], second, strict=True))


def test_the_plan_says_what_is_kept(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trainer_of(pictures, tmp_path / "run")
    assert kept_activations(plain) == KeptActivations(0, 0.0)
    assert kept_activations(plain).cost == pytest.approx(4 / 3)
    half = kept_activations(trainer_of(pictures, tmp_path / "run", activation_memory_gb=of_half(plain)))
    assert half.share == pytest.approx(0.5, abs=0.1)
    assert half.cost == pytest.approx(1 + 0.5 / 3, abs=0.04)
    assert kept_activations(trainer_of(pictures, tmp_path / "run", activation_memory_gb=ALL)).cost == 1
    assert kept_activations(trainer_of(pictures, tmp_path / "run", chunk_size=16)).cost == 1, "a single chunk"
    monkeypatch.setattr(activations, "free_memory", lambda _: 10**9)
    on_gpu = mock.Mock(config=plain.config, plan=plain.plan, chunk_size=plain.chunk_size)
    on_gpu.fabric.device = torch.device("cuda")
    memory = mock.Mock(parameters=10**8, embeddings=10**7, chunk=10**6)
    monkeypatch.setattr(activations, "step_memory", lambda _: memory)
    monkeypatch.setattr(activations, "left_by_an_item", lambda *_: 10**9)
    assert kept_activations(on_gpu).budget == 9 * 10**8 - 10**8 - 10**7 - 2 * 10**6
