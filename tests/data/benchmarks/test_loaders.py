"""Every benchmark is read as its lists say, in every layout, and what is wrong is named with file and line."""

import os
import pickle
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from recallk import InputError
from recallk.data.benchmarks.catalogue import BENCHMARKS
from recallk.data.benchmarks.check import check
from recallk.data.findings import MOST_LISTED, NOTES, Finding, Findings, Kind
from recallk.data.item import Drawing, Record
from recallk.data.source import read_benchmark
from tests.data import limits
from tests.data.miniatures import CLASSES, IMAGES, VARIANTS, annotations, jpeg, make, write


def read(name: str, root: Path) -> tuple[list[Record], Findings]:
    findings = Findings()
    return BENCHMARKS[name].read(root, findings), findings


def listing(records: list[Record], root: Path) -> list[tuple[str, str, str | None]]:
    return [(r.item.relative_to(root).as_posix(), r.label, r.split) for r in records if isinstance(r.item, Path)]


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def hand_cub(root: Path) -> None:
    (root / "images.txt").write_text(
        "1 001.Black_footed_Albatross/a.jpg\n"
        "2 100.Brown_Pelican/b.jpg\n"
        "3 101.White_Pelican/c.jpg\n"
        "4 200.Common_Yellowthroat/d.jpg\n"
    )
    touch(root / "images", "001.Black_footed_Albatross/a.jpg", "100.Brown_Pelican/b.jpg")
    touch(root / "images", "101.White_Pelican/c.jpg", "200.Common_Yellowthroat/d.jpg")


def hand_cars(root: Path) -> None:
    rows = [("car_ims/000001.jpg", 1), ("car_ims/000002.jpg", 98), ("car_ims/000003.jpg", 99), ("car_ims/4.jpg", 196)]
    annotations(root / "cars_annos.mat", "relative_im_path", rows)
    touch(root, *(name for name, _ in rows))


def hand_sop(root: Path) -> None:
    (root / "Ebay_train.txt").write_text(
        "image_id class_id super_class_id path\n1 1 1 bicycle_final/11_0.JPG\n2 1 1 bicycle_final/11_1.JPG\n"
    )
    (root / "Ebay_test.txt").write_text("image_id class_id super_class_id path\n59552 11319 12 toaster_final/2_0.JPG\n")
    touch(root, "bicycle_final/11_0.JPG", "bicycle_final/11_1.JPG", "toaster_final/2_0.JPG")


def hand_inaturalist(root: Path) -> None:
    (root / "Inat_dataset_splits").mkdir()
    (root / "Inat_dataset_splits/Inaturalist_train_set1.txt").write_text("train_val2018/Plantae/7477/3b60.jpg\n")
    (root / "Inat_dataset_splits/Inaturalist_test_set1.txt").write_text("train_val2018/Aves/20/ff.jpg")
    touch(root, "train_val2018/Plantae/7477/3b60.jpg", "train_val2018/Aves/20/ff.jpg")


def hand_vehicleid(root: Path) -> None:
    lists = root / "train_test_split"
    lists.mkdir()
    (lists / "train_list.txt").write_text("0214239 25072\n")
    (lists / "test_list_800.txt").write_text("0160783 17713\n")
    (lists / "test_list_1600.txt").write_text("0160783 17713\n0160784 9\n")
    (lists / "test_list_2400.txt").write_text("0160784 9\n")
    touch(root / "image", "0214239.jpg", "0160783.jpg", "0160784.jpg")


def hand_inshop(root: Path) -> None:
    (root / "Eval").mkdir()
    (root / "Eval/list_eval_partition.txt").write_text(
        "4\n"
        "image_name item_id evaluation_status\n"
        "img/WOMEN/Dresses/id_00000002/02_1_front.jpg                 id_00000002 train\n"
        "img/WOMEN/Dresses/id_00000003/01_1_front.jpg                 id_00000003 query\n"
        "img/WOMEN/Dresses/id_00000003/01_2_side.jpg                  id_00000003 gallery\n"
        "img/MEN/Denim/id_00000080/01_1_front.jpg                     id_00000080 gallery\n"
    )
    touch(root / "Img/img/WOMEN/Dresses", "id_00000002/02_1_front.jpg", "id_00000003/01_1_front.jpg")
    touch(root / "Img/img", "WOMEN/Dresses/id_00000003/01_2_side.jpg", "MEN/Denim/id_00000080/01_1_front.jpg")


