"""ILIAS: what is read from a miniature, with its lists and without, and every defect, with file and line."""

import shutil
from pathlib import Path

import pytest

from recallk.data.findings import Findings, Kind
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.data.instances.instance import Relevant
from recallk.data.source import read_instances
from tests.data.instance_miniatures import VARIANTS, make_instances
from tests.data.instances.reported import reported
from tests.data.miniatures import write

QUERIES, POSITIVES = "image_ids/image_query_ids.txt", "image_ids/positive_ids.txt"
CAFE = "caf\N{LATIN SMALL LETTER E WITH ACUTE}_001"


@pytest.mark.parametrize("variant", VARIANTS["ilias"])
def test_every_layout(tmp_path: Path, variant: str) -> None:
    instances, notes = read_instances("ilias", str(make_instances("ilias", tmp_path, variant)))
    assert [str(note) for note in notes] == [
        "ILIAS: queries: 3 images; published are 1,232",
        "ILIAS: gallery: 9 images; published are 4,715",
    ]
    core = tmp_path / ("ilias/ilias_core" if variant == "above" else "ilias_core")
    things = ["able_bell_000", CAFE, "zany_zebra_002"]
    assert list(instances.queries) == [core / f"{thing}/query/Q00{n}_0{n}.jpg" for n, thing in enumerate(things)]
    assert list(instances.gallery) == [
        core / f"{things[thing]}/pos/P00{thing}_0{number}.jpg"
        for number, thing in enumerate((0, 0, 0, 0, 1, 1, 1, 2, 2))
    ]
    assert all(isinstance(path, Path) and path.is_file() for path in (*instances.queries, *instances.gallery))
    assert instances.truth == Relevant([[0, 1, 2, 3], [4, 5, 6], [7, 8]], 1_000)


def test_an_image_that_is_not_in_the_list_does_not_count(tmp_path: Path) -> None:
    root = make_instances("ilias", tmp_path)
    lines = (root / POSITIVES).read_text().splitlines()
    write(root / POSITIVES, lines[1:])
    instances, _ = read_instances("ilias", str(root))
    assert instances.truth == Relevant([[0, 1, 2], [3, 4, 5], [6, 7]], 1_000)


@pytest.mark.parametrize(
    ("file", "line", "kind", "message"),
    [
        (QUERIES, "able_bell_000/query/Q000_07.jpg,1,2", "missing image", "Q000_07.jpg: no such image"),
        (QUERIES, "able_bell_000/query/Q000_00.jpg,1,2", "duplicate path", "is listed already"),
        (QUERIES, "able_bell_000/query/Q000", "truncated line", "no image as THING/query/NAME.jpg"),
        (QUERIES, "able_bell_000/pos/P000_00.jpg,1,2", "truncated line", "no image as THING/query/NAME.jpg"),
        (POSITIVES, "../pos/P000_00.jpg,1,2", "truncated line", "no image as THING/pos/NAME.jpg"),
        (POSITIVES, "/pos/P000_00.jpg,1,2", "truncated line", "no image as THING/pos/NAME.jpg"),
        (POSITIVES, "able_bell_000/pos/a/P000_00.jpg,1,2", "truncated line", "no image as THING/pos/NAME.jpg"),
        (POSITIVES, "none_004/pos/P004_00.jpg,1,2", "missing image", "none_004/pos/P004_00.jpg: no such image"),
    ],
)
def test_a_defect_is_named_with_file_and_line(tmp_path: Path, file: str, line: str, kind: Kind, message: str) -> None:
    path = make_instances("ilias", tmp_path) / file
    lines = [*path.read_text().splitlines(), line]
    write(path, lines)
    problem = reported("ilias", tmp_path, kind)
    assert problem.where == f"{path}, line {len(lines)}"
    assert message in problem.message


def test_a_query_without_answer_is_a_note(tmp_path: Path) -> None:
    root = make_instances("ilias", tmp_path, "no lists")
    shutil.rmtree(root / "ilias_core/able_bell_000/pos")
    problem = reported("ilias", root, "query without answer")
    assert problem.where == str(root / "ilias_core/able_bell_000/query/Q000_00.jpg")


@pytest.mark.parametrize("part", ["query", "pos"])
def test_a_part_without_any_image(tmp_path: Path, part: str) -> None:
    root = make_instances("ilias", tmp_path, "no lists")
    for thing in (root / "ilias_core").iterdir():
        shutil.rmtree(thing / part)
    findings = Findings()
    INSTANCE_BENCHMARKS["ilias"].read(root, findings)
    assert f"no image as THING/{part}/NAME.jpg in it" in findings.errors[0].message


def test_the_lists_alone_tell_the_truth(tmp_path: Path) -> None:
    """Without images the set is whole, for descriptors that were made elsewhere."""
    root = make_instances("ilias", tmp_path)
    shutil.rmtree(root / "ilias_core")
    findings = Findings()
    instances = INSTANCE_BENCHMARKS["ilias"].read(root, findings)
    assert instances is not None
    assert instances.truth == Relevant([[0, 1, 2, 3], [4, 5, 6], [7, 8]], 1_000)
    assert [error.message.split("; ")[0].rpartition(": ")[2] for error in findings.errors] == [
        "no such image, nor any other of the 3",
        "no such image, nor any other of the 9",
    ]


def test_a_wrong_root_says_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "ilias_core.tar").touch()
    problem = reported("ilias", tmp_path, "wrong root folder")
    assert "not here, but ilias_core.tar; looked for ilias_core or image_ids/image_query_ids.txt" in problem.message
