"""All images are decoded before training, and those that cannot be read are left out, up to a share of them."""

import csv
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recallk import InputError
from recallk.data.dataset import read_for_test, read_for_training
from recallk.data.images import read_image
from recallk.data.settings import DataSettings
from recallk.data.split import load_split, save_split
from recallk.data.unreadable import first_of, unreadable
from recallk.runs.folder import RunFolder
from recallk.runs.history import Start
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer
from tests.data.limits import seconds
from tests.data.test_dataset import items_of
from tests.miniature_run import Miniature
from tests.processes import in_processes
from tests.rows import without_time


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def a_text(path: Path) -> None:
    path.write_text("this is no image, whatever its name says")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def broken_inside(path: Path) -> None:
    """Begins and ends like an image: only decoding it shows what it is."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24), np.uint8)
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    content[80:200] = bytes(120)
    path.write_bytes(content)


BREAK: tuple[Callable[[Path], None], ...] = (emptied, a_text, cut, broken_inside)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """96 images of 24 classes, of which one in each of four classes is broken, each otherwise."""
    root = Miniature(tmp_path).data()
    for number, damage in enumerate(BREAK):
        damage(root / f"noise{5 * number:02}" / "2.png")
    return root


BROKEN = [f"noise{number:02}/2.png" for number in (0, 5, 10, 15)]


def table_of(photos: Path) -> Path:
    """Return a table of the same images, and of one that is not there."""
    files = [f"{file.relative_to(photos.parent)},{file.parent.name}" for file in sorted(photos.rglob("*.png"))]
    table = photos.parent / "table.csv"
    table.write_text("\n".join(["path,label", *files, f"{photos.name}/noise03/gone.png,noise03"]))
    return table


def skipping(data: Path, **changes: Any) -> DataSettings:
    return DataSettings(data=str(data), on_bad_image="skip", **{"max_bad_images": 0.1} | changes)


def test_each_is_named_with_the_reason_and_counted(photos: Path) -> None:
    files, told = [str(file) for file in sorted(photos.rglob("*.png"))], list[tuple[str, int, int]]()
    found = unreadable(files, 0.1, lambda *words: told.append(words))
    assert list(found) == [str(photos / name) for name in BROKEN]
    reasons = list(found.values())
    assert all(why.startswith("not an image") for why in reasons[:2])
    assert all(why.startswith("truncated or broken image (") for why in reasons[2:])
    assert told[-1] == ("opening images", 96, 96)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    line = first_of(found)
    assert line.endswith("; ...")
    assert line.count(str(photos)) == 3


def test_more_than_the_share_is_an_error_that_names_the_first(photos: Path) -> None:
    files = [str(file) for file in sorted(photos.rglob("*.png"))]
    assert len(unreadable(files, 4 / 96, lambda *_: None)) == 4
    with pytest.raises(
        InputError,
        match=rf"^4 of 96 images cannot be read, more than max_bad_images=0.04 .*{photos / BROKEN[0]}: not an image",
    ) as error:
        unreadable(files, 0.04, lambda *_: None)
    assert "\n" not in str(error.value)


def test_what_could_not_be_read_for_the_moment_is_not_left_out(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when several large images took all memory: each is read once more, alone."""
    main, first, tried = os.getpid(), str(photos / "noise01" / "0.png"), photos.parent / "tried"

    def short_of_memory(path: Path) -> Image.Image:
        if str(path) == first and os.getpid() != main:
            tried.touch()
            raise InputError(f"{path}: needs more memory than there is")
        return read_image(path)

    monkeypatch.setattr("recallk.data.images.read_image", short_of_memory)
    assert first not in unreadable([str(file) for file in sorted(photos.rglob("*.png"))], 0.1, lambda *_: None)
    assert tried.exists()