def hand_gldv2_clean(root: Path) -> None:
    (root / "train_clean.csv").write_text(
        "landmark_id,images\n1,17660ef415d37059 92b6290d571448f6\n203093,0123456789abcdef\n"
    )
    touch(root / "train", "1/7/6/17660ef415d37059.jpg", "9/2/b/92b6290d571448f6.jpg", "0/1/2/0123456789abcdef.jpg")


def hand_sfm120k(root: Path) -> None:
    tables = {
        "train": {"cids": ["00aabbcc", "00ddeeff"], "cluster": [5, 5], "qidxs": [0], "pidxs": [1]},
        "val": {"cids": ["aabbccdd"], "cluster": np.array([5]), "qidxs": np.array([], int), "pidxs": []},
    }
    (root / "retrieval-SfM-120k.pkl").write_bytes(pickle.dumps(tables))
    touch(root / "ims", "cc/bb/aa/00aabbcc", "ff/ee/dd/00ddeeff", "dd/cc/bb/aabbccdd")


@pytest.mark.parametrize(
    ("name", "write_by_hand", "expected"),
    [
        (
            "cub",
            hand_cub,
            [
                ("images/001.Black_footed_Albatross/a.jpg", "001", "train"),
                ("images/100.Brown_Pelican/b.jpg", "100", "train"),
                ("images/101.White_Pelican/c.jpg", "101", "test"),
                ("images/200.Common_Yellowthroat/d.jpg", "200", "test"),
            ],
        ),
        (
            "cars",
            hand_cars,
            [
                ("car_ims/000001.jpg", "001", "train"),
                ("car_ims/000002.jpg", "098", "train"),
                ("car_ims/000003.jpg", "099", "test"),
                ("car_ims/4.jpg", "196", "test"),
            ],
        ),
        (
            "sop",
            hand_sop,
            [
                ("bicycle_final/11_0.JPG", "1", "train"),
                ("bicycle_final/11_1.JPG", "1", "train"),
                ("toaster_final/2_0.JPG", "11319", "test"),
            ],
        ),
        (
            "inaturalist",
            hand_inaturalist,
            [
                ("train_val2018/Plantae/7477/3b60.jpg", "Plantae/7477", "train"),
                ("train_val2018/Aves/20/ff.jpg", "Aves/20", "test"),
            ],
        ),
        (
            "vehicleid",
            hand_vehicleid,
            [
                ("image/0214239.jpg", "25072", "train"),
                ("image/0160783.jpg", "17713", "test-800"),
                ("image/0160783.jpg", "17713", "test-1600"),
                ("image/0160784.jpg", "9", "test-1600"),
                ("image/0160784.jpg", "9", "test-2400"),
            ],
        ),
        (
            "inshop",
            hand_inshop,
            [
                ("Img/img/WOMEN/Dresses/id_00000002/02_1_front.jpg", "id_00000002", "train"),
                ("Img/img/WOMEN/Dresses/id_00000003/01_1_front.jpg", "id_00000003", "query"),
                ("Img/img/WOMEN/Dresses/id_00000003/01_2_side.jpg", "id_00000003", "gallery"),
                ("Img/img/MEN/Denim/id_00000080/01_1_front.jpg", "id_00000080", "gallery"),
            ],
        ),
        (
            "gldv2-clean",
            hand_gldv2_clean,
            [
                ("train/1/7/6/17660ef415d37059.jpg", "1", None),
                ("train/9/2/b/92b6290d571448f6.jpg", "1", None),
                ("train/0/1/2/0123456789abcdef.jpg", "203093", None),
            ],
        ),
        (
            "sfm120k",
            hand_sfm120k,
            [
                ("ims/cc/bb/aa/00aabbcc", "train/5", "train"),
                ("ims/ff/ee/dd/00ddeeff", "train/5", "train"),
                ("ims/dd/cc/bb/aabbccdd", "val/5", "test"),
            ],
        ),
    ],
)
def test_records_against_a_listing_by_hand(
    tmp_path: Path,
    name: str,
    write_by_hand: Callable[[Path], None],
    expected: list[tuple[str, str, str | None]],
) -> None:
    write_by_hand(tmp_path)
    records, findings = read(name, tmp_path)
    assert listing(records, tmp_path) == expected
    assert not findings.errors


