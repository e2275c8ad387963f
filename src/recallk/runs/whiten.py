"""A whitening for a run's model, fitted to given data once the model is trained."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from recallk.core import processes
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import joined
from recallk.core.lock import locked
from recallk.core.progress import Advance, counting, silent
from recallk.core.text import brief, shown
from recallk.data.findings import Finding
from recallk.data.item import Item
from recallk.data.layout import Layout
from recallk.data.opening import check_files
from recallk.data.records import labelled
from recallk.data.source import read_items, read_to_fit
from recallk.models import saved
from recallk.models.files import WHITENING
from recallk.models.scales import ONE_SCALE, checked_scales
from recallk.models.whitening import POWER, Fitted, Method, Whitening, fit_whitening
from recallk.runs.embedding import embed_as_configured
from recallk.runs.folder import RunFolder


@dataclass(frozen=True)
class Whitened:
    """A whitening that a run's model now has, fitted to `items`, such as "1,200 images".

    `size` is the dimensions that an embedding had before. `notes` say what is worth knowing of the data.
    """

    whitening: Whitening
    items: str
    size: int
    notes: Sequence[Finding] = ()


def whiten(
    run: str | os.PathLike[str],
    data: str,
    *,
    method: Method = "pca",
    dimension: int | None = None,
    power: float = POWER,
    scales: Sequence[float] = ONE_SCALE,
    advance: Advance = silent,
) -> Whitened:
    """Fit a whitening to the model's embeddings of all items of `data`, and store it with the model of a run.

    `run` is the folder of a finished run, or of a model that `recallk.compose` has written. `recallk.load` brings the
    whitening back, and whatever embeds with the model then ends with it. It takes the place of an earlier one, and is
    fitted to embeddings without it.

    `data` is what `recallk.train` takes: a folder with a folder per class, a table, "glyphs" or "places"; for the
    method pca also a folder of images without classes. The method learned takes items of one class as pairs that
    belong together. `dimension` is that of the embeddings by default, `power` is for pca: `models.whitening`. Images
    are embedded at each of the `scales`, which should be those of later use. In processes that torchrun or srun has
    started, each embeds a share of the items, the first one fits and stores, and all return the same.

    Raises InputError, one line, for whatever cannot be read, a folder without a model or in use, and a dimension that
    cannot be.

    >>> found = whiten("runs/letters", "photos", dimension=4)
    >>> found.items, found.whitening.dimension
    ('64 images', 4)
    >>> import recallk
    >>> recallk.load("runs/letters").embed(["query.png"]).shape
    torch.Size([1, 4])
    >>> remove_whitening("runs/letters")

    """
    if method not in get_args(Method):
        raise InputError(f"method={brief(method)}: one of {', '.join(get_args(Method))}")
    at_scales, folder = checked_scales(scales), RunFolder(user_path(run))
    config = folder.config_for(data)
    with joined(available_device(config.accelerator).type), processes.entered_by_first(locked(folder.path)):
        with processes.failing_together():
            embedder = saved.load_network(run)
            size = embedder.settings.embedding_size
            kept = size if dimension is None else dimension
            if isinstance(kept, bool) or not isinstance(kept, int) or not 1 <= kept <= size:
                raise InputError(f"dimension={brief(dimension)}: from 1 to {size}, that of the embeddings")
            if method == "learned" and power != POWER:
                raise InputError(f"power={brief(power)} is for the method pca; the learned whitening has none")
            advance("reading the data", 0, 0)
            items, labels, notes = _read(data, method, config.layout_of(data))
        told = counting(advance, "embedding", len(items))
        embeddings = embed_as_configured(embedder, config, items, told, scales=at_scales)

        def stored() -> Whitened:
            advance("fitting the whitening", 0, 0)
            found = fit_whitening(method, embeddings, labels, kept, power)
            fitted = Fitted(method, float(power), at_scales, shown(str(data)), len(items))
            embedder.whitening = replace(found, fitted=fitted)
            if (place := _model_in(folder)).exists():
                saved.save_whitening(embedder, place)
            else:  # a run of an earlier version, which has no folder for it
                saved.save(embedder, folder.model)
            return Whitened(embedder.whitening, f"{len(items):,} {embedder.noun}", size, notes)

        return processes.from_first(stored)


def remove_whitening(run: str | os.PathLike[str]) -> None:
    """Remove what `whiten` has stored. Raises InputError where there is nothing, or the folder is in use."""
    folder = RunFolder(user_path(run))
    if not folder.is_model_alone:
        folder.read_config()

    def removed() -> None:
        with locked(folder.path):
            if not (_model_in(folder) / WHITENING).exists():
                raise InputError(f"{folder.path}: its model has no whitening that was fitted after training")
            saved.remove_whitening(_model_in(folder))

    with joined("cpu"):
        processes.from_first(removed)


def _model_in(folder: RunFolder) -> Path:
    return folder.path if folder.is_model_alone else folder.model


def _read(data: str, method: Method, layout: Layout) -> tuple[Sequence[Item], NDArray[np.int64], Sequence[Finding]]:
    """Return all items, and their classes where they are needed, else one for all."""
    if method == "pca":
        items, notes = read_items(data, layout)
        labels = np.zeros(len(items), dtype=np.int64)
    else:
        records, notes = read_to_fit(data, layout)
        with_classes = labelled(records)
        if with_classes.label_sets is not None:
            raise InputError(f"{data}: items have several labels, and method={method} learns from one each: use pca")
        items, labels = with_classes.items, with_classes.labels
    check_files(items)
    return items, labels, notes
