"""Revisited Oxford and Paris: what is read from a miniature, and every defect of a ground truth, with its query."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recallk import InputError
from recallk.data.findings import Kind
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.data.instances.check import check_instances
from recallk.data.instances.instance import Revisited
from recallk.data.item import Region
from recallk.data.source import read_instances
from tests.data.instance_miniatures import VARIANTS, make_instances, revisited_truth, thing, write_revisited
from tests.data.instances.reported import reported

NAMES = ("roxford5k", "rparis6k")


def spoiled(root: Path, spoil: Callable[[dict[str, Any]], object]) -> Path:
    """Make the miniature, with something done to its ground truth; return that file."""
    make_instances("roxford5k", root)
    truth = revisited_truth()
    spoil(truth)
    return write_revisited("roxford5k", root, truth)


@pytest.mark.parametrize(("name", "variant"), [(name, variant) for name in NAMES for variant in VARIANTS[name]])
def test_every_layout(tmp_path: Path, name: str, variant: str) -> None:
    instances, notes = read_instances(name, str(make_instances(name, tmp_path, variant)))
    assert {note.kind for note in notes} == {"other counts"}
    assert instances.counted == "3 queries, 10 images"
    folder = next(tmp_path.rglob("jpg"))
    assert instances.queries[1] == Region(folder / "query_000001.jpg", (4.0, 3.0, 60.0, 40.5))
    assert list(instances.gallery) == [folder / f"building_{number:06}.jpg" for number in range(10)]
    assert instances.truth == Revisited(
        [
            {"easy": [0], "hard": [1, 2], "junk": [3]},
            {"easy": [4], "hard": [5, 6], "junk": []},
            {"easy": [7], "hard": [8], "junk": []},
        ]
    )


@pytest.mark.parametrize(("name", "gallery"), [("roxford5k", 4_993), ("rparis6k", 6_322)])
def test_counts_are_held_against_the_published_ones(tmp_path: Path, name: str, gallery: int) -> None:
    found = check_instances(INSTANCE_BENCHMARKS[name], make_instances(name, tmp_path), None)
    assert [(row.split, row.images, row.published.images) for row in found.counts] == [
        ("queries", 3, 70),
        ("gallery", 10, gallery),
    ]
    assert [note.message for note in found.findings.notes] == [
        "queries: 3 images; published are 70",
        f"gallery: 10 images; published are {gallery:,}",
    ]
    assert not found.findings.errors
    assert found.opened == found.files == 13
    assert not found.right


def test_a_truth_as_other_programs_write_it(tmp_path: Path) -> None:
    """Arrays instead of lists, and no answers as an array of floats; written by protocol 0 as Python 2 does."""
    truth = revisited_truth()
    entry = truth["gnd"][2]
    entry.update(bbx=np.array(entry["bbx"], np.float32), easy=np.array(entry["easy"]), junk=np.array([]))
    make_instances("roxford5k", tmp_path)
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth, protocol=0))
    instances, _ = read_instances("roxford5k", str(tmp_path))
    assert isinstance(instances.truth, Revisited)
    assert instances.truth.answers[2] == {"easy": [7], "hard": [8], "junk": []}
    assert instances.queries[2] == Region(tmp_path / "jpg/query_000002.jpg", (4.0, 3.0, 60.0, 40.5))


def entry(**changed: object) -> Callable[[dict[str, Any]], object]:
    """A change of what the ground truth has of the third query, whose images are 7 and 8."""
    return lambda truth: truth["gnd"][2].update(changed)


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda truth: truth["gnd"][2].pop(key)


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (without("bbx"), "broken ground truth", "has no bbx"),
        (without("junk"), "broken ground truth", "has no junk"),
        (lambda truth: truth["gnd"].__setitem__(2, [1, 2]), "broken ground truth", "is [1, 2], no table"),
        (entry(bbx=None), "broken box", "bbx is None, not left, top, right, bottom"),
        (entry(bbx=[1.0, 2.0, 30.0]), "broken box", "bbx is [1.0, 2.0, 30.0], not"),
        (entry(bbx=[1.0, float("nan"), 30.0, 40.0]), "broken box", "bbx is [1.0, nan, 30.0, 40.0], not"),
        (entry(bbx=[1.0, 2.0, float("inf"), 40.0]), "broken box", "bbx is [1.0, 2.0, inf, 40.0], not"),
        (entry(bbx=[1, 2, 10**400, 40]), "broken box", "not left, top, right, bottom"),
        (entry(bbx=["1", "2", "30", "40"]), "broken box", "not left, top, right, bottom"),
        (entry(bbx=np.array([1j, 2, 30, 40])), "broken box", "not left, top, right, bottom"),
        (entry(bbx=[30.0, 2.0, 10.0, 40.0]), "broken box", "is 30, 2, 10, 40 in an image of 64 x 48 pixels: it holds"),
        (entry(bbx=[10.0, 2.0, 10.2, 40.0]), "broken box", "it holds none of them"),
        (entry(bbx=[64.0, 2.0, 90.0, 40.0]), "broken box", "it holds none of them"),
        (entry(bbx=[-9.0, -9.0, -1.0, -1.0]), "broken box", "it holds none of them"),
        (entry(bbx=[-1.0, 3.0, 64.5, 40.5]), "clipped box", "in an image of 64 x 48 pixels; the part inside"),
        (entry(hard=[10]), "number out of range", "hard has 10, but the images are numbered from 0 to 9"),
        (entry(junk=[-1]), "number out of range", "junk has -1, but"),
        (entry(junk=[10**30]), "number out of range", f"junk has {10**30}, but"),
        (entry(junk=[8]), "number in two lists", "8 is in hard and in junk"),
        (entry(hard=[7]), "number in two lists", "7 is in easy and in hard"),
        (entry(hard=[8, 8]), "answer listed twice", "hard has a number twice"),
        (entry(easy=[], hard=[]), "query without answer", "neither easy nor hard"),
        (entry(easy="78"), "broken ground truth", "easy is '78', no list of whole numbers"),
        (entry(easy=7), "broken ground truth", "easy is 7, no list"),
        (entry(easy=[7.5]), "broken ground truth", "easy is [7.5], no list"),
        (entry(easy=[True]), "broken ground truth", "easy is [True], no list"),
        (entry(easy=np.array([[7]])), "broken ground truth", "no list of whole numbers"),
        (lambda truth: truth["qimlist"].__setitem__(2, None), "broken ground truth", "its name is None, that of no"),
        (lambda truth: truth["qimlist"].__setitem__(2, "a\0b"), "broken ground truth", "that of no file"),
        (lambda truth: truth["qimlist"].__setitem__(2, "\ud800"), "broken ground truth", "that of no file"),
        (lambda truth: truth["qimlist"].__setitem__(2, "none"), "missing image", "none.jpg: no such image"),
        (lambda truth: truth["qimlist"].__setitem__(2, "query_000000"), "duplicate path", "query 1"),
        (lambda truth: truth["qimlist"].__setitem__(2, "building_000008"), "image in two splits", "image 9"),
        (lambda truth: truth["qimlist"].__setitem__(2, "../a"), "name of another folder", "'../a'"),
        (lambda truth: truth["qimlist"].__setitem__(2, ".."), "name of another folder", "'..'"),
        (lambda truth: truth["qimlist"].__setitem__(2, "/etc/passwd"), "name of another folder", "'/etc/passwd'"),
        (lambda truth: truth["qimlist"].__setitem__(2, "a\\b"), "name of another folder", "not that of a file in jpg/"),
    ],
)
def test_a_defect_of_a_query_is_named_with_file_and_query(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], kind: Kind, message: str
) -> None:
    file = spoiled(tmp_path, spoil)
    problem = reported("roxford5k", tmp_path, kind)
    assert problem.where == f"{file}, query 3"
    assert message in problem.message


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (7, "broken ground truth"),
        ("none", "missing image"),
        ("building_000000", "duplicate path"),
        ("../query_000000", "name of another folder"),
    ],
)
def test_a_defect_of_an_image_is_named_with_file_and_image(tmp_path: Path, name: object, kind: Kind) -> None:
    file = spoiled(tmp_path, lambda truth: truth["imlist"].__setitem__(9, name))
    assert reported("roxford5k", tmp_path, kind).where == f"{file}, image 10"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda truth: truth.pop("imlist"), "has no list imlist, but is {'qimlist'"),
        (lambda truth: truth.update(imlist="building"), "has no list imlist"),
        (lambda truth: truth.update(gnd={}, qimlist=None), "has no list qimlist, gnd"),
        (lambda truth: truth["gnd"].pop(), "gnd has 2 entries for 3 queries"),
        (lambda truth: truth["qimlist"].pop(), "gnd has 3 entries for 2 queries"),
    ],
)
def test_a_defect_of_the_file_is_named_with_it(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    file = spoiled(tmp_path, spoil)
    problem = reported("roxford5k", tmp_path, "broken ground truth")
    assert problem.where == str(file)
    assert message in problem.message


def test_a_truth_that_is_no_table(tmp_path: Path) -> None:
    file = write_revisited("rparis6k", make_instances("rparis6k", tmp_path), ["building"])  # type: ignore[arg-type]
    problem = reported("rparis6k", tmp_path, "broken ground truth")
    assert str(problem) == f"{file}: has no list imlist, qimlist, gnd, but is ['building']; get it again"


class Hostile:
    """Pickled, it asks whoever reads it to make a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("where", ["alone", "inside"])
