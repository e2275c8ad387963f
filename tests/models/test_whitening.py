"""Whitening is the authors' own, and that of a second implementation from the formulas; singular cases are finite.

`authors_whitening.npz`: descriptors, pairs, and the Gram matrices of the first 40 whitened and normalised rows (so that
signs do not matter), computed by the code of the methods' authors (cirtorch) in float64.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recallk import InputError
from recallk.models.whitening import (
    Whitening,
    fit_whitening,
    learned_whitening,
    pairs_of_classes,
    pca_whitening,
)

GOLDEN = np.load(Path(__file__).with_name("authors_whitening.npz"))
X: NDArray[np.float64] = GOLDEN["X"]
QUERIES, POSITIVES = GOLDEN["queries"], GOLDEN["positives"]
RANDOM = np.random.default_rng(0)
FITS: dict[str, Callable[[NDArray[Any], int], Whitening]] = {
    "pca": pca_whitening,
    "learned": lambda rows, d: learned_whitening(rows, *pairs_of_classes(np.arange(len(rows)) // 2), d),
}
CASES: dict[str, NDArray[np.float64]] = {
    "fewer items than dimensions": RANDOM.standard_normal((6, 20)),
    "dimensions that depend on each other": RANDOM.standard_normal((60, 4)) @ RANDOM.standard_normal((4, 20)),
    "dimensions without variance": RANDOM.standard_normal((60, 20)) * (np.arange(20) < 9),
    "pairs alike": np.repeat(RANDOM.standard_normal((30, 20)), 2, axis=0),
    "tiny": RANDOM.standard_normal((60, 20)) * 1e-12,
    "huge": RANDOM.standard_normal((60, 20)) * 1e12,
}


def twin_of_pca(rows: NDArray[np.float64], dimension: int, power: float = 0.5) -> NDArray[np.float64]:
    """Return the whitened rows, by loops over the eigenvectors."""
    mean = rows.mean(0)
    covariance = np.mean([np.outer(row - mean, row - mean) for row in rows], axis=0)
    values, vectors = np.linalg.eigh(covariance)
    order = sorted(range(len(values)), key=lambda i: -values[i])[:dimension]
    whitened = [[values[i] ** -power * (vectors[:, i] @ (row - mean)) for i in order] for row in rows]
    return np.array([row / (np.sqrt(np.dot(row, row)) + 1e-6) for row in whitened])


def twin_of_learned(
    rows: NDArray[np.float64], pairs: list[tuple[int, int]], dimension: int, added: float = 0
) -> NDArray[np.float64]:
    """Return the whitened rows, with `added` on the diagonal."""
    mean = np.mean([rows[q] for q, _ in pairs], axis=0)
    within = np.mean([np.outer(rows[q] - rows[p], rows[q] - rows[p]) for q, p in pairs], axis=0)
    first = np.linalg.inv(np.linalg.cholesky(within + added * np.eye(len(within))))
    turned = [first @ (row - mean) for row in rows]
    values, vectors = np.linalg.eigh(np.sum([np.outer(z, z) for z in turned], axis=0))
    order = sorted(range(len(values)), key=lambda i: -values[i])[:dimension]
    whitened = [[vectors[:, i] @ z for i in order] for z in turned]
    return np.array([row / (np.sqrt(np.dot(row, row)) + 1e-6) for row in whitened])


def gram(rows: Any) -> NDArray[np.float64]:
    array: NDArray[np.float64] = np.asarray(rows)
    return array @ array.T


@pytest.mark.parametrize("dimension", [24, 8])
def test_the_authors_numbers(dimension: int) -> None:
    for name, whitening in (
        ("pca", pca_whitening(X, dimension)),
        ("learned", learned_whitening(X, QUERIES, POSITIVES, dimension)),
    ):
        whitened = whitening(X[:40])
        assert whitened.shape == (40, dimension)
        np.testing.assert_allclose(gram(whitened), GOLDEN[f"{name}_gram_{dimension}"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("dimension", [1, 8, 24])
@pytest.mark.parametrize("power", [0.5, 0.25, 0.0])
def test_pca_is_its_twin(dimension: int, power: float) -> None:
    found = pca_whitening(X, dimension, power)(X)
    np.testing.assert_allclose(gram(found), gram(twin_of_pca(X, dimension, power)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dimension", [1, 8, 24])
def test_learned_is_its_twin(dimension: int) -> None:
    pairs = list(zip(QUERIES.tolist(), POSITIVES.tolist(), strict=True))
    found = learned_whitening(X, QUERIES, POSITIVES, dimension)(X)
    np.testing.assert_allclose(gram(found), gram(twin_of_learned(X, pairs, dimension)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rows", [9000, 3])
def test_blocks_of_rows_do_not_change_it(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [pca_whitening(X, 8)(X), learned_whitening(X, QUERIES, POSITIVES, 8)(X)]
    monkeypatch.setattr("recallk.models.whitening._BLOCK", rows)
    after = [pca_whitening(X, 8)(X), learned_whitening(X, QUERIES, POSITIVES, 8)(X)]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_a_power_of_one_half_makes_all_variances_one() -> None:
    whitening = pca_whitening(X, 24)
    whitened = (torch.from_numpy(X) - whitening.mean) @ whitening.projection.T
    covariance = whitened.T @ whitened / len(X)
    torch.testing.assert_close(covariance, torch.eye(24, dtype=torch.float64), rtol=0, atol=1e-9)


def test_learned_makes_the_differences_within_pairs_alike() -> None:
    whitening = learned_whitening(X, QUERIES, POSITIVES, 24)
    differences = torch.from_numpy(X[QUERIES] - X[POSITIVES]) @ whitening.projection.T
    within = differences.T @ differences / len(QUERIES)
    torch.testing.assert_close(within, torch.eye(24, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", FITS)
def test_a_singular_case_is_finite_and_always_the_same(method: str, case: str) -> None:
    rows = CASES[case]
    whitening, again = FITS[method](rows, 15), FITS[method](rows.copy(), 15)
    assert torch.equal(whitening.mean, again.mean)
    assert torch.equal(whitening.projection, again.projection)
    assert bool(torch.isfinite(whitening.projection).all())
    found = whitening(rows)
    assert found.shape == (len(rows), 15)
    assert bool(torch.isfinite(found).all())
    assert bool((found.norm(dim=1) > 0.9).all())


@pytest.mark.parametrize(
    ("case", "rank"), [("fewer items than dimensions", 5), ("dimensions that depend on each other", 4)]
)
def test_a_direction_without_variance_is_a_row_of_zeros(case: str, rank: int) -> None:
    projection = pca_whitening(CASES[case], 20).projection
    assert [bool(row.any()) for row in projection] == [True] * rank + [False] * (20 - rank)


def test_so_little_is_added_to_the_diagonal_as_makes_it_positive_definite() -> None:
    rows, pairs = CASES["pairs alike"], [(2 * i, 2 * i + 1) for i in range(30)]
    found = FITS["learned"](rows, 20)(rows)
    np.testing.assert_allclose(gram(found), gram(twin_of_learned(rows, pairs, 20, added=1e-10)), rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", FITS)
def test_the_largest_entry_of_a_direction_is_positive(method: str) -> None:
    projection = FITS[method](X, 24).projection
    mirrored = FITS[method](-X, 24).projection
    torch.testing.assert_close(projection, mirrored, rtol=0, atol=1e-6)
    if method == "pca":
        assert bool((projection.gather(1, projection.abs().argmax(1, keepdim=True)) > 0).all())


@pytest.mark.parametrize("method", FITS)
def test_as_a_layer_it_gives_what_the_formula_gives(method: str) -> None:
    whitening = FITS[method](X, 8)
    layer = torch.nn.Linear(24, 8, dtype=torch.float64)
    layer.load_state_dict({"weight": whitening.projection, "bias": whitening.bias})
    with torch.no_grad():
        found = F.normalize(layer(torch.from_numpy(X)), dim=1)
    torch.testing.assert_close(found, whitening(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_descriptors_keep_their_type(kind: torch.dtype) -> None:
    rows = torch.from_numpy(X).to(kind)
    found = pca_whitening(rows, 8)(rows)
    assert found.dtype == kind
    torch.testing.assert_close(found.double(), pca_whitening(X, 8)(X), rtol=0, atol=0.02)
    assert pca_whitening(rows, 8)(rows[:0]).shape == (0, 8)


def test_pairs_are_neighbours_of_a_class() -> None:
    queries, positives = pairs_of_classes([3, 1, 3, 2, 3, 1])
    assert list(zip(queries.tolist(), positives.tolist(), strict=True)) == [(1, 5), (0, 2), (2, 4)]


def test_fitting_by_the_name_of_the_method() -> None:
    labels = np.arange(len(X)) // 2
    assert torch.equal(fit_whitening("pca", X, labels, 8, 0.25).projection, pca_whitening(X, 8, 0.25).projection)
    expected: Tensor = FITS["learned"](X, 8).projection
    assert torch.equal(fit_whitening("learned", X, labels, 8).projection, expected)
    with pytest.raises(InputError, match="no class has two items"):
        fit_whitening("learned", X, np.arange(len(X)), 8)
    with pytest.raises(InputError, match=r"power=0\.25 is for the method pca"):
        fit_whitening("learned", X, labels, 8, 0.25)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: pca_whitening(X, 25), "dimension=25: from 1 to 24"),
        (lambda: pca_whitening(X, 0), "dimension=0: from 1 to 24"),
        (lambda: learned_whitening(X, QUERIES, POSITIVES, 25), "dimension=25: from 1 to 24"),
        (lambda: pca_whitening(X, 8, float("nan")), "power=nan: a number from 0"),
        (lambda: pca_whitening(X, 8, 2), "power=2: a number from 0"),
        (lambda: pca_whitening(X[0], 8), "descriptors are float64 (24,)"),
        (lambda: pca_whitening(X.astype(int), 8), "descriptors are int64 (300, 24)"),
        (lambda: pca_whitening(X[:0], 8), "descriptors are float64 (0, 24)"),
        (lambda: pca_whitening(np.where(X > 0.1, np.nan, X), 8), "NaN, infinity or"),
        (lambda: FITS["learned"](X * 1e200, 8), "numbers beyond 1e100"),
        (lambda: pca_whitening(X[[3, 3, 3]], 8), "3 descriptors, all alike"),
        (lambda: learned_whitening(X, [], [], 8), "queries"),
        (lambda: learned_whitening(X, [0, 1], [2], 8), "queries (2,) and positives (1,)"),
        (lambda: learned_whitening(X, [0, 1], [2, 300], 8), "positives from 2 to 300: there are 300 rows"),
        (lambda: learned_whitening(X, [-1, 1], [2, 3], 8), "queries from -1 to 1: there are 300 rows"),
        (lambda: pca_whitening(X, 8)(X[:, :5]), "descriptors of 5 dimensions: the whitening was fitted to 24"),
    ],
)
def test_what_does_not_fit_is_one_line(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises(InputError) as caught:
        wrong()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
