"""Comparisons on vectors: each job maps the file itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recallk import InputError, compare
from tests.training.test_vectors import SMALL, save, vectors


def test_heads_are_compared_on_a_mapped_file(tmp_path: Path) -> None:
    data = save(tmp_path, vectors(np.float16), ".npy")
    config: dict[str, Any] = SMALL | {"data": str(data), "epochs": 1}
    reached = compare(config, tmp_path / "compared", sweep="head=linear,mlp", seeds=1, rates=(1,))
    assert {outcome.name for outcome in reached} == {"head=linear", "head=mlp"}
    assert all(0 < result["recall@1"] <= 1 for outcome in reached for result in outcome.results), reached


def test_a_key_of_images_is_no_contender_on_vectors(tmp_path: Path) -> None:
    data = save(tmp_path, vectors(), ".parquet")
    with pytest.raises(InputError, match="backbone is for images and texts, and the data are vectors"):
        compare(SMALL | {"data": str(data)}, tmp_path / "compared", sweep="backbone=resnet18,resnet50")
