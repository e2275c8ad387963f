"""The page of a run is made from its folder, on any day, with whatever is still there."""

import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from recallk import InputError
from recallk.reporting import run as reports
from recallk.reporting.run import report
from recallk.runs.embedding import embed_as_configured
from recallk.runs.folder import RunFolder
from recallk.runs.history import Start, write_rows
from recallk.training.train import resume, train
from tests.reporting.test_page import Tags
from tests.rows import kind_of, measured, steps
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "select": "test", "evaluate_ks": (1, 3)}
NOTHING_SHOWN = "no queries and no similarities are shown: "


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=4)


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "a run")
    train(TINY | {"data": str(pictures)}, folder.path)
    report(folder.path)
    return folder


@pytest.fixture
def folder(finished: RunFolder, pictures: Path, tmp_path: Path) -> RunFolder:
    """The run and its data, to be broken by a test."""
    folder = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "a run")))
    data = shutil.copytree(pictures, tmp_path / "data")
    folder.write_config(folder.read_config().model_copy(update={"data": str(data)}))
    folder.report.unlink()
    return folder


def data_of(folder: RunFolder) -> Path:
    return Path(folder.read_config().data)


def test_names(folder: RunFolder) -> list[str]:
    """Return the names of the test images, below the folder of the data."""
    split = folder.read_split()
    assert split is not None
    return [name for names in split.splits["test"].values() if isinstance(names, list) for name in names]


test_names.__test__ = False  # type: ignore[attr-defined]


def numbers_and_curves(folder: RunFolder) -> str:
    """Return the page, once its numbers, curves and facts are seen to be the run's."""
    page, rows = unescape(folder.report.read_text()), folder.history()
    before, after = measured(rows, "evaluation")[0].metrics, measured(rows, "result")[0].metrics
    assert "<h1>a run</h1>" in page
    for name in ("recall@1", "recall@3", "map@r"):
        assert f"<dt>{name}</dt>" in page
        assert f'<span class="before">{100 * before[name]:.1f}</span>' in page
        assert f'<span class="after">{100 * after[name]:.1f}</span>' in page
    assert f"From {steps(rows)[0].loss:.3f} at step 1 to {steps(rows)[-1].loss:.3f} at step {len(steps(rows))}." in page
    assert "Queries that the loss reaches" in page
    assert re.search(r"16 (items|images) of 4 classes", page)  # nobody knows which where the data is gone
    assert "epochs: 2" in page
    assert Tags(folder.report.read_text()).open == []
    return page


def test_a_page_needs_the_folder_alone(finished: RunFolder) -> None:
    first, written = numbers_and_curves(finished), finished.report.read_bytes()
    assert "16 images of 4 classes, not seen in training" in first
    assert "the best on the test classes, as in the paper: an optimistic number" in first
    assert "CPU core" in first
    assert Tags(first).named("img")
    finished.report.unlink()
    assert report(finished.path) == []
    assert finished.report.read_bytes() == written, "the same, whenever it is made"
    assert "are shown:" not in first


def test_on_another_day_the_data_is_gone(folder: RunFolder) -> None:
    shutil.rmtree(data_of(folder))
    (missing,) = report(folder.path)
    assert missing == f"{NOTHING_SHOWN}{data_of(folder)}: no such folder"
    page = numbers_and_curves(folder)
    assert missing in page
    assert not Tags(page).named("img")
    assert "No pairs to compare." in page
    assert "No queries to show." in page


def test_a_page_that_has_its_queries_stays_where_they_cannot_be_had_again(folder: RunFolder) -> None:
    assert report(folder.path) == []
    written = folder.report.read_bytes()
    shutil.rmtree(data_of(folder))
    for _ in range(2):
        (told,) = report(folder.path)
        assert told.startswith(f"no queries and no similarities can be shown: {data_of(folder)}: no such folder")
        assert told.endswith("the page that is there has them and stays; remove it to have one without")
        assert folder.report.read_bytes() == written
    folder.report.unlink()
    assert report(folder.path) != []
    assert not Tags(numbers_and_curves(folder)).named("img")


def test_the_data_may_be_back_again(folder: RunFolder) -> None:
    data = data_of(folder)
    away = data.rename(data.with_name("away"))
    assert report(folder.path) != []
    away.rename(data)
    assert report(folder.path) == []
    assert Tags(numbers_and_curves(folder)).named("img")


def test_images_that_are_gone_are_left_out_and_told(folder: RunFolder) -> None:
    first = test_names(folder)[0]
    (data_of(folder) / first).unlink()
    (missing,) = report(folder.path)
    assert missing == (
        f"queries and similarities: gone since the run: 1 item of 1 class ({first}); measured on what is left"
    )
    page = numbers_and_curves(folder)
    assert missing in page
    assert Tags(page).named("img")


def test_what_was_known_when_the_run_began_is_not_missing(folder: RunFolder) -> None:
    """Such as the counts of a benchmark that are not the published ones; they stand beside the published numbers."""
    (data_of(folder) / test_names(folder)[0]).with_name("new.png").write_bytes(
        (data_of(folder) / test_names(folder)[0]).read_bytes()
    )
    (told,) = report(folder.path)
    message = told.removeprefix("queries and similarities: ")
    assert message.startswith("new since the run: 1 item of 1 class")
    known = [replace(row, differences=(message,)) if isinstance(row, Start) else row for row in folder.history()]
    write_rows(folder.metrics, known)
    assert report(folder.path) == []


