"""Whole runs in bfloat16 and float16: they learn, repeat, resume with their scale, and are measured in float32."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recallk import InputError, load
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Step
from recallk.training import step as steps_of_trainers
from recallk.training.plan import Plan, prepare
from recallk.training.state import load_state
from recallk.training.step_memory import step_memory
from recallk.training.trainer import Trainer
from recallk.training.two_passes import TwoPasses, two_passes
from tests.rows import kind_of, losses_of, without_time
from tests.training.test_trainer import SMALL, save_patterns

MIXED = ["bf16-mixed", "16-mixed"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=4)


def plan_of(pictures: Path, **changes: Any) -> Plan:
    return prepare(make_config(SMALL, {"data": str(pictures)}, changes))


def losses(pictures: Path, run: Path, **changes: Any) -> list[float]:
    rows = list(Trainer(plan_of(pictures, epochs=1, **changes), RunFolder(run)).rows())
    assert kind_of(rows[-1]) == "result"
    return losses_of(rows)


@pytest.mark.parametrize(
    ("changes", "precision"),
    [
        ({"mixup": True}, "bf16-mixed"),
        ({"loss": "arcface"}, "16-mixed"),
        *(
            pytest.param(changes, precision, marks=pytest.mark.slow)
            for changes, precision in (
                ({"mixup": True}, "16-mixed"),
                ({"loss": "arcface"}, "bf16-mixed"),
                ({"loss": "contrastive"}, "bf16-mixed"),
                ({"loss": "contrastive"}, "16-mixed"),
            )
        ),
    ],
    ids=str,
)
def test_a_step_is_nearly_that_of_float32(
    pictures: Path, tmp_path: Path, precision: str, changes: dict[str, Any]
) -> None:
    exact = losses(pictures, tmp_path / "exact", **changes)
    mixed = losses(pictures, tmp_path / "mixed", precision=precision, **changes)
    assert mixed[0] == pytest.approx(exact[0], rel=0.03)
    assert mixed != exact, "nothing was computed in another precision"


def gradients(pictures: Path, run: Path, precision: str) -> list[Tensor]:
    """Return the direction of the gradient of all parameters in the first step from a few weights, with mixup.

    Further steps begin from weights that differ already.
    """
    found: list[Tensor] = []

    def see(*_: Any) -> None:
        parts = [p.grad.flatten().double() for p in trainer.embedder.parameters() if p.grad is not None]
        found.append(F.normalize(torch.cat(parts), dim=0))  # those of float16 are scaled

    for seed in range(1, 6):
        plan = plan_of(pictures, precision=precision, mixup=True, epochs=1, seed=seed)
        assert plan.steps == 1
        trainer = Trainer(plan, RunFolder(run / f"{seed}"))
        with mock.patch.object(steps_of_trainers, "check_gradients", see):
            list(trainer.rows())
    return found


@pytest.mark.parametrize("precision", MIXED)
def test_gradients_point_where_those_of_float32_do(pictures: Path, tmp_path: Path, precision: str) -> None:
    exact, mixed = (gradients(pictures, tmp_path / name, name) for name in ("32-true", precision))
    for one, other in zip(exact, mixed, strict=True):
        assert 0.95 < one @ other < 1 - 1e-9


@pytest.mark.parametrize("precision", MIXED)
def test_the_network_alone_is_in_the_other_precision(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    seen = set[tuple[str, torch.dtype]]()
    trainer = Trainer(plan_of(pictures, precision=precision), RunFolder(tmp_path / "run"))
    trainer.embedder.get_submodule("head").register_forward_hook(
        lambda module, _, output: seen.add(("train" if module.training else "measure", output.dtype))
    )

    def watched(model: Any, inputs: Any, labels: Tensor, loss_fn: Any, **settings: Any) -> TwoPasses:
        def loss(embeddings: Tensor, labels: Tensor) -> Tensor:
            seen.add(("loss", (embeddings[:2].detach() @ embeddings[:2].detach().T).dtype))
            value: Tensor = loss_fn(embeddings, labels)
            return value

        seen.clear()
        made = two_passes(model, inputs, labels, loss, **settings)
        taken.append(set(seen))
        return made

    taken = list[set[tuple[str, torch.dtype]]]()
    monkeypatch.setattr(steps_of_trainers, "two_passes", watched)
    for row in trainer.rows():
        if kind_of(row) == "evaluation":
            assert ("measure", torch.float32) in seen
        seen.clear()
    half = torch.float16 if precision == "16-mixed" else torch.bfloat16
    assert taken
    assert all(step == {("train", half), ("loss", torch.float32)} for step in taken)


@pytest.mark.parametrize("precision", [pytest.param("bf16-mixed", marks=pytest.mark.slow), "16-mixed"])
def test_an_interrupted_run_goes_on_to_the_same_end(pictures: Path, tmp_path: Path, precision: str) -> None:
    changes = {"epochs": 3, "precision": precision, "loss": "proxy-nca"}

    def trainer_of(name: str) -> Trainer:
        trainer = Trainer(plan_of(pictures, **changes), RunFolder(tmp_path / name))
        if precision == "16-mixed":
            assert trainer.scaler is not None
            trainer.scaler.set_growth_interval(3)  # so that the scale is another by the time of the interruption
        return trainer

    whole = trainer_of("whole")
    rows = without_time(list(whole.rows()))
    for row in trainer_of("cut").rows():
        if row.epoch == 3:
            break
    resumed = trainer_of("cut")
    list(resumed.rows(resume=True))
    assert without_time(resumed.folder.history()) == rows
    ends = [load(tmp_path / name).state_dict() for name in ("whole", "cut")]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    if whole.scaler is not None and resumed.scaler is not None:
        assert whole.scaler.state_dict() == resumed.scaler.state_dict()
        assert whole.scaler.get_scale() != 2.0**16


def test_the_scale_is_in_a_checkpoint_of_mid_epoch(pictures: Path, tmp_path: Path) -> None:
    changes = {"epochs": 2, "precision": "16-mixed", "batch_size": 4, "items_per_class": 2, "checkpoint_minutes": 1e-9}

    def trainer_of(name: str) -> Trainer:
        trainer = Trainer(plan_of(pictures, **changes), RunFolder(tmp_path / name))
        assert trainer.scaler is not None
        trainer.scaler.set_growth_interval(2)
        return trainer

    whole = trainer_of("whole")
    rows = without_time(list(whole.rows()))
    cut, made = trainer_of("cut"), 0
    for row in cut.rows():
        made += isinstance(row, Step)
        if made == 3:
            break
    state = load_state(cut.folder.checkpoint)
    assert state["batches"] > 0, "at the end of an epoch"
    assert state["scaler"]["scale"] not in (0, 2.0**16)
    resumed = trainer_of("cut")
    list(resumed.rows(resume=True))
    assert without_time(resumed.folder.history()) == rows
    assert resumed.scaler is not None
    assert whole.scaler is not None
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()


def test_a_step_whose_gradients_overflow_is_left_out(pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(plan_of(pictures, precision="16-mixed", epochs=1, batch_norm="frozen"), RunFolder(tmp_path / "r"))
    assert trainer.scaler is not None
    trainer.scaler.load_state_dict(trainer.scaler.state_dict() | {"scale": 2.0**60})
    before = {name: value.clone() for name, value in trainer.embedder.state_dict().items()}
    for row in trainer.rows():
        if isinstance(row, Step):
            assert trainer.scaler.get_scale() == 2.0**59
            state = trainer.embedder.state_dict()
            assert all(torch.equal(value, before[name]) for name, value in state.items())
            break


def test_a_scale_that_never_fits_is_told(pictures: Path, tmp_path: Path) -> None:
    trainer = Trainer(plan_of(pictures, precision="16-mixed"), RunFolder(tmp_path / "run"))
    assert trainer.scaler is not None
    trainer.scaler.load_state_dict(trainer.scaler.state_dict() | {"scale": 2.0**-15})
    with pytest.raises(InputError, match="the gradients are finite at no scale; take --precision bf16-mixed"):
        list(trainer.rows())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_that_are_no_numbers_are_told(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    def spoilt(model: torch.nn.Module, *given: Any, **settings: Any) -> TwoPasses:
        made = two_passes(model, *given, **settings)
        next(model.parameters()).grad = torch.full_like(next(model.parameters()), torch.nan)
        return made

    monkeypatch.setattr(steps_of_trainers, "two_passes", spoilt)
    trainer = Trainer(plan_of(pictures, precision=precision), RunFolder(tmp_path / "run"))
    with pytest.raises(InputError, match=r"step 1: the gradients hold NaN or infinity; lower the learning rate"):
        list(trainer.rows())


@pytest.mark.parametrize("precision", ["32-true", *MIXED])
def test_the_memory_of_a_step_is_measured_in_every_precision(pictures: Path, tmp_path: Path, precision: str) -> None:
    trainer = Trainer(plan_of(pictures, precision=precision), RunFolder(tmp_path / "run"))
    exact = Trainer(plan_of(pictures), RunFolder(tmp_path / "run"))
    assert 0.4 < step_memory(trainer).chunk / step_memory(exact).chunk <= 1
    assert trainer.embedder.training
