"""Exact search against sorting every row of the similarity matrix."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recallk.core.errors import InputError
from recallk.retrieval import exact
from recallk.retrieval.exact import Neighbours, blocks, inner_products, nearest


def unit_rows(count: int, dimensions: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, dimensions, generator=generator), dim=1)


def exact_rows(count: int, seed: int) -> Tensor:
    """Rows whose inner products are exact in float32, with many duplicates and ties."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 2, (count, 4), generator=generator) - 0.5).float()


def check_exact(found: Neighbours, queries: Tensor, gallery: Tensor, k: int, exclude: Tensor | None) -> None:
    """Compare with the sorted similarities, query by query, equal ones by index."""
    assert found.similarities.dtype == torch.float32
    assert found.indexes.dtype == torch.int64
    depth = min(k, len(gallery) - (exclude is not None))
    assert found.similarities.shape == found.indexes.shape == (len(queries), depth)
    for i in range(len(queries)):
        scores = (queries[i].double() @ gallery.double().T).numpy()
        candidates = [j for j in range(len(gallery)) if exclude is None or j != int(exclude[i])]
        best = sorted(candidates, key=lambda j: (-scores[j], j))[:depth]
        assert found.indexes[i].tolist() == best
        np.testing.assert_allclose(found.similarities[i], scores[best], atol=1e-6)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_equals_sorting(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 10_000))
    size, k = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 50))
    apart, tied = data.draw(st.booleans()), data.draw(st.booleans())
    gallery = exact_rows(size, seed) if tied else unit_rows(size, 5, seed)
    queries = gallery
    if apart:
        count = data.draw(st.integers(0, 30))
        queries = exact_rows(count, seed + 1) if tied else unit_rows(count, 5, seed + 1)
    exclude = None
    if data.draw(st.booleans()):
        exclude = torch.tensor(
            data.draw(st.lists(st.integers(-1, size - 1), min_size=len(queries), max_size=len(queries))),
            dtype=torch.int64,
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "SCORES_AT_ONCE", data.draw(st.sampled_from([1, 100, 2**24])))
        found = nearest(queries, gallery, k, exclude=exclude)
    check_exact(found, queries, gallery, k, exclude)


@pytest.mark.parametrize("k", [1, 2, 7, 150, 700])
def test_a_smaller_k_gives_the_first_columns(k: int) -> None:
    """Also among ties, and on both sides of the sizes at which `topk` changes its method."""
    gallery = exact_rows(900, 0)
    whole = nearest(gallery[:30], gallery, 900)
    assert nearest(gallery[:30], gallery, k).indexes.equal(whole.indexes[:, :k])


def test_excludes_by_index_not_by_place() -> None:
    rows = unit_rows(1, 8, 0).expand(5, 8).contiguous()
    found = nearest(rows, rows, 4, exclude=torch.arange(5))
    assert found.indexes.tolist() == [[j for j in range(5) if j != i] for i in range(5)]
    # the own row is not even among the k + 1 first
    assert nearest(rows, rows, 1, exclude=torch.arange(5)).indexes[:, 0].tolist() == [1, 0, 0, 0, 0]


def test_duplicates_come_by_index_whatever_the_size() -> None:
    """Equal rows have equal products, wherever in a block the product is computed."""
    for size, dimensions in ((63, 3), (130, 33), (1001, 128), (777, 512)):
        some = unit_rows(17, dimensions, size)
        gallery = some[torch.arange(size) % 17]
        order = nearest(some, gallery, size).indexes
        first = torch.arange(17)[:, None] + 17 * torch.arange(size // 17)
        assert order[:, : size // 17].equal(first)


def test_nothing_is_left_of_a_gallery_of_one() -> None:
    row = unit_rows(1, 3, 0)
    assert nearest(row, row, 3, exclude=torch.tensor([0])).indexes.shape == (1, 0)


@pytest.mark.parametrize("k", [1500, 4000])
def test_k_in_the_thousands(k: int) -> None:
    """Of whole numbers: in whichever order a product is summed up, it is the same."""
    gallery = torch.randint(-8, 9, (3000, 64), generator=torch.Generator().manual_seed(0)).float()
    exclude = torch.arange(20)
    found = nearest(gallery[:20], gallery, k, exclude=exclude)
    check_exact(found, gallery[:20], gallery, k, exclude)


def test_products_keep_full_precision_under_autocast_and_tf32() -> None:
    queries, gallery = unit_rows(64, 256, 0), unit_rows(64, 256, 1)
    expected = queries.double() @ gallery.double().T
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert (queries @ gallery.T).dtype == torch.bfloat16, "vacuous without"
            products = inner_products(queries, gallery)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert products.dtype == torch.float32
    torch.testing.assert_close(products.double(), expected, atol=1e-6, rtol=0)


def test_blocks_cover_every_row_once() -> None:
    assert [(b.start, b.stop) for b in blocks(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(blocks(0, 3)) == []


ROWS = unit_rows(4, 3, 0)
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "1-D": (lambda: nearest(ROWS[0], ROWS, 1), r"queries must be 2-D float32, got torch.float32 of shape \(3,\)"),
    "float64": (lambda: nearest(ROWS, ROWS.double(), 1), "gallery must be 2-D float32, got torch.float64"),
    "dimensions": (lambda: nearest(ROWS, ROWS[:, :2], 1), "queries have 3 dimensions but the gallery has 2"),
    "empty": (lambda: nearest(ROWS, ROWS[:0], 1), "the gallery is empty"),
    "k": (lambda: nearest(ROWS, ROWS, 0), "k must be at least 1, got 0"),
    "k as text": (lambda: nearest(ROWS, ROWS, "3"), "k must be a whole number, got '3'"),  # type: ignore[arg-type]
    "no k": (lambda: nearest(ROWS, ROWS, None), "k must be a whole number, got None"),  # type: ignore[arg-type]
    "NaN": (lambda: nearest(ROWS, ROWS * torch.nan, 1), "NaN or infinite"),
    "exclude's length": (
        lambda: nearest(ROWS, ROWS, 1, exclude=torch.zeros(3, dtype=torch.int64)),
        r"one int64 for each of the 4 queries, got torch.int64 of shape \(3,\)",
    ),
    "exclude's type": (lambda: nearest(ROWS, ROWS, 1, exclude=torch.zeros(4)), "got torch.float32"),
    "exclude's range": (lambda: nearest(ROWS, ROWS, 1, exclude=torch.arange(4) + 1), r"must lie in -1 \.\. 3"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu() -> None:
    queries, gallery = unit_rows(300, 64, 0), unit_rows(5000, 64, 1)
    on_cpu, on_gpu = nearest(queries, gallery, 50), nearest(queries.cuda(), gallery.cuda(), 50)
    assert on_gpu.indexes.device.type == "cpu"
    torch.testing.assert_close(on_gpu.similarities, on_cpu.similarities, atol=1e-6, rtol=0)
