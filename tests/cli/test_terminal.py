"""What others wrote comes out as it is, in text and in pages, whatever a terminal or a browser would make of it."""

import dataclasses
import io
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from recallk.cli.terminal import show_comparison, show_memory, show_plan, show_result
from recallk.comparison.outcomes import outcomes
from recallk.comparison.single_run import write_failure
from recallk.reporting.run import report
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import write_rows
from recallk.runs.summary import summary_of
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer
from tests.reporting.test_page import Tags
from tests.rows import kind_of, measured
from tests.training.made import made_comparison
from tests.training.test_trainer import SMALL, save_patterns

HOSTILE = [
    "<script>alert(1)<script>",
    "z[red]x",
    "z[:red]",
    r"$\foo$",
    "\x1b[31mred",
    "\U0001f600 :smile:",
    "x" * 200,
    "\u0645\u0631\u062d\u0628\u0627",
    "\u202egnp.exe",
    "two\nlines",
    "{{ 7 * 7 }}",
    "&amp;'\"",
]
AS_SHOWN = {"\x1b[31mred": r"\x1b[31mred", "\u202egnp.exe": r"\u202egnp.exe", "two\nlines": r"two\nlines"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Train on classes with hostile names, into a folder with one."""
    folder = tmp_path_factory.mktemp("hostile")
    pictures = save_patterns(folder, classes=12, images=4)
    for number, name in enumerate(HOSTILE):
        (pictures / f"class{number}").rename(pictures / name)
        (pictures / name / "0.png").rename(pictures / name / f"{name[:90]}.png")
    run = tmp_path_factory.mktemp("runs") / "z[red]\x1b[2J"
    config = make_config(SMALL, {"data": str(pictures), "epochs": 1, "test_fraction": 0.7, "select": "last"})
    trainer = Trainer(prepare(config), RunFolder(run))
    list(trainer.rows())
    return trainer


@pytest.fixture
def folder(finished: Trainer, tmp_path: Path) -> RunFolder:
    """The finished run, in a folder that a test may break."""
    before = finished.folder
    return RunFolder(shutil.copytree(before.path, tmp_path / before.path.name))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Console:
    """The console of the command line, with its output kept."""
    return printing_to(monkeypatch, Console(file=io.StringIO(), width=300, markup=False, emoji=False, highlight=False))


def printing_to(monkeypatch: pytest.MonkeyPatch, console: Console) -> Console:
    for module in ("console", "terminal"):
        monkeypatch.setattr(f"recallk.cli.{module}.console", console)
    return console


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def shown_and_reported(folder: RunFolder, finished: Trainer, printed: Console) -> tuple[str, str]:
    """Return what the result says on the terminal, and the page."""
    show_result(summary_of(folder), finished.plan.data.test.searches)
    report(folder.path)
    return said(printed), folder.report.read_bytes().decode("utf-8")


def test_a_plan_and_a_result_say_names_as_they_are(finished: Trainer, printed: Console) -> None:
    show_plan(finished)
    show_memory(finished)
    show_result(summary_of(finished.folder), finished.plan.data.test.searches)
    assert harmless(said(printed))
    named = next(line for line in said(printed).splitlines() if line.startswith("test "))
    classes = finished.plan.data.test.labelled.classes[:3]
    assert f"({', '.join(AS_SHOWN.get(name, name) for name in classes)}, …)" in named


def test_a_page_of_hostile_names(finished: Trainer, folder: RunFolder) -> None:
    assert report(folder.path) == []
    page = folder.report.read_bytes().decode("utf-8")
    assert harmless(page)
    tags = Tags(page)
    assert tags.open == []
    assert not tags.named("script")
    assert "49" not in [text.strip() for text in page.replace("<", ">").split(">")]
    shown = {label.split(": ", 1)[1] for image in tags.named("img") if (label := image["alt"])}
    for name in finished.plan.data.test.labelled.classes:
        assert AS_SHOWN.get(name, name) in shown


def with_result(folder: RunFolder, **changes: float) -> None:
    """Change metrics of the result, in the run's history."""
    rows = folder.history()
    (result,) = measured(rows, "result")
    changed = dataclasses.replace(result, metrics={**result.metrics, **changes})
    write_rows(folder.metrics, [changed if row is result else row for row in rows])


@pytest.mark.parametrize(
    ("change", "word"), [({"recall@1": 0.0}, "recall@1 fell from"), ({"map@r": 0.0}, "map@r fell")]
)
def test_a_result_below_the_start_is_told(
    finished: Trainer, folder: RunFolder, printed: Console, change: dict[str, float], word: str
) -> None:
    with_result(folder, **{"recall@1": 1.0, "map@r": 1.0} | change)
    for text in shown_and_reported(folder, finished, printed):
        assert word in text
        assert "try a lower --learning-rate" in text


def test_a_result_above_the_start_is_not(finished: Trainer, folder: RunFolder, printed: Console) -> None:
    with_result(folder, **{"recall@1": 1.0, "map@r": 1.0})
    assert "fell" not in "".join(shown_and_reported(folder, finished, printed))


@pytest.mark.parametrize("kind", ["evaluation", "step"])
def test_rows_that_are_lost_cost_no_report(finished: Trainer, folder: RunFolder, printed: Console, kind: str) -> None:
    write_rows(folder.metrics, [row for row in folder.history() if kind_of(row) != kind])
    text, page = shown_and_reported(folder, finished, printed)
    assert ("–" in text) == (kind == "evaluation")
    assert Tags(page).open == []


def test_a_start_whose_row_is_lost_is_not_another_epochs(
    finished: Trainer, folder: RunFolder, printed: Console
) -> None:
    rows = [dataclasses.replace(row, epoch=1) if kind_of(row) == "evaluation" else row for row in folder.history()]
    write_rows(folder.metrics, rows)
    with_result(folder, **{"recall@1": 0.0})
    text, page = shown_and_reported(folder, finished, printed)
    assert "–" in text
    assert "fell" not in text + page


def test_a_comparison_of_hostile_names(tmp_path: Path, printed: Console) -> None:
    names = [*HOSTILE[1:], "\udcff"]
    folder = made_comparison(tmp_path / "all", **dict.fromkeys(names, (0.4, 0.5, 0.45)))
    write_failure(RunFolder(folder / "broken" / "seed-1"), "no [red]such[/] file: \x1b[31m:smile:")
    write_failure(RunFolder(folder / "broken" / "rate-\x1b[2J-1"), "why")
    show_comparison(outcomes([folder]))
    assert harmless(said(printed))
    joined = "".join(said(printed).split())
    for name in ("z[red]x", r"$\foo$", r"\x1b[31mred", r"two\nlines", "{{7*7}}", r"\udcff"):
        assert name in joined
    assert r"broken: rate-\x1b[2J-1: why" in said(printed)
    assert r"broken: seed-1: no [red]such[/] file: \x1b[31m:smile:" in said(printed)


def test_a_page_of_a_comparison_of_hostile_names(tmp_path: Path) -> None:
    from recallk.reporting.comparison import write_page

    names = [*HOSTILE[1:], "\udcff", "<b>bold", "a$b$c", "$$", "\\", "_legend", "%s {} {0}", "]]>", "--><i>"]
    folder = made_comparison(tmp_path / "a\x1b[2J\udcff", **dict.fromkeys(names, (0.4, 0.5, 0.45)))
    write_page(outcomes([folder]), folder / "comparison.html")
    page = (folder / "comparison.html").read_bytes().decode("utf-8")
    assert harmless(page)
    tags = Tags(page)
    assert tags.open == []
    assert not tags.named("b")
    assert not tags.named("i")
    drawings = [drawing.split("</svg>")[0] for drawing in page.split("<svg")[1:] if 'viewBox="0 0 3' in drawing]
    assert len(drawings) == 3
    charts = [ElementTree.fromstring(f"<svg xmlns:xlink='x'{drawing}</svg>") for drawing in drawings]
    texts = {text.text for chart in charts for text in chart.iter() if text.text}
    for name in (r"$\foo$", r"\x1b[31mred", r"two\nlines", "<b>bold", "a$b$c", "$$", "\\", r"\udcff", "]]>"):
        assert name in texts


@pytest.mark.parametrize("name", [r"$_foo$", "$", "a$b$c", r"$\foo$", r"$\frac{$"])
def test_no_name_is_taken_for_mathematics(tmp_path: Path, name: str) -> None:
    from recallk.reporting.comparison import _charts

    found = outcomes([made_comparison(tmp_path, **{name: (0.4, 0.5, 0.45)})])
    assert all(f">{name}</text>" in chart.svg for chart in _charts(found))


def test_a_best_one_is_bold_only_where_it_is_beyond_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, recalls, bold in (("clear", (0.6, 0.61, 0.605), True), ("unclear", (0.3, 0.61, 0.9), False)):
        folder = made_comparison(tmp_path / name, good=recalls, bad=(0.4, 0.41, 0.405))
        kept = Console(file=io.StringIO(), width=200, force_terminal=True, markup=False, emoji=False, highlight=False)
        console = printing_to(monkeypatch, kept)
        show_comparison(outcomes([folder]))
        lines = [line for line in said(console).splitlines() if "good" in line and "recall" not in line]
        assert ("\x1b[1m" in lines[0]) is bold
        assert ("no winner" in said(console)) is not bold


def test_intervals_stay_within_the_percentages_in_the_chart(tmp_path: Path) -> None:
    from recallk.reporting.comparison import write_page

    folder = made_comparison(tmp_path / "all", one=(0.37, 0.54), other=(0.3, 0.31))
    write_page(outcomes([folder]), folder / "comparison.html")
    page = (folder / "comparison.html").read_text()
    for word in ("45.5 (0 to 100)", "no winner: the intervals of one and other overlap", "two seeds tell little"):
        assert word in page
    assert 'class="best"' not in page
    assert "the best in colour" not in page
    assert "stroke: var(--right)" not in page


def test_a_winner_is_marked_in_the_page(tmp_path: Path) -> None:
    from recallk.reporting.comparison import write_page

    folder = made_comparison(tmp_path, bad=(0.4, 0.41, 0.405), good=(0.6, 0.61, 0.605))
    write_page(outcomes([folder]), folder / "comparison.html")
    page = (folder / "comparison.html").read_text()
    assert page.split('class="best"')[1].split("<td>")[1].startswith("good<")
    assert page.count('class="best"') == 1
    assert "the best in colour" in page
    assert "stroke: var(--right)" in page
    assert "best: good; its interval of recall@1 lies above all others" in page
