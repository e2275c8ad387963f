"""Every loss of the catalogue learns, sees the same data, repeats and resumes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from recallk.losses import registry
from recallk.losses.registry import CATALOGUE
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.training import step
from recallk.training.plan import Plan, prepare
from recallk.training.trainer import Trainer
from recallk.training.two_passes import TwoPasses
from tests.cli.test_cli import recallk
from tests.losses.made import NAMES, with_short_memory
from tests.rows import measured, without_time
from tests.training.test_trainer import SMALL

FEW: dict[str, Any] = {
    **SMALL,
    "image_size": 16,
    "resize": 16,
    "batch_size": 16,
    "epochs": 1,
    "select": "last",
    "evaluate_every": 9,
    "chunk_size": 16,
}

QUICK = ("recall@k", "contrastive", "smooth-ap", "proxy-nca", "proxy-synthesis", "memory-recall@k")
"""One of each kind; the others with `-m slow`."""


def quick_or_slow(*names: str) -> list[Any]:
    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 classes of a colour each: its red and blue with noise over them, its green nothing but noise."""
    root: Path = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for label in range(24):
        colour = random.integers(0, 255, 2)
        (root / f"class{label}").mkdir()
        for number in range(8):
            pixels = random.integers(0, 255, (4, 4, 3))
            pixels[..., ::2] = (colour + random.normal(0, 30, (4, 4, 2))).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).resize((36, 36)).save(root / f"class{label}" / f"{number}.png")
    return root


def flags() -> list[object]:
    """`FEW` as a person types it."""
    given = {key: value for key, value in FEW.items() if key != "crop_scale"}
    return [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", value)]


def plan_of(pictures: Path, **changes: Any) -> Plan:
    return prepare(make_config(FEW, {"data": str(pictures)}, changes))


@pytest.mark.parametrize("name", quick_or_slow(*NAMES))
def test_every_loss_beats_the_untrained_network(pictures: Path, tmp_path: Path, name: str) -> None:
    changes = {"epochs": 6, "batch_size": 32, "chunk_size": 32, "loss": with_short_memory(name, 96)}
    training = Trainer(plan_of(pictures, **changes), RunFolder(tmp_path / "run"))
    own = [parameter.detach().clone() for parameter in training.loss.parameters()]
    recalls = [row.metrics["recall@1"] for row in measured(training.rows())]
    assert recalls[-1] > recalls[0] + 0.05
    assert bool(own) == CATALOGUE[name].own_parameters
    for before, after in zip(own, training.loss.parameters(), strict=True):
        assert not torch.equal(before, after)
    rates = [group["lr"] for group in training.optimizer.param_groups]
    assert rates == pytest.approx([2e-3, 2e-2] if own else [2e-3])


def test_all_losses_see_the_same_data_and_begin_with_the_same_network(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def watch(model: nn.Module, images: Any, labels: Tensor, loss_fn: Any, **_: Any) -> TwoPasses:
        seen.extend([labels, *(chunk.content.clone() for chunk in images), torch.get_rng_state()])
        loss_fn(torch.randn(len(labels), 16, generator=torch.Generator().manual_seed(0)), labels)
        torch.set_rng_state(seen[-1])  # some losses draw
        return TwoPasses(torch.zeros(()), chunks=1, kept=0)

    monkeypatch.setattr(step, "two_passes", watch)
    found: dict[str, list[Tensor]] = {}
    for number, name in enumerate(NAMES):
        seen.clear()
        training = Trainer(plan_of(pictures, loss=name, limit_classes=4), RunFolder(tmp_path / str(number)))
        seen.append(torch.get_rng_state())
        seen.extend(value.clone() for value in training.embedder.state_dict().values())
        for _ in training.rows():
            pass
        found[name] = list(seen)
    first = found.pop("recall@k")
    assert len(first) > 10
    for name, other in found.items():
        assert len(other) == len(first)
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True)), name


@pytest.mark.parametrize(
    "name",
    quick_or_slow("proxy-nca", "margin", "metrix", "proxy-synthesis", "memory-multi-similarity", "memory-recall@k"),
)
def test_an_interrupted_run_goes_on_to_the_same_end(pictures: Path, tmp_path: Path, name: str) -> None:
    changes = {"epochs": 3, "loss": with_short_memory(name), "limit_classes": 4, "learning_rate": 1e-2}
    whole = Trainer(plan_of(pictures, **changes), RunFolder(tmp_path / "whole"))
    rows = without_time(list(whole.rows()))
    folder = RunFolder(tmp_path / "cut")
    for row in Trainer(plan_of(pictures, **changes), folder).rows():
        if row.epoch == 3:
            break
    resumed = Trainer(prepare(folder.read_config()), folder)
    list(resumed.rows(resume=True))
    assert without_time(folder.history()) == rows
    for one, other in ((whole.loss, resumed.loss), (whole.embedder, resumed.embedder)):
        state, again = one.state_dict(), other.state_dict()
        assert state.keys() == again.keys()
        for key, value in state.items():
            assert torch.equal(value, again[key]) if isinstance(value, Tensor) else value == again[key], key


def test_too_large_a_batch_is_refused_before_training(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "MOST_BYTES", 1e4)
    assert recallk("train", "--data", pictures, "--run", tmp_path / "run", "--loss", "smooth-ap", *flags()) == 2
    error = capfd.readouterr().err.strip()
    assert error.startswith("recallk: loss=smooth-ap: a batch of ")
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_train_with_a_loss_by_name(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("train", "--data", pictures, "--run", tmp_path / "run", "--loss", "arcface", *flags()) == 0
    assert "loss      arcface (margin 28.6, scale 64)" in capsys.readouterr().out
    assert "arcface (margin 28.6, scale 64)" in (tmp_path / "run" / "report.html").read_text()
    assert RunFolder(tmp_path / "run").read_config().loss == "arcface"
    assert recallk("train", "--resume", tmp_path / "run") == 0
