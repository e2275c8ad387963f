"""A comparison by one call of Python: what the command does, and no more is needed."""

import csv
from collections.abc import Generator
from pathlib import Path

import pytest

from recallk import InputError
from recallk.comparison.compare import Progress, compare
from recallk.comparison.contenders import Contender
from recallk.comparison.experiment import Comparison
from recallk.comparison.folder import ComparisonFolder
from recallk.comparison.jobs import Job
from recallk.reporting.comparison import report_comparison
from recallk.runs.folder import RunFolder
from tests.configs import image_config
from tests.training.made import made_comparison
from tests.training.test_trainer import SMALL, save_patterns


@pytest.mark.slow
def test_a_comparison_and_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    save_patterns(tmp_path / "pictures", classes=50, images=7)
    monkeypatch.chdir(tmp_path)
    config = image_config(SMALL | {"data": "pictures", "epochs": 1, "chunk_size": 32})
    contenders = [
        Contender("able", {}),
        Contender("short", {"loss": {"name": "memory-contrastive", "memory_size": 4}}),
    ]
    told: list[Progress] = []
    reached = compare(config, "both", contenders=contenders, rates=[1], seeds=1, progress=told.append)
    assert [(outcome.name, len(outcome.results)) for outcome in reached] == [("able", 1), ("short", 0)]
    assert [(one.number, one.contenders, one.most_runs) for one in told] == [(0, 2, 2), (1, 2, 2)]
    assert [one.job and (one.job.contender.name, one.job.name) for one in told] == [None, ("able", "seed-1")]
    assert [len(one.refused) for one in told] == [0, 1]
    assert RunFolder(tmp_path / "both/able/seed-1").read_config().data == str(tmp_path / "pictures")
    report = report_comparison("both")
    assert (report.page, report.notes) == (Path("both/comparison.html"), [])
    assert report.page.is_file()
    (line,) = csv.DictReader(report.table.open())
    assert (line["contender"], line["items"]) == ("able", str(reached[0].items[0]))
    told.clear()
    compare(config, "both", contenders=contenders, rates=[1], seeds=1, progress=told.append)
    assert [one.number for one in told] == [0]  # nothing is missing


@pytest.mark.parametrize("chosen", [{}, {"losses": ["contrastive"], "sweep": "batch_size=8,16"}])
def test_contenders_are_given_in_one_way(tmp_path: Path, chosen: dict[str, str]) -> None:
    with pytest.raises(InputError, match="one of them"):
        compare({"data": "x"}, tmp_path, **chosen)  # type: ignore[arg-type]


def test_defaults_that_follow_from_other_settings_follow_those_of_a_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pretrained weights, the batch norm is another."""
    comparisons: list[Comparison] = []

    class Stopped(Comparison):
        def run(self) -> Generator[Job, None, None]:
            comparisons.append(self)
            raise InterruptedError

    config = image_config({"data": str(tmp_path), "weights": "pretrained"})
    monkeypatch.setattr("recallk.comparison.compare.Comparison", Stopped)
    with pytest.raises(InterruptedError):
        compare(config, tmp_path / "run", sweep="weights=none,pretrained")
    (comparison,) = comparisons
    found = [image_config(comparison.common, contender.changes).batch_norm for contender in comparison.contenders]
    assert found == ["per-chunk", "frozen"]


def test_a_report_of_several_comparisons(tmp_path: Path) -> None:
    one, other = (made_comparison(tmp_path / name, contender=(0.5,)) for name in ("one", "other"))
    with pytest.raises(InputError, match="where their table and page should go"):
        report_comparison([one, other])
    report = report_comparison([one, other], tmp_path / "new" / "both")
    assert [outcome.name for outcome in report.outcomes] == ["one: contender", "other: contender"]
    assert report.page == ComparisonFolder(tmp_path / "new" / "both").page
    assert report.page.is_file()
    assert "no queries are shown" in report.notes[0]
    assert not ComparisonFolder(one).page.exists()