def test_a_hostile_truth_runs_nothing_and_is_refused_in_a_line(tmp_path: Path, where: str) -> None:
    hostile: Any = Hostile(tmp_path / "made")
    make_instances("roxford5k", tmp_path)
    truth = revisited_truth()
    truth["gnd"][1]["bbx"] = hostile
    write_revisited("roxford5k", tmp_path, hostile if where == "alone" else truth)
    problem = reported("roxford5k", tmp_path, "broken ground truth")
    assert problem.where == str(tmp_path / "gnd_roxford5k.pkl")
    assert "mkdir; nothing was run" in problem.message
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(revisited_truth())[:-40]])
def test_a_damaged_truth(tmp_path: Path, content: bytes) -> None:
    make_instances("roxford5k", tmp_path)
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(content)
    assert "get it again" in reported("roxford5k", tmp_path, "broken ground truth").message


def test_a_clipped_box_is_the_part_inside(tmp_path: Path) -> None:
    spoiled(tmp_path, entry(bbx=[-1.0, 3.0, 64.5, 99.0]))
    query = read_instances("roxford5k", str(tmp_path))[0].queries[2]
    assert query == Region(tmp_path / "jpg/query_000002.jpg", (0.0, 3.0, 64.0, 48.0))


def test_the_box_is_one_of_the_upright_image(tmp_path: Path) -> None:
    """An image that the camera held on its side: 48 wide and 64 high, in a file of 64 x 48."""
    spoiled(tmp_path, entry(bbx=[4.0, 3.0, 40.0, 60.0]))
    path = tmp_path / "jpg/query_000002.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)
    query = read_instances("roxford5k", str(tmp_path))[0].queries[2]
    assert query == Region(path, (4.0, 3.0, 40.0, 60.0))