SIDE = CLASSES * IMAGES
COUNTS: dict[str, dict[str | None, int]] = {
    "cub": {"train": SIDE, "test": SIDE},
    "cars": {"train": SIDE, "test": SIDE},
    "sop": {"train": SIDE, "test": SIDE},
    "inaturalist": {"train": SIDE, "test": SIDE},
    "vehicleid": {"train": SIDE, "test-800": SIDE, "test-1600": SIDE + 2 * IMAGES, "test-2400": SIDE + 4 * IMAGES},
    "inshop": {"train": SIDE, "query": 2 * CLASSES, "gallery": 3 * CLASSES},
    "gldv2-clean": {None: 2 * SIDE},
    "sfm120k": {"train": SIDE, "test": SIDE},
    "icons": {"train": SIDE, "test": SIDE},
}


@pytest.mark.parametrize(("name", "variant"), [(name, v) for name, variants in VARIANTS.items() for v in variants])
def test_every_layout(tmp_path: Path, name: str, variant: str) -> None:
    records, findings = read(name, make(name, tmp_path / "data", variant))
    assert not findings.listed
    assert Counter(record.split for record in records) == COUNTS[name]
    assert all(record.item.is_file() for record in records if isinstance(record.item, Path))
    assert {type(record.item) for record in records} == {Drawing if name == "icons" else type(tmp_path)}
    per_class = Counter((record.label, record.split) for record in records)
    assert set(per_class.values()) == ({IMAGES} if name != "inshop" else {2, 3, IMAGES})
    assert read_benchmark(name, str(tmp_path / "data"))[0] or variant == "top"


def test_splits_and_test_sets_have_published_counts() -> None:
    for benchmark in BENCHMARKS.values():
        assert "train" in benchmark.counts
        for test in benchmark.tests:
            assert {test.queries, test.gallery or test.queries} <= set(benchmark.counts)


LISTS = {
    "cub": "CUB_200_2011/images.txt",
    "sop": "Stanford_Online_Products/Ebay_test.txt",
    "inaturalist": "Inat_dataset_splits/Inaturalist_test_set1.txt",
    "vehicleid": "VehicleID_V1.0/train_test_split/test_list_800.txt",
    "inshop": "Eval/list_eval_partition.txt",
    "gldv2-clean": "train_clean.csv",
}
FOLDERS = {
    "cub": "CUB_200_2011/images",
    "sop": "Stanford_Online_Products",
    "inaturalist": "",
    "vehicleid": "VehicleID_V1.0/image",
    "inshop": "Img/img",
    "gldv2-clean": "train",
}
NEW, NEW_IMAGE = "0123456789abcdef", "0/1/2/0123456789abcdef.jpg"
SOP_TRAIN = "bicycle_final/110000000002_0.JPG"
INAT_TRAIN = f"train_val2018/Plantae/7470/{7470:08x}{0:024x}.jpg"
INSHOP_TRAIN = "WOMEN/Dresses/id_00000001/02_0_front.jpg"


@dataclass(frozen=True)
class Defect:
    """A line added to a list, perhaps with its image, and what is to be said of it."""

    name: str
    kind: Kind
    line: str
    message: str
    image: str = ""