def test_an_image_that_is_broken_by_now_costs_no_page(folder: RunFolder) -> None:
    broken = data_of(folder) / test_names(folder)[-1]
    broken.write_bytes(broken.read_bytes()[:60])
    (missing,) = report(folder.path)
    assert missing.startswith(f"{NOTHING_SHOWN}{broken}: truncated or broken image")
    assert missing in numbers_and_curves(folder)


def test_an_image_that_breaks_while_the_page_is_made_is_shown_as_lost(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = embed_as_configured

    def then_lose_all(*given: Any) -> Any:
        embeddings = embed(*given)
        shutil.rmtree(data_of(folder))
        return embeddings

    monkeypatch.setattr(reports, "embed_as_configured", then_lose_all)
    assert report(folder.path) == []
    page = numbers_and_curves(folder)
    lost = [tag["aria-label"] or "" for tag in Tags(page).named("span") if tag.get("class") == "lost"]
    assert lost
    assert all(label.endswith("cannot be read") for label in lost)


@pytest.mark.parametrize("lost", ["all", "weights", "cut"])
def test_a_model_that_is_gone_or_damaged_costs_no_page(folder: RunFolder, lost: str) -> None:
    if lost == "all":
        shutil.rmtree(folder.model)
    elif lost == "weights":
        (folder.model / "weights.safetensors").unlink()
    else:
        (folder.model / "weights.safetensors").write_bytes(b"x")
    (missing,) = report(folder.path)
    assert missing.startswith(NOTHING_SHOWN)
    assert "weights.safetensors" in missing
    assert missing in numbers_and_curves(folder)


def test_a_damaged_split_costs_no_page(folder: RunFolder) -> None:
    folder.split.write_text("{")
    (missing,) = report(folder.path)
    assert missing.startswith(f"{NOTHING_SHOWN}{folder.split}: not the split of a run")
    page = folder.report.read_text()
    assert missing in page
    assert "recall@1" in page


def test_a_run_of_an_earlier_version_has_a_page(folder: RunFolder) -> None:
    """One without a row that says what it began with, and with the earlier names in the others."""
    write_rows(folder.metrics, [row for row in folder.history() if kind_of(row) != "start"])
    written = folder.metrics.read_text().replace('"items"', '"images"').replace('"reached"', '"usable"')
    folder.metrics.write_text(written)
    assert report(folder.path) == []
    page = numbers_and_curves(folder)
    assert f"<dd>epoch {measured(folder.history(), 'result')[0].epoch}</dd>" in page
    assert page.count("<dd>unknown</dd>") == 2, "the machine, and the versions"


def test_a_run_without_a_split_says_that_it_was_split_anew(folder: RunFolder) -> None:
    folder.split.unlink()
    (missing,) = report(folder.path)
    assert "no split.json in the run, so split anew" in missing
    assert missing in folder.report.read_text()


def test_a_run_that_had_a_device_that_is_not_here_has_a_page(folder: RunFolder) -> None:
    import torch

    absent = "mps" if torch.cuda.is_available() else "cuda"
    folder.write_config(folder.read_config().model_copy(update={"accelerator": absent}))
    assert report(folder.path) == []
    assert Tags(numbers_and_curves(folder)).named("img")


def test_what_is_no_finished_run_is_one_line(folder: RunFolder, tmp_path: Path) -> None:
    write_rows(folder.metrics, [row for row in folder.history() if kind_of(row) != "result"])
    with pytest.raises(InputError, match=r"no result in its metrics\.jsonl; finish it: recallk train --resume"):
        report(folder.path)
    assert not folder.report.exists()
    with pytest.raises(InputError, match=r"nowhere: no config\.yaml in this folder"):
        report(tmp_path / "nowhere")


def test_a_last_line_that_a_crash_has_cut_costs_no_more_than_itself(folder: RunFolder) -> None:
    """It is the result here: the run is finished once more, and a step before it is a step less in the page."""
    whole, steps_before = folder.metrics.read_bytes(), len(steps(folder.history()))
    folder.metrics.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"no result in its metrics\.jsonl; finish it: recallk train --resume"):
        report(folder.path)
    summary = resume(folder.path)
    assert len(summary.steps) == steps_before
    assert report(folder.path) == []
    lines = folder.metrics.read_bytes().splitlines(keepends=True)
    last_step = max(number for number, line in enumerate(lines) if b'"step", "epoch"' in line)
    lines[last_step] = lines[last_step][:20] + b"\n"
    folder.metrics.write_bytes(b"".join(lines))
    assert report(folder.path) == []
    assert f"{steps_before - 1} steps" in folder.report.read_text()


def test_a_page_that_cannot_be_written_is_one_line(folder: RunFolder) -> None:
    folder.report.mkdir()
    with pytest.raises(InputError, match=r"report\.html: cannot be written") as caught:
        report(folder.path)
    assert "\n" not in str(caught.value)
