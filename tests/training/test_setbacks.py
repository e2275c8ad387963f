"""Steps that are not finite: the run ends with what to do, or leaves them out, and nothing has moved."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recallk import InputError
from recallk.core.seeds import mixed_seed
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row, Step
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer
from tests.processes import in_processes
from tests.rows import steps
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "epochs": 4, "evaluate_every": 4, "chunk_size": 5}
MEMORY = {"loss": {"name": "memory-contrastive", "memory_size": 64}}
SPOILT = ["embeddings", "loss", "gradients"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=6)


class SpoiltTrainer(Trainer):
    """Trains; `spoil` says what is infinite or no number in the steps that come."""

    spoil: str | None = None
    second_step = (2, 0)  # its epoch, and number there

    def prepared(self) -> "SpoiltTrainer":
        """Have what is asked for spoilt: of the embeddings, those of the third chunk alone."""
        weight = self.embedder.get_parameter("head.weight")
        weight.register_hook(lambda gradient: gradient * torch.inf if self.spoil == "gradients" else None)  # type: ignore[no-untyped-call]
        self.loss.register_forward_hook(lambda *given: given[-1] * torch.nan if self.spoil == "loss" else None)
        self._steps.network.register_forward_hook(self._of_a_chunk)
        return self

    def _of_a_chunk(self, _network: Any, given: Any, embeddings: Tensor) -> Tensor | None:
        third = given[0].seed == mixed_seed(self.config.seed, *self.second_step, 2)
        return embeddings * torch.nan if self.spoil == "embeddings" and third else None


def trainer_of(pictures: Path | str, run: Path, **changes: Any) -> SpoiltTrainer:
    plan = prepare(make_config(TINY, {"data": str(pictures)}, changes))
    return SpoiltTrainer(plan, RunFolder(run)).prepared()


def moved_by_a_step(trainer: Trainer) -> dict[str, Any]:
    modules = {"model": trainer.embedder, "loss": trainer.loss}
    state = {name: module.state_dict() for name, module in modules.items()}
    return copy.deepcopy(state | {"moments": trainer.optimizer.optimizer.state_dict()["state"]})


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


def made(rows: Iterator[Row]) -> Step:
    return next(row for row in rows if isinstance(row, Step))


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_skipped_step_changes_nothing(pictures: Path, tmp_path: Path, spoil: str) -> None:
    # two steps an epoch, each read twice: after a step that is left out, the next one has its own images
    more = {"batch_size": 8, "host_memory_gb": 0, "epochs": 2, "chunk_size": 3}
    trainer = trainer_of(pictures, tmp_path / "run", on_non_finite="skip", **MEMORY, **more)
    trainer.second_step = (1, 1)
    rows = trainer.rows()
    made(rows)
    before = moved_by_a_step(trainer)
    trainer.spoil = spoil
    row = made(rows)
    assert equal(moved_by_a_step(trainer), before)
    assert row.skipped
    assert row.note is not None
    assert row.note.startswith("skipped: the ")
    assert spoil in row.note
    trainer.spoil = None
    assert not made(rows).skipped
    assert not equal(moved_by_a_step(trainer), before), "nothing would have moved in any step"
    list(rows)
    assert [step.skipped for step in steps(trainer.folder.history())] == [False, True, False, False]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("embeddings", r"step 2: the embeddings of chunk 3 hold NaN or infinity; lower the learning rate \(0.002\), "),
        ("loss", r"step 2: the loss is nan; lower the learning rate \(0.002\), or leave such steps out"),
        ("gradients", r"step 2: the gradients hold NaN or infinity; lower the learning rate \(0.002\), or take --prec"),
    ],
)
def test_the_run_ends_with_step_chunk_and_learning_rate(pictures: Path, tmp_path: Path, spoil: str, told: str) -> None:
    trainer = trainer_of(pictures, tmp_path / "run")
    rows = trainer.rows()
    made(rows)
    trainer.spoil = spoil
    with pytest.raises(InputError, match=told):
        list(rows)


def skipping(pictures: str, folder: str, spoilt: list[str]) -> list[tuple[dict[str, Any], list[Step]]]:
    """Spoil the second step, its embeddings in one process; return what a run has moved by its end, and its steps."""
    ends = []
    for spoil in spoilt:
        trainer = trainer_of(pictures, Path(folder) / spoil, on_non_finite="skip", learning_rate=1e-4)
        told: list[Step] = []
        for row in trainer.rows():
            told += steps([row])
            trainer.spoil = spoil if len(told) == 1 else None
        ends.append((moved_by_a_step(trainer), told))
    return ends


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoilt", [["embeddings"], pytest.param(["loss", "gradients"], marks=pytest.mark.slow)], ids=str
)
def test_all_processes_skip_alike(pictures: Path, tmp_path: Path, spoilt: list[str]) -> None:
    first, second = in_processes(skipping, 2, str(pictures), str(tmp_path / "two"), spoilt)
    alone = skipping(str(pictures), str(tmp_path / "one"), spoilt)
    for (ended, told), (other, also_told), (expected, expected_told) in zip(first, second, alone, strict=True):
        assert equal(ended, other)
        assert [step.note for step in told] == [step.note for step in also_told]
        assert [step.note for step in told] == [step.note for step in expected_told]
        assert sum(step.skipped for step in told) == 1
        for name, value in expected["model"].items():
            torch.testing.assert_close(ended["model"][name], value, rtol=1e-3, atol=1e-5)
