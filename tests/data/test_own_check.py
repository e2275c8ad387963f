"""Own data, checked: sizes, broken files, the same file or look in two classes, and small images; all of it as CSV."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from recallk import InputError
from recallk.data import own_check
from recallk.data.item import Record
from recallk.data.own_check import OwnCheck, check_own, write_remarks
from tests.cli.test_cli import recallk as command


def picture(seed: int, side: int = 300) -> Image.Image:
    """Return a picture of a few large shapes, like no other of another seed."""
    cells = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return classes a, b and c, of 4, 3 and 1 images, each its own."""
    root = tmp_path / "data"
    for number, (label, count) in enumerate({"a": 4, "b": 3, "c": 1}.items()):
        (root / label).mkdir(parents=True)
        for image in range(count):
            picture(10 * number + image).save(root / label / f"{image}.png")
    return root


def told(found: OwnCheck) -> list[tuple[str, str, str]]:
    return [(remark.kind, Path(remark.file).name, Path(remark.other).name) for remark in found.remarks]


def test_nothing_is_said_of_what_is_well(data: Path) -> None:
    found = check_own(str(data))
    assert found.files == 8
    assert not found.remarks
    (side,) = found.sides
    assert (side.name, side.items, side.classes, side.sizes, side.alone) == ("all", 8, 3, (1, 3, 4), 1)


def test_each_split_and_role_is_counted(data: Path) -> None:
    for name, label in {"train": "a", "query": "b", "gallery": "c"}.items():
        (data / name).mkdir()
        (data / label).rename(data / name / label)
    assert [(side.name, side.items, side.classes) for side in check_own(str(data)).sides] == [
        ("test gallery", 1, 1),
        ("test query", 3, 1),
        ("train", 4, 1),
    ]


def test_broken_files_are_all_listed(data: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        (data / name).write_bytes((data / name).read_bytes()[:200])
    image = (data / "c" / "0.png").read_bytes()
    (data / "c" / "0.png").write_bytes(image[:2000] + bytes(100) + image[2100:])  # whole by its header and its end
    found = check_own(str(data))
    assert told(found) == [("broken image", name, "") for name in ("1.png", "2.png", "0.png")]
    assert all(remark.message and "\n" not in remark.message for remark in found.remarks)


def test_the_same_file_is_told_wherever_it_is(data: Path) -> None:
    shutil.copy(data / "a" / "0.png", data / "a" / "again.png")
    shutil.copy(data / "a" / "0.png", data / "b" / "there.png")
    found = check_own(str(data))
    assert told(found) == [("the same file", "again.png", "0.png"), ("the same file", "there.png", "0.png")]
    assert found.remarks[1].message == "class b; class a"


def test_what_looks_the_same_is_told_across_classes_alone(data: Path) -> None:
    other = picture(0).resize((280, 290)).filter(ImageFilter.GaussianBlur(1))
    other.save(data / "b" / "like.jpg", quality=60)
    other.save(data / "a" / "like.jpg", quality=70)
    found = check_own(str(data))
    (remark,) = [remark for remark in found.remarks if remark.file.endswith("b/like.jpg")]
    assert Path(remark.other).parent.name == "a"
    assert not [remark for remark in found.remarks if remark.file.endswith("a/like.jpg")]


def test_images_with_a_label_in_common_may_look_the_same(tmp_path: Path) -> None:
    image = picture(0)
    image.save(tmp_path / "0.png")
    for number in (1, 2, 3):
        image.resize((280, 290)).filter(ImageFilter.GaussianBlur(number / 2)).save(tmp_path / f"{number}.png")
    rows = ["path,label", "0.png,red|round", "1.png,red", "2.png,red|new", "3.png,blue"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    found = check_own(str(tmp_path / "t.csv"))
    assert [(kind, file) for kind, file, _ in told(found)] == [("looks the same", "3.png")]
    (side,) = found.sides
    assert (side.items, side.classes, side.sizes, side.alone) == (4, 4, (1, 1, 3), 3)


def test_what_looks_the_same_is_found_as_a_loop_over_all_pairs_finds_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_check, "_QUERIES", 3)
    random = np.random.default_rng(0)
    centres = random.integers(0, 2, (5, 64))
    hashes = [centres[n % 5] ^ (random.random(64) < 0.04 * (n % 3)) for n in range(60)]  # a third are equal
    records = [Record(Path(f"{n}.png"), str(random.integers(3)), "train") for n in range(60)]
    looks = [own_check._Look(b"", np.packbits(bits.astype(bool)).tobytes(), 9, 9) for bits in hashes]
    found = {r.file: r.other for r in own_check._alike(list(zip(records, looks, strict=True)), lambda *_: None)}
    expected = {}
    for n in range(60):
        near = [
            (int((hashes[n] != hashes[m]).sum()), m)
            for m in range(n)
            if records[m].label != records[n].label and (hashes[n] != hashes[m]).sum() <= own_check.ALIKE
        ]
        if near:
            expected[str(records[n].file)] = str(records[min(near)[1]].file)
    assert found == expected
    assert 10 < len(found) < 60


def test_small_images_are_counted(data: Path) -> None:
    picture(99).resize((100, 400)).save(data / "a" / "narrow.png")
    assert told(check_own(str(data))) == [("small image", "narrow.png", "")]
    assert told(check_own(str(data), image_size=64)) == []


def test_a_file_has_all_of_it(data: Path, tmp_path: Path) -> None:
    (data / "a" / "1.png").write_text("x")
    shutil.copy(data / "b" / "0.png", data / "c" / "like, it.png")
    write_remarks(found := check_own(str(data)), tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["file"], row["other"], row["message"]) for row in rows] == [
        (remark.kind, remark.file, remark.other, remark.message) for remark in found.remarks
    ]
    assert len(rows) == 2


