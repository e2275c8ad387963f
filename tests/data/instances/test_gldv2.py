"""Google Landmarks v2: what is read from miniatures of both tasks, and every defect, with file and line."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from recallk.data.findings import Findings, Kind
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.data.instances.instance import Landmarks, Relevant
from recallk.data.source import read_instances
from tests.data import limits
from tests.data.instance_miniatures import VARIANTS, image_id, make_instances
from tests.data.instances.reported import reported
from tests.data.miniatures import write

RETRIEVAL, RECOGNITION = "retrieval_solution_v2.1.csv", "recognition_solution_v2.1.csv"
INDEX = [image_id("1d", number) for number in range(10)]
TEST = [image_id("e5", number) for number in range(5)]


@pytest.mark.parametrize("variant", VARIANTS["gldv2"])
def test_retrieval_in_every_layout(tmp_path: Path, variant: str) -> None:
    instances, notes = read_instances("gldv2", str(make_instances("gldv2", tmp_path, variant)))
    assert {note.kind for note in notes} == {"other counts"}
    home = tmp_path / "gldv2" if variant == "above" else tmp_path
    assert list(instances.queries) == [home / f"test/{n}/0/0/{n}0000000000000e5.jpg" for n in range(3)]
    assert list(instances.gallery) == [home / f"index/{n}/0/0/{n}00000000000001d.jpg" for n in range(10)]
    assert all(isinstance(path, Path) and path.is_file() for path in (*instances.queries, *instances.gallery))
    answers = [[0, 1, 2, 3], [4, 5, 6], [7, 8]]
    assert instances.truth == Relevant(answers, 100, ["public", "public", "private"])


@pytest.mark.parametrize("variant", VARIANTS["gldv2-recognition"])
def test_recognition_with_either_list(tmp_path: Path, variant: str) -> None:
    instances, _ = read_instances("gldv2-recognition", str(make_instances("gldv2-recognition", tmp_path, variant)))
    assert list(instances.queries) == [tmp_path / f"test/{n}/0/0/{n}0000000000000e5.jpg" for n in range(4)]
    assert list(instances.gallery) == [tmp_path / f"train/{n}/0/0/{n}0000000000000ab.jpg" for n in range(10)]
    assert isinstance(instances.truth, Landmarks)
    assert instances.truth.gallery.dtype == np.int64
    assert instances.truth.gallery.tolist() == [7, 7, 7, 7, 8, 8, 8, 9, 9, 11]
    assert instances.truth.queries == [(7,), (8, 11), (9,), ()]


def test_the_clean_list_is_preferred(tmp_path: Path) -> None:
    root = make_instances("gldv2-recognition", tmp_path)
    write(root / "train.csv", ["id,url,landmark_id"])
    assert len(read_instances("gldv2-recognition", str(root))[0].gallery) == 10


def test_a_test_image_that_is_ignored_is_no_query(tmp_path: Path) -> None:
    root = make_instances("gldv2", tmp_path)
    lines = (root / RETRIEVAL).read_text().splitlines()
    write(root / RETRIEVAL, [line.replace("Private", "Ignored") for line in lines])
    instances, _ = read_instances("gldv2", str(root))
    assert instances.truth == Relevant([[0, 1, 2, 3], [4, 5, 6]], 100, ["public", "public"])


def test_the_index_has_the_order_of_its_list(tmp_path: Path) -> None:
    root = make_instances("gldv2", tmp_path)
    write(root / "index.csv", ["id", *reversed(INDEX)])
    instances, _ = read_instances("gldv2", str(root))
    assert instances.gallery[0] == root / f"index/9/0/0/{INDEX[9]}.jpg"
    assert isinstance(instances.truth, Relevant)
    assert instances.truth.items == [[9, 8, 7, 6], [5, 4, 3], [2, 1]]


@pytest.mark.parametrize(
    ("name", "file", "line", "kind", "message"),
    [
        ("gldv2", RETRIEVAL, f"{TEST[3]},{INDEX[0]}", "truncated line", "2 of 3 fields (id, truth, Usage)"),
        ("gldv2", RETRIEVAL, f"{TEST[3]},{INDEX[0]},Publi", "truncated line", "neither of Public, Private, Ignored"),
        ("gldv2", RETRIEVAL, f"{TEST[3][:-1]},{INDEX[0]},Public", "truncated line", "no ID of 16 letters and digits"),
        ("gldv2", RETRIEVAL, f"../../../../etc/,{INDEX[0]},Public", "truncated line", "no ID of 16 letters and digits"),
        ("gldv2", RETRIEVAL, f"{TEST[0]},{INDEX[0]},Public", "duplicate path", "is listed already"),
        ("gldv2", RETRIEVAL, f"{TEST[3]},{TEST[0]},Public", "unknown image", f"'{TEST[0]}' is not among the index"),
        ("gldv2", RETRIEVAL, f"{TEST[3]},{INDEX[0]} {INDEX[0]},Public", "answer listed twice", "counts once"),
        ("gldv2", RETRIEVAL, f"{'f' * 16},{INDEX[0]},Public", "missing image", "f/f/f/ffffffffffffffff.jpg: no such"),
        ("gldv2", "index.csv", "0123", "truncated line", "no ID of 16 letters and digits in '0123'"),
        ("gldv2", "index.csv", INDEX[4], "duplicate path", "index.csv, line 6); remove one of the two"),
        ("gldv2", "index.csv", "f" * 16, "missing image", "ffffffffffffffff.jpg: no such image"),
        ("gldv2-recognition", RECOGNITION, f"{TEST[4]},7", "truncated line", "2 of 3 fields"),
        ("gldv2-recognition", RECOGNITION, f"{TEST[4]},7,public", "truncated line", "neither of Public"),
        ("gldv2-recognition", RECOGNITION, f"{TEST[4]},x7,Public", "label is no number", "landmark is 'x7', no"),
        ("gldv2-recognition", RECOGNITION, f"{TEST[0]},7,Public", "duplicate path", "is listed already"),
        ("gldv2-recognition", "train_clean.csv", "12", "truncated line", "a landmark without images"),
        ("gldv2-recognition", "train_clean.csv", f"x,{'f' * 16}", "label is no number", "landmark is 'x'"),
        ("gldv2-recognition", "train_clean.csv", f"12,{'f' * 15}/", "truncated line", "no ID of 16"),
        ("gldv2-recognition", "train_clean.csv", f"12,{'f' * 16}", "missing image", "train/f/f/f/ffff"),
        ("gldv2-recognition", "train_clean.csv", f"12,{image_id('ab', 0)}", "duplicate path", "line 2); remove"),
    ],
)
def test_a_defect_is_named_with_file_and_line(
    tmp_path: Path, name: str, file: str, line: str, kind: Kind, message: str
) -> None:
    path = make_instances(name, tmp_path) / file
    lines = [*path.read_text().splitlines(), line]
    write(path, lines)
    problem = reported(name, tmp_path, kind)
    assert problem.where == f"{path}, line {len(lines)}"
    assert message in problem.message


def test_a_truncated_line_of_the_whole_training_list(tmp_path: Path) -> None:
    path = make_instances("gldv2-recognition", tmp_path, "all") / "train.csv"
    write(path, [*path.read_text().splitlines(), "0123456789abcdef,https://upload"])
    assert reported("gldv2-recognition", tmp_path, "label is no number").where == f"{path}, line 12"


@pytest.mark.parametrize(("name", "file"), [("gldv2", RETRIEVAL), ("gldv2-recognition", RECOGNITION)])
def test_windows_line_ends_are_a_note_and_change_nothing(tmp_path: Path, name: str, file: str) -> None:
    path = make_instances(name, tmp_path) / file
    before, _ = read_instances(name, str(tmp_path))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert reported(name, tmp_path, "Windows line ends").where == str(path)
    after, _ = read_instances(name, str(tmp_path))
    assert list(after.queries) == list(before.queries)
    assert repr(after.truth) == repr(before.truth)


@pytest.mark.parametrize(("name", "solution"), [("gldv2", RETRIEVAL), ("gldv2-recognition", RECOGNITION)])
def test_lists_that_are_not_there(tmp_path: Path, name: str, solution: str) -> None:
    root = make_instances(name, tmp_path)
    (root / solution).unlink()
    assert f"looked for {solution} or " in reported(name, root, "wrong root folder").message


def test_neither_list_nor_images_of_the_index(tmp_path: Path) -> None:
    root = make_instances("gldv2", tmp_path, "no list")
    shutil.rmtree(root / "index")
    write(root / RETRIEVAL, ["id,images,Usage", f"{TEST[0]},None,Public"])
    assert "nor any image in" in reported("gldv2", root, "missing file").message


def test_a_file_in_the_index_whose_name_is_no_id(tmp_path: Path) -> None:
    root = make_instances("gldv2", tmp_path, "no list")
    (root / "index/0/copy.jpg").write_bytes(b"")
    assert reported("gldv2", root, "truncated line").where == f"{root / 'index'}, file 11"


def test_a_recognition_task_without_training_list(tmp_path: Path) -> None:
    root = make_instances("gldv2-recognition", tmp_path)
    (root / "train_clean.csv").unlink()
    assert reported("gldv2-recognition", root, "missing file").where == str(root / "train.csv")


def test_the_lists_alone_tell_the_truth(tmp_path: Path) -> None:
    """Without images the set is whole, for descriptors that were made elsewhere."""
    root = make_instances("gldv2", tmp_path)
    shutil.rmtree(root / "index")
    findings = Findings()
    instances = INSTANCE_BENCHMARKS["gldv2"].read(root, findings)
    assert instances is not None
    assert instances.counted == "3 queries, 10 images"
    (error,) = findings.errors
    assert error.where == f"{root / 'index.csv'}, line 2"
    assert "no such image, nor any other of the 10" in error.message


@pytest.mark.slow
def test_an_index_at_full_size(tmp_path: Path) -> None:
    """761,757 lines are read in seconds; three in every thousand images are asked for."""
    root = make_instances("gldv2", tmp_path)
    names = [f"{number:016x}" for number in range(0, 761_757 * 7, 7)]
    write(root / "index.csv", ["id", *names])
    write(
        root / RETRIEVAL,
        ["id,images,Usage", *(f"{TEST[n]},{' '.join(names[n::1000])},Public" for n in range(3))],
    )
    findings = Findings()

    def read() -> None:
        instances = INSTANCE_BENCHMARKS["gldv2"].read(root, findings)
        assert instances is not None
        assert len(instances.gallery) == 761_757
        assert isinstance(instances.truth, Relevant)
        assert sum(map(len, instances.truth.items)) == 2_286

    began = time.perf_counter()
    read()
    assert time.perf_counter() - began < 40  # 4 s on an idle machine
    assert limits.megabytes(read) < 800
