"""A model, or descriptors from anywhere, measured on an instance-level test set, with the conditions in words."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from recallk.core import processes
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import joined
from recallk.core.lock import locked
from recallk.core.progress import Advance, counting, silent
from recallk.core.text import shown
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS, OWN, instance_benchmark_named
from recallk.data.instances.distractors import read_distractors
from recallk.data.instances.instance import InstanceSet
from recallk.data.item import Region
from recallk.data.source import read_instances, require_data
from recallk.evaluation.instances import measure_instances
from recallk.models.scales import ONE_SCALE, Scales, checked_scales
from recallk.retrieval.parts import Part
from recallk.runs.evaluation import Evaluation
from recallk.runs.folder import RunFolder
from recallk.runs.given_descriptors import read_descriptors
from recallk.runs.published import published_rows
from recallk.runs.train_config import TrainConfig

if TYPE_CHECKING:
    from recallk.models.embedder import Embedder

Queries = Literal["whole", "cropped", "NOT cropped", "as given"]
"""What of the images asks: all of it where there are no boxes, what is in the box, all in spite of the box, or what
the maker of the descriptors took."""

_IN_WORDS: dict[Queries, str] = {
    "whole": "queries are whole images",
    "cropped": "queries cropped to their boxes",
    "NOT cropped": "queries NOT cropped to their boxes: too high, and not to be held against published rows",
    "as given": "queries as given: only their maker knows whether they were cropped",
}


@dataclass(frozen=True)
class _Vectors:
    """Descriptors of unit length: queries `(Q, D)`, and what they search, the gallery first, then distractors.

    In a group of processes those that are made here are in the first one.
    """

    queries: Tensor
    parts: Sequence[Part]
    conditions: Sequence[str]


def evaluate_instances(
    run: str | os.PathLike[str] | None,
    benchmark: str,
    data: str | None = None,
    *,
    distractors: str | os.PathLike[str] | None = None,
    scales: Sequence[float] = ONE_SCALE,
    descriptors: str | os.PathLike[str] | None = None,
    uncropped: bool = False,
    advance: Advance = silent,
) -> Evaluation:
    """Measure the model of a run, or the file `descriptors`, on an instance-level test set below the folder `data`.

    The `benchmark` "own" are own images, as `recallk train` takes them: each asks for the others of its class.

    `distractors` is a folder of images that answer no query, searched with the gallery. The run keeps the descriptors
    of both in its folder, in float16: what a killed process has made is used by the next, and all of it while model,
    whitening and images are the same; those at other scales are kept apart. With `uncropped` the queries are whole
    images, in spite of their boxes.

    A file of descriptors is a `.safetensors` or `.npz` with `queries (Q, D)`, `gallery (G, D)` and perhaps
    `distractors (N, D)`, in float16, float32 or float64 and in the order of the test set's lists, which alone have to
    be in `data` then. No network is built.

    In processes that torchrun or srun has started, each embeds a share of the images, the first one writes and
    measures, and all return the same.

    Raises InputError, one line, for whatever does not fit.
    """
    if (run is None) == (descriptors is None):
        raise InputError("give a run, whose model makes the descriptors, or a file of descriptors: one of the two")
    at_scales = checked_scales(scales)
    if data is not None and benchmark in INSTANCE_BENCHMARKS and not INSTANCE_BENCHMARKS[benchmark].needs_data:
        raise InputError(f"{benchmark} is made here, and needs no data: leave data out")
    if descriptors is not None:
        _refuse_beside_descriptors(distractors, at_scales, uncropped)
    named = None if benchmark == OWN else instance_benchmark_named(benchmark)
    require_data(benchmark, data)
    config = None if run is None else RunFolder(user_path(run)).config_for(data or benchmark)
    with ExitStack() as held:
        held.enter_context(joined("cpu" if config is None else available_device(config.accelerator).type))
        with processes.failing_together():
            advance("reading the test set", 0, 0)
            found, notes = read_instances(benchmark, data, images=descriptors is None)
            boxes = any(isinstance(query, Region) for query in found.queries)
            if uncropped and not boxes:
                raise InputError(f"{benchmark} has no boxes around its queries: leave uncropped out")
        if run is None:
            queries: Queries = "as given" if boxes else "whole"
            with processes.failing_together():
                vectors = _given(user_path(descriptors or ""), found, advance)
        else:
            queries = "NOT cropped" if uncropped else "cropped" if boxes else "whole"
            assert config is not None
            asked = _asked(found, uncropped)
            vectors = _made(run, config, benchmark, asked, distractors, at_scales, held, advance)

        def measured() -> Evaluation:
            metrics = measure_instances(vectors.queries, vectors.parts, found.truth, advance=advance)
            others = sum(map(len, vectors.parts[1:]))
            label = f"{benchmark}, queries {queries}" if queries in ("NOT cropped", "as given") else benchmark
            among = f"{others:,} distractors" if others else "no distractors"
            rows, source = dict[str, dict[str, float]](), ""
            complete = named is not None and (len(found.queries), len(found.gallery)) == (named.queries, named.gallery)
            if run is not None and complete and not uncropped:
                rows, source = published_rows(RunFolder(user_path(run)), benchmark, others)
            return Evaluation(
                f"{label}: {found.counted}" + (f", {among}" if others else ""),
                metrics,
                notes=notes,
                conditions=[_IN_WORDS[queries], among, *vectors.conditions],
                published=rows,
                source=source,
            )

        return processes.from_first(measured)


def _refuse_beside_descriptors(distractors: object, scales: Scales, uncropped: bool) -> None:
    if distractors is not None:
        raise InputError("distractors are images, and descriptors are given: put theirs into the file, as distractors")
    if scales != ONE_SCALE:
        raise InputError("scales are for a run's model, and descriptors are given: leave them out")
    if uncropped:
        raise InputError("uncropped is for a run's model: descriptors are measured as given, cropped or not")


def _asked(found: InstanceSet, uncropped: bool) -> InstanceSet:
    if not uncropped:
        return found
    whole = [query.image if isinstance(query, Region) else query for query in found.queries]
    return replace(found, queries=whole)


def _given(path: Path, found: InstanceSet, advance: Advance) -> _Vectors:
    """Return the descriptors of a file."""
    given = read_descriptors(path, len(found.queries), len(found.gallery), advance)
    parts: list[Part] = [given.gallery] if given.distractors is None else [given.gallery, given.distractors]
    made = f"descriptors of {shown(path.name)}, {given.gallery.shape[1]:,} dimensions"
    return _Vectors(given.queries, parts, [made + (", scaled to unit length here" if given.scaled else "")])


def _made(
    run: str | os.PathLike[str],
    config: TrainConfig,
    benchmark: str,
    found: InstanceSet,
    distractors: str | os.PathLike[str] | None,
    scales: Scales,
    held: ExitStack,
    advance: Advance,
) -> _Vectors:
    """Return the descriptors that a run's model makes; as long as they are `held`, nobody else may be in its folder."""
    from recallk.models.saved import load
    from recallk.runs.descriptors import stored_descriptors
    from recallk.runs.embedding import embed_as_configured
    from recallk.runs.fingerprint import fingerprint

    folder = RunFolder(user_path(run))
    with processes.failing_together():
        embedder = load(run)
        galleries = [("gallery", benchmark, found.gallery)]
        if distractors is not None:
            galleries.append(("distractors", "distractors", read_distractors(user_path(distractors))))
    held.enter_context(processes.entered_by_first(locked(folder.path)))
    embed = partial(embed_as_configured, embedder, config, scales=scales)
    queries = embed(found.queries, advance=counting(advance, "embedding the queries", len(found.queries)))
    parts = list[Part]()
    for what, name, items in galleries:
        told = counting(advance, f"embedding the {what}", len(items))
        made = processes.from_first(partial(fingerprint, embedder, items, scales))
        file = folder.descriptors(name + _how(embedder, scales))
        parts.append(stored_descriptors(file, made, items, partial(embed, advance=told), told))
    return _Vectors(queries, parts, _conditions(embedder, scales))


def _how(embedder: "Embedder", scales: Scales) -> str:
    """Return what tells descriptors apart in the run's folder: a look at other scales costs no others their files."""
    at_scales = "" if scales == ONE_SCALE else "-scales-" + "-".join(f"{scale:g}" for scale in scales)
    return at_scales + ("-whitened" if embedder.whitening is not None else "")


def _conditions(embedder: "Embedder", scales: Scales) -> list[str]:
    from recallk.runs.embedding import how_embedded

    return [
        embedder.settings.seen,
        *how_embedded(embedder, scales),
        "gallery in float16",
    ]
