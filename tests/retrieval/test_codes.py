"""Vectors as int8: no number is off by more than half a step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk.retrieval.codes import LARGEST, encoded


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(0, 20), dimensions=st.integers(1, 40), size=st.sampled_from([1e-6, 1.0, 300.0]))
def test_no_number_is_off_by_more_than_half_a_step(rows: int, dimensions: int, size: float) -> None:
    vectors = (size * np.random.default_rng(rows).standard_normal((rows, dimensions))).astype(np.float32)
    codes, scales = encoded(vectors)
    assert codes.dtype == np.int8
    assert scales.dtype == np.float32
    assert (np.abs(codes * scales[:, None].astype(np.float64) - vectors) <= 0.5001 * scales[:, None]).all()
    if rows:
        assert (np.abs(codes).max(1) == LARGEST).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_zeros_stay_zeros(dtype: type) -> None:
    codes, scales = encoded(np.zeros((2, 3), dtype))
    assert not codes.any()
    assert not scales.any()
