"""The loss of a batch: settings are checked, an implementation is chosen."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, checked_ks, normalised
from recallk.core.errors import InputError
from recallk.core.precision import full_precision
from recallk.core.relevance import Positives
from recallk.core.text import brief
from recallk.loss import definition
from recallk.loss.batch import Batch, checked_positives
from recallk.loss.kernels import streamed
from recallk.loss.kernels.choice import choose
from recallk.loss.kernels.unit import unit_rows
from recallk.loss.mixup import Relatives, checked_mix, labels_of_all
from recallk.loss.temperatures import check_range, checked_temperatures

Implementation = Literal["auto", "definition", "tiled", "fused"]
Reduction = Literal["mean", "none"]


def loss_of_batch(
    batch: Batch,
    *,
    ks: Sequence[int],
    rank_temperature: float,
    recall_temperature: float | Sequence[float],
    query_in_database: bool,
    mix_pairs: ArrayLike | None,
    mix_alpha: ArrayLike | None,
    mix_relatives: Relatives,
    implementation: Implementation,
    reduction: Reduction = "mean",
    normalized: bool = False,
    share: tuple[int, int] = streamed.WHOLE,
) -> Tensor:
    """Return the loss as `recall_at_k_loss` does, or the part of it that a `share` of the queries makes."""
    ks = checked_ks(ks)
    rank_temperature, recall_temperatures = checked_temperatures(rank_temperature, recall_temperature, len(ks))
    one_of("implementation", implementation, Implementation)
    one_of("reduction", reduction, Reduction)
    one_of("mix_relatives", mix_relatives, Relatives)
    for name, flag in (("query_in_database", query_in_database), ("normalized", normalized)):
        if not isinstance(flag, bool):
            raise InputError(f"{name}={brief(flag)}: True or False is needed")
    if (mix_pairs is None) != (mix_alpha is None):
        raise InputError("mix_pairs and mix_alpha go together: give both or neither")
    queries, labels, database = batch.queries, batch.labels, batch.gallery
    mix = None
    if mix_pairs is not None and mix_alpha is not None:
        if database is not None:
            raise InputError("similarity mixup mixes a batch with itself: leave out the gallery or the mixup")
        if batch.positives is not None:
            raise InputError("similarity mixup mixes items of one class: give labels, or leave out positives")
        mix = checked_mix(mix_pairs, mix_alpha, labels)
    positives = checked_positives(batch)
    wide = torch.float64 if queries.dtype == torch.float64 else torch.float32
    check_range(rank_temperature, recall_temperatures, wide)

    with full_precision(queries.device):  # ranks at temperature 0.01 need all the digits
        queries, database = queries.to(wide), None if database is None else database.to(wide)
        if not normalized:
            unit = normalised if implementation == "definition" else unit_rows
            queries, database = unit(queries), None if database is None else unit(database)
        settings: dict[str, Any] = {
            "ks": ks,
            "rank_temperature": rank_temperature,
            "recall_temperatures": recall_temperatures,
            "query_in_database": query_in_database,
            "mix_pairs": None if mix is None else mix[0],
            "mix_alpha": None if mix is None else mix[1].to(queries),
            "exclude_relatives": mix_relatives == "exclude",
        }
        if implementation == "definition":
            settings |= {"query_rows": positives.query_rows, "positives": batch.positives}
            losses = definition.losses(queries, labels, database, batch.gallery_labels, **settings)
            return losses.mean() if reduction == "mean" else losses
        if mix is not None:
            positives = Positives.from_labels(labels_of_all(labels, mix[0]))
        objective = streamed.objective_of(queries, positives, share=share, **settings)
        kernel = choose(implementation, queries, database, objective)
        return streamed.loss(queries, database, objective, kernel, mean=reduction == "mean")


def one_of(name: str, value: str, allowed: object) -> None:
    """Raise InputError for a value that is none of a literal's."""
    if value not in get_args(allowed):
        raise InputError(f"{name}={brief(value)} is unknown: choose one of {', '.join(map(repr, get_args(allowed)))}")
