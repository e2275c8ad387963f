"""From the folder of a finished run to its page."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recallk.core import processes
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import joined
from recallk.core.text import shown
from recallk.data.dataset import read_for_test
from recallk.data.records import LabelledItems
from recallk.data.settings import DataSettings
from recallk.data.split import Split
from recallk.data.tested import TestItems
from recallk.evaluation.protocols import display_name
from recallk.losses.registry import describe
from recallk.models.made_by import notes_of_others
from recallk.models.saved import load
from recallk.models.scales import ONE_SCALE
from recallk.reporting.answers import Answers, answers
from recallk.reporting.page import ReportData, has_queries, write_report
from recallk.reporting.pictures import Retrieval
from recallk.runs.config import to_yaml
from recallk.runs.embedding import embed_as_configured, how_embedded
from recallk.runs.folder import RunFolder
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.summary import Summary, percent, summary_of

SHOWN_QUERIES = 8
PAIRS = 100_000  # enough for a smooth curve


def report(run: str | os.PathLike[str]) -> list[str]:
    """Write the page `report.html` of a finished run from its folder; return, a sentence each, what it could not show.

    The model embeds the test items anew. Where they are gone, or the model is, the page has the numbers and curves;
    but an earlier page that has its queries stays, as they could not be had again. In processes that torchrun or srun
    has started, each embeds a share of the items, and the first one writes the page.
    Raises InputError, one line, for a folder without a finished run, or where the page cannot be written.

    >>> from pathlib import Path
    >>> report("runs/letters")
    []
    >>> Path("runs/letters/report.html").is_file()
    True

    """
    folder = RunFolder(user_path(run))
    summary = summary_of(folder)
    with joined(available_device(summary.config.accelerator).type):
        embedded = _embed(folder, summary)
        return processes.from_first(lambda: _write(folder, summary, embedded))


@dataclass(frozen=True)
class _Embedded:
    """The test items as far as they are there, and their embeddings `(N, D)`, or why there are none.

    `whitened` is a fact for the page, `missing` are sentences: where the items are not what they were in training.
    """

    test: TestItems | None
    embeddings: torch.Tensor | InputError
    whitened: list[tuple[str, str]]
    missing: list[str]


def _embed(folder: RunFolder, summary: Summary) -> _Embedded:
    """Have all processes embed the test items; the first one has the embeddings."""
    test, missing, whitened = None, list[str](), list[tuple[str, str]]()
    embeddings: torch.Tensor | InputError
    try:
        with processes.failing_together():
            test, missing = _test_items(folder, summary)
            embedder = load(folder.path)
            missing += [
                f"queries and similarities: {note.message}" for note in notes_of_others(embedder, test.labelled.items)
            ]
        if embedder.whitening is not None:
            _, how = how_embedded(embedder, ONE_SCALE)
            whitened = [("queries and similarities", f"{how}; the numbers of the run are without it")]
        embeddings = embed_as_configured(embedder, summary.config, test.labelled.items)
    except InputError as error:
        embeddings = error
    return _Embedded(test, embeddings, whitened, missing)


def _write(folder: RunFolder, summary: Summary, embedded: _Embedded) -> list[str]:
    """Write the page; return what it could not show."""
    test, missing = embedded.test, embedded.missing
    same = other = np.empty(0, dtype=np.float32)
    worst, best = list[Retrieval](), list[Retrieval]()
    try:
        if isinstance(embedded.embeddings, InputError):
            raise embedded.embeddings
        assert test is not None, "it has been embedded"
        same, other = pair_similarities(embedded.embeddings, test.labelled, seed=summary.config.seed)
        worst, best = extreme_queries(answers(embedded.embeddings, test.labelled, test.searches[0]), summary.config)
    except InputError as error:
        missing = [f"no queries and no similarities are shown: {error}"]
        if has_queries(folder.report):
            stays = "the page that is there has them and stays; remove it to have one without"
            return [shown(f"no queries and no similarities can be shown: {error}; {stays}")]
    before, after = summary.before.metrics, summary.after.metrics
    split = _split(folder)
    published = summary.published
    data = ReportData(
        title=folder.path.absolute().name,
        summary=[
            (
                name if test is None else display_name(name, test.searches),
                percent(before, name),
                percent(after, name),
                f"{published[name]:.1f}" if name in published else "",
            )
            for name in summary.metrics
        ],
        published=summary.beside_published,
        facts=[*_facts(summary, split, test), *embedded.whitened],
        history=summary.rows,
        same_class=same,
        other_class=other,
        worst=worst,
        best=best,
        config=to_yaml(summary.config),
        skipped=[] if split is None else list(split.skipped.items()),
        warnings=[*summary.warnings, *missing],
    )
    write_report(data, folder.report)
    return [shown(sentence) for sentence in missing]


def _test_items(folder: RunFolder, summary: Summary) -> tuple[TestItems, list[str]]:
    """Return the run's test items, and, a sentence each, where they are not what they were in training."""
    test, notes = read_for_test(summary.config, folder.read_split())
    told = [note.message for note in notes if note.kind == "other counts"]
    known = summary.start.differences
    return test, [f"queries and similarities: {message}" for message in told if message not in known]


