"""`recallk report` makes the page of a run anew, and says where it is and what it could not show."""

import shutil
from pathlib import Path

import pytest

from tests.cli.test_cli import FLAGS, recallk
from tests.training.test_trainer import save_patterns


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=6, images=5)


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("runs") / "a run"
    assert recallk("train", "--data", pictures, "--run", path, *FLAGS) == 0
    return path


def test_the_page_is_made_anew(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert recallk("report", run) == 0
    assert capfd.readouterr().out.strip() == f"look at   {run}/report.html"
    assert (run / "report.html").read_bytes() == page, "as training made it"


def test_what_cannot_be_shown_is_told(
    run: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(run, tmp_path / "copied")
    (copied / "report.html").unlink()
    away = pictures.rename(pictures.with_name("away"))
    try:
        assert recallk("report", copied) == 0
    finally:
        away.rename(pictures)
    missing, look = capfd.readouterr().out.strip().split("\n")
    assert missing == f"note      no queries and no similarities are shown: {pictures}: no such folder"
    assert look == f"look at   {copied}/report.html"
    assert missing.removeprefix("note      ") in (copied / "report.html").read_text()


def test_training_tells_it_too(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recallk.reporting.run.report", lambda run: ["no queries are shown: gone"])
    assert recallk("train", "--data", pictures, "--run", tmp_path / "run", *FLAGS) == 0
    assert "note      no queries are shown: gone\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no config.yaml in this folder; is it the folder of a run?"),
        ([], "Missing argument"),
        (["begun"], "no result in its metrics.jsonl; finish it: recallk train --resume begun"),
    ],
)
def test_a_mistake_is_one_line(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "begun").mkdir()
    shutil.copy(run / "config.yaml", tmp_path / "begun")
    assert recallk("report", *words) == 2
    error = capfd.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.rglob("report.html"))


def test_images_that_were_left_out_are_in_the_plan_and_on_the_page(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recallk.reporting.page.SKIPPED_SHOWN", 2)
    data, run = shutil.copytree(pictures, tmp_path / "data"), tmp_path / "run"
    broken = sorted(data.rglob("*.png"))[1:30:9]
    for path in broken:
        path.write_text("<b>")
    words = ["train", "--data", data, "--run", run, *FLAGS, "--on-bad-image", "skip"]
    assert recallk(*words) == 2
    assert "4 of 30 images cannot be read, more than max_bad_images=0.01 allows" in capfd.readouterr().err
    assert not run.exists()
    assert recallk(*words, "--max-bad-images", "0.2") == 0
    told = f"skipped   4 of 30 images that cannot be read are left out (--on-bad-image), the first: {broken[0]}: not an"
    assert told.replace(f"{data}/", "") in capfd.readouterr().out
    page = (run / "report.html").read_text()
    assert "4 images that could not be read" in page
    shown = [name for name in broken if f"<li>{name.relative_to(data)}: not an image" in page]
    assert shown == broken[:2]
    assert "and 2 more: skipped.csv has all" in page
