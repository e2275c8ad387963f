"""Search on disk against `nearest`, and against sorting every row of the similarity matrix."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.retrieval import parts as parts_module
from recallk.retrieval import stored
from recallk.retrieval.exact import inner_products, nearest
from recallk.retrieval.stored import nearest_stored, ranks_stored

Floats = NDArray[np.float32]


def cut(rows: Floats, data: st.DataObject) -> list[NDArray[Any]]:
    """The rows in parts of any size, each float16 or float32; what float16 rounds is rounded in the rows too."""
    ends = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    found: list[NDArray[Any]] = []
    for start, end in zip([0, *ends], [*ends, len(rows)], strict=True):
        kind = data.draw(st.sampled_from([np.float16, np.float32]))
        found.append(rows[start:end].astype(kind))
        rows[start:end] = found[-1]
    return found


def sorted_ranks(queries: Floats, rows: Floats) -> NDArray[np.int64]:
    """The rank (Q, G) of each item: a larger product, or an equal one and a lower index, comes before it."""
    products = queries.astype(np.float64) @ rows.astype(np.float64).T
    order = np.argsort(-products, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(rows))[None].repeat(len(queries), 0), axis=1)
    return ranks


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_sorting_and_nearest(data: st.DataObject) -> None:
    """Small whole numbers over eight: products are exact, and many are equal, within and across blocks and parts."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    size, dimensions = data.draw(st.integers(1, 60)), data.draw(st.sampled_from([1, 2, 5]))
    rows = (rng.integers(-2, 3, (size, dimensions)) / 8).astype(np.float32)
    queries = (rng.integers(-2, 3, (data.draw(st.integers(0, 7)), dimensions)) / 8).astype(np.float32)
    given_parts = cut(rows, data)
    items = [rng.permutation(size)[: rng.integers(0, size + 1)] for _ in queries]
    k = data.draw(st.integers(1, 70))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "_TILE", 1)
        patch.setattr(parts_module, "_BLOCK_ROWS", data.draw(st.sampled_from([1, 2, 7, 64])))
        patch.setattr(parts_module, "_STAGED_VALUES", data.draw(st.sampled_from([1, 9, 2**20])))
        patch.setattr(stored, "_SCORES_AT_ONCE", data.draw(st.sampled_from([1, 20, 2**22])))
        found = nearest_stored(torch.from_numpy(queries), given_parts, k)
        ranks = ranks_stored(torch.from_numpy(queries), given_parts, items)
    expected = nearest(torch.from_numpy(queries), torch.from_numpy(rows), k)
    assert found.indexes.dtype == torch.int64
    assert torch.equal(found.indexes, expected.indexes)
    assert torch.equal(found.similarities, expected.similarities)
    everything = sorted_ranks(queries, rows)
    for query, (wanted, ranked) in enumerate(zip(items, ranks, strict=True)):
        assert ranked.dtype == np.int64
        assert ranked.tolist() == everything[query, wanted].tolist()