DEFECTS = [
    Defect("cub", "missing image", "61 001.Bird_1/none.jpg", "none.jpg: no such image"),
    Defect("cub", "class with one image", "61 107.B/new.jpg", "class 107 has one image in test", "107.B/new.jpg"),
    Defect("cub", "class with one image", "61 007.B/new.jpg", "class 007 has one image in train", "007.B/new.jpg"),
    Defect("cub", "duplicate path", "61 001.Bird_1/Bird_1_0000.jpg", "is listed already"),
    Defect("cub", "truncated line", "61", "1 of 2 fields (image number, path)"),
    Defect("cub", "truncated line", "61 001.Bird_1/Bird_1_00", "no path of a .jpg file"),
    Defect("cub", "label is no number", "x 001.Bird_1/new.jpg", "image number is 'x'", "001.Bird_1/new.jpg"),
    Defect("cub", "label is no number", "61 Bird/new.jpg", "class is 'Bird/new', no number", "Bird/new.jpg"),
    Defect("cub", "label is no number", "61 201.B/new.jpg", "class is 201, not from 1 to 200", "201.B/new.jpg"),
    Defect("sop", "missing image", "9 11319 1 chair_final/none.JPG", "none.JPG: no such image"),
    Defect("sop", "class with one image", "9 20000 1 chair_final/new.JPG", "class 20000", "chair_final/new.JPG"),
    Defect("sop", "duplicate path", "9 11319 1 chair_final/110000011319_0.JPG", "is listed already"),
    Defect("sop", "image in two splits", f"9 2 1 {SOP_TRAIN}", "in test, and in train"),
    Defect("sop", "class in two splits", "9 2 1 chair_final/new.JPG", "class 2 is in test", "chair_final/new.JPG"),
    Defect("sop", "truncated line", "9 11319 1", "3 of 4 fields"),
    Defect("sop", "truncated line", "9 11319 1 chair_final/1100", "no path of a .jpg file"),
    Defect("sop", "label is no number", "9 1131a 1 chair_final/new.JPG", "class_id is '1131a'", "chair_final/new.JPG"),
    Defect("inaturalist", "missing image", "train_val2018/Aves/21/none.jpg", "none.jpg: no such image"),
    Defect("inaturalist", "class with one image", "train_val2018/A/1/n.jpg", "class A/1", "train_val2018/A/1/n.jpg"),
    Defect("inaturalist", "duplicate path", f"train_val2018/Plantae/20/{20:08x}{0:024x}.jpg", "is listed already"),
    Defect("inaturalist", "image in two splits", INAT_TRAIN, "in test, and in train"),
    Defect(
        "inaturalist",
        "class in two splits",
        "train_val2018/Plantae/7470/new.jpg",
        "class Plantae/7470 is in test, and in train",
        "train_val2018/Plantae/7470/new.jpg",
    ),
    Defect("inaturalist", "truncated line", "train_val2018/Aves/21/0000", "no path of a .jpg file"),
    Defect("inaturalist", "truncated line", "new.jpg", "fewer than two folders"),
    Defect("inaturalist", "label is no number", "train_val2018/Aves/x1/new.jpg", "class is 'x1', no number"),
    Defect("vehicleid", "missing image", "9999999 200", "9999999.jpg: no such image"),
    Defect("vehicleid", "class with one image", "0000999 999", "class 999 has one image in test-800", "0000999.jpg"),
    Defect("vehicleid", "duplicate path", "0002000 200", "is listed already"),
    Defect("vehicleid", "image in two splits", "0000010 1", "in test-800, and in train"),
    Defect("vehicleid", "class in two splits", "0000999 1", "class 1 is in test-800, and in train", "0000999.jpg"),
    Defect("vehicleid", "truncated line", "0000999", "1 of 2 fields (image, id)", "0000999.jpg"),
    Defect("vehicleid", "label is no number", "0000999 2o0", "id is '2o0', no number", "0000999.jpg"),
    Defect("inshop", "missing image", "img/WOMEN/none.jpg id_00000001 train", "none.jpg: no such image"),
    Defect("inshop", "class with one image", "img/n.jpg id_00000099 train", "class id_00000099 has one", "n.jpg"),
    Defect("inshop", "class with one image", "img/n.jpg id_00000099 query", "is not in gallery", "n.jpg"),
    Defect("inshop", "duplicate path", f"img/{INSHOP_TRAIN} id_00000001 train", "is listed already"),
    Defect("inshop", "image in two splits", f"img/{INSHOP_TRAIN} id_00000001 query", "in query, and in train"),
    Defect("inshop", "class in two splits", "img/n.jpg id_00000001 gallery", "is in gallery, and in train", "n.jpg"),
    Defect("inshop", "truncated line", "img/n.jpg id_00000001", "2 of 3 fields", "n.jpg"),
    Defect("inshop", "truncated line", "img/n.jpg id_00000001 trai", "neither of train, query, gallery", "n.jpg"),
    Defect("inshop", "label is no number", "img/n.jpg id_0000000x train", "item is '0000000x', no number", "n.jpg"),
    Defect("gldv2-clean", "missing image", f"7,{NEW}", f"{NEW}.jpg: no such image"),
    Defect("gldv2-clean", "class with one image", f"99,{NEW}", "class 99 has one image: training never", NEW_IMAGE),
    Defect("gldv2-clean", "duplicate path", f"7,{1:03x}{0:013x}", "is listed already"),
    Defect("gldv2-clean", "duplicate path", f"7,{NEW} {NEW}", "is listed already", NEW_IMAGE),
    Defect("gldv2-clean", "truncated line", "7", "1 of 2 fields (landmark_id, images)"),
    Defect("gldv2-clean", "truncated line", "7, ", "1 of 2 fields (landmark_id, images)"),
    Defect("gldv2-clean", "truncated line", f"7,{NEW} 01", "no ID of 16 letters and digits in '01'", NEW_IMAGE),
    Defect("gldv2-clean", "truncated line", f"7,{NEW} ../{NEW:.13}", "no ID of 16 letters and digits", NEW_IMAGE),
    Defect("gldv2-clean", "label is no number", f"7x,{NEW}", "landmark_id is '7x', no number", NEW_IMAGE),
]


