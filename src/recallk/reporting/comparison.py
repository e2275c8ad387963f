"""The page of a comparison: its table, its curves, and the same queries answered by each model."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from recallk.comparison.outcomes import Outcome, rows_of
from recallk.comparison.verdict import verdict, winner
from recallk.core.errors import InputError
from recallk.core.files import write_file
from recallk.core.text import shown
from recallk.models.embedder import load
from recallk.reporting.answers import answers
from recallk.reporting.comparison_figures import comparison_chart, interval_chart
from recallk.reporting.drawing import Chart, Floats
from recallk.reporting.page import render
from recallk.reporting.pictures import Retrieval
from recallk.runs.folder import RunFolder
from recallk.training.plan import read_run

QUESTIONS = 6
ANSWERING = 5  # models side by side: more would make a query too long to read


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


def table_of(outcomes: Sequence[Outcome]) -> tuple[list[str], list[TableRow]]:
    """Return columns and rows: percentages with their 95% interval over seeds, minutes of training, peak memory.

    The memory is a GPU's, or that of the whole process.
    """
    names = _metrics(outcomes)
    columns = ["", *names, "seeds", "rate", "images", "minutes", "memory"]
    best = winner(outcomes)
    rows = []
    for outcome in outcomes:
        if not outcome.results:
            rows.append(TableRow([outcome.name], False, False, outcome.remarks))
            continue
        cells = [outcome.name, *(str(outcome.percent(name)) for name in names)]
        cells += [str(len(outcome.results)), f"{outcome.rate:g}", f"{np.mean(outcome.images):,.0f}"]
        cells += [
            f"{np.mean(outcome.minutes):.1f}",
            f"{max(outcome.peaks) / 1e9:.1f} GB" if any(outcome.peaks) else "–",
        ]
        rows.append(TableRow(cells, True, outcome is best, outcome.remarks))
    return columns, rows


def _metrics(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the metrics that all have."""
    measured = [outcome.metrics for outcome in outcomes if outcome.results]
    return [name for name in (measured[0] if measured else []) if all(name in others for others in measured)]


def save_table(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a line for each finished run that counts, as CSV, from which the table can be made again."""
    names = _metrics(outcomes)

    def write(unfinished: Path) -> None:
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["contender", "run", "learning_rate", "images", "minutes", "peak_gb", *names])
            for outcome in outcomes:
                for run, result, *cost in zip(
                    outcome.runs, outcome.results, outcome.images, outcome.minutes, outcome.peaks, strict=True
                ):
                    images, minutes, peak = cost
                    lines.writerow(
                        [outcome.name, run.path.name, outcome.rate, images, f"{minutes:.3f}", f"{peak / 1e9:.3f}"]
                        + [f"{result[name]:.6f}" for name in names]
                    )

    write_file(path, write)


def report_comparison(outcomes: Sequence[Outcome], path: Path) -> list[str]:
    """Write the page of what the contenders reached; return, a sentence each, what it could not show."""
    columns, rows = table_of(outcomes)
    first = {outcome.name: outcome.runs[0] for outcome in outcomes if outcome.runs}
    questions, unanswered = [], ""
    try:
        questions = _questions(dict(list(first.items())[:ANSWERING])) if first else []
    except InputError as error:  # data or a model that is gone by now: the numbers are still there
        unanswered = f"no queries are shown: {error}"
    data = ComparisonData(
        title=path.absolute().parent.name,
        note="In percent, on test classes never seen in training: mean and 95% interval over the seeds. Within a "
        "comparison, all that a contender's name does not say is the same for each: network, data and their order, and "
        "the budget, in images seen or in minutes. The learning rate of each is the best, on validation classes, of "
        "those that were tried.",
        columns=columns,
        rows=rows,
        verdict=verdict(outcomes),
        questions=questions,
        unanswered=unanswered,
        config=_common(list(first.values())),
    )
    render("comparison.html", path, data=data, charts=_charts([outcome for outcome in outcomes if outcome.results]))
    return [shown(unanswered)] if unanswered else []


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
    usable = [(o.name, *_curve(o.runs, "step", "usable")) for o in measured]
    about = "Mean over the seeds; the best in colour." if best else "Mean over the seeds."
    charts = [
        interval_chart(f"{metric.capitalize()} on the test classes", intervals, best),
        comparison_chart(
            f"{metric.capitalize()} on the validation classes", "thousand images seen", "%", seen, best, about
        ),
    ]
    if any(len(shares) for _, _, shares in usable):
        told = f"{about} At the first step of an epoch; without one: the first right item is far beyond every k."
        charts.append(
            comparison_chart("Queries with a usable gradient", "thousand images seen", "%", usable, best, told)
        )
    return charts


def _curve(runs: Sequence[RunFolder], kind: str, name: str) -> tuple[Floats, Floats]:
    """Return thousands of images seen, and the mean of a column over the seeds, in percent: where all have one."""
    curves = []
    for run in runs:
        steps = [row for row in rows_of(run, "step") if {"step", "images"} <= row.keys()]
        images = dict(
            zip([0, *(row["step"] for row in steps)], np.cumsum([0, *(row["images"] for row in steps)]), strict=True)
        )
        rows = [row for row in rows_of(run, kind) if name in row and row.get("step") in images]
        curves.append({int(images[row["step"]]): float(row[name]) for row in rows})
    seen = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[images] for images in seen] for curve in curves], dtype=np.float64)
    return np.array(seen, dtype=np.float64) / 1000, 100 * values.mean(0)


def _questions(runs: dict[str, RunFolder]) -> list[list[tuple[str, Retrieval]]]:
    """Let the models answer the queries, of different classes, on which they differ most."""
    test = read_run(next(iter(runs.values()))).test
    answered = {}
    for name, run in runs.items():
        embeddings = load(run.path).embed(test.part.images, chunk_size=run.read_config().chunk_size)
        answered[name] = answers(embeddings, test.part, test.searches[0])
    firsts = np.stack([one.first_right for one in answered.values()])
    most_different = np.argsort(firsts.min(0) - firsts.max(0), kind="stable").tolist()
    chosen = next(iter(answered.values())).of_different_classes(most_different, QUESTIONS)
    return [[(name, one.retrieval(q)) for name, one in answered.items()] for q in chosen]
