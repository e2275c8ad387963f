"""Folders of images: what is read, what is passed over, and that each file and folder counts once."""

import os
from pathlib import Path

import pytest
from PIL import Image

from recallk import InputError
from recallk.data.folder import find_images
from recallk.data.item import Record
from recallk.data.source import read_own
from tests.data.limits import seconds


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, "JPEG")
    return path


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_images(root).images]


def notes(root: Path) -> list[str]:
    found = read_own(str(root))[1]
    assert all((note.kind, note.where) == ("skipped files", str(root)) for note in found)
    return [note.message for note in found]


def test_classes_of_avif_and_jfif(tmp_path: Path) -> None:
    for name in ("a/1.jfif", "b/1.AVIF", "c/1.jpg", "d/1.jpe"):
        save(tmp_path / name)
    records, found = read_own(str(tmp_path))
    assert [record.label for record in records] == ["a", "b", "c", "d"]
    assert not found


def test_what_was_passed_over_is_told_by_suffix(tmp_path: Path) -> None:
    save(tmp_path / "a/1.jpg")
    for number in range(20):
        (tmp_path / f"a/{number}.TXT").touch()
    for name in ("a/1.mp4", "a/2.mp4", "README", "a/.hidden.txt"):
        (tmp_path / name).touch()
    assert notes(tmp_path) == ["passed over 23 files that are no images: 20 .txt, 2 .mp4, 1 without a suffix"]
    for number in range(9):
        (tmp_path / f"a/x.{number}").touch()
    assert notes(tmp_path)[0].endswith(" and 7 others")


def test_strange_suffixes_are_shown_escaped(tmp_path: Path) -> None:
    save(tmp_path / "a/1.jpg")
    (tmp_path / "a/1.\x1b[2j").touch()
    assert notes(tmp_path) == ["passed over 1 file that is no image: 1 .\\x1b[2j"]


def test_without_images_the_others_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    with pytest.raises(InputError, match=r"no images below this folder .*passed over 1 file .*: 1 \.heic"):
        find_images(tmp_path)


def test_pipes_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "a/1.jpg")
    os.mkfifo(tmp_path / "a/2.jpg")
    (tmp_path / "a/3.jpg").symlink_to("/dev/zero")
    (tmp_path / "a/4.jpg").mkdir()
    with seconds(10):
        assert names(tmp_path) == ["a/1.jpg"]
        assert notes(tmp_path) == ["passed over 2 files that are no images: 2 that are pipes or devices"]


def test_links_to_folders_above_end(tmp_path: Path) -> None:
    """Without a memory of what was visited, two links double what there is on every level."""
    root = tmp_path / "above/root"
    save(root / "a/1.jpg")
    for name in ("a/up", "a/down", "b"):
        (root / name).symlink_to(root)
    (root / "a/self").symlink_to("self")
    (root / "c").symlink_to("..")
    with seconds(20):
        assert names(root) == ["a/1.jpg"]


def test_a_linked_folder_counts_once_by_its_own_name(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    save(root / "z/1.jpg")
    save(elsewhere / "2.jpg")
    (root / "a").symlink_to(root / "z")
    (root / "m").symlink_to(elsewhere)
    (root / "n").symlink_to(elsewhere)
    records, found = read_own(str(root))
    assert records == [Record(root / "m/2.jpg", "m"), Record(root / "z/1.jpg", "z")]
    assert [note.message for note in found] == ["passed over 2 links to folders that are read already"]


def test_folders_and_names_come_in_order(tmp_path: Path) -> None:
    expected = ["0.jpg", "a/1.jpg", "a/2.jpg", "a/b/1.jpg", "a/c/1.jpg", "a-b/1.jpg", "b/1.jpg"]
    for name in expected:
        save(tmp_path / name)
    assert names(tmp_path) == expected


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_one_image_in_two_classes(tmp_path: Path, kind: str) -> None:
    """Were one of the classes for training and the other for testing, the image would be in both."""
    save(tmp_path / "b/1.jpg")
    (tmp_path / "a").mkdir()
    if kind == "symbolic":
        (tmp_path / "a/x.jpg").symlink_to("../b/1.jpg")
    else:
        (tmp_path / "a/x.jpg").hardlink_to(tmp_path / "b/1.jpg")
    with pytest.raises(InputError, match=r"one image is in two classes") as caught:
        read_own(str(tmp_path))
    assert "a/x.jpg" in str(caught.value)
    assert "b/1.jpg" in str(caught.value)
    assert len(find_images(tmp_path).images) == 1


def test_one_image_twice_in_a_class_counts_once(tmp_path: Path) -> None:
    save(tmp_path / "a/2.jpg")
    (tmp_path / "a/1.jpg").symlink_to("2.jpg")
    (tmp_path / "a/3.jpg").hardlink_to(tmp_path / "a/2.jpg")
    assert names(tmp_path) == ["a/2.jpg"]
    first = tmp_path / "a/1.jpg"
    assert notes(tmp_path) == [f"passed over 2 images that stand here under another name: the first is {first}"]


def test_a_link_to_nothing_is_a_missing_image(tmp_path: Path) -> None:
    for name, to in (("1.jpg", "gone.jpg"), ("2.jpg", "2.jpg")):
        (tmp_path / name).symlink_to(to)
    assert names(tmp_path) == ["1.jpg", "2.jpg"]


def test_a_class_folder_that_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    save(folder / "1.jpg")
    with pytest.raises(InputError, match="no UTF-8") as caught:
        read_own(str(tmp_path))
    assert "caf\\udce9" in str(caught.value)
    str(caught.value).encode()


def test_folders_that_cannot_be_read_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a/1.jpg")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"/a: cannot be read as a folder \(Permission denied\)"):
        find_images(tmp_path)


@pytest.mark.parametrize("data", ["zero\0byte", "long" * 100, "loop", "~nobody-at-all/x", "pipe", "file.txt"])
def test_names_of_no_folder_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file.txt").touch()
    os.mkfifo("pipe")
    with seconds(10), pytest.raises(InputError) as caught:
        read_own(data)
    assert "\n" not in str(caught.value)
