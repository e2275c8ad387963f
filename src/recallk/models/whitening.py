"""Whitening: descriptors are turned and scaled so that what they have in common no longer counts, then shortened."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recallk.core.arrays import ArrayLike, as_tensor, class_labels
from recallk.core.errors import InputError
from recallk.core.text import brief

Method = Literal["pca", "learned"]
"""How a whitening is fitted: on descriptors alone, or on pairs of descriptors that belong together."""

POWER = 0.5
"""Of the variances, by default; another is for PCA alone."""
_EPS = 1e-6  # added to lengths, as the authors of the method do
_FIRST_ADDED = 1e-10  # to the diagonal of a matrix that is not positive definite
_LARGEST = 1e100  # whose square is within range
_BLOCK = 8192  # rows that are in float64 at a time


@dataclass(frozen=True)
class Fitted:
    """How a whitening came about: `method`, `power`, the `scales` of the images, the `data`, and how many `items`."""

    method: Method
    power: float
    scales: tuple[float, ...]
    data: str
    items: int


@dataclass(frozen=True, eq=False)
class Whitening:
    """`projection (x - mean)`, then divided by its length (+1e-6); `mean (C,)`, `projection (D, C)`, float64.

    As a layer: weight `projection`, bias `-projection mean`. `fitted` says how it came about, where that is known.
    """

    mean: Tensor
    projection: Tensor
    fitted: Fitted | None = None

    @property
    def dimension(self) -> int:
        """How many numbers a whitened descriptor has."""
        return len(self.projection)

    @property
    def bias(self) -> Tensor:
        """Of the layer whose weight is the projection `(D,)`."""
        bias: Tensor = -self.projection @ self.mean
        return bias

    def __call__(self, X: ArrayLike) -> Tensor:  # noqa: N803
        """Return whitened descriptors `(N, D)` on the CPU, of the type of `X (N, C)`, computed in float64.

        Raises InputError for descriptors of another number of dimensions.
        """
        rows = _descriptors(X, finite=False)
        if rows.shape[1] != len(self.mean):
            raise InputError(f"descriptors of {rows.shape[1]} dimensions: the whitening was fitted to {len(self.mean)}")
        whitened: Tensor = (rows.to("cpu", torch.float64) - self.mean) @ self.projection.T
        lengths: Tensor = torch.linalg.vector_norm(whitened, dim=1, keepdim=True)
        return (whitened / (lengths + _EPS)).to(rows.dtype)


def pca_whitening(X: ArrayLike, dimension: int, power: float = POWER) -> Whitening:  # noqa: N803
    """Return the whitening by the variances of descriptors `X (N, C)`: their mean, and `diag(variances)^-power V'`.

    V are the eigenvectors of the covariance, the largest variance first; the first `dimension` are kept. A power of
    0.5 makes all variances equal, a smaller one less so. Where there is no variance in a direction (fewer items than
    dimensions, or dimensions that depend on each other), its row is zero. Computed in float64.

    Raises InputError where X is no finite `(N, C)`, all its rows are alike, or it has fewer than `dimension` columns.

    Source: cirtorch (F. Radenović), `pcawhitenlearn`; the power as in dirtorch (J. Revaud).

    >>> X = torch.tensor([[3.0, 0, 1], [-3, 0, 1], [0, 1, 1], [0, -1, 1]])
    >>> pca_whitening(X, 2)(X).round(decimals=3) + 0.0
    tensor([[ 1.,  0.],
            [-1.,  0.],
            [ 0.,  1.],
            [ 0., -1.]])

    """
    rows = _fitting(X, dimension)
    if not 0 <= power <= 1:  # false for NaN too
        raise InputError(f"power={brief(power)}: a number from 0 (no scaling) to 1; usual are 0.5 and 0.25")
    mean = _sum(block.sum(0) for block in _blocks(rows)) / len(rows)
    covariance = _sum(part.T @ part for part in (block - mean for block in _blocks(rows))) / len(rows)
    variances, directions = _largest_first(covariance)
    there = variances > variances[0] * len(variances) * torch.finfo(torch.float64).eps
    scale = torch.where(there, variances.where(there, torch.ones(())).pow(-power), 0.0)
    return Whitening(mean, (scale[:, None] * directions.T)[:dimension].contiguous())


def learned_whitening(
    X: ArrayLike,  # noqa: N803
    queries: ArrayLike,
    positives: ArrayLike,
    dimension: int,
) -> Whitening:
    """Return the whitening learned from pairs of rows of descriptors `X (N, C)` that belong together.

    It makes the differences within the pairs `(queries[i], positives[i])`, row numbers, alike in all directions; of
    these, the first `dimension` are kept in which all descriptors differ most. Where the differences do not span all
    directions, 1e-10 is added to the diagonal of their covariance, then ten times as much, until it is positive
    definite. Computed in float64.

    Raises InputError where X is no finite `(N, C)`, all its rows are alike, it has fewer than `dimension` columns, or
    the pairs are none of its rows.

    Source: cirtorch (F. Radenović), `whitenlearn`; after Mikolajczyk and Matas, ICCV 2007.

    >>> X = torch.tensor([[3.0, 0, 1], [3, 0.2, 1], [-3, 0, 1], [-2.8, 0, 1.1], [0, 2, 1], [0.1, 2, 1]])
    >>> whitening = learned_whitening(X, [0, 2, 4], [1, 3, 5], dimension=2)
    >>> whitening(X).shape, whitening.projection.shape
    (torch.Size([6, 2]), torch.Size([2, 3]))

    """
    rows = _fitting(X, dimension)
    first, second = class_labels(queries, "queries"), class_labels(positives, "positives")
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise InputError(
            f"queries {tuple(first.shape)} and positives {tuple(second.shape)}: row numbers of as many, at least one"
        )
    for name, numbers in (("queries", first), ("positives", second)):
        if int(numbers.min()) < 0 or int(numbers.max()) >= len(rows):
            raise InputError(f"{name} from {int(numbers.min())} to {int(numbers.max())}: there are {len(rows)} rows")
    first, second = first.to(rows.device), second.to(rows.device)
    mean = _sum(rows[part].to("cpu", torch.float64).sum(0) for part in torch.split(first, _BLOCK)) / len(first)
    within = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for one, other in zip(torch.split(first, _BLOCK), torch.split(second, _BLOCK), strict=True):
        differences = rows[one].to("cpu", torch.float64) - rows[other].to("cpu", torch.float64)
        within += differences.T @ differences / len(first)
    root = _cholesky(within)
    equalised = torch.linalg.solve_triangular(root, torch.eye(len(root), dtype=torch.float64), upper=False)
    spread = _sum(part.T @ part for part in ((block - mean) @ equalised.T for block in _blocks(rows)))
    _, directions = _largest_first(spread)
    return Whitening(mean, (directions.T @ equalised)[:dimension].contiguous())


def pairs_of_classes(labels: ArrayLike) -> tuple[Tensor, Tensor]:
    """Return pairs of items that belong together, numbers of `labels (N,)`: in each class, all that are neighbours.

    >>> pairs_of_classes([7, 8, 7, 9, 7])
    (tensor([0, 2]), tensor([2, 4]))

    """
    classes = class_labels(labels)
    order = classes.argsort(stable=True)
    first, second = order[:-1], order[1:]
    alike = classes[first] == classes[second]
    return first[alike], second[alike]


def fit_whitening(
    method: Method,
    X: ArrayLike,  # noqa: N803
    labels: ArrayLike,
    dimension: int,
    power: float = POWER,
) -> Whitening:
    """Return the whitening of descriptors `X (N, C)` of classes `labels (N,)`; the classes are for the learned one.

    Its pairs are `pairs_of_classes`. Raises InputError as the two, where no class has two items, and for a power with
    the learned one.
    """
    if method == "pca":
        return pca_whitening(X, dimension, power)
    if power != POWER:
        raise InputError(f"power={brief(power)} is for the method pca; the learned whitening has none")
    queries, positives = pairs_of_classes(labels)
    if not len(queries):
        raise InputError("no class has two items: there is no pair to learn a whitening from; take the method pca")
    return learned_whitening(X, queries, positives, dimension)


def _fitting(X: ArrayLike, dimension: int) -> Tensor:  # noqa: N803
    rows = _descriptors(X)
    if isinstance(dimension, bool) or not isinstance(dimension, int) or not 1 <= dimension <= rows.shape[1]:
        raise InputError(f"dimension={brief(dimension)}: from 1 to {rows.shape[1]}, that of the descriptors")
    if bool((rows == rows[0]).all()):
        raise InputError(f"{len(rows)} descriptors, all alike: there is nothing to whiten; give different items")
    return rows


def _descriptors(X: ArrayLike, finite: bool = True) -> Tensor:  # noqa: N803
    rows = as_tensor(X, "descriptors", "numbers are needed").detach()
    if rows.ndim != 2 or not rows.is_floating_point() or (finite and not rows.numel()):
        kind = str(rows.dtype).removeprefix("torch.")
        raise InputError(f"descriptors are {kind} {tuple(rows.shape)}: floating-point (items, dimensions) are needed")
    if finite and not float(rows.abs().max()) <= _LARGEST:  # false for NaN too
        raise InputError("descriptors hold NaN, infinity or numbers beyond 1e100: a whitening cannot be fitted to them")
    return rows


def _blocks(rows: Tensor) -> Iterable[Tensor]:
    """Yield the rows in float64, some at a time: in whole they would take twice the memory."""
    return (block.to("cpu", torch.float64) for block in torch.split(rows, _BLOCK))


def _sum(parts: Iterable[Tensor]) -> Tensor:
    total: Tensor | None = None
    for part in parts:
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _largest_first(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors (columns), whose largest entry is positive, as their signs are arbitrary."""
    values, vectors = torch.linalg.eigh(matrix)
    values, vectors = values.flip(0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return values, vectors * torch.where(largest < 0, -1.0, 1.0)


def _cholesky(matrix: Tensor) -> Tensor:
    added, unit = 0.0, torch.eye(len(matrix), dtype=matrix.dtype)
    while True:
        root: Tensor
        root, failed = torch.linalg.cholesky_ex(matrix + added * unit)
        if not failed:
            return root
        added = added * 10 or _FIRST_ADDED
