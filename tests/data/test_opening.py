"""Files are opened before any work: all that there is time for, and what cannot be read is told at once."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recallk import InputError
from recallk.data import opening
from recallk.data.opening import check_files, opened_before
from recallk.data.source import are_looked_for
from tests.data.limits import seconds


def saved(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{number:03}.jpg" for number in range(count)]
    for file in files:
        Image.new("RGB", (8, 8)).save(file)
    return files


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAMPLE", "_BLOCK"):
        monkeypatch.setattr(opening, name, 2)


def test_a_broken_image_is_found_before_any_work(tmp_path: Path) -> None:
    good, bad = saved(tmp_path, 2)
    bad.write_text("x")
    assert check_files([good]) == 1
    with pytest.raises(InputError) as told:
        check_files([good, bad])
    assert str(told.value).startswith(f"{bad}: ")


def test_all_that_are_wrong_are_told_at_once(tmp_path: Path) -> None:
    files = saved(tmp_path, 9)
    for number in (1, 3, 5, 6):
        files[number].write_bytes(files[number].read_bytes()[:100])
    with pytest.raises(InputError) as told:
        check_files(files)
    message = str(told.value)
    assert message.startswith(f"4 images cannot be read: {files[1]}: ")
    assert message.endswith("; ...; recallk data check PATH --csv FILE lists all")
    assert "\n" not in message


@pytest.mark.usefixtures("small_sample")
def test_what_is_missing_is_told_of_all_and_before_any_is_opened(tmp_path: Path) -> None:
    files = saved(tmp_path, 9)
    for number in (0, 4, 8):
        files[number].unlink()
    files[1].write_text("x")
    with pytest.raises(InputError) as told:
        check_files(files, seconds=100)
    assert str(told.value).startswith(f"3 images cannot be read: {files[0]}: no such image; {files[4]}: no such image")


def test_a_name_is_told_once_whatever_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError) as told:
        check_files([tmp_path / "a\nb.png"])
    assert str(told.value).count("b.png") == 1


@pytest.mark.usefixtures("small_sample")
def test_what_has_been_opened_before_is_not_opened_again(tmp_path: Path) -> None:
    files = saved(tmp_path, 9)
    with opened_before():
        assert check_files(files, looked_for=True, seconds=100) == 2
    assert check_files(files, looked_for=True, seconds=100) == 9


@pytest.mark.usefixtures("small_sample")
def test_as_many_are_opened_as_there_is_time_for(tmp_path: Path) -> None:
    files, told = saved(tmp_path, 9), list[tuple[str, int, int]]()
    assert check_files(files, looked_for=True) == 2
    assert check_files(files, looked_for=True, seconds=100, advance=lambda *step: told.append(step)) == 9
    assert told == [("opening images", done, 9) for done in (2, 4, 6, 8, 9)]
    for file in files:
        file.write_text("x")
    with pytest.raises(InputError, match=r"^2 images of 2 opened cannot be read: "):
        check_files(files)


@pytest.mark.usefixtures("small_sample")
def test_each_file_of_a_table_is_looked_for_and_those_of_a_folder_have_been(tmp_path: Path) -> None:
    files = saved(tmp_path, 10)
    opened = np.random.default_rng(0).permutation(10)[:2].tolist()
    gone = next(number for number in range(10) if number not in opened)
    files[gone].unlink()
    with pytest.raises(InputError, match=rf"{gone}\.jpg: no such image"):
        check_files(files)
    assert check_files(files, looked_for=True) == 2
    assert not are_looked_for("photos.CSV")
    assert not are_looked_for("photos.parquet")
    assert are_looked_for("photos")


def test_a_pipe_among_the_images_of_a_table_is_found_before_any_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with seconds(10), pytest.raises(InputError, match=r"pipe\.jpg: a pipe or a device"):
        check_files([tmp_path / "pipe.jpg"])
