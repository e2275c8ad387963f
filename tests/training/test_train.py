"""`train` and `resume`, as a notebook calls them."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from recallk import InputError, load
from recallk.runs.config import make_config, with_whole_path
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement, Row
from recallk.runs.recipes import find_recipe
from recallk.runs.summary import summary_of
from recallk.training.train import default_folder, resume, train, trainer_for
from recallk.training.trainer import Trainer
from tests.configs import of_images
from tests.rows import kind_of, without_time
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "select": "test"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=4, images=4)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two epochs that nothing interrupted."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    train(TINY | {"data": str(pictures)}, folder.path)
    return folder


def test_training_returns_what_the_folder_says(pictures: Path, whole: RunFolder, tmp_path: Path) -> None:
    followed, planned = list[Row](), list[tuple[Trainer, bool]]()
    run = tmp_path / "run"
    summary = train(
        make_config(TINY, {"data": str(pictures)}),  # checked already, or keys as they come: the same
        run,
        planned=lambda trainer: planned.append((trainer, run.exists())),
        follow=followed.append,
    )
    assert summary == summary_of(RunFolder(run))
    assert summary.after.metrics == without_time(followed)[-1].metrics  # type: ignore[union-attr]
    assert [kind_of(row) for row in followed] == ["evaluation", *["step", "evaluation"] * 2, "result"]
    assert without_time(followed) == without_time(whole.history())
    ((trainer, begun),) = planned
    assert trainer.plan.data.train.classes
    assert not begun, "nothing is written before the plan is told"
    assert load(run).embed(trainer.plan.data.test.labelled.items).shape == (8, 16)


def test_a_run_says_what_it_began_with(whole: RunFolder) -> None:
    start = summary_of(whole).start
    assert start.epoch == 0
    assert re.fullmatch(r"\d+ CPU cores?, \w+", start.machine)
    assert start.versions == f"recallk {__import__('recallk').__version__}, PyTorch {torch.__version__}"
    assert (start.selection, start.differences) == ("test", ())
    assert start.how_chosen == "the best on the test classes, as in the paper: an optimistic number"


def test_what_the_data_made_other_is_among_what_it_began_with(tmp_path: Path) -> None:
    """And so it stands in any report of the run, also when the data is gone."""
    data = save_patterns(tmp_path, classes=12, images=4)
    changes = {"data": str(data), "limit_classes": 4, "batch_size": 40, "epochs": 1}
    summary = train(TINY | changes | {"recipe": "cub200-resnet50"}, tmp_path / "run")
    (smaller,) = summary.start.differences
    assert smaller.startswith("batches of 16 images, and not of the 40 asked for")
    assert summary.beside_published is None, "nothing is published for this recipe"


def test_an_interrupted_run_is_resumed_to_the_same_end(pictures: Path, whole: RunFolder, tmp_path: Path) -> None:
    def stop(row: Row) -> None:
        if isinstance(row, Measurement) and row.epoch == 2:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(TINY | {"data": str(pictures)}, run, follow=stop)
    followed = list[Row]()
    summary = resume(run, follow=followed.append)
    assert {row.epoch for row in followed} == {2}
    assert without_time(summary.rows) == without_time(whole.history())
    assert summary.start.epoch == 1
    assert [row.epoch for row in summary.rows if kind_of(row) == "start"] == [0, 1]


def test_a_finished_run_is_lengthened(pictures: Path, whole: RunFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(TINY | {"data": str(pictures), "epochs": 1}, run)
    summary = resume(run, {"epochs": 2, "workers": 1})
    assert without_time(summary.rows) == without_time(whole.history())
    assert (summary.config.epochs, of_images(RunFolder(run).read_config()).workers) == (2, 1)


def test_a_run_whose_data_has_moved_is_resumed_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "before").mkdir()
    data = save_patterns(tmp_path / "before", classes=4, images=4)
    train(TINY | {"data": "before", "epochs": 1}, "run")
    assert RunFolder(Path("run")).read_config().data == str(data), "a whole path, to be found from anywhere"
    data.rename(tmp_path / "now")
    with pytest.raises(InputError, match="before: no such folder"):
        resume("run", {"epochs": 2})
    assert resume("run", {"epochs": 2, "data": "now"}).config.data == str(tmp_path / "now")


@pytest.mark.parametrize("changes", [{"seed": 2}, {"learning_rate": 0.5, "epochs": 3}, {"no_such_key": 1}])
def test_a_run_is_not_resumed_as_another(whole: RunFolder, changes: dict[str, Any]) -> None:
    before = whole.metrics.read_bytes()
    with pytest.raises(InputError, match="resumed as it was configured; only accelerator, activation_memory_gb, "):
        resume(whole.path, changes)
    assert whole.metrics.read_bytes() == before


def test_what_is_no_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no config\.yaml in this folder"):
        resume(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch': did you mean epochs"),
        ({"data": "nowhere"}, "nowhere: no such folder"),
        ({"items_per_class": 5}, "0 of 2 training classes have 5 items or more"),
    ],
)
def test_a_mistake_leaves_nothing(pictures: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        train(TINY | {"data": str(pictures)} | changes, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_is_told_before_the_data_is_read(whole: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already; continue it with --resume"):
        train(TINY | {"data": str(tmp_path)}, whole.path)  # an empty folder


def test_a_run_has_the_name_of_its_recipe_or_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"recipes/mine.yaml": "mine", "sop-resnet50": "sop-resnet50"}
    for recipe, name in names.items():
        assert default_folder(make_config({"data": "x"}), recipe) == Path("runs") / name
    assert default_folder(make_config(find_recipe("demo").values)) == Path("runs/demo")
    assert default_folder(make_config({"data": "my/photos.csv"})) == Path("runs/photos")
    assert default_folder(make_config({"data": "/"})) == Path("runs/run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    save_patterns(tmp_path / "photos", classes=4, images=4)
    train(TINY | {"data": "photos", "epochs": 1})
    assert (tmp_path / "runs" / "photos" / "model").is_dir()


def test_data_that_is_no_file_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_whole_path(make_config({"data": "glyphs"})).data == "glyphs"
    (tmp_path / "photos").mkdir()
    assert with_whole_path(make_config({"data": "photos"})).data == str(tmp_path / "photos")


def test_a_trainer_can_be_looked_at_before_anything_is_written(pictures: Path, tmp_path: Path) -> None:
    trainer = trainer_for(make_config(TINY | {"data": str(pictures)}), tmp_path / "run")
    assert trainer.plan.steps == 2
    assert not (tmp_path / "run").exists()
