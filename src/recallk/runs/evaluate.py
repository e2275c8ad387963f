"""A trained model, measured anew: on its run's test items, or on others."""

import os
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from recallk.core import processes
from recallk.core.arrays import checked_ks
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import joined
from recallk.core.progress import Advance, counting, silent
from recallk.core.text import brief, shown
from recallk.data.dataset import read_all, read_for_test
from recallk.data.findings import Finding
from recallk.data.kind import is_beir
from recallk.data.label_sets import labels_in
from recallk.data.source import is_there
from recallk.data.tested import TestItems
from recallk.evaluation.clustering import nmi
from recallk.evaluation.protocols import display_name, measure, re_identification
from recallk.models.scales import ONE_SCALE, Scales, checked_scales
from recallk.runs.embedding import embed_as_configured, how_embedded
from recallk.runs.evaluation import Evaluation
from recallk.runs.folder import RunFolder
from recallk.runs.judged import evaluate_judged
from recallk.runs.train_config import TrainConfig

Protocol = Literal["benchmark", "re-identification"]


def evaluate(
    run: str | os.PathLike[str] | None = None,
    data: str | None = None,
    ks: Sequence[int] | None = None,
    protocol: Protocol = "benchmark",
    *,
    benchmark: str | None = None,
    distractors: str | os.PathLike[str] | None = None,
    scales: Sequence[float] = ONE_SCALE,
    descriptors: str | os.PathLike[str] | None = None,
    uncropped: bool = False,
    qrels: str | os.PathLike[str] | None = None,
    by_query: str | os.PathLike[str] | None = None,
    advance: Advance = silent,
) -> Evaluation:
    """Measure the model of a finished run: recall@k, precision@k, MAP@R, R-precision, MRR and NMI.

    On the run's test items, or, with `data`, on others (a folder with a folder per class, or a table), which then all
    search each other, or its queries its gallery where it has them. `ks` are the run's by default. The protocol
    "re-identification" draws one gallery item of each class at random, ten times over, and gives recall@k alone. Images
    are embedded at each of the `scales`, as `Embedder.embed` does.

    With `benchmark`, an instance-level test set such as "roxford5k" is measured instead, as its authors define it:
    `runs.instances.evaluate_instances`, whose are the further arguments.

    A folder as BEIR lays it out (corpus.jsonl, queries.jsonl, qrels/test.tsv), and texts or vectors with ids whose
    pairs a file `qrels` judges, are measured as is usual there: `runs.judged.evaluate_judged`. What each query reached
    is then written to the file `by_query`.

    In processes that torchrun or srun has started, each embeds a share of the items, the first one measures, and all
    return the same.

    Raises InputError, one line, for whatever does not fit.

    >>> found = evaluate("runs/letters", ks=(1, 10))
    >>> list(found.metrics)
    ['recall@1', 'recall@10', 'precision@1', 'precision@10', 'map@r', 'r_precision', 'mrr', 'nmi']

    """
    if protocol not in get_args(Protocol):
        raise InputError(f"protocol={brief(protocol)}: one of {', '.join(get_args(Protocol))}")
    asked, at_scales = None if ks is None else checked_ks(ks), checked_scales(scales)
    if benchmark is not None:
        if ks is not None or protocol != "benchmark":
            told = "says itself what is measured, and at which k: leave ks and protocol out"
            raise InputError(f"{brief(benchmark)} {told}")
        from recallk.runs.instances import evaluate_instances

        return evaluate_instances(
            run,
            benchmark,
            data,
            distractors=distractors,
            scales=at_scales,
            descriptors=descriptors,
            uncropped=uncropped,
            advance=advance,
        )
    given = {"distractors": distractors is not None, "descriptors": descriptors is not None, "uncropped": uncropped}
    if alone := [name for name, there in given.items() if there]:
        raise InputError(f"{alone[0]} is for instance-level test sets: name one, such as --benchmark roxford5k")
    if run is not None and (found := _judged(run, data, qrels)) is not None:
        if protocol != "benchmark":
            raise InputError(f"protocol {protocol} is for classes, and these pairs are judged: leave it out")
        return evaluate_judged(run, found, qrels, asked, by_query, at_scales, advance)
    if by_query is not None:
        raise InputError("by_query is for judged pairs: give qrels, or a folder as BEIR has them")
    if run is None:
        raise InputError("no run: give the folder of a finished one, or a benchmark and a file of descriptors")
    return _evaluate_classes(run, data, asked, protocol, at_scales, advance)


