"""Distractors: what is found below a folder and in archives, sorted, and what is refused in a line."""

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from recallk import InputError
from recallk.data.images import read_image
from recallk.data.instances.distractors import read_distractors
from recallk.data.item import ArchiveMember
from tests.data import limits
from tests.data.instance_miniatures import distractors, shard, thing


def test_a_folder_as_it_unpacks(tmp_path: Path) -> None:
    found = read_distractors(distractors(tmp_path))
    assert list(found) == [tmp_path / f"jpg/{number // 3}/{number:04}.jpg" for number in range(6)]
    assert list(read_distractors(tmp_path / "jpg")) == list(found)
    assert found[2:4] == [tmp_path / "jpg/0/0002.jpg", tmp_path / "jpg/1/0003.jpg"]


def test_sorted_whatever_the_order_on_disk(tmp_path: Path) -> None:
    for name in ("b/1.jpg", "a/2.jpg", "10.jpg", "a/c/0.png", "9.JPG", "a/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = ["10.jpg", "9.JPG", "a/1.jpg", "a/2.jpg", "a/c/0.png", "b/1.jpg"]
    assert list(read_distractors(tmp_path)) == [tmp_path / name for name in names]


def test_hidden_files_and_those_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    thing(tmp_path / "jpg/1.jpg", 3)
    for name in ("revisitop1m.txt", ".hidden.jpg", ".cache/1.jpg", "jpg/1.jpg.part", "jpg/jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(read_distractors(tmp_path)) == [tmp_path / "jpg/1.jpg"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    thing(tmp_path / "elsewhere/1.jpg", 3)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/jpg").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/again").symlink_to(tmp_path / "data")
    with limits.seconds(5):
        assert list(read_distractors(tmp_path / "data")) == [tmp_path / "data/jpg/1.jpg"]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe9.jpg")
    thing(tmp_path / name, 3)
    (found,) = read_distractors(tmp_path)
    assert found == tmp_path / name


def test_shards_are_read_without_unpacking(tmp_path: Path) -> None:
    second = shard(tmp_path / "yfcc100m/000001.tar", ["c.jpg"])
    first = shard(tmp_path / "yfcc100m/000000.tar", ["b.jpg", "b.txt", "a.jpg"])
    (tmp_path / "yfcc100m/checksums.txt").touch()
    found = read_distractors(tmp_path)
    members = [member for member in found if isinstance(member, ArchiveMember)]
    assert [(member.archive, member.name) for member in members] == [
        (first, "b.jpg"),
        (first, "a.jpg"),
        (second, "c.jpg"),
    ]
    assert all(isinstance(read_image(member), Image.Image) for member in members)
    assert list(read_distractors(second)) == members[2:]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^.*none: cannot be read as a folder \(No such file or directory\)$"):
        read_distractors(tmp_path / "none")
    with pytest.raises(InputError, match=r"no images below this folder, nor in \.tar archives; give one with"):
        read_distractors(tmp_path)
    thing(tmp_path / "1.jpg", 3)
    with pytest.raises(InputError, match=r"1\.jpg: not an uncompressed \.tar archive"):
        read_distractors(tmp_path / "1.jpg")
    shard(tmp_path / "0.tar", ["2.jpg"])
    with pytest.raises(InputError, match=r": 1 images, and 1 \.tar archives: give a folder of either"):
        read_distractors(tmp_path)


def test_many_are_listed_in_seconds_and_little_memory(tmp_path: Path) -> None:
    for folder in range(5):
        (tmp_path / f"{folder}").mkdir()
        for number in range(1_000):
            os.close(os.open(tmp_path / f"{folder}/{number:08}.jpg", os.O_CREAT))
    began = time.perf_counter()
    assert len(read_distractors(tmp_path)) == 5_000
    assert time.perf_counter() - began < 3  # 0.02 s on an idle machine
    assert limits.megabytes(lambda: read_distractors(tmp_path)) < 10