def test_a_broken_query_is_told_once(tmp_path: Path) -> None:
    make_instances("roxford5k", tmp_path)
    path = tmp_path / "jpg/query_000001.jpg"
    path.write_bytes(b"no image")
    found = check_instances(INSTANCE_BENCHMARKS["roxford5k"], tmp_path, None).findings
    assert [(error.kind, error.where) for error in found.errors] == [("broken image", str(path))]


def test_missing_images_each_and_all(tmp_path: Path) -> None:
    make_instances("roxford5k", tmp_path)
    for number in (2, 5):
        (tmp_path / f"jpg/building_{number:06}.jpg").unlink()
    found = check_instances(INSTANCE_BENCHMARKS["roxford5k"], tmp_path).findings
    places = [f"{tmp_path}/gnd_roxford5k.pkl, image {number}" for number in (3, 6)]
    assert [(error.kind, error.where) for error in found.errors] == [("missing image", place) for place in places]
    with pytest.raises(InputError, match=r"image 3: .*building_000002\.jpg: no such image; .* \(and 1 more: recallk"):
        read_instances("roxford5k", str(tmp_path))
    for path in (tmp_path / "jpg").iterdir():
        path.unlink()
    found = check_instances(INSTANCE_BENCHMARKS["roxford5k"], tmp_path).findings
    assert [error.message.split(";")[0] for error in found.errors] == [
        f"{tmp_path}/jpg/query_000000.jpg: no such image, nor any other of the 3",
        f"{tmp_path}/jpg/building_000000.jpg: no such image, nor any other of the 10",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_root_says_what_is_there_instead(tmp_path: Path, name: str) -> None:
    thing(tmp_path / "a.jpg", 0)
    problem = reported(name, tmp_path, "wrong root folder")
    assert problem.where == str(tmp_path)
    assert f"not here, but a.jpg; looked for gnd_{name}.pkl here and in {name}/" in problem.message
