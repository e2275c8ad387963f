"""A batch gives the same chunks twice, and holds no more of them than it may."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from recallk import InputError
from recallk.models.batches import cut, read_batches
from tests.models.preparations import KINDS, Broken, Counting, Kinds, KnownBytes, numbers_of

BATCHES = [np.arange(0, 10), np.arange(10, 20)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("budget_chunks", [0, 1, 2, 3, 100])
def test_both_readings_give_the_same_chunks(budget_chunks: int, workers: int) -> None:
    preparation = Counting()
    batches = read_batches(preparation, BATCHES, 4, budget_bytes=3 * 4 * budget_chunks, workers=workers)
    for items, batch in zip(BATCHES, batches, strict=True):
        for _ in range(2):
            chunks = list(batch)
            assert [len(chunk) for chunk in chunks] == [4, 3, 3]
            assert torch.cat(chunks)[:, 0, 0, 0].tolist() == items.tolist()
    if workers == 0:
        again = {0: 10, 1: 6, 2: 3}.get(budget_chunks, 0)
        measured = 1 if budget_chunks else 0  # the first item, to learn its size
        assert sum(preparation.prepared.values()) == 2 * (10 + again) + measured


@pytest.mark.parametrize("budget", [0, 100])
def test_a_batch_of_one_chunk_may_be_read_once_or_twice(budget: int) -> None:
    batches = [np.arange(4 * n, 4 * n + 4) for n in range(5)]
    preparation = Counting()
    stream = read_batches(preparation, batches, 4, budget_bytes=budget, workers=0)
    for number, (items, batch) in enumerate(zip(batches, stream, strict=True)):
        for _ in range(1 + number % 2):
            (chunk,) = batch
            assert chunk[:, 0, 0, 0].tolist() == items.tolist()
    assert set(preparation.prepared.values()) == {1}, "nothing is read to learn its size: one chunk always waits"


def test_what_waits_stays_within_the_budget() -> None:
    (batch,) = read_batches(Counting(), BATCHES[:1], 4, budget_bytes=13, workers=0)
    list(batch)
    assert sum(chunk.nbytes for chunk in batch._waiting) == 12


def test_the_first_item_being_broken_is_the_same_line() -> None:
    """It is prepared before all others, to learn its size."""
    with pytest.raises(InputError, match=r"^image 0 is broken$"):
        next(read_batches(Broken(), BATCHES, 4, budget_bytes=100, workers=0))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("budget", [0, 1, 10**9])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_any_kind_are_read_twice_alike(kind: str, budget: int, workers: int) -> None:
    make, numbers = KINDS[kind]
    batches = [np.array([4, 1, 2, 3, 5]), np.array([9, 8])]
    for items, batch in zip(batches, read_batches(make(), batches, 2, budget, workers), strict=True):
        for _ in range(2):
            assert [number for chunk in batch for number in numbers(chunk)] == items.tolist()


@pytest.mark.parametrize(
    ("kind", "bytes_of_one"),
    [("dictionaries", 8 * 7 + 8), ("strings", len("item 007")), ("tuples", 2 * 8 + 1)],
)
def test_what_an_item_takes_is_counted_whatever_holds_it(kind: str, bytes_of_one: int) -> None:
    """A budget for two chunks of two items like the first lets two chunks wait; a byte less, one."""
    make, _ = KINDS[kind]
    for budget, waiting in ((4 * bytes_of_one, 2), (4 * bytes_of_one - 1, 1)):
        (batch,) = read_batches(make(), [np.full(6, 7)], 2, budget, 0)
        list(batch)
        assert len(batch._waiting) == waiting


def test_a_batch_is_cut_evenly_within_each_kind() -> None:
    made = cut(Kinds(), np.array([5, 0, 3, 6, 1, 9, 12, 8, 15]), 4)
    assert [chunk.tolist() for chunk in made.chunks] == [[5, 8], [0, 3, 6], [9, 12, 15], [1]]
    assert made.kinds == [2, 0, 0, 1]
    assert made.items.tolist() == [5, 8, 0, 3, 6, 9, 12, 15, 1]
    of_one_kind = cut(Counting(), np.arange(10), 4)
    assert [chunk.tolist() for chunk in of_one_kind.chunks] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert of_one_kind.kinds == [None] * 3
    assert of_one_kind.items.tolist() == list(range(10))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("budget", [0, 4, 5, 20, 1_000])
@pytest.mark.parametrize("preparation", [Kinds, KnownBytes])
def test_batches_of_several_kinds_are_read_twice_alike(
    preparation: Callable[[], Kinds], budget: int, workers: int
) -> None:
    batches = [np.random.default_rng(seed).permutation(20) for seed in range(3)]
    for items, batch in zip(batches, read_batches(preparation(), batches, 3, budget, workers), strict=True):
        assert sorted(batch.items) == sorted(items)
        for _ in range(2):
            chunks = [numbers_of(chunk) for chunk in batch]
            assert [number for chunk in chunks for number in chunk] == batch.items.tolist()
            assert all(len({number % 3 for number in chunk}) == 1 for chunk in chunks)


@pytest.mark.parametrize("preparation", [Kinds, KnownBytes])
def test_what_waits_is_counted_kind_by_kind(preparation: Callable[[], Kinds]) -> None:
    batch = np.array([0, 3, 6, 1, 4, 2, 5, 9])  # 2 chunks of 2 of one byte, one of 2 of 3 bytes, one of 2 of 9
    for budget, waiting in ((0, 0), (1, 0), (2, 1), (4, 2), (9, 2), (10, 3), (27, 3), (28, 4), (99, 4)):
        made = preparation()
        (read,) = read_batches(made, [batch], 2, budget, 0)
        assert [numbers_of(chunk) for chunk in read] == [[0, 3], [6, 9], [1, 4], [2, 5]]
        assert len(read._waiting) == waiting
        assert sum(chunk.nbytes for chunk in read._waiting) <= budget
        measured = 0 if preparation is KnownBytes else 1  # of each kind that comes before memory is full, at most
        assert max(made.prepared.values()) <= 1 + measured
        list(read)
        assert sum(made.prepared.values()) <= 8 + 2 * (4 - waiting) + 3 * measured


def test_kinds_are_asked_for_when_a_batch_has_its_turn() -> None:
    preparation = KnownBytes()
    batches = [np.arange(6 * n, 6 * n + 6) for n in range(4)]
    stream = read_batches(preparation, batches, 2, 1_000, 0)
    for number, batch in enumerate(stream):
        assert preparation.asked == list(range(6 * number + 6)), "of this batch, and once"
        list(batch)
        list(batch)


def test_workers_read_ahead_across_batches() -> None:
    preparation = KnownBytes()
    stream = read_batches(preparation, [np.arange(6 * n, 6 * n + 6) for n in range(4)], 2, 1_000, 1)
    first = next(stream)
    assert [len(preparation.asked) for _ in first] == [6, 12, 12], "two chunks ahead"
    for batch in stream:
        list(batch)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_that_is_met_ahead_waits_for_its_turn(workers: int) -> None:
    class Untold(KnownBytes):
        def kind(self, number: int) -> int:
            if number == 13:
                raise InputError("item 13 has no kind")
            return number % 3

    stream = read_batches(Untold(), [np.arange(6 * n, 6 * n + 6) for n in range(4)], 2, 1_000, workers)
    for _, batch in zip(range(2), stream, strict=False):
        assert len([list(batch), list(batch)]) == 2
    with pytest.raises(InputError, match=r"^item 13 has no kind$"):
        next(stream)
