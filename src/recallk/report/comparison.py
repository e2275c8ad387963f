"""The page of a comparison: its table, its curves, and the same queries answered by each model."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from recallk.core.files import write_file
from recallk.models.embedder import load
from recallk.report.answers import answers
from recallk.report.figures import Chart, Floats, comparison_chart, interval_chart
from recallk.report.page import render
from recallk.report.pictures import Retrieval
from recallk.training.checkpoint import RunFolder
from recallk.training.outcomes import Outcome, interval
from recallk.training.plan import read

QUESTIONS = 6
ANSWERING = 5  # models side by side: more would make a query too long to read


@dataclass(frozen=True)
class TableRow:
    """One contender: its cells, or its name alone where no run has finished, and what is to be said of it."""

    cells: list[str]
    measured: bool
    remarks: list[str]


@dataclass(frozen=True)
class ComparisonData:
    """What the page shows."""

    title: str
    note: str
    columns: list[str]
    rows: list[TableRow]
    questions: list[list[tuple[str, Retrieval]]]
    config: str


def table_of(outcomes: Sequence[Outcome]) -> tuple[list[str], list[TableRow]]:
    """Return columns and rows: percentages with their 95% interval over seeds, minutes of training, peak memory.

    The memory is a GPU's, or that of the whole process.
    """
    names = _metrics(outcomes)
    columns = ["", *names, "seeds", "rate", "images", "minutes", "memory"]
    rows = []
    for outcome in outcomes:
        if not outcome.results:
            rows.append(TableRow([outcome.name], False, outcome.remarks))
            continue
        cells = [outcome.name]
        for name in names:
            mean, half = interval([100 * row[name] for row in outcome.results])
            cells.append(f"{mean:.1f}" if half is None else f"{mean:.1f} ± {half:.1f}")
        cells += [str(len(outcome.results)), f"{outcome.rate:g}", f"{np.mean(outcome.images):,.0f}"]
        cells += [
            f"{np.mean(outcome.minutes):.1f}",
            f"{max(outcome.peaks) / 1e9:.1f} GB" if any(outcome.peaks) else "–",
        ]
        rows.append(TableRow(cells, True, outcome.remarks))
    return columns, rows


def _metrics(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the metrics that all have."""
    measured = [outcome.metrics for outcome in outcomes if outcome.results]
    return [name for name in (measured[0] if measured else []) if all(name in others for others in measured)]


def save_table(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a line for each finished run that counts, as CSV, from which the table can be made again."""
    names = _metrics(outcomes)

    def write(unfinished: Path) -> None:
        with unfinished.open("w", newline="") as file:
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


def report_comparison(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the page of what the contenders reached."""
    columns, rows = table_of(outcomes)
    runs = {outcome.name: outcome.runs for outcome in outcomes if outcome.runs}
    first = {name: measured[0] for name, measured in runs.items()}
    data = ComparisonData(
        title=path.parent.name,
        note="In percent, on test classes never seen in training: mean and 95% interval over the seeds. Within a "
        "comparison, all that a contender's name does not say is the same for each: network, data and their order, and "
        "the budget, in images seen or in minutes. The learning rate of each is the best, on validation classes, of "
        "those that were tried.",
        columns=columns,
        rows=rows,
        questions=_questions(dict(list(first.items())[:ANSWERING])) if first else [],
        config=_common(list(first.values())),
    )
    render("comparison.html", path, data=data, charts=_charts([outcome for outcome in outcomes if outcome.results]))


def _common(runs: Sequence[RunFolder]) -> str:
    """Return the settings that all runs share, as YAML."""
    configs = [yaml.safe_load(run.config.read_text()) for run in runs]
    shared = {k: v for k, v in configs[0].items() if k != "seed" and all(c[k] == v for c in configs)} if configs else {}
    text: str = yaml.safe_dump(shared, sort_keys=False, default_flow_style=None, width=120)
    return text


def _charts(measured: Sequence[Outcome]) -> list[Chart]:
    if not measured:
        return []
    best, metric = measured[0].name, measured[0].metrics[0]
    intervals = [(o.name, percents, *interval(percents)) for o in measured if (percents := [100 * r for r in o.recall])]
    seen = [(o.name, *_curve(o.runs, "validation", metric)) for o in measured]
    usable = [(o.name, *_curve(o.runs, "step", "usable")) for o in measured]
    about = "Mean over the seeds; the best in colour."
    charts = [
        interval_chart(f"{metric.capitalize()} on the test classes", intervals),
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
    """Return thousands of images seen, and the mean of a column over the seeds, in percent."""
    histories = [run.history() for run in runs]
    rows = [[row for row in history if row["kind"] == kind and name in row] for history in histories]
    length = min(map(len, rows))
    images = np.cumsum([0, *(row["images"] for row in histories[0] if row["kind"] == "step")])
    seen = np.array([images[row["step"]] for row in rows[0][:length]]) / 1000
    values = np.array([[row[name] for row in one[:length]] for one in rows])
    return seen, 100 * values.mean(0)


def _questions(runs: dict[str, RunFolder]) -> list[list[tuple[str, Retrieval]]]:
    """Let the models answer the queries, of different classes, on which they differ most."""
    test = read(next(iter(runs.values())).read_config()).test
    answered = {}
    for name, run in runs.items():
        embeddings = load(run.path).embed(test.part.images, chunk_size=run.read_config().chunk_size)
        answered[name] = answers(embeddings, test.part, test.searches[0])
    firsts = np.stack([one.first_right for one in answered.values()])
    most_different = np.argsort(firsts.min(0) - firsts.max(0), kind="stable").tolist()
    chosen = next(iter(answered.values())).of_different_classes(most_different, QUESTIONS)
    return [[(name, one.retrieval(q)) for name, one in answered.items()] for q in chosen]
