"""What the losses of our own code make of a batch before they compare its items."""

import numpy as np
import pytest
import torch

from recallk import InputError
from recallk.losses.unit_batch import unit_batch


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_are_of_unit_length_in_a_precision_that_bears_products(dtype: torch.dtype) -> None:
    unit, classes = unit_batch(torch.tensor([[3.0, 4.0], [0.0, -0.5]], dtype=dtype), np.array([1, 0], dtype=np.uint8))
    assert unit.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.0, -1.0]], dtype=unit.dtype))
    assert classes.dtype == torch.int64


def test_embeddings_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="1 of 2 rows of the embeddings hold NaN or infinity"):
        unit_batch(torch.tensor([[1.0], [torch.nan]]), [0, 1])
