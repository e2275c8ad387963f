"""The vectors of items, made by a network of timm or of texts, or by a run's model, written into a file to train on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recallk.core import processes
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import joined
from recallk.core.progress import Advance, counting, silent
from recallk.core.text import brief, shown
from recallk.data.findings import Finding
from recallk.data.kind import ItemKind, kind_of
from recallk.data.opening import check_files
from recallk.data.records import labelled
from recallk.data.source import are_looked_for, read_to_embed, root_of
from recallk.data.vector_writer import Dtype, VectorWriter, columns_of, require_writable
from recallk.models import saved
from recallk.models.build import build
from recallk.models.embedder import Embedder
from recallk.models.made_by import MadeBy, backbone_alone, of_backbone, of_run
from recallk.models.settings import ImageSettings, TextSettings
from recallk.runs.config import called, make_config, with_whole_path
from recallk.runs.embed_keys import EMBED_KEYS, OF_NETWORK, OF_READING
from recallk.runs.embedding import embed_as_configured
from recallk.runs.folder import RunFolder
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.text_config import TextTrainConfig
from recallk.runs.train_config import TrainConfig

BLOCK = 4_096
"""Items of each process between two writes: their embeddings are held at a time. Readers are started for each block."""

_OF_TABLE = frozenset({"columns", "root"})


@dataclass(frozen=True)
class Embedded:
    """What was written: `items`, such as "1,200 images", as vectors of `size` numbers, to `path`.

    `labelled` says whether they have classes, and can be trained on; `notes` what is worth knowing of the data.
    """

    path: Path
    items: str
    size: int
    labelled: bool
    notes: Sequence[Finding] = ()


def embed(
    source: str,
    output: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    run: str | os.PathLike[str] | None = None,
    dtype: Dtype = "float32",
    overwrite: bool = False,
    advance: Advance = silent,
    **keys: Any,
) -> Embedded:
    """Embed all items of `source`, and write the vectors with their labels into a file that `recallk.train` takes.

    `source` is what `recallk.train` takes as its data, or a folder of images without classes, whose vectors then have
    no labels; so may a table of texts be without them. What embeds is any `backbone` of timm by name, with its
    pretrained weights and no head (its pooled features, divided by their length), of texts any of
    sentence-transformers, or the model of a finished `run`, its whitening included. The `keys` are those
    of `recallk train --help`: of the network (`weights`, `image_size`, `pooling`, ...) beside a backbone, of the source
    (`dataset`, `items`) and of reading (`chunk_size`, `workers`, `accelerator`) beside either.

    `output` is a `.parquet` table, with the columns `embedding` (of numbers `dtype`), `label`, `split`, `role`, `image`
    and `id`, each where there is such a thing; or a `.npy` or `.safetensors` array, with a `.parquet` table of the
    others beside it. Queries and a gallery of a benchmark both become `test`, with their `role`. The file says what
    made the vectors, so that `recallk.compose` can put a head that is trained on them after it. It is written some
    thousand rows at a time, and is there as a whole or not at all.

    In processes that torchrun or srun has started, each embeds a share of the items, the first one writes, and all
    return the same. Raises InputError, one line, for whatever cannot be read, a network that there is not, and an
    output that cannot be written, exists without `overwrite`, or would take the place of the source or other vectors.

    >>> found = embed("photos", "vectors.parquet", backbone="test_resnet", weights="none", image_size=32)
    >>> found.items, found.size, found.labelled
    ('64 images', 96, True)

    """
    config, place = _configured(source, backbone, run, keys), user_path(output)
    with joined(available_device(config.accelerator).type):
        processes.from_first(partial(require_writable, place, dtype, overwrite, user_path(source)))
        with processes.failing_together():
            advance("loading the network", 0, 0)
            embedder, made_by = _embedder(config, run)
            advance("reading the data", 0, 0)
            kind, dataset = _kind(embedder, source, run, keys), keys.get("dataset", "own")
            layout = config.layout if _OF_TABLE & keys.keys() else config.layout_of(source)
            records, notes = read_to_embed(source, kind, dataset, layout)
            items = labelled(records).items
            check_files(items, looked_for=are_looked_for(source))
            columns = columns_of(records, root_of(source, layout), place) if processes.is_first() else {}
            about = made_by.model_dump()
            writer = VectorWriter(place, columns, len(items), embedder.embedding_size, dtype, about)
        told, block = counting(advance, "embedding", len(items)), BLOCK * processes.count()
        with processes.entered_by_first(writer):
            for start in range(0, len(items), block):
                vectors = embed_as_configured(embedder, config, items[start : start + block], told)
                processes.from_first(partial(writer.append, vectors.numpy()))
            processes.from_first(writer.finish)
        counted = f"{len(items):,} {embedder.noun}"
        return Embedded(place, counted, embedder.embedding_size, any(record.label for record in records), notes)


def _configured(
    source: str, backbone: str | None, run: str | os.PathLike[str] | None, keys: dict[str, Any]
) -> TrainConfig:
    """Return the configuration to embed with. Raises InputError for keys that do not go together."""
    if (backbone is None) == (run is None):
        told = "both are given: choose one" if run is not None else "give --backbone NAME (of timm), or --run RUN"
        raise InputError(f"what embeds is a backbone or a run; {told}")
    for key in keys:
        if key not in EMBED_KEYS:
            allowed = ", ".join(EMBED_KEYS)
            raise InputError(f"{brief(key)} says nothing of how items are embedded; the keys are {allowed}")
        if run is not None and key in OF_NETWORK:
            raise InputError(f"{key} is for a backbone, and a run has its own network: leave it out")
    if run is None:
        if _kind_of(source, keys) == "vectors":  # else the backbone is refused as a key of others
            raise InputError(
                f"{shown(source)}: vectors, and a backbone embeds images or texts; give --run, a run on vectors"
            )
        return with_whole_path(make_config({"data": source, "backbone": backbone}, keys))
    given = {key: value for key, value in keys.items() if key in OF_READING or key in _OF_TABLE}
    if _OF_TABLE & keys.keys():
        given["dataset"] = keys.get("dataset", "own")  # of the source, whatever the run was on
    return make_config(RunFolder(user_path(run)).config_for(source).model_dump(), given)


def _kind_of(source: str, keys: dict[str, Any]) -> ItemKind:
    """Return of which kind the items are, by what is said of them, or by the source."""
    if keys.get("items") or keys.get("dataset", "own") != "own":
        kind: ItemKind = keys.get("items") or "images"
        return kind
    return kind_of(source, called(keys.get("columns")))


def _kind(embedder: Embedder, source: str, run: str | os.PathLike[str] | None, keys: dict[str, Any]) -> ItemKind:
    """Return of which kind the items are. Raises InputError where the embedder takes others."""
    kind = _kind_of(source, keys)
    if kind != embedder.noun:
        place = shown(str(run))
        way = f"; compose it with what made its vectors first: recallk compose {place} -o FOLDER"
        told = f"{shown(source)}: {kind}, and the model of {place} embeds {embedder.noun}"
        raise InputError(told + (way if embedder.noun == "vectors" else ""))
    return kind


def _embedder(config: TrainConfig, run: str | os.PathLike[str] | None) -> tuple[Embedder, MadeBy]:
    """Return what embeds, and what the file is to say of it."""
    if run is not None:
        embedder = saved.load(run)
        return embedder, of_run(embedder, run)
    if isinstance(config, TextTrainConfig):
        texts = build(TextSettings(**config.model_dump(include=set(TextSettings.model_fields)))).eval()
        return texts, of_backbone(texts, "pretrained")
    assert isinstance(config, ImageTrainConfig)
    alone = backbone_alone(ImageSettings(**config.model_dump(include=set(ImageSettings.model_fields))), config.weights)
    return alone, of_backbone(alone, config.weights)