def test_a_process_that_dies_is_one_line(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recallk.data.images.read_image", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    with seconds(20), pytest.raises(InputError, match=r"^a process that opens images ended; .*--on-bad-image stop"):
        unreadable([str(file) for file in photos.rglob("*.png")], 0.1, lambda *_: None)


@pytest.mark.parametrize("data", [lambda photos: photos, table_of])
def test_a_run_goes_without_them_and_so_does_whatever_reads_its_split(
    photos: Path, tmp_path: Path, data: Callable[[Path], Path]
) -> None:
    given = skipping(data(photos))
    first = read_for_training(given)
    kept = [name for part in items_of(first) for name in part]
    assert len(kept) == len(set(kept)) == first.files == first.opened == 92
    root = photos if given.data == str(photos) else photos.parent
    names = [*BROKEN[:1], "noise03/gone.png", *BROKEN[1:]] if root != photos else BROKEN
    assert sorted(first.split.skipped) == [os.path.relpath(photos / name, root) for name in names]
    save_split(first.split, tmp_path / "split.json")
    recorded = load_split(tmp_path / "split.json")
    assert recorded == first.split
    again = read_for_training(given, recorded)
    assert items_of(again) == items_of(first)
    assert again.split == first.split
    assert not again.notes
    test, notes = read_for_test(given, recorded)
    assert [str(item) for item in test.labelled.items] == items_of(first)[1]
    assert not notes


def test_one_that_is_mended_stays_out_and_one_that_breaks_later_is_named(photos: Path) -> None:
    first = read_for_training(skipping(photos))
    shutil.copy(photos / "noise00" / "0.png", photos / BROKEN[0])
    again = read_for_training(skipping(photos), first.split)
    assert items_of(again) == items_of(first)
    assert not again.notes
    emptied(photos / "noise07" / "1.png")
    with pytest.raises(InputError, match=r"noise07/1\.png: not an image"):
        read_for_training(skipping(photos), first.split)


def test_without_any_left_on_a_side_there_is_nothing_to_train(tmp_path: Path) -> None:
    root = Miniature(tmp_path).data(classes=2, images=3)
    trained = read_for_training(DataSettings(data=str(root))).train.classes[0]
    for file in (root / trained).iterdir():
        emptied(file)
    with pytest.raises(InputError, match=f"none of the train images can be read: .*{trained}/0.png: not an image"):
        read_for_training(skipping(root, max_bad_images=1))


def test_by_default_the_first_ends_the_run(photos: Path) -> None:
    with pytest.raises(InputError, match=r"noise\d\d/2\.png"):
        read_for_training(DataSettings(data=str(photos)))


def test_a_run_tells_what_it_left_out_and_goes_on_without(photos: Path, tmp_path: Path) -> None:
    mini, whole, stopped = Miniature(tmp_path), RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    config = mini.config(on_bad_image="skip", max_bad_images=0.1, epochs=3)
    list(Trainer(prepare(config), whole).rows())
    with whole.skipped.open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["path", "reason"]
    assert [name for name, _ in table[1:]] == BROKEN
    split = whole.read_split()
    assert split is not None
    assert dict(map(tuple, table[1:])) == split.skipped  # type: ignore[arg-type]
    start = next(row for row in whole.history() if isinstance(row, Start))
    assert start.differences == ("4 of 96 images that cannot be read are left out",)
    for row in Trainer(prepare(config), stopped).rows():
        if row.epoch == 2:
            break
    list(Trainer(prepare(stopped.read_config(), stopped.read_split()), stopped).rows(resume=True))
    assert without_time(stopped.history()) == without_time(whole.history())
    assert stopped.skipped.read_text() == whole.skipped.read_text()
    whole.clear()
    assert not whole.path.exists()


def test_its_processes_end_with_the_one_that_began_them(photos: Path, tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from recallk.data import images, unreadable as module
def waiting(path):
    Path({str(tmp_path)!r}, f"at-work-{{os.getpid()}}").touch()
    time.sleep(60)
images.read_image = waiting
module.unreadable({[str(photos / "noise01" / "0.png"), str(photos / "noise01" / "1.png")]!r}, 1, print)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    with seconds(30):
        while not (found := list(tmp_path.glob("at-work-*"))):
            time.sleep(0.05)
        process.kill()
        process.wait()
        worker = int(found[0].name.removeprefix("at-work-"))
        while is_running(worker):
            time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def left_out_by_two(files: list[str], unread: str) -> dict[str, str]:
    """What a process of two finds, where the processes that decode cannot read one file for the moment."""
    main = os.getpid()
    multiprocessing.set_start_method(None, force=True)  # its own processes start as those of a command do

    def for_the_moment(path: Path) -> Any:
        if str(path) == unread and os.getpid() != main:
            raise InputError(f"{path}: no memory")
        return read_image(path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("recallk.data.images.read_image", for_the_moment)
        return unreadable(files, 0.06, lambda *_: None)


def test_processes_decode_a_share_each_and_are_judged_together(photos: Path) -> None:
    """Of the first share more cannot be read than may be of all, yet not of all."""
    files = [str(file) for file in sorted(photos.rglob("*.png"))]
    one, other = in_processes(left_out_by_two, 2, files, str(photos / "noise01" / "0.png"))
    assert list(one) == [str(photos / name) for name in BROKEN]
    assert one == other
