from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from recallk import InputError
from recallk.data.chunks import read_batches, read_chunks


class CountingView:
    """An image of one pixel, the item's number; counts what is decoded."""

    def __init__(self) -> None:
        self.decoded: Counter[int] = Counter()

    def __call__(self, item: int) -> torch.Tensor:
        self.decoded[item] += 1
        return torch.full((3, 1, 1), item, dtype=torch.uint8)


BATCHES = [np.arange(0, 10), np.arange(10, 20)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("budget_chunks", [0, 1, 2, 3, 100])
def test_both_readings_give_the_same_chunks(budget_chunks: int, workers: int) -> None:
    view = CountingView()
    batches = read_batches(view, BATCHES, 4, image_bytes=3, budget_bytes=3 * 4 * budget_chunks, workers=workers)
    for items, batch in zip(BATCHES, batches, strict=True):
        for _ in range(2):
            chunks = list(batch)
            assert [len(chunk) for chunk in chunks] == [4, 3, 3]
            assert torch.cat(chunks)[:, 0, 0, 0].tolist() == items.tolist()
    if workers == 0:
        again = {0: 10, 1: 6, 2: 3}.get(budget_chunks, 0)
        assert sum(view.decoded.values()) == 2 * (10 + again)


@pytest.mark.parametrize("budget", [0, 100])
def test_a_batch_of_one_chunk_may_be_read_once_or_twice(budget: int) -> None:
    batches = [np.arange(4 * n, 4 * n + 4) for n in range(5)]
    stream = read_batches(CountingView(), batches, 4, image_bytes=3, budget_bytes=budget, workers=0)
    for number, (items, batch) in enumerate(zip(batches, stream, strict=True)):
        for _ in range(1 + number % 2):
            (chunk,) = batch
            assert chunk[:, 0, 0, 0].tolist() == items.tolist()


def test_what_is_kept_stays_within_the_budget() -> None:
    (batch,) = read_batches(CountingView(), BATCHES[:1], 4, image_bytes=3, budget_bytes=13, workers=0)
    list(batch)
    assert sum(chunk.nbytes for chunk in batch._waiting) == 12


class BrokenView:
    def __call__(self, item: int) -> torch.Tensor:
        raise InputError(f"image {item} is broken")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_one_line(workers: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image 3 is broken") as caught:
        list(read_chunks(BrokenView(), [np.array([3])], workers))
    assert "\n" not in str(caught.value)
