"""The page of a comparison: its table, its curves, and the same queries answered by each model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recallk.data.images import read_image
from recallk.data.source import Part
from recallk.evaluation.protocols import Search
from recallk.evaluation.search import nearest
from recallk.models.embedder import load
from recallk.report.figures import Floats, comparison_chart
from recallk.report.page import render
from recallk.report.pictures import Retrieval, Retrieved
from recallk.report.run import SHOWN_RESULTS, name_of
from recallk.training.checkpoint import RunFolder
from recallk.training.compare import Outcome, interval
from recallk.training.config import to_yaml
from recallk.training.plan import read

QUESTIONS = 6
ANSWERING = 5  # models side by side: more would make a query too long to read


@dataclass(frozen=True)
class TableRow:
    """One contender: its cells, or its name and why it failed."""

    cells: list[str]
    failure: str | None


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
    """Return columns and rows: percentages with their 95% interval over seeds, minutes of training, memory."""
    measured = [outcome for outcome in outcomes if outcome.results]
    names = [n for n in (measured[0].results[0] if measured else {}) if n.startswith("recall@") or n == "map@r"]
    columns = ["", *names, "seeds", "rate", "minutes", "memory"]
    rows = []
    for outcome in outcomes:
        if not outcome.results:
            rows.append(TableRow([outcome.name], outcome.failure or "not finished"))
            continue
        cells = [outcome.name]
        for name in names:
            mean, half = interval([100 * row[name] for row in outcome.results])
            cells.append(f"{mean:.1f}" if half is None else f"{mean:.1f} ± {half:.1f}")
        cells += [str(len(outcome.results)), f"{outcome.rate:g}", f"{np.mean(outcome.minutes):.1f}"]
        rows.append(TableRow([*cells, f"{outcome.peak_bytes / 1e9:.1f} GB"], None))
    return columns, rows


def report_comparison(folders: Sequence[Path], outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the page of the contenders in `folders`."""
    columns, rows = table_of(outcomes)
    measured = [outcome for outcome in outcomes if outcome.results]
    runs = {
        outcome.name: next(
            run for folder in folders if (run := RunFolder(folder / outcome.name / "seed-1")).model.is_file()
        )
        for outcome in measured
    }
    config = next(iter(runs.values())).read_config() if runs else None
    data = ComparisonData(
        title=path.parent.name,
        note="In percent, on test classes never seen in training: mean and 95% interval over the seeds. "
        "Each contender has the same network, data, batches and epochs, and its learning rate from the same search on "
        "validation classes.",
        columns=columns,
        rows=rows,
        questions=_questions({name: runs[name] for name in list(runs)[:ANSWERING]}) if runs else [],
        config=to_yaml(config) if config is not None else "",
    )
    curves = [(name, *_curve(run)) for name, run in runs.items()]
    title = "Recall@1 on the validation classes"
    charts = [comparison_chart(title, "%", curves)]
    render("comparison.html", path, data=data, charts=charts)


def _curve(first: RunFolder) -> tuple[Floats, Floats]:
    """Return thousands of images seen, and the mean validation recall over the seeds."""
    histories = [RunFolder(run).history() for run in sorted(first.path.parent.glob("seed-*"))]
    k = first.read_config().evaluate_ks[0]
    curves = [[row[f"recall@{k}"] for row in history if row["kind"] == "validation"] for history in histories]
    length = min(len(curve) for curve in curves)
    images = [row["images"] for row in histories[0] if row["kind"] == "step"]
    steps = [row["step"] for row in histories[0] if row["kind"] == "validation"][:length]
    seen = np.array([sum(images[:step]) for step in steps]) / 1000
    return seen, 100 * np.mean([curve[:length] for curve in curves], axis=0)


def _questions(runs: dict[str, RunFolder]) -> list[list[tuple[str, Retrieval]]]:
    """Let the models answer the queries, of different classes, on which they differ most."""
    config = next(iter(runs.values())).read_config()
    test = read(config).test
    answers = {name: _answers(run, test.part, test.searches[0]) for name, run in runs.items()}
    firsts = np.stack([first for _, _, _, first in answers.values()])
    differ = firsts.max(0) - firsts.min(0)
    queries = test.searches[0].queries
    chosen: dict[int, int] = {}
    for q in np.argsort(-differ, kind="stable").tolist():
        chosen.setdefault(int(test.part.labels[queries[q]]), q)
        if len(chosen) == QUESTIONS:
            break
    return [
        [(name, _retrieval(test.part, int(queries[q]), q, *answer)) for name, answer in answers.items()]
        for q in chosen.values()
    ]


Answers = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _answers(run: RunFolder, test: Part, search: Search) -> Answers:
    """Return items `(Q, k)`, similarities, which are right, and the place of the first right one `(Q,)`, from 0."""
    embeddings = load(run.path).embed(test.images, chunk_size=run.read_config().chunk_size)
    gallery = search.queries if search.gallery is None else search.gallery
    itself = torch.arange(len(search.queries)) if search.gallery is None else None
    k = min(100, len(gallery) - (search.gallery is None))
    found = nearest(embeddings[search.queries], embeddings[gallery], k, exclude=itself)
    items = gallery[found.indexes.numpy()]
    right = test.labels[items] == test.labels[search.queries, None]
    return items, found.similarities.numpy(), right, np.where(right.any(1), right.argmax(1), k)


def _retrieval(
    test: Part, query: int, q: int, items: np.ndarray, similarities: np.ndarray, right: np.ndarray, first: np.ndarray
) -> Retrieval:
    results = [
        Retrieved(read_image(test.records[i].image), name_of(test.records[i]), test.records[i].label, float(s), bool(r))
        for i, s, r in zip(items[q, :SHOWN_RESULTS].tolist(), similarities[q], right[q], strict=False)
    ]
    note = f"first right one at {first[q] + 1}" if first[q] < items.shape[1] else f"none right among {items.shape[1]}"
    record = test.records[query]
    return Retrieval(read_image(record.image), name_of(record), record.label, results, note)
