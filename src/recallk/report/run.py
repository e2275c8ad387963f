"""From a finished training to what its report shows."""

import platform
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import recallk
from recallk.data.images import read_image
from recallk.data.record import Record
from recallk.data.source import Part
from recallk.evaluation.protocols import Search, spoken
from recallk.evaluation.search import nearest
from recallk.report.page import ReportData, write_report
from recallk.report.pictures import Retrieval, Retrieved
from recallk.training.config import to_yaml
from recallk.training.loss_catalogue import describe
from recallk.training.recipes import Recipe, origin
from recallk.training.trainer import Trainer

SHOWN_QUERIES = 8
SHOWN_RESULTS = 8
PAIRS = 100_000  # enough for a smooth curve


def report_run(trainer: Trainer) -> None:
    """Write `report.html` into the folder of a run that `trainer` has just finished."""
    plan, config = trainer.plan, trainer.config
    history = trainer.folder.history()
    before = next(row for row in history if row["kind"] == "evaluation")
    after = next(row for row in history if row["kind"] == "result")
    recipe = origin(config)
    published = recipe.published if recipe else {}
    embeddings = trainer.test_embeddings
    assert embeddings is not None, "a finished run has been evaluated"
    test = plan.test.part
    same, other = pair_similarities(embeddings, test.labels, seed=config.seed)
    worst, best = extreme_queries(embeddings, test, plan.test.searches[0])
    seconds = sum(row["seconds"] for row in history if row["kind"] == "step")
    facts = [
        ("train", f"{len(plan.train.labels):,} images of {len(plan.train.classes):,} classes"),
        ("test", f"{len(test.labels):,} images of {len(test.classes):,} other classes"),
        ("model kept", f"epoch {after['epoch']}, {plan.how_chosen}"),
        ("backbone", f"{config.backbone}, {config.embedding_size} dimensions, weights {config.weights}"),
        ("batch", f"{plan.images_per_step:,} images in chunks of {config.chunk_size}, {plan.steps:,} steps"),
        ("loss", describe(config.loss)),
        ("mixup", "similarity mixup" if config.mixup else "none"),
        ("training time", f"{int(seconds // 60)} min {int(seconds % 60):02d} s, evaluation not counted"),
        ("machine", machine(trainer.fabric.device)),
        ("versions", f"recallk {recallk.__version__}, PyTorch {torch.__version__}"),
    ]
    data = ReportData(
        title=trainer.folder.path.name,
        summary=[
            (
                spoken(name, plan.test.searches),
                f"{100 * before[name]:.1f}",
                f"{100 * after[name]:.1f}",
                f"{published[name]:.1f}" if name in published else "",
            )
            for name in plan.headline
        ],
        published=_published(recipe, plan.differences) if recipe and published else None,
        facts=facts,
        history=history,
        same_class=same,
        other_class=other,
        worst=worst,
        best=best,
        config=to_yaml(config),
    )
    write_report(data, trainer.folder.report)


def _published(recipe: Recipe, told: list[str]) -> str:
    """Say where the published numbers are from, and what in this run is not as published."""
    differs = f"This run differs: {'; '.join(told)}." if told else "This run differs in nothing that counts."
    return f"Published: {recipe.source}. {differs}"


def machine(device: torch.device) -> str:
    """Say in words what the run ran on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU cores, {platform.machine()}"


def pair_similarities(
    embeddings: torch.Tensor, labels: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return similarities of random pairs of one class, and of random pairs of two."""
    random = np.random.default_rng(seed)
    one = random.integers(len(labels), size=PAIRS)
    order = np.argsort(labels, kind="stable")
    start = np.searchsorted(labels[order], labels[one])
    count = np.searchsorted(labels[order], labels[one], side="right") - start
    partner = order[start + random.integers(count)]
    anyone = random.integers(len(labels), size=PAIRS)
    same = _similarities(embeddings, one[partner != one], partner[partner != one])
    apart = labels[one] != labels[anyone]
    return same, _similarities(embeddings, one[apart], anyone[apart])


def _similarities(embeddings: torch.Tensor, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float32]:
    return (embeddings[one] * embeddings[other]).sum(1).numpy()


def extreme_queries(embeddings: torch.Tensor, test: Part, search: Search) -> tuple[list[Retrieval], list[Retrieval]]:
    """Return the queries of a search served worst and best, of different classes.

    Worst: the first right item comes last. Best: the most right items come before the first wrong one, and the gap
    to it is widest.
    """
    gallery = search.queries if search.gallery is None else search.gallery
    counts = np.bincount(test.labels[gallery], minlength=len(test.classes))[test.labels[search.queries]]
    relevant = counts - (search.gallery is None)
    queries, relevant = search.queries[relevant > 0], relevant[relevant > 0]
    itself = torch.from_numpy(np.flatnonzero(counts > 1)) if search.gallery is None else None
    k = min(100, len(gallery) - (search.gallery is None))
    found = nearest(embeddings[queries], embeddings[gallery], k, exclude=itself)
    items = gallery[found.indexes.numpy()]
    right = test.labels[items] == test.labels[queries, None]
    first_right = np.where(right.any(1), right.argmax(1), k)
    first_wrong = np.where((~right).any(1), (~right).argmax(1), k)
    similarities = found.similarities.numpy()
    wrong_similarity = similarities[np.arange(len(queries)), np.minimum(first_wrong, k - 1)]
    share = np.minimum(first_wrong, relevant) / relevant
    lowest_right_similarity = similarities[np.arange(len(queries)), np.minimum(first_right, k - 1)]
    worst = np.lexsort((lowest_right_similarity, -first_right))
    best = np.lexsort((wrong_similarity, -share))

    def shown(q: int) -> Retrieval:
        results = [
            Retrieved(read_image(record.image), name_of(record), record.label, float(similarity), bool(is_right))
            for record, similarity, is_right in zip(
                (test.records[item] for item in items[q, :SHOWN_RESULTS]), similarities[q], right[q], strict=False
            )
        ]
        note = f"first right one at {first_right[q] + 1}" if first_right[q] < k else f"none right among {k}"
        query = test.records[queries[q]]
        return Retrieval(read_image(query.image), name_of(query), query.label, results, note)

    return (
        [shown(q) for q in _of_different_classes(worst, queries, test)],
        [shown(q) for q in _of_different_classes(best, queries, test)],
    )


def _of_different_classes(order: NDArray[np.int64], queries: NDArray[np.int64], test: Part) -> list[int]:
    chosen: dict[int, int] = {}
    for q in order.tolist():
        chosen.setdefault(int(test.labels[queries[q]]), q)
        if len(chosen) == SHOWN_QUERIES:
            break
    return list(chosen.values())


def name_of(record: Record) -> str:
    """Return what an image is called: its file, or its class where it is pixels."""
    return record.image.name if isinstance(record.image, Path) else record.label