def _judged(run: str | os.PathLike[str], data: str | None, qrels: str | os.PathLike[str] | None) -> str | None:
    """Return the data whose pairs are judged; None where they are not."""
    if data is None and isinstance(run, str | os.PathLike):
        folder = RunFolder(user_path(run))
        data = folder.read_config().data if folder.config.is_file() else None
    if qrels is not None and data is None:
        raise InputError("qrels judge pairs of data: say of which with --data")
    return None if data is None or (qrels is None and not is_beir(user_path(data))) else data


def _evaluate_classes(
    run: str | os.PathLike[str],
    data: str | None,
    asked: Sequence[int] | None,
    protocol: Protocol,
    scales: Scales,
    advance: Advance,
) -> Evaluation:
    """Measure on labelled items: those of a class are to find each other."""
    from recallk.models.made_by import notes_of_others  # brings the networks, which given descriptors need not
    from recallk.models.saved import load

    embedder, folder = load(run), RunFolder(user_path(run))
    config = folder.config_for(data)
    with joined(available_device(config.accelerator).type):
        with processes.failing_together():
            advance("reading the data", 0, 0)
            test, notes = _read(config, folder, data)
            if protocol == "re-identification" and any(search.gallery is not None for search in test.searches):
                raise InputError("protocol re-identification draws its own gallery, and these data come with one")
            if protocol == "re-identification" and test.labelled.label_sets is not None:
                raise InputError("protocol re-identification is for one label an item, and these have several")
            notes = [*notes, *notes_of_others(embedder, test.labelled.items)]
        items, depths = test.labelled, config.evaluate_ks if asked is None else asked
        told = counting(advance, "embedding", len(items))
        embeddings = embed_as_configured(embedder, config, items.items, told, scales=scales)

        def measured() -> Evaluation:
            if protocol == "re-identification":
                metrics, spread = _re_identified(embeddings, test, depths)
            else:
                advance("ranking and clustering", 0, 0)
                metrics, spread = _searched(embeddings, test, depths), {}
            plain = scales == ONE_SCALE and embedder.whitening is None
            conditions = () if plain else how_embedded(embedder, scales)
            closed = " seen in training (a closed set)" if config.closed_set and data is None else ""
            return Evaluation(items.counted + closed, metrics, spread, notes, conditions)

        return processes.from_first(measured)


def _read(config: TrainConfig, folder: RunFolder, data: str | None) -> tuple[TestItems, Sequence[Finding]]:
    if data is None:
        if config.dataset == "own" and not is_there(config.data):
            raise InputError(
                f"{shown(config.data)}: the run's data is not there any more; say where it is by now: recallk train "
                f"--resume {shown(folder.path)} --data PATH (--data of evaluate is for other data)"
            )
        return read_for_test(config, folder.read_split())
    test, notes = read_all(data, config.layout_of(data))
    return test, [*notes, *_trained_on(data, test, folder)]


def _trained_on(data: str, test: TestItems, folder: RunFolder) -> list[Finding]:
    """Return a note where other data has classes that the run was trained on, as far as names tell."""
    split = None if folder.is_model_alone else folder.read_split()
    there = labels_in(test.labelled.classes[number] for number in np.unique(test.labelled.labels).tolist())
    seen = set[str]() if split is None else there & labels_in(split.splits.get("train", {}))
    if not seen:
        return []
    told = f"{len(seen):,} of these {len(there):,} classes have names that the model was trained on: not new to it"
    return [Finding("other counts", data, told)]


def _searched(embeddings: Tensor, test: TestItems, depths: Sequence[int]) -> dict[str, float]:
    measured = measure(embeddings, test.labelled, test.searches, depths)
    metrics = {display_name(name, test.searches): value for name, value in measured.items()}
    if test.labelled.label_sets is not None:  # clusters are of one class each
        return metrics
    of_all = "nmi" if len(test.searches) == 1 else "nmi of all items"
    return metrics | {of_all: nmi(embeddings, test.labelled.labels)}


def _re_identified(
    embeddings: Tensor, test: TestItems, depths: Sequence[int]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the means over the draws, and the deviations."""
    metrics, spread = dict[str, float](), dict[str, float]()
    for search in test.searches:
        searching, labels = embeddings[search.queries], test.labelled.labels[search.queries]
        for name, (mean, deviation) in re_identification(searching, labels, depths).items():
            metrics[f"{search.name} {name}".strip()] = mean
            spread[f"{search.name} {name}".strip()] = deviation
    return metrics, spread
