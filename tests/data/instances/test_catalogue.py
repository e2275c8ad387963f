"""The test sets by name, through `recallk data check`, and as an evaluation reads them."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from recallk import InputError
from recallk.data.findings import Findings
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS, instance_benchmark_named
from recallk.data.instances.check import check_instances
from recallk.data.instances.instance import InstanceBenchmark, InstanceSet, Relevant
from recallk.data.instances.paths import Paths
from recallk.data.opening import check_files
from recallk.data.source import read_instances
from tests.cli.test_cli import recallk
from tests.data.instance_miniatures import VARIANTS, make_instances

NAMES = list(VARIANTS)
ON_DISK = [name for name, benchmark in INSTANCE_BENCHMARKS.items() if benchmark.needs_data]


def test_each_has_a_miniature() -> None:
    assert sorted(NAMES) == sorted(ON_DISK)
    assert all(name == benchmark.name for name, benchmark in INSTANCE_BENCHMARKS.items())


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed, on a wide page."""
    file = io.StringIO()
    for module in ("console", "data"):
        console = Console(width=200, highlight=False, markup=False, file=file)
        monkeypatch.setattr(f"recallk.cli.{module}.console", console)
    return file


@pytest.mark.parametrize("name", NAMES)
def test_check_counts_opens_and_judges(tmp_path: Path, name: str, printed: io.StringIO) -> None:
    root = make_instances(name, tmp_path)
    benchmark = INSTANCE_BENCHMARKS[name]
    assert recallk("data", "check", name, "--data", root) == 0
    told = printed.getvalue()
    for part, count in (("queries", benchmark.queries), ("gallery", benchmark.gallery)):
        assert any(part in line and f"{count:,}" in line and "differs" in line for line in told.splitlines())
    instances, _ = read_instances(name, str(root))
    images = len(instances.queries) + len(instances.gallery)
    assert told.splitlines()[-1] == (
        f"{benchmark.title}: no errors, but the counts are not the published ones; {images} of {images} images opened"
    )


def test_check_finds_broken_images_of_queries_and_gallery(tmp_path: Path, printed: io.StringIO) -> None:
    root = make_instances("gldv2", tmp_path)
    instances, _ = read_instances("gldv2", str(root))
    broken = [instances.queries[1], instances.gallery[7]]
    for path in broken:
        assert isinstance(path, Path)
        path.write_bytes(path.read_bytes()[:-100])
    assert recallk("data", "check", "gldv2", "--data", root, "--all") == 2
    told = printed.getvalue()
    assert "broken image: 2" in told
    for path in broken:
        assert f"  {path}: truncated or broken image" in told
    assert "2 errors: evaluation does not start until mended; 13 of 13 images opened" in told
    with pytest.raises(InputError, match="truncated or broken image"):
        check_files(instances.gallery)


def test_a_set_that_is_as_published_is_right(tmp_path: Path) -> None:
    benchmark = replace(INSTANCE_BENCHMARKS["ilias"], queries=3, gallery=9)
    found = check_instances(benchmark, make_instances("ilias", tmp_path), 5)
    assert not found.findings.listed
    assert found.verdict == "all is right; 5 of 12 images opened (--all)"


def test_names_that_there_are_not() -> None:
    names = ", ".join([*INSTANCE_BENCHMARKS, "own"])
    with pytest.raises(InputError, match=f"^no test set 'roxford': one of {names}$"):
        instance_benchmark_named("roxford")
    with pytest.raises(InputError, match="no test set 'roxford'"):
        read_instances("roxford", ".")


@pytest.mark.parametrize("name", ON_DISK)
def test_what_is_on_disk_needs_a_root(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name} is read from the disk: say where with --data"):
        read_instances(name)


def test_what_is_made_here_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    made = InstanceSet([pixels], [pixels, pixels], Relevant([[0]], 1))

    def read(root: Path, findings: Findings) -> InstanceSet:
        return made

    benchmark = InstanceBenchmark("made", "Made", "", "", "", "", 1, 2, read, needs_data=False)
    monkeypatch.setitem(INSTANCE_BENCHMARKS, "made", benchmark)
    assert read_instances("made") == (made, [])
    assert check_instances(benchmark, Path()).right


def test_a_set_without_queries_or_gallery(tmp_path: Path) -> None:
    root = make_instances("gldv2", tmp_path)
    solution = root / "retrieval_solution_v2.1.csv"
    solution.write_text("id,images,Usage\n")
    with pytest.raises(InputError, match=r"Google Landmarks v2, retrieval has no queries there, or nothing to search"):
        read_instances("gldv2", str(root))


def test_paths_are_a_sequence() -> None:
    paths = Paths(Path("a"), ["1.jpg", "b/2.jpg", ""])
    assert list(paths) == [Path("a/1.jpg"), Path("a/b/2.jpg"), Path("a")]
    assert paths[-2] == Path("a/b/2.jpg")
    assert paths[:2] == [Path("a/1.jpg"), Path("a/b/2.jpg")]
    assert paths[::-2] == [Path("a"), Path("a/1.jpg")]
    assert Path("a/b/2.jpg") in paths
    with pytest.raises(IndexError):
        paths[3]
    assert not Paths(Path("a"), [])
