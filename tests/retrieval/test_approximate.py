"""Approximate search: as exact search has it where it looks everywhere, and what it finds is measured on others."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recallk.core.progress import silent
from recallk.retrieval.approximate import Kind, fit
from recallk.retrieval.scan import StoredRows, nearest_rows


def clustered(size: int, dimensions: int = 24, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((30, dimensions))
    rows = centres[random.integers(0, 30, size)] + 0.8 * random.standard_normal((size, dimensions))
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)


def in_parts(rows: NDArray[np.float32], dtype: Any = np.float16) -> list[StoredRows]:
    half = len(rows) // 2
    return [StoredRows(rows[:half].astype(dtype)), StoredRows(rows[half:].astype(dtype))]


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_wide_search_finds_what_exact_search_finds(kind: Kind, dtype: Any) -> None:
    parts = in_parts(clustered(900), dtype)
    alive = np.random.default_rng(1).random(900) < 0.8
    found, measured = fit(parts, alive, kind, least=1.0, k=5, advance=silent)
    assert measured.recall > 0.97
    assert measured.queries == int(alive.sum()) // 10
    found.width = 900 if kind == "hnsw" else 1000
    queries = torch.from_numpy(clustered(20, seed=2))
    exact = nearest_rows(queries, parts, 5, allowed=alive)
    for number, (similarities, rows) in enumerate(found.nearest(queries, parts, 5, allowed=alive)):
        assert rows.tolist() == exact.indexes[number].tolist()
        assert similarities.tolist() == exact.similarities[number].tolist()


def test_what_was_held_out_is_found_in_the_end_and_what_is_gone_or_excluded_is_not() -> None:
    parts = in_parts(clustered(400))
    alive = np.ones(400, np.bool_)
    found, _ = fit(parts, alive, "ivf", least=1.0, k=3, advance=silent)
    found.width = 400
    rows = np.arange(0, 400, 7)
    queries = torch.from_numpy(np.concatenate([part.vectors for part in parts])[rows].astype(np.float32))
    assert [int(own[0]) for _, own in found.nearest(queries, parts, 1)] == rows.tolist()
    without = found.nearest(queries, parts, 3, exclude=rows.tolist())
    assert all(row not in own for row, (_, own) in zip(rows.tolist(), without, strict=True))
    alive[rows] = False
    assert not any(set(own) & {*rows.tolist()} for _, own in found.nearest(queries, parts, 3, allowed=alive))


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_it_is_searched_as_widely_as_the_recall_that_is_wanted_takes(kind: Kind) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((3000, 64))  # with no order in them, the hardest
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    parts, alive = in_parts(rows.astype(np.float32)), np.ones(3000, np.bool_)
    narrow = fit(parts, alive, kind, least=0.2, k=10, advance=silent)[1]
    wide = fit(parts, alive, kind, least=0.9, k=10, advance=silent)[1]
    assert wide.width > narrow.width
    assert wide.recall > 0.85
    assert narrow.recall < wide.recall
    assert narrow.seconds > 0
    assert narrow.exact_seconds > 0


def test_it_goes_on_where_faiss_was_made_to_take_tensors() -> None:
    """As pytorch-metric-learning does to all of the process."""
    code = (
        "import torch, faiss.contrib.torch_utils\n"
        "from tests.retrieval import test_approximate as tests\n"
        "for kind in ('hnsw', 'ivf'): tests.test_a_wide_search_finds_what_exact_search_finds(kind, tests.np.float16)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"})