def reported(name: str, root: Path, kind: Kind) -> Finding:
    """The one problem there is, as `check` reports it; `read_benchmark` must say the same, and in one line."""
    found = [problem for problem in check(BENCHMARKS[name], root, 0).findings.listed if problem.kind != "other counts"]
    assert [problem.kind for problem in found] == [kind]
    if kind in NOTES:
        assert found == read_benchmark(name, str(root))[1]
    else:
        with pytest.raises(InputError) as caught:
            read_benchmark(name, str(root))
        assert str(caught.value) == str(found[0])
    assert "\n" not in str(found[0])
    return found[0]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.name}-{defect.kind}")
def test_a_defect_is_named_with_file_and_line(tmp_path: Path, defect: Defect) -> None:
    root = make(defect.name, tmp_path)
    path = root / LISTS[defect.name]
    lines = [*path.read_text().splitlines(), defect.line]
    if defect.name == "inshop":
        lines[0] = str(int(lines[0]) + 1)
    write(path, lines)
    if defect.image:
        jpeg(root / FOLDERS[defect.name] / defect.image)
    problem = reported(defect.name, root, defect.kind)
    assert problem.where == f"{path}, line {len(lines)}"
    assert defect.message in problem.message


def cars_with(root: Path, *rows: tuple[object, object]) -> Path:
    """Two whole classes and the rows to be tested."""
    good = [(f"car_ims/{number}.jpg", np.uint8(number % 2 * 98 + 1)) for number in range(4)]
    annotations(root / "cars_annos.mat", "relative_im_path", [*good, *rows])
    for name in [*(name for name, _ in good), "car_ims/new.jpg"]:
        jpeg(root / name)
    return root


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        (("car_ims/none.jpg", 1), "missing image", "none.jpg: no such image"),
        (("car_ims/new.jpg", 5), "class with one image", "class 005 has one image in train"),
        (("car_ims/1.jpg", 99), "duplicate path", "listed already"),
        (("car_ims/new", 1), "truncated line", "no path of a .jpg file"),
        (("car_ims/new.jpg", np.array([])), "truncated line", "no file name or no class"),
        (("car_ims/new.jpg", "one"), "label is no number", "class is 'one', no number"),
        (("car_ims/new.jpg", 197), "label is no number", "class is 197, not from 1 to 196"),
    ],
)
def test_cars_names_the_annotation(tmp_path: Path, row: tuple[object, object], kind: Kind, message: str) -> None:
    problem = reported("cars", cars_with(tmp_path, row), kind)
    assert problem.where == f"{tmp_path / 'cars_annos.mat'}, annotation 5"
    assert message in problem.message


def test_an_image_of_two_classes_in_two_test_sets(tmp_path: Path) -> None:
    root = make("vehicleid", tmp_path)
    small, medium = (root / f"VehicleID_V1.0/train_test_split/test_list_{count}.txt" for count in (800, 1600))
    lines = medium.read_text().splitlines()
    assert lines[0] == "0002000 200"
    write(medium, ["0002000 201", *lines[1:]])
    assert str(reported("vehicleid", root, "image in two splits")) == (
        f"{medium}, line 1: 0002000.jpg is of class 201 in test-1600, and 200 in test-800 ({small}, line 1); "
        "get test_list_1600.txt again"
    )


