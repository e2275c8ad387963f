"""Which embedder has made vectors: what their file says of it, and the way back to it."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.seeds import mixed_seed
from recallk.core.text import one_line, shown
from recallk.data.findings import Finding
from recallk.data.vectors import Vector
from recallk.models.build import build
from recallk.models.checksum import checksum
from recallk.models.composed import ComposedEmbedder
from recallk.models.embedder import Embedder
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.saved import load, save_new
from recallk.models.settings import ImageSettings, TextSettings
from recallk.models.vector_embedder import VectorEmbedder

_WHERE = frozenset({"format", "weights", "path"})
"""What is said of where weights are: the same ones are known by their checksum."""
_BY_HAND = "or compose it yourself: recallk.load(run).after(embedder)"


class MadeBy(BaseModel):
    """What is said of the embedder that made vectors.

    `weights` are "pretrained" ones of timm or of sentence-transformers, "none" (random ones, always the same), those of
    a "file", or a "run", whose folder then has the settings too; the last two are at `path`. The `checksum` is that of
    all weights, and of the whitening, where the embedder is `whitened`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    items: str
    settings: dict[str, Any]
    whitened: bool
    weights: Literal["pretrained", "none", "file", "run"]
    path: Annotated[str | None, Field(min_length=1)] = None
    checksum: str


def backbone_alone(settings: ImageSettings, weights: str) -> ImageEmbedder:
    """Return what a backbone gives of images: pooled features, divided by their length.

    `weights` as in `build`; random ones are always the same. Raises InputError as `build`.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(mixed_seed(0))
        # without a head the size would have to be known; the head comes last, so it changes no random weights
        embedder = build(settings.model_copy(update={"head": "linear"}), weights)
    assert isinstance(embedder, ImageEmbedder)
    bare = embedder.without_head()
    bare.eval()
    return bare


def of_backbone(embedder: Embedder, weights: str) -> MadeBy:
    """Say what a `backbone_alone` with these weights is, or a model of texts as it is fetched."""
    named = weights in ("pretrained", "none")
    return _described(embedder, weights if named else "file", None if named else weights)


def of_run(embedder: Embedder, run: str | os.PathLike[str]) -> MadeBy:
    """Say what the embedder in a run's folder is."""
    return _described(embedder, "run", run)


def _described(embedder: Embedder, weights: str, path: str | os.PathLike[str] | None) -> MadeBy:
    about = {
        "items": embedder.noun,
        "settings": embedder.settings.model_dump(mode="json", include=set(embedder.settings_type.model_fields)),
        "whitened": any(isinstance(part, Embedder) and part.whitening is not None for part in embedder.modules()),
        "weights": weights,
        "path": None if path is None else str(user_path(path).absolute()),
        "checksum": checksum(embedder),
    }
    return MadeBy.model_validate(about)


def origin(embedder: nn.Module) -> Mapping[str, Any] | None:
    """Return what made the vectors that an embedder was trained on; None where it takes others, or does not know."""
    while isinstance(embedder, ComposedEmbedder):
        embedder = embedder.first
    return embedder.made_by if isinstance(embedder, VectorEmbedder) else None


def are_alike(one: object, other: object) -> bool:
    """Return whether two files say that one embedder made their vectors, wherever its weights are, or both nothing."""
    return _without_where(one) == _without_where(other)


def _without_where(about: object) -> object:
    return {key: value for key, value in about.items() if key not in _WHERE} if isinstance(about, Mapping) else about


def notes_of_others(embedder: Embedder, items: Sequence[Any]) -> list[Finding]:
    """Return a note where vectors are of another embedder than those that a model was trained on, as both say."""
    known, first = origin(embedder), items[0] if len(items) else None
    if known is None or not isinstance(first, Vector) or first.table.made_by is None:
        return []
    if are_alike(known, first.table.made_by):
        return []
    told = "other vectors than the model was trained on: another embedder made them, so the numbers may mean nothing"
    return [Finding("other vectors", str(first.table.path), f"{shown(first.table.path.name)}: {told}")]


def compose(run: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> ComposedEmbedder:
    """Return one embedder for the items that a run's vectors were made of: what made them, then the run's head.

    The vectors' file has to say what made them, as those of `recallk embed` do. That embedder is built again, and its
    weights are compared by a checksum. `head.after(embedder)` composes a head with an embedder that is at hand.

    Into a new `folder` the whole is written as a model that needs nothing beside it: `recallk.load(folder)`.

    Raises InputError, one line, for a run on anything but vectors, where it is not known what made them, where the
    weights are no longer there, or others are, and for a folder that is there already.

    >>> import recallk
    >>> found = recallk.embed("photos", "photos.parquet", backbone="test_resnet", weights="none", image_size=32)
    >>> small = {"embedding_size": 16, "epochs": 1, "chunk_size": 64}
    >>> summary = recallk.train({"data": "photos.parquet", **small}, "runs/head")
    >>> embedder = compose("runs/head")
    >>> embedder.noun, embedder.embed(["query.png"]).shape
    ('images', torch.Size([1, 16]))

    """
    place = None if folder is None else user_path(folder)
    if place is not None and os.path.lexists(place):
        raise InputError(f"{place}: exists already; choose another folder")
    head = load(run)
    if not isinstance(head, VectorEmbedder):
        raise InputError(f"{shown(str(run))}: a model of {head.noun}; a run on vectors is composed with what made them")
    if head.made_by is None:
        raise InputError(
            f"{shown(str(run))}: its vectors' file does not say what made them, as those of recallk embed do; compose "
            f"it yourself: recallk.load(run).after(embedder)"
        )
    composed = head.after(_found_again(head.made_by, shown(str(run))))
    if place is not None:
        save_new(composed, place)
    return composed


def _found_again(about: Mapping[str, Any], run: str) -> Embedder:
    """Return the embedder that made the vectors of a run. Raises InputError where there is none with its checksum."""
    try:
        made_by = MadeBy(**about)
    except (ValidationError, TypeError):
        told = "what it says of the embedder that made its vectors is damaged, or of a later version of recallk"
        raise InputError(f"{run}: {told}; use that one, {_BY_HAND}") from None
    where = made_by.path or f"the {made_by.weights} weights of {made_by.settings.get('backbone')}"
    try:
        if made_by.weights == "run":
            embedder = load(made_by.path or "")
        elif made_by.items == "texts":
            embedder = build(TextSettings(**made_by.settings)).eval()
        else:
            weights = made_by.path if made_by.weights == "file" else made_by.weights
            embedder = backbone_alone(ImageSettings(**made_by.settings), weights or "")
    except (InputError, ValidationError) as error:
        raise InputError(
            f"{run}: what made its vectors is not there ({one_line(error)}); put {where} back, {_BY_HAND}"
        ) from None
    if checksum(embedder) != made_by.checksum:
        verb = "are" if made_by.path is None else "is"
        told = f"{where} {verb} not what made its vectors (another checksum)"
        raise InputError(f"{run}: {told}; put that back, embed and train anew, {_BY_HAND}")
    return embedder