def test_the_command_tells_it_and_ends_by_whether_files_are_broken(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recallk.cli.data._why_not_trained", lambda *_: None)  # they are too few
    shutil.copy(data / "b" / "0.png", data / "c" / "again.png")
    assert command("data", "check", data, "--image-size", "301", "--csv", tmp_path / "found.csv") == 0
    said = capsys.readouterr().out
    assert "1 to 4, median" not in said
    assert "the same file: 1" in said
    assert "small image: 9" in said
    assert "and 4 more" in said
    assert f"{data}: all 9 images opened" in said
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 11
    (data / "a" / "1.png").write_text("x")
    assert command("data", "check", data) == 2
    said = capsys.readouterr().out
    assert "1 of 9 images are broken: training does not start until they are mended" in said


def test_nothing_is_written_over(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\ndata/a/0.png,a\n")
    assert command("data", "check", table, "--csv", table) == 2
    assert "t.csv: exists already; choose another name" in capsys.readouterr().err
    assert table.read_text().startswith("path,label")
    assert command("data", "check", data, "--csv", tmp_path / "nowhere" / "x.csv") == 2
    assert "no folder" in capsys.readouterr().err


def test_data_without_files_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("data", "check", "glyphs") == 0
    said = capsys.readouterr().out
    assert "glyphs: no files to open" in said
    assert "train" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere: no such path, and no benchmark: these are cub, "),
        (["cub"], "cub is read from the disk: say where with --data"),
        (
            ["cub", "--data", ".", "--csv", "x.csv"],
            "--columns and --root are for own data, and cub is a benchmark",
        ),
        (["photos", "--data", "."], "no data set 'photos': one of cub, "),
        (["photos", "--all"], "own data have neither --data nor --all"),
    ],
)
def test_mistakes_are_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("data", "check", *words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_a_process_that_dies_is_one_line(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_check, "_look", _die)
    with pytest.raises(InputError, match="a process that opens images ended"):
        check_own(str(data))


def _die(_: str) -> None:
    os._exit(3)
