"""From a finished training to what its report shows."""

import platform

import numpy as np
import torch
from numpy.typing import NDArray

import recallk
from recallk.comparison.outcomes import result_of, rows_of, seconds_of
from recallk.core.errors import InputError
from recallk.evaluation.protocols import spoken
from recallk.losses.registry import describe
from recallk.reporting.answers import Answers, answers
from recallk.reporting.page import ReportData, write_report
from recallk.reporting.pictures import Retrieval
from recallk.runs.config import to_yaml
from recallk.runs.folder import Row, RunFolder
from recallk.runs.recipes import beside_published, origin
from recallk.training.selection import below_start
from recallk.training.trainer import Trainer

SHOWN_QUERIES = 8
PAIRS = 100_000  # enough for a smooth curve


def report_run(trainer: Trainer) -> None:
    """Write `report.html` into the folder of a run that `trainer` has just finished."""
    plan, config = trainer.plan, trainer.config
    history = trainer.folder.history()
    before, after = start_and_result(trainer.folder)
    recipe = origin(config)
    published = recipe.published if recipe else {}
    embeddings = trainer.test_embeddings
    assert embeddings is not None, "a finished run has been evaluated"
    test = plan.test.part
    same, other = pair_similarities(embeddings, test.labels, seed=config.seed)
    worst, best = extreme_queries(answers(embeddings, test, plan.test.searches[0]))
    seconds = seconds_of(trainer.folder)
    facts = [
        ("train", f"{len(plan.train.labels):,} images of {len(plan.train.classes):,} classes"),
        ("test", f"{len(test.labels):,} images of {len(test.classes):,} other classes"),
        ("model kept", f"epoch {after.get('epoch', '–')}, {plan.how_chosen}"),
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
                percent(before, name),
                percent(after, name),
                f"{published[name]:.1f}" if name in published else "",
            )
            for name in plan.headline
        ],
        published=beside_published(recipe, plan.differences) if recipe and published else None,
        facts=facts,
        history=history,
        same_class=same,
        other_class=other,
        worst=worst,
        best=best,
        config=to_yaml(config),
        warnings=below_start(before, after, config.evaluate_ks[0], plan.selection),
    )
    write_report(data, trainer.folder.report)


def start_and_result(folder: RunFolder) -> tuple[Row, Row]:
    """Return the metrics of the untrained network and of the kept one; nothing of the first where its row is lost.

    Raises InputError for a run without a result.
    """
    after = result_of(folder)
    if after is None:
        raise InputError(f"{folder.path}: no result in its metrics.jsonl; finish it with --resume {folder.path}")
    return next((row for row in rows_of(folder, "evaluation") if row["epoch"] == 0), {}), after


def percent(row: Row, name: str) -> str:
    """Return a metric of a row in percent; a dash where it is not there."""
    return f"{100 * row[name]:.1f}" if name in row else "–"


def machine(device: torch.device) -> str:
    """Say in words what the run ran on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = torch.get_num_threads()
    return f"{cores} CPU {'core' if cores == 1 else 'cores'}, {platform.machine()}"


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


def extreme_queries(answered: Answers) -> tuple[list[Retrieval], list[Retrieval]]:
    """Return the queries served worst and best, of different classes.

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
    return (
        [answered.retrieval(q) for q in answered.of_different_classes(worst, SHOWN_QUERIES)],
        [answered.retrieval(q) for q in answered.of_different_classes(best, SHOWN_QUERIES)],
    )