def _split(folder: RunFolder) -> Split | None:
    """Return the run's split; None where it has none, or it cannot be read, which must not cost the whole page."""
    try:
        return folder.read_split()
    except InputError:
        return None


def _facts(summary: Summary, split: Split | None, test: TestItems | None) -> list[tuple[str, str]]:
    config, start, steps, seconds = summary.config, summary.start, summary.steps, summary.training_seconds
    chosen = f"epoch {summary.after.epoch}" + (f", {start.how_chosen}" if start.how_chosen else "")
    noun = "items" if test is None else test.labelled.noun
    images = config if isinstance(config, ImageTrainConfig) else None
    keep = images is not None and images.image_shape == "keep"
    chunk = f"{'one shape, at most ' if keep else ''}{config.chunk_size}"
    facts = [] if split is None else [("train", split.counted("train", noun))]
    if split is not None and split.skipped:
        facts.append(("left out", f"{len(split.skipped):,} {noun} that could not be read"))
    seen = " seen in training (a closed set)" if config.closed_set else ", not seen in training"
    facts += [] if test is None else [("test", f"{test.labelled.counted}{seen}{_apart(test)}")]
    return [
        *facts,
        ("model of", chosen),
        ("network", config.network + ("" if images is None else f", weights {images.weights}")),
        ("batch", f"{steps[-1].items if steps else 0:,} items in chunks of {chunk}, {len(steps):,} steps"),
        ("loss", describe(config.loss)),
        ("mixup", "similarity mixup" if config.mixup else "none"),
        ("training time", f"{int(seconds // 60)} min {int(seconds % 60):02d} s, evaluation not counted"),
        ("machine", start.machine),
        ("versions", start.versions),
    ]


def _apart(test: TestItems) -> str:
    """Say how many queries search how large a gallery, where all do not search each other."""
    search = test.searches[0]
    if search.gallery is None or len(test.searches) > 1:
        return ""
    return f": {len(search.queries):,} queries, among {len(search.gallery):,} of a gallery"


def pair_similarities(
    embeddings: torch.Tensor, items: LabelledItems, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return similarities of random pairs of one class, and of random pairs of two."""
    positives, draw = items.positives(np.arange(len(items))), torch.Generator().manual_seed(seed)
    able = positives.counts.nonzero()[:, 0]
    one = able[torch.randint(len(able), (PAIRS,), generator=draw)]
    number = (torch.rand(PAIRS, generator=draw) * positives.counts[one]).long()
    same = embeddings[one] * embeddings[positives.nth(one, number)]
    one, other = torch.randint(len(items), (2, PAIRS), generator=draw)
    apart = (one != other) & ~positives.are_relevant(one, other[:, None])[:, 0]
    different = embeddings[one[apart]] * embeddings[other[apart]]
    return same.sum(1).numpy(), different.sum(1).numpy()


def extreme_queries(answered: Answers, settings: DataSettings) -> tuple[list[Retrieval], list[Retrieval]]:
    """Return the queries answered worst and best, of different classes.

    Worst: the first right item comes last. Best: the most right items come before the first wrong one, and the gap
    to it is widest.
    """
    right, similarities = answered.right, answered.similarities
    k, everyone = right.shape[1], np.arange(len(right))
    first_right = answered.first_right
    first_wrong = np.where((~right).any(1), (~right).argmax(1), k)
    wrong_similarity = similarities[everyone, np.minimum(first_wrong, k - 1)]
    share = np.minimum(first_wrong, answered.relevant) / answered.relevant
    lowest_right_similarity = similarities[everyone, np.minimum(first_right, k - 1)]
    worst = np.lexsort((lowest_right_similarity, -first_right)).tolist()
    best = np.lexsort((wrong_similarity, -share)).tolist()
    first, last = (answered.of_different_classes(order, SHOWN_QUERIES) for order in (worst, best))
    drawn = answered.retrievals([*first, *last], settings)
    return drawn[: len(first)], drawn[len(first) :]