def test_classes_saved_as_matlab_does(tmp_path: Path) -> None:
    records, findings = read("cars", cars_with(tmp_path, ("car_ims/new.jpg", 99.0)))
    assert not findings.listed
    assert records[-1] == Record(tmp_path / "car_ims/new.jpg", "099", "test")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "devkit/cars_test_annos_withlabels.mat").unlink(), "no such file; the devkit's files"),
        (lambda root: (root / "devkit/cars_test_annos_withlabels.mat").write_bytes(b"no .mat" * 40), "is no .mat file"),
        (lambda root: (root / "devkit/cars_test_annos_withlabels.mat").write_bytes(b""), "get it again"),
    ],
)
def test_an_unreadable_mat_file(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    root = make("cars", tmp_path, "devkit")
    spoil(root)
    problem = reported("cars", root, "missing file")
    assert "cars_test_annos_withlabels.mat" in problem.where
    assert message in problem.message


@pytest.mark.parametrize("name", LISTS)
def test_windows_line_ends_are_a_note_and_change_nothing(tmp_path: Path, name: str) -> None:
    root = make(name, tmp_path)
    before = read(name, root)[0]
    path = root / LISTS[name]
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert reported(name, root, "Windows line ends").where == str(path)
    assert read_benchmark(name, str(root))[0] == before


@pytest.mark.parametrize("name", [name for name in LISTS if name not in ("cub", "inshop", "gldv2-clean")])
def test_a_missing_or_empty_list(tmp_path: Path, name: str) -> None:
    root = make(name, tmp_path)
    path = root / LISTS[name]
    path.write_text("\n")
    assert "is empty" in reported(name, root, "missing file").message
    path.unlink()
    problem = reported(name, root, "missing file")
    assert problem.where == str(path)
    assert re.search(r"No such file.* there is .*train", problem.message)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_wrong_root_says_what_is_there_instead(tmp_path: Path, name: str) -> None:
    touch(tmp_path, *(f"{letter}.zip" for letter in "abcdefg"))
    problem = reported(name, tmp_path, "wrong root folder")
    assert problem.where == str(tmp_path)
    assert "not here, but a.zip, b.zip, c.zip, d.zip, e.zip and 2 more; looked for" in problem.message
    problem = reported(name, tmp_path / "no/where", "wrong root folder")
    assert f"no such folder; in {tmp_path} there is a.zip" in problem.message
    assert "this is a file" in reported(name, tmp_path / "a.zip", "wrong root folder").message
    assert len(problem.message) < 500


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "icons"])
def test_images_that_are_not_unpacked_are_one_line(tmp_path: Path, name: str) -> None:
    root = make(name, tmp_path)
    for path in [path for path in root.rglob("*") if path.is_file()]:
        if path.suffix.lower() == ".jpg" or "ims" in path.parts:
            path.unlink()
    problem = reported(name, root, "missing image")
    assert re.search(r"no such image, nor any other of the \d+; unpack", problem.message)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_is_no_file(tmp_path: Path, name: str, kind: str) -> None:
    root = make(name, tmp_path)
    path = root / LISTS[name]
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with limits.seconds(20):
        problem = reported(name, root, "missing file")
    assert problem.where == str(path)
    assert ("a pipe or a device, not a file" if kind == "pipe" else "a folder, not a file") in problem.message


def test_an_annotation_file_that_is_a_pipe(tmp_path: Path) -> None:
    root = make("cars", tmp_path)
    for path in [*root.rglob("*.mat")]:
        path.unlink()
        os.mkfifo(path)
    with limits.seconds(20), pytest.raises(InputError, match="no such file"):
        read_benchmark("cars", str(root))


def test_an_image_that_is_a_pipe_is_missing(tmp_path: Path) -> None:
    root = make("cub", tmp_path)
    path = sorted(root.rglob("*.jpg"))[3]
    path.unlink()
    os.mkfifo(path)
    with limits.seconds(20):
        problem = reported("cub", root, "missing image")
    assert f"{path}: no such image" in problem.message


def test_problems_are_shown_escaped(tmp_path: Path) -> None:
    root = make("inaturalist", tmp_path)
    path = root / LISTS["inaturalist"]
    write(path, [*path.read_text().splitlines(), "train_val2018/Aves/21/\x1b[2J\u202ex.jpg"])
    problem = reported("inaturalist", root, "missing image")
    assert "\\x1b[2J\\u202ex.jpg: no such image" in problem.message
    assert problem.message.isprintable()


