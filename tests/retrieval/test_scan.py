"""A first look at the stored numbers, then a second: against sorting all similarities in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recallk import InputError
from recallk.retrieval import scan
from recallk.retrieval.codes import encoded
from recallk.retrieval.scan import StoredRows, nearest_rows


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of unit length; those of zeros as they are."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def by_sorting(
    queries: torch.Tensor, rows: NDArray[np.float64], k: int, allowed: NDArray[np.bool_], exclude: list[int]
) -> tuple[list[list[int]], list[list[float]]]:
    """The first k rows of each query, all similarities sorted; equal ones (float32) by their rows."""
    found = []
    for query, own in zip(queries.double().numpy(), exclude, strict=True):
        similarities = (rows @ query).astype(np.float32)
        order = np.lexsort((np.arange(len(rows)), -similarities))
        found.append([(int(row), float(similarities[row])) for row in order if allowed[row] and row != own])
    depth = min([k, *map(len, found)])
    return [[row for row, _ in each[:depth]] for each in found], [[s for _, s in each[:depth]] for each in found]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_sorting(data: st.DataObject) -> None:
    """Clusters that are closer than float16 can tell apart, and equal rows, in parts of either kind of number."""
    random = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    size, dimensions = data.draw(st.integers(1, 200)), data.draw(st.sampled_from([1, 2, 7, 64]))
    closeness = data.draw(st.sampled_from([0.0, 1e-5, 1e-3, 1.0]))
    centres = random.standard_normal((3, dimensions))
    rows = unit(centres[random.integers(0, 3, size)] + closeness * random.standard_normal((size, dimensions)))
    ends = sorted(data.draw(st.lists(st.integers(1, size), max_size=3)))
    parts = []
    for start, end in zip([0, *ends], [*ends, size], strict=True):
        if start < end:
            parts.append(StoredRows(rows[start:end].astype(data.draw(st.sampled_from([np.float16, np.float32])))))
    stored = np.concatenate([part.vectors.astype(np.float64) for part in parts])
    count = data.draw(st.integers(1, 12))
    queries = torch.from_numpy(
        unit(centres[random.integers(0, 3, count)] + 0.1 * random.standard_normal((count, dimensions)))
    )
    allowed = random.random(size) < data.draw(st.sampled_from([0.2, 0.8, 1.1]))
    exclude = random.integers(-1, size, count).tolist()
    k = data.draw(st.integers(1, 30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_ROWS", data.draw(st.sampled_from([1, 13, 2**16])))
        patch.setattr(scan, "_AT_ONCE", data.draw(st.sampled_from([1, 64])))
        patch.setattr(scan, "_SECOND_ROWS", data.draw(st.sampled_from([1, 2**13])))
        found = nearest_rows(queries, parts, k, allowed=allowed, exclude=exclude)
    indexes, similarities = by_sorting(queries, stored, k, allowed, exclude)
    assert found.similarities.dtype == torch.float32
    # two ways to add up the same numbers may round differently: what is that close may change places
    torch.testing.assert_close(found.similarities, torch.tensor(similarities).reshape(count, -1), atol=2e-7, rtol=0)
    for own, right, query in zip(found.indexes.tolist(), indexes, queries.double().numpy(), strict=True):
        assert len(set(own)) == len(own)
        np.testing.assert_allclose(stored[own] @ query, stored[right] @ query, atol=2e-7)
        assert all(allowed[own])


def test_the_product_of_halves_is_off_by_no_more_than_is_taken_for_it() -> None:
    """What the first look relies on: PyTorch adds products of float16 up in float32."""
    for seed, dimensions in enumerate([1, 8, 63, 512, 4096]):
        random = np.random.default_rng(seed)
        rows = unit(np.abs(random.standard_normal((300, dimensions)))).astype(
            np.float16
        )  # all of one sign: no cancelling
        queries = torch.from_numpy(unit(np.abs(random.standard_normal((4, dimensions)))))
        part = StoredRows(rows)
        scores = scan._scores(queries, part)(slice(0, 300)).double().numpy()
        exact = rows.astype(np.float64) @ queries.double().numpy().T
        assert np.abs(scores - exact).max() <= scan._off(part)


def test_many_queries_find_what_each_finds_alone() -> None:
    random = np.random.default_rng(0)
    rows = unit(random.standard_normal((500, 32)))
    parts = [StoredRows(rows[:200].astype(np.float16)), StoredRows(rows[200:].astype(np.float16))]
    queries = torch.from_numpy(unit(random.standard_normal((90, 32))))
    together = nearest_rows(queries, parts, 7)
    for number in range(0, 90, 10):
        alone = nearest_rows(queries[number : number + 1], parts, 7)
        assert alone.indexes[0].tolist() == together.indexes[number].tolist()


def coded(rows: NDArray[Any]) -> StoredRows:
    halves = rows.astype(np.float16)
    return StoredRows(halves, *encoded(halves))


def test_codes_find_nearly_all_and_similarities_are_those_of_the_vectors() -> None:
    random = np.random.default_rng(0)
    rows = unit(random.standard_normal((5_000, 64)))
    parts = [coded(rows[:3_000]), coded(rows[3_000:])]
    queries = torch.from_numpy(unit(random.standard_normal((40, 64))))
    exact = nearest_rows(queries, [StoredRows(part.vectors) for part in parts], 10)
    found = nearest_rows(queries, parts, 10)
    shared = [len({*one} & {*other}) for one, other in zip(exact.indexes.tolist(), found.indexes.tolist(), strict=True)]
    assert np.mean(shared) >= 9.9
    for query, row, similarity in zip(queries, found.indexes[:, 0], found.similarities[:, 0], strict=True):
        assert float(similarity) == pytest.approx(float(query @ torch.from_numpy(rows[row].astype(np.float16)).float()))


def test_it_is_the_codes_that_are_looked_at_first_and_only_where_all_parts_have_them() -> None:
    rows = unit(np.random.default_rng(0).standard_normal((500, 8)))
    codes, scales = encoded(rows)
    wrong = StoredRows(rows, -codes, scales)  # what is nearest seems farthest
    queries = torch.from_numpy(rows[:3])
    assert not {0, 1, 2} & {*nearest_rows(queries, [wrong], 1).indexes[:, 0].tolist()}
    both = [wrong, StoredRows(rows[:1])]
    assert nearest_rows(queries, both, 1).indexes[:, 0].tolist() == [0, 1, 2]


def test_what_is_asked_for_is_checked_and_clipped() -> None:
    part = StoredRows(np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match="k must be at least 1"):
        nearest_rows(torch.eye(3), [part], 0)
    assert nearest_rows(torch.eye(3), [part], 9).indexes.shape == (3, 3)
    assert nearest_rows(torch.eye(3), [part], 9, exclude=[-1, 1, -1]).indexes.shape == (3, 2)
    nobody = np.zeros(3, np.bool_)
    assert nearest_rows(torch.eye(3), [part], 9, allowed=nobody).indexes.shape == (3, 0)
    assert nearest_rows(torch.empty(0, 3), [part], 2).indexes.shape == (0, 2)
