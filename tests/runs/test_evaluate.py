"""A trained model measured anew: on its run's test items, or on others."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recallk import InputError
from recallk.evaluation.metrics import retrieval_metrics
from recallk.models.saved import load
from recallk.runs.evaluate import evaluate
from recallk.runs.folder import RunFolder
from recallk.runs.summary import summary_of
from recallk.training.train import train
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "select": "last", "epochs": 1, "evaluate_ks": (1, 3)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=4)


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run: Path = tmp_path_factory.mktemp("runs") / "run"
    train(TINY | {"data": str(pictures)}, run)
    return run


@pytest.fixture
def run(finished: Path, pictures: Path, tmp_path: Path) -> Path:
    """The run and its data, to be broken by a test."""
    copied = Path(shutil.copytree(finished, tmp_path / "run"))
    data = Path(shutil.copytree(pictures, tmp_path / "data"))
    folder = RunFolder(copied)
    folder.write_config(folder.read_config().model_copy(update={"data": str(data)}))
    return copied


def test_the_runs_own_test_items_give_its_result(finished: Path) -> None:
    found = evaluate(finished)
    result = summary_of(RunFolder(finished)).after.metrics
    assert {name: found.metrics[name] for name in result} == {
        name: pytest.approx(value, abs=1e-6) for name, value in result.items()
    }
    assert found.metrics.keys() - result.keys() == {"nmi"}
    assert {"recall@1", "recall@3", "precision@3", "map@r", "r_precision", "mrr"} <= found.metrics.keys()
    assert all(0 <= value <= 1 for value in found.metrics.values())
    labels = len(RunFolder(finished).read_split().splits["test"])  # type: ignore[union-attr]
    assert found.items == f"{4 * labels} images of {labels} classes"
    assert found.spread == {}
    assert list(found.notes) == []


def test_other_items_search_each_other(finished: Path, pictures: Path) -> None:
    found = evaluate(finished, str(pictures), ks=[2])
    assert found.items == "32 images of 8 classes"
    assert "recall@2" in found.metrics
    assert "recall@1" not in found.metrics
    paths = sorted(pictures.rglob("*.png"))
    labels = np.array([int(path.parent.name.removeprefix("class")) for path in paths])
    expected = retrieval_metrics(load(finished).embed(paths), labels, ks=[2])
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_re_identification_has_a_mean_and_a_spread(finished: Path, pictures: Path) -> None:
    found = evaluate(finished, str(pictures), protocol="re-identification")
    assert found.metrics.keys() == found.spread.keys() == {"recall@1", "recall@3"}
    assert all(0 <= value <= 1 for value in found.metrics.values())
    assert max(found.spread.values()) > 0


def test_how_far_it_has_come_is_told(finished: Path, pictures: Path) -> None:
    told = list[tuple[str, int, int]]()
    evaluate(finished, str(pictures), advance=lambda *progress: told.append(progress))
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "reading the data",
        "embedding",
        "ranking and clustering",
    ]
    counted = [(done, of) for what, done, of in told if what == "embedding"]
    assert counted == [(7, 32), (14, 32), (21, 32), (28, 32), (32, 32)]


def test_items_that_came_or_went_are_told(run: Path) -> None:
    folder = RunFolder(run)
    split, data = folder.read_split(), Path(folder.read_config().data)
    assert split is not None
    label, names = next(iter(split.splits["test"].items()))
    assert isinstance(names, list)
    (data / names[0]).rename(data / label / "new.png")
    found = evaluate(run)
    new, gone = (note.message for note in found.notes)
    assert new == "new since the run: 1 item of 1 class; left out"
    assert gone == f"gone since the run: 1 item of 1 class ({names[0]}); measured on what is left"
    assert found.items == f"{4 * len(split.splits['test']) - 1} images of {len(split.splits['test'])} classes"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "benchmarks"}, "protocol='benchmarks': one of benchmark, re-identification"),
        ({"ks": [0]}, "ks"),
        ({"ks": []}, "ks"),
        ({"data": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_line(finished: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        evaluate(finished, **changes)
    assert "\n" not in str(caught.value)


def test_what_is_no_finished_run_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such run folder"):
        evaluate(tmp_path / "nowhere")
    shutil.rmtree(RunFolder(run).model)
    with pytest.raises(InputError, match=r"no model/weights\.safetensors in this folder"):
        evaluate(run)


def test_data_that_is_gone_is_one_line(run: Path) -> None:
    shutil.rmtree(RunFolder(run).read_config().data)
    with pytest.raises(InputError, match="data: the run's data is not there any more"):
        evaluate(run)