def test_a_wrong_count_is_an_error(tmp_path: Path) -> None:
    root = make("inshop", tmp_path)
    path = root / LISTS["inshop"]
    write(path, path.read_text().splitlines()[:-1])
    problem = reported("inshop", root, "truncated line")
    assert str(problem) == f"{path}, line 1: says that 60 images follow, but 59 do; get list_eval_partition.txt again"


def test_many_problems_of_a_kind_end_with_their_number(tmp_path: Path) -> None:
    root = make("sop", tmp_path)
    path = root / LISTS["sop"]
    write(path, [*path.read_text().splitlines(), *(f"9 11319 1 chair_final/none{i}.JPG" for i in range(1_000))])
    findings = read("sop", root)[1]
    assert len(findings.listed) == MOST_LISTED + 1
    assert findings.error_count == 1_000
    assert findings.listed[-1].message == "from here on 980 more of this kind"
    assert findings.listed[-1].where == f"{path}, line {SIDE + 2 + MOST_LISTED}"
    with pytest.raises(InputError, match=r"\(and 999 more: recallk data check sop --data .* shows them\)$"):
        read_benchmark("sop", str(root))


def test_google_landmarks_with_an_empty_list(tmp_path: Path) -> None:
    root = make("gldv2-clean", tmp_path)
    (root / "train_clean.csv").write_text("")
    assert "is empty" in reported("gldv2-clean", root, "missing file").message
    (root / "train_clean.csv").write_text("landmark_id,images\n")
    with pytest.raises(InputError, match="name no images"):
        read_benchmark("gldv2-clean", str(root))


@pytest.mark.parametrize("name", ["sop", "inaturalist", "gldv2-clean", "sfm120k"])
def test_the_folder_that_one_stands_in(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(name, tmp_path)
    expected = listing(read(name, tmp_path)[0], tmp_path)
    monkeypatch.chdir(tmp_path)
    assert listing(read(name, Path())[0], Path()) == expected


def test_a_path_in_another_spelling_is_the_same_image(tmp_path: Path) -> None:
    root = make("sop", tmp_path)
    path = root / LISTS["sop"]
    write(path, [*path.read_text().splitlines(), "9 11319 1 ./chair_final//110000011319_0.JPG"])
    assert "is listed already" in reported("sop", root, "duplicate path").message
    write(path, [*path.read_text().splitlines()[:-1], "9 11319 1 /etc/new.JPG"])
    assert f"{path.parent}/etc/new.JPG: no such image" in reported("sop", root, "missing image").message


def test_lists_without_images_and_unknown_names(tmp_path: Path) -> None:
    for name in ("Ebay_train.txt", "Ebay_test.txt"):
        write(tmp_path / name, ["image_id class_id super_class_id path"])
    with pytest.raises(InputError, match="name no images"):
        read_benchmark("sop", str(tmp_path))
    with pytest.raises(InputError, match="no data set 'sopp': one of cub, cars, sop, inaturalist, vehicleid, inshop, "):
        read_benchmark("sopp", str(tmp_path))


@pytest.mark.slow
def test_stanford_online_products_at_full_size(tmp_path: Path) -> None:
    image = 0
    for name, split in (("Ebay_train.txt", "train"), ("Ebay_test.txt", "test")):
        count = BENCHMARKS["sop"].counts[split]
        assert count.classes
        lines = ["image_id class_id super_class_id path"]
        for number in range(count.images):
            image += 1
            label = number % count.classes + (11_318 if split == "test" else 0) + 1
            folder = f"kind{label % 12}_final"
            lines.append(f"{image} {label} {label % 12 + 1} {folder}/{110_000_000_000 + image}_0.JPG")
            if image <= 12 * 12:  # enough for each folder to be there
                (tmp_path / folder).mkdir(exist_ok=True)
            os.close(os.open(f"{tmp_path}/{folder}/{110_000_000_000 + image}_0.JPG", os.O_CREAT | os.O_WRONLY))
        write(tmp_path / name, lines)
    started = time.process_time()  # what else the machine does is not counted
    found = check(BENCHMARKS["sop"], tmp_path, 0)
    seconds = time.process_time() - started
    assert found.right
    assert found.files == 120_053
    assert not found.findings.listed
    assert seconds < 5
