"""A run in several processes is the run of one: parameters, statistics, metrics, and what is written."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recallk import InputError
from recallk.core import processes
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row
from recallk.training.plan import prepare
from recallk.training.train import train
from recallk.training.trainer import Trainer
from tests.processes import in_processes
from tests.rows import measured, steps
from tests.training.test_trainer import SMALL, save_patterns

pytestmark = pytest.mark.xdist_group("several processes")  # the runs are made once
TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "epochs": 5, "evaluate_every": 5, "chunk_size": 5}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=11, images=5)


def trained(pictures: str, run: str, changes: dict[str, Any]) -> tuple[dict[str, Tensor], list[Row]]:
    """Train, with dropout before the head, in float64 where `double` says so; return the weights, and the rows."""
    given = dict(changes)
    double = given.pop("double", False)
    trainer = Trainer(prepare(make_config(TINY, {"data": pictures}, given)), RunFolder(Path(run)))
    trainer.embedder.norm = nn.Sequential(trainer.embedder.norm, nn.Dropout(0.3))  # type: ignore[arg-type]
    if double:
        trainer.embedder.double()
        trainer.loss.double()
    rows: list[Row] = []
    for row in trainer.rows():
        rows.append(row)
        if measured([row], "result"):
            break
        weights = {name: value.clone() for name, value in trainer.embedder.state_dict().items()}
    return weights, rows


CASES: dict[str, dict[str, Any]] = {
    "batch norm of chunks": {"learning_rate": 1e-4},
    "float64": {"double": True},
    "float64, mixup": {"double": True, "mixup": True, "batch_norm": "frozen", "items_per_class": 3},
    "float64, mixup without relatives": {"double": True, "mixup": True, "mixup_relatives": "exclude"},
    "proxies": {"loss": "proxy-synthesis", "double": True},
    "a memory": {"loss": {"name": "memory-contrastive", "memory_size": 64}, "learning_rate": 1e-4},
    "images as they are": {"image_shape": "keep", "image_size": 32, "batch_norm": "frozen"},
}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """How far apart the weights are, of the length of all together."""
    pairs = [(value.double(), other[name].double()) for name, value in one.items()]
    apart = sum(float((a - b).square().sum()) for a, b in pairs)
    return float((apart / sum(float(a.square().sum()) for a, _ in pairs)) ** 0.5)


QUICK = ("float64", "float64, mixup", "float64, mixup without relatives")
OTHERS = tuple(name for name in CASES if name not in QUICK)
IN_THREE = ("float64", "float64, mixup", "images as they are")
Trained = list[dict[str, tuple[dict[str, Tensor], list[Row]]]]


def all_trained(pictures: str, folder: str, names: tuple[str, ...]) -> dict[str, tuple[dict[str, Tensor], list[Row]]]:
    return {name: trained(pictures, f"{folder}/{number}", CASES[name]) for number, name in enumerate(names)}


@pytest.fixture(scope="module")
def in_each(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, tuple[str, ...]], Trained]:
    """Return what trains several cases in so many processes, once, and returns what each process found."""

    @cache
    def found(count: int, names: tuple[str, ...]) -> Trained:
        return in_processes(all_trained, count, str(pictures), str(tmp_path_factory.mktemp(f"in{count}")), names)

    return found


@pytest.mark.parametrize(
    ("count", "name"),
    [
        *((2, name) for name in QUICK),
        *(pytest.param(2, name, marks=pytest.mark.slow) for name in OTHERS),
        *(pytest.param(3, name, marks=pytest.mark.slow) for name in IN_THREE),
    ],
)
def test_weights_and_metrics_are_those_of_one_process(
    in_each: Callable[[int, tuple[str, ...]], Trained], name: str, count: int
) -> None:
    together = QUICK if name in QUICK else OTHERS
    weights, rows = in_each(1, together)[0][name]
    everywhere = in_each(count, IN_THREE if count == 3 else together)
    allowed = 1e-10 if CASES[name].get("double") else 1e-5
    for found in everywhere:
        assert distance(weights, found[name][0]) < allowed
        for one, other in zip(steps(rows), steps(found[name][1]), strict=True):
            assert other.loss == pytest.approx(one.loss, abs=1e-10 if CASES[name].get("double") else 1e-4)
            assert other.items == one.items
        for mine, theirs in zip(measured(rows), measured(found[name][1]), strict=True):
            assert theirs.metrics == pytest.approx(mine.metrics, abs=1e-9)
    first, *others = everywhere
    for found in others:
        assert all(torch.equal(value, found[name][0][key]) for key, value in first[name][0].items())


def told_apart(data: list[str], run: str) -> str:
    """What is said where each process reads a folder of its own."""
    given = TINY | {"data": data[processes.number()], "epochs": 1}
    try:
        train(given, run)
    except InputError as error:
        return str(error)
    return "trained"


@pytest.mark.slow
def test_processes_that_find_other_data_are_told(pictures: Path, tmp_path: Path) -> None:
    """The folders may have other names, as on machines that have a copy each."""
    copy, other = (shutil.copytree(pictures, tmp_path / name) for name in ("copy", "other"))
    (other / "class0" / "0.png").unlink()
    assert (
        in_processes(told_apart, 2, [str(pictures), str(other)], str(tmp_path / "run"))
        == ["process 1 finds other data than process 0: let all read the same"] * 2
    )
    assert in_processes(told_apart, 2, [str(pictures), str(copy)], str(tmp_path / "run")) == ["trained"] * 2
