"""Similarity mixup: virtual items between two items of a class, defined by their similarities alone."""

import logging
import math
from dataclasses import dataclass, field
from numbers import Integral
from random import Random
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from recallk.core.arrays import INTEGERS, ArrayLike, as_tensor, class_labels, type_name
from recallk.core.errors import InputError
from recallk.core.text import brief

Relatives = Literal["keep", "exclude"]

log = logging.getLogger("recallk")


@dataclass(frozen=True)
class SimilarityMixup:
    """Every unordered pair of a class's items gives one virtual item, with a fresh `alpha` in every step.

    Source: section 3.3 of the paper; there only for 3, 4 or 6 items a class, here for any number.
    A virtual item and its parents, and virtual items with a parent in common, are relatives: more alike than items
    of a class are by themselves. `relatives="keep"`, the paper's way, lets them be relevant to each other; "exclude"
    leaves them out for each other, both as positives and among the ranked items.

    Pairs grow with the square of a class. Not from the paper: of a class that has more than `pairs_per_class`, by
    default of one with 16 items or more, as many are drawn anew in every step, without replacement. A warning says so.

    >>> pairs, alpha = SimilarityMixup().draw([7, 7, 7, 8, 8])
    >>> pairs.tolist()
    [[0, 1], [0, 2], [1, 2], [3, 4]]
    >>> alpha.shape
    torch.Size([4])

    """

    relatives: Relatives = "keep"
    pairs_per_class: int = 105
    _warned: list[bool] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.relatives not in get_args(Relatives):
            raise InputError(f"relatives={brief(self.relatives)} is unknown: choose 'keep' or 'exclude'")
        most: Any = self.pairs_per_class
        if isinstance(most, bool) or not isinstance(most, Integral) or most < 1:
            raise InputError(f"pairs_per_class={brief(most)}: an integer of at least 1 is needed")

    def draw(self, labels: ArrayLike, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return `mix_pairs (V, 2)` int64 and `mix_alpha (V,)` float64 in [0, 1) for the `labels (B,)`.

        Drawn on the CPU, so that every device and every process gets the same numbers from one `generator`
        (PyTorch's global one by default).
        """
        labels = class_labels(labels)
        if labels.ndim != 1:
            raise InputError(f"labels have shape {tuple(labels.shape)}: (items,) is needed")
        pairs = self._pairs(labels, generator)
        alpha = torch.rand(len(pairs), generator=generator, dtype=torch.float64)
        return pairs, alpha.to(labels.device)

    def _pairs(self, labels: Tensor, generator: torch.Generator | None) -> Tensor:
        _, classes, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
        large = sizes * (sizes - 1) // 2 > self.pairs_per_class
        if not large.any():
            return pairs_of_a_class(labels)
        self._warn(int(sizes.max()))
        small = torch.nonzero(~large[classes])[:, 0]
        pairs = [small[pairs_of_a_class(labels[small])]]
        random = Random(int(torch.randint(2**63 - 1, (), generator=generator)))
        for each in torch.nonzero(large)[:, 0]:
            pairs.append(some_pairs(torch.nonzero(classes == each)[:, 0], self.pairs_per_class, random))
        return torch.cat(pairs)

    def _warn(self, items: int) -> None:
        if not self._warned:
            self._warned.append(True)
            log.warning(
                "similarity mixup: a class of %s items gives %s of its %s pairs in every step (pairs_per_class)",
                items,
                self.pairs_per_class,
                math.comb(items, 2),
            )


def pairs_of_a_class(labels: Tensor) -> Tensor:
    """Return all unordered pairs `(V, 2)` of different rows with one label, for `labels (B,)` in any order.

    >>> pairs_of_a_class(torch.tensor([7, 8, 7, 7])).tolist()
    [[0, 2], [0, 3], [2, 3]]

    """
    ordered, order = torch.sort(labels, stable=True)
    entry = torch.arange(len(labels), device=labels.device)
    stop = torch.searchsorted(ordered, ordered, right=True)
    partners = stop - entry - 1  # each item is paired with those after it in its class
    one = torch.repeat_interleave(entry, partners)
    before = torch.cumsum(partners, 0) - partners
    other = one + 1 + torch.arange(len(one), device=labels.device) - before[one]
    return torch.stack([order[one], order[other]], dim=1)


def some_pairs(rows: Tensor, count: int, random: Random) -> Tensor:
    """Draw `count` different unordered pairs `(count, 2)` from the `rows (N,)` of a class, without listing them all."""
    # pair number v joins the j-th row with an earlier one: the first number of the j-th is 0 + 1 + ... + (j - 1)
    numbers = sorted(random.sample(range(math.comb(len(rows), 2)), count))
    later = [(1 + math.isqrt(1 + 8 * number)) // 2 for number in numbers]
    earlier = [number - math.comb(j, 2) for number, j in zip(numbers, later, strict=True)]
    return rows[torch.tensor([earlier, later], device=rows.device).T]


def checked_mix(mix_pairs: ArrayLike, mix_alpha: ArrayLike, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs `(V, 2)` int64 and shares `(V,)` as a caller gives them. Raises InputError where they do not fit.

    Both parents must be of one class of `labels (B,)`, the shares in [0, 1].
    """
    mix_pairs = as_tensor(mix_pairs, "mix_pairs", "integers are needed")
    mix_alpha = as_tensor(mix_alpha, "mix_alpha", "floating-point numbers are needed")
    if mix_pairs.dtype not in INTEGERS or mix_pairs.dtype == torch.uint8:
        raise InputError(f"mix_pairs are {type_name(mix_pairs)}: integers are needed, as int64")
    if not mix_alpha.is_floating_point():
        raise InputError(f"mix_alpha is {type_name(mix_alpha)}: floating-point numbers are needed")
    if mix_pairs.ndim != 2 or mix_pairs.shape[1] != 2 or mix_alpha.shape != (len(mix_pairs),):
        raise InputError(
            f"mix_pairs {tuple(mix_pairs.shape)}, mix_alpha {tuple(mix_alpha.shape)}: shapes (V, 2) and (V,) are needed"
        )
    mix_pairs, mix_alpha = mix_pairs.to(labels.device, torch.int64), mix_alpha.detach()
    if len(mix_pairs) == 0:
        return mix_pairs, mix_alpha
    if mix_pairs.min() < 0 or mix_pairs.max() >= len(labels):
        raise InputError(f"mix_pairs name rows outside the batch: rows 0 to {len(labels) - 1} are there")
    if not torch.equal(labels[mix_pairs[:, 0]], labels[mix_pairs[:, 1]]):
        raise InputError("mix_pairs join items of different classes: both parents need one label")
    if not ((mix_alpha >= 0) & (mix_alpha <= 1)).all():
        raise InputError("mix_alpha is outside [0, 1]")
    return mix_pairs, mix_alpha


def labels_of_all(labels: Tensor, pairs: Tensor) -> Tensor:
    """Return the labels `(B + V,)` of real and virtual items, from those of the real ones `(B,)` and `pairs (V, 2)`."""
    return torch.cat([labels, labels[pairs[:, 0]]])