@pytest.mark.parametrize("queries", [1, 2, 3, 33])
@pytest.mark.parametrize("dimensions", [3, 64, 257, 2048])
def test_ranks_are_those_of_the_search_itself(queries: int, dimensions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that are rounded, and equal rows at every place of blocks and parts: no item is ahead of its equals."""
    monkeypatch.setattr(parts_module, "_BLOCK_ROWS", 127)  # so 64, whole tiles
    rng = np.random.default_rng(dimensions)
    few = rng.normal(size=(40, dimensions)).astype(np.float32)
    few /= np.linalg.norm(few, axis=1, keepdims=True)
    rows = few.astype(np.float16)[rng.integers(0, 40, 500)]
    asked = torch.from_numpy(few[:queries])
    found = nearest_stored(asked, [rows[:100], rows[100:101], rows[101:]], 500)
    whole = ranks_stored(asked, [rows], [np.arange(500)] * queries)
    for query in range(queries):
        assert whole[query][found.indexes[query].numpy()].tolist() == list(range(500))
    assert bool((found.similarities[:, 1:] <= found.similarities[:, :-1]).all())
    for same in range(40):  # equal rows stand together, in the order of their index
        numbers = np.flatnonzero((rows == few[same].astype(np.float16)).all(1))
        for query in range(queries):
            assert whole[query][numbers].tolist() == list(
                range(whole[query][numbers[0]], whole[query][numbers[0]] + len(numbers))
            )
    some = [rng.permutation(500)[:30] for _ in range(queries)]
    for query, ranks in enumerate(ranks_stored(asked, [rows], some)):
        assert ranks.tolist() == whole[query][some[query]].tolist()
    products = found.similarities.double().numpy()
    exact = asked.double().numpy() @ rows.astype(np.float64).T
    np.testing.assert_allclose(products, np.take_along_axis(exact, found.indexes.numpy(), 1), atol=1e-6)


def test_an_item_never_comes_before_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a product is not the same number twice, as on some device."""

    def shaken(queries: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        return inner_products(queries, block) + 1e-5 * torch.rand(len(queries), len(block))

    monkeypatch.setattr(stored, "inner_products", shaken)
    torch.manual_seed(0)
    rows = np.eye(9, dtype=np.float32)
    for _ in range(20):
        assert ranks_stored(torch.eye(9), [rows], [[i] for i in range(9)]) == [[0]] * 9


def test_zero_has_one_sign() -> None:
    rows = np.array([[-0.0, 0.0], [0.0, 0.0], [-1e-30, 0.0]], dtype=np.float32)
    assert ranks_stored(torch.tensor([[1.0, -1.0]]), [rows], [[2, 1, 0]])[0].tolist() == [2, 1, 0]


@pytest.mark.parametrize("kind", [np.float16, np.float32, ">f2", ">f4"])
def test_memory_maps_and_arrays_of_any_layout(kind: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.integers(-8, 9, (50, 6)) / 16).astype(kind)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    queries = torch.from_numpy((rng.integers(-8, 9, (4, 6)) / 16).astype(np.float32))
    expected = nearest(queries, torch.from_numpy(rows.astype(np.float32)), 50)
    backwards = np.asfortranarray(rows)[::-1][::-1]
    for given_parts in (
        [mapped],
        [mapped[:7], mapped[7:]],
        [rows[:20], mapped[20:]],
        [backwards],
        list(mapped[:, None]),
    ):
        assert torch.equal(nearest_stored(queries, given_parts, 50).indexes, expected.indexes)
        ranks = ranks_stored(queries, given_parts, list(expected.indexes))
        assert np.array_equal(ranks, np.arange(50)[None].repeat(4, 0))


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_what_was_written_into_a_memory_map_is_not_lost(mode: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.eye(3, dtype=np.float32)[[0, 1, 0]])
    mapped = np.load(tmp_path / "rows.npy", mmap_mode=mode)
    mapped[2] = [0, 0, 1]
    view = mapped[:]
    view.flags.writeable = False
    for _ in range(2):
        assert nearest_stored(torch.eye(3), [view], 1).indexes[:, 0].tolist() == [0, 1, 2]
    assert mapped[2].tolist() == [0, 0, 1]


PROGRAM = """
import re, sys, numpy as np, torch
from pathlib import Path
from recallk.retrieval.stored import nearest_stored, ranks_stored
rows = np.load(sys.argv[1], mmap_mode="r")
queries = torch.nn.functional.normalize(torch.randn(70, rows.shape[1]), dim=1)
nearest_stored(queries, [np.array(rows[:1000])], 10)
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
before = peak()
nearest_stored(queries, [rows], 100)
ranks_stored(queries, [rows], [list(range(300))] * 70)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is Linux's to tell")
def test_memory_is_bounded_pages_of_the_file_included(tmp_path: Path) -> None:
    """800 MB on disk, in a process of its own; the system counts the pages of a file that are mapped."""
    np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float16, (200_000, 2048))  # zeros, never written
    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "rows.npy"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200e6


def test_how_far_it_is_comes_to_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "_BLOCK_ROWS", 4)
    monkeypatch.setattr(parts_module, "_TILE", 1)
    told: list[tuple[str, int, int]] = []
    nearest_stored(torch.eye(3), [np.eye(3, dtype=np.float32)] * 3, 1, advance=lambda *step: told.append(step))
    ranks_stored(torch.eye(3), [np.eye(3, dtype=np.float32)] * 3, [[0]] * 3, advance=lambda *step: told.append(step))
    assert told == [("searching the gallery", done, 9) for done in (4, 8, 9)] * 2


def test_no_queries_and_no_items() -> None:
    rows = [np.eye(3, dtype=np.float16)]
    assert nearest_stored(torch.empty(0, 3), rows, 2).indexes.shape == (0, 2)
    assert ranks_stored(torch.empty(0, 3), rows, []) == []
    assert [len(ranks) for ranks in ranks_stored(torch.eye(3), rows, [[], [], []])] == [0, 0, 0]


E3 = np.eye(3, dtype=np.float16)
BROKEN = np.array([[1.0, 0.0, 0.0], [0.0, np.inf, 0.0], [np.nan, 0.0, 0.0]], dtype=np.float16)
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "infinite": (lambda: nearest_stored(torch.eye(3), [E3, BROKEN[:2]], 1), "row 1 of part 1 of the gallery holds NaN"),
    "NaN": (lambda: nearest_stored(torch.eye(3), [BROKEN[[0, 2]]], 1), "^row 1 of the gallery holds NaN"),
    "NaN for ranks": (lambda: ranks_stored(torch.eye(3), [E3, BROKEN], [[0]] * 3), "row 1 of part 1 of the gallery"),
    "NaN among items": (lambda: ranks_stored(torch.eye(3), [E3, BROKEN], [[5]] * 3), "row 2 of part 1 of the gallery"),
    "too large": (
        lambda: nearest_stored(torch.full((1, 3), 1e30), [np.full((2, 3), 1e30, dtype=np.float32)], 1),
        "row 0 of the gallery holds .* far too large values",
    ),
    "queries": (lambda: nearest_stored(torch.eye(3) * torch.nan, [E3], 1), "query 0 holds NaN or infinity"),
    "queries' type": (lambda: nearest_stored(torch.eye(3).double(), [E3], 1), "queries must be 2-D float32"),
    "dimensions": (lambda: nearest_stored(torch.eye(4), [E3], 1), "queries have 4 dimensions but the gallery has 3"),
    "parts' dimensions": (lambda: nearest_stored(torch.eye(3), [E3, E3[:, :2]], 1), "part 1 of the gallery has 2 dim"),
    "float64": (lambda: nearest_stored(torch.eye(3), [E3.astype(float)], 1), "part 0 of the gallery is float64 of sha"),
    "1-D": (lambda: nearest_stored(torch.eye(3), [E3[0]], 1), r"part 0 of the gallery is float16 of shape \(3,\)"),
    "a tensor": (lambda: nearest_stored(torch.eye(3), [torch.eye(3)], 1), "of type Tensor"),  # type: ignore[list-item]
    "no part": (lambda: nearest_stored(torch.eye(3), [], 1), "the gallery is empty"),
    "no row": (lambda: nearest_stored(torch.eye(3), [E3[:0]], 1), "the gallery is empty"),
    "k": (lambda: nearest_stored(torch.eye(3), [E3], 0), "k must be at least 1, got 0"),
    "items": (lambda: ranks_stored(torch.eye(3), [E3], [[0]]), "items are given for 1 queries, but there are 3"),
    "beyond": (lambda: ranks_stored(torch.eye(3), [E3], [[0], [3], []]), "items of query 1 name the gallery item 3"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.integers(-8, 9, (5000, 64)) / 64).astype(np.float16)
    queries = torch.from_numpy((rng.integers(-8, 9, (30, 64)) / 64).astype(np.float32))
    assert torch.equal(nearest_stored(queries.cuda(), [rows], 50).indexes, nearest_stored(queries, [rows], 50).indexes)
    items = [rng.permutation(5000)[:40] for _ in queries]
    on_gpu, on_cpu = ranks_stored(queries.cuda(), [rows], items), ranks_stored(queries, [rows], items)
    assert all(np.array_equal(one, other) for one, other in zip(on_gpu, on_cpu, strict=True))
