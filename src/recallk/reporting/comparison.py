"""The page of a comparison (its table, its curves, the same queries answered by each model), and its numbers."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from recallk.comparison.folder import ComparisonFolder
from recallk.comparison.outcomes import Outcome, outcomes
from recallk.comparison.single_run import steps_of
from recallk.comparison.verdict import verdict, winner
from recallk.core.errors import InputError
from recallk.core.files import make_folder, write_file
from recallk.core.text import shown
from recallk.data.dataset import read_for_test
from recallk.models.saved import load
from recallk.reporting.answers import answers
from recallk.reporting.comparison_figures import comparison_chart, interval_chart
from recallk.reporting.drawing import Chart, Floats
from recallk.reporting.page import render
from recallk.reporting.pictures import Retrieval
from recallk.runs.embedding import embed_as_configured
from recallk.runs.folder import RunFolder
from recallk.runs.history import MeasurementKind, columns

QUESTIONS = 6
ANSWERING = 5  # models side by side: more would make a query too long to read


@dataclass(frozen=True)
class ComparisonReport:
    """What was written of a comparison."""

    outcomes: list[Outcome]
    page: Path
    table: Path
    notes: list[str]  # what the page could not show


@dataclass(frozen=True)
class TableRow:
    """One contender: its cells, or its name alone where no run has finished, and what is to be said of it."""

    cells: list[str]
    measured: bool
    best: bool  # beyond what chance explains
    remarks: list[str]


@dataclass(frozen=True)
class ComparisonData:
    """What the page shows."""

    title: str
    note: str
    columns: list[str]
    rows: list[TableRow]
    verdict: list[str]
    questions: list[list[tuple[str, Retrieval]]]
    unanswered: str  # why there are no questions, where there should be
    config: str


def table_of(reached: Sequence[Outcome]) -> tuple[list[str], list[TableRow]]:
    """Return columns and rows: percentages with their 95% interval over seeds, minutes of training, peak memory.

    The first column has the contenders, and as its name that it is a closed set, where it is one. The memory is that
    of a GPU, or of the whole process.
    """
    names = _metrics(reached)
    tested = _tested_on([run for outcome in reached for run in outcome.runs[:1]])
    columns = [tested if "closed" in tested else "", *names, "seeds", "rate", "items", "minutes", "memory"]
    best = winner(reached)
    rows = []
    for outcome in reached:
        if not outcome.results:
            rows.append(TableRow([outcome.name], False, False, outcome.remarks))
            continue
        cells = [outcome.name, *(str(outcome.percent(name)) for name in names)]
        cells += [str(len(outcome.results)), f"{outcome.learning_rate:g}", f"{np.mean(outcome.items):,.0f}"]
        cells += [
            f"{np.mean(outcome.minutes):.1f}",
            f"{max(outcome.peaks) / 1e9:.1f} GB" if any(outcome.peaks) else "–",
        ]
        rows.append(TableRow(cells, True, outcome is best, outcome.remarks))
    return columns, rows


def _metrics(reached: Sequence[Outcome]) -> list[str]:
    """Return the metrics that all have."""
    measured = [outcome.metrics for outcome in reached if outcome.results]
    return [name for name in (measured[0] if measured else []) if all(name in others for others in measured)]


def save_table(reached: Sequence[Outcome], path: Path) -> None:
    """Write a line for each finished run that counts, as CSV, from which the table can be made again."""
    names = _metrics(reached)

    def write(unfinished: Path) -> None:
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["contender", "run", "learning_rate", "items", "minutes", "peak_gb", *names])
            for outcome in reached:
                for run, result, *cost in zip(
                    outcome.runs, outcome.results, outcome.items, outcome.minutes, outcome.peaks, strict=True
                ):
                    items, minutes, peak = cost
                    lines.writerow(
                        [
                            outcome.name,
                            run.path.name,
                            outcome.learning_rate,
                            items,
                            f"{minutes:.3f}",
                            f"{peak / 1e9:.3f}",
                        ]
                        + [f"{result[name]:.6f}" for name in names]
                    )

    write_file(path, write)


def report_comparison(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], into: str | os.PathLike[str] | None = None
) -> ComparisonReport:
    """Write `comparison.html` and `comparison.csv` of a comparison, or of several together, from their folders alone.

    Args:
        folders: of comparisons, finished or not.
        into: the folder of page and table; by default that of the comparison, where there is a single one.

    Raises:
        InputError: a folder holds no comparison, there are several and `into` is not given, or it cannot be written.

    """
    paths = [Path(folders)] if isinstance(folders, str | os.PathLike) else [Path(folder) for folder in folders]
    if into is None and len(paths) > 1:
        raise InputError("--from several folders: say with --run where their table and page should go")
    reached = outcomes(paths)
    own = ComparisonFolder(Path(into) if into is not None else paths[0])
    make_folder(own.path)
    save_table(reached, own.table)
    return ComparisonReport(reached, own.page, own.table, write_page(reached, own.page))


def write_page(reached: Sequence[Outcome], path: Path) -> list[str]:
    """Write the page of what the contenders reached; return, a sentence each, what it could not show."""
    columns, rows = table_of(reached)
    first = {outcome.name: outcome.runs[0] for outcome in reached if outcome.runs}
    questions, unanswered = [], ""
    try:
        questions = _questions(dict(list(first.items())[:ANSWERING])) if first else []
    except InputError as error:  # data or a model that is gone by now: the numbers are still there
        unanswered = f"no queries are shown: {error}"
    searched = any(len(outcome.learning_rates) > 1 for outcome in reached)
    rates = " The learning rate of each is the best, on validation classes, of those that were tried."
    data = ComparisonData(
        title=path.absolute().parent.name,
        note=f"In percent, on {_tested_on(list(first.values()))}: mean and 95% interval over the seeds. Within a "
        "comparison, all that a contender's name does not say is the same for each: network, data and their order, and "
        "the budget, in items seen or in minutes." + (rates if searched else ""),
        columns=columns,
        rows=rows,
        verdict=verdict(reached),
        questions=questions,
        unanswered=unanswered,
        config=_common(list(first.values())),
    )
    render("comparison.html", path, data=data, charts=_charts([outcome for outcome in reached if outcome.results]))
    return [shown(unanswered)] if unanswered else []


def _tested_on(runs: Sequence[RunFolder]) -> str:
    """Say in words what runs were tested on."""
    return " and ".join(sorted({run.read_config().tested_on for run in runs})) or "test items"


def _common(runs: Sequence[RunFolder]) -> str:
    """Return the settings that all runs share, as YAML."""
    configs = [run.read_config().model_dump(mode="json") for run in runs]
    shared = {k: v for k, v in configs[0].items() if k != "seed" and all(c[k] == v for c in configs)} if configs else {}
    text: str = yaml.safe_dump(shared, sort_keys=False, default_flow_style=None, width=120)
    return text


def _charts(measured: Sequence[Outcome]) -> list[Chart]:
    if not measured:
        return []
    first, metric = winner(measured), measured[0].metrics[0]
    best = first.name if first is not None else None
    alike = [outcome for outcome in measured if metric in outcome.metrics]
    intervals = [(o.name, [100 * result[metric] for result in o.results], o.percent(metric)) for o in alike]
    seen = [(o.name, *_curve(o.runs, "validation", metric)) for o in alike]
    reached = [(o.name, *_curve(o.runs, "step", "reached")) for o in measured]
    about = "Mean over the seeds; the best in colour." if best else "Mean over the seeds."
    charts = [interval_chart(f"{metric.capitalize()} on the test classes", intervals, best)]
    if any(len(recalls) for _, _, recalls in seen):
        title = f"{metric.capitalize()} on the validation classes"
        charts.append(comparison_chart(title, "thousand items seen", "%", seen, best, about))
    if any(len(shares) for _, _, shares in reached):
        when = f"{about} At the first step of an epoch; of the others the first right item is far beyond every k."
        charts.append(
            comparison_chart("Queries that the loss reaches", "thousand items seen", "%", reached, best, when)
        )
    return charts


def _curve(runs: Sequence[RunFolder], kind: MeasurementKind | Literal["step"], name: str) -> tuple[Floats, Floats]:
    """Return thousands of items seen, and the mean of a column over the seeds, in percent: where all have one."""
    curves = []
    for run in runs:
        steps = steps_of(run)
        seen = np.cumsum([0, *(step.items for step in steps)]).tolist()
        items = dict(zip([0, *(step.step for step in steps)], seen, strict=True))
        at = zip(*columns(run.history(), kind, "step", name), strict=True)
        curves.append({items[int(step)]: value for step, value in at if int(step) in items})
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[items] for items in common] for curve in curves], dtype=np.float64)
    return np.array(common, dtype=np.float64) / 1000, 100 * values.mean(0)


def _questions(runs: dict[str, RunFolder]) -> list[list[tuple[str, Retrieval]]]:
    """Let the models answer the queries, of different classes, on which they differ most."""
    first = next(iter(runs.values()))
    test, _ = read_for_test(first.read_config(), first.read_split())
    answered = {}
    for name, run in runs.items():
        embeddings = embed_as_configured(load(run.path), run.read_config(), test.labelled.items)
        answered[name] = answers(embeddings, test.labelled, test.searches[0])
    firsts = np.stack([one.first_right for one in answered.values()])
    most_different = np.argsort(firsts.min(0) - firsts.max(0), kind="stable").tolist()
    chosen = next(iter(answered.values())).of_different_classes(most_different, QUESTIONS)
    drawn = {name: one.retrievals(chosen, runs[name].read_config()) for name, one in answered.items()}
    return [[(name, retrievals[place]) for name, retrievals in drawn.items()] for place in range(len(chosen))]
