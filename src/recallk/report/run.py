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
from recallk.evaluation.search import Neighbours, nearest
from recallk.report.page import ReportData, write_report
from recallk.report.pictures import Retrieval, Retrieved
from recallk.training.config import to_yaml
from recallk.training.trainer import Trainer

SHOWN_QUERIES = 8
SHOWN_RESULTS = 8
PAIRS = 100_000  # enough for a smooth curve


def report_run(trainer: Trainer) -> None:
    """Write `report.html` into the folder of a run that `trainer` has just finished."""
    plan, config = trainer.plan, trainer.config
    history = trainer.folder.history()
    evaluations = [row for row in history if row["kind"] == "evaluation"]
    names = [*(f"recall@{k}" for k in config.evaluate_ks), "map@r"]
    embeddings = trainer.test_embeddings
    assert embeddings is not None, "a finished run has been evaluated"
    same, other = pair_similarities(embeddings, plan.test.labels, seed=config.seed)
    worst, best = extreme_queries(embeddings, plan.test)
    seconds = sum(row["seconds"] for row in history if row["kind"] == "step")
    size = plan.sampler.classes_per_batch * config.items_per_class
    facts = [
        ("train", f"{len(plan.train.labels):,} images of {len(plan.train.classes):,} classes"),
        ("test", f"{len(plan.test.labels):,} images of {len(plan.test.classes):,} other classes"),
        ("backbone", f"{config.backbone}, {config.embedding_size} dimensions, weights {config.weights}"),
        ("batch", f"{size:,} images in chunks of {config.chunk_size}, {plan.steps:,} steps"),
        ("mixup", "similarity mixup" if config.mixup else "none"),
        ("training time", f"{int(seconds // 60)} min {int(seconds % 60):02d} s, evaluation not counted"),
        ("machine", machine(trainer.fabric.device)),
        ("versions", f"recallk {recallk.__version__}, PyTorch {torch.__version__}"),
    ]
    data = ReportData(
        title=trainer.folder.path.name,
        summary=[(n, f"{100 * evaluations[0][n]:.1f}", f"{100 * evaluations[-1][n]:.1f}") for n in names],
        facts=facts,
        history=history,
        same_class=same,
        other_class=other,
        worst=worst,
        best=best,
        config=to_yaml(config),
    )
    write_report(data, trainer.folder.report)


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


def extreme_queries(embeddings: torch.Tensor, test: Part) -> tuple[list[Retrieval], list[Retrieval]]:
    """Return the queries served worst and best, of different classes.

    Worst: the first right item comes last. Best: the most right items come before the first wrong one, and the gap
    to it is widest.
    """
    _, of_class, counts = np.unique(test.labels, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(counts[of_class] > 1)
    k = min(100, len(test.labels) - 1)
    found = nearest(embeddings[queries], embeddings, k, exclude=torch.from_numpy(queries))
    right = test.labels[found.indexes.numpy()] == test.labels[queries, None]
    first_right = np.where(right.any(1), right.argmax(1), k)
    first_wrong = np.where((~right).any(1), (~right).argmax(1), k)
    similarities = found.similarities.numpy()
    wrong_similarity = similarities[np.arange(len(queries)), np.minimum(first_wrong, k - 1)]
    share = np.minimum(first_wrong, counts[of_class[queries]] - 1) / (counts[of_class[queries]] - 1)
    lowest_right_similarity = similarities[np.arange(len(queries)), np.minimum(first_right, k - 1)]
    worst = np.lexsort((lowest_right_similarity, -first_right))
    best = np.lexsort((wrong_similarity, -share))
    return (
        [_retrieval(found, right, q, queries, test, first_right) for q in _of_different_classes(worst, queries, test)],
        [_retrieval(found, right, q, queries, test, first_right) for q in _of_different_classes(best, queries, test)],
    )


def _of_different_classes(order: NDArray[np.int64], queries: NDArray[np.int64], test: Part) -> list[int]:
    chosen: dict[int, int] = {}
    for q in order.tolist():
        chosen.setdefault(int(test.labels[queries[q]]), q)
        if len(chosen) == SHOWN_QUERIES:
            break
    return list(chosen.values())


def _retrieval(
    found: Neighbours,
    right: NDArray[np.bool_],
    q: int,
    queries: NDArray[np.int64],
    test: Part,
    first_right: NDArray[np.int64],
) -> Retrieval:
    query = test.records[queries[q]]
    results = []
    for rank in range(min(SHOWN_RESULTS, right.shape[1])):
        record = test.records[int(found.indexes[q, rank])]
        similarity = float(found.similarities[q, rank])
        results.append(
            Retrieved(read_image(record.image), _name(record), record.label, similarity, bool(right[q, rank]))
        )
    note = (
        f"first right one at {first_right[q] + 1}"
        if first_right[q] < right.shape[1]
        else f"none right among {right.shape[1]}"
    )
    return Retrieval(read_image(query.image), _name(query), query.label, results, note)


def _name(record: Record) -> str:
    return record.image.name if isinstance(record.image, Path) else record.label
