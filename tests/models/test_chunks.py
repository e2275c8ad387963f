"""Chunks are made of items of any kind, each of one kind, whoever reads them."""

from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from recallk import InputError
from recallk.models.chunks import read_all, read_chunks
from tests.models.preparations import KINDS, Broken, CannotCollate, Counting, Kinds, numbers_of


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_one_line(workers: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image 3 is broken") as caught:
        list(read_chunks(Broken(), [np.array([3])], workers))
    assert "\n" not in str(caught.value)


def test_after_an_error_no_process_is_left() -> None:
    """Else they are ended when the error is forgotten, which may take them five seconds each."""
    with pytest.raises(InputError, match="image 3 is broken") as caught:
        list(read_chunks(Broken(), [np.array([3])] * 20, 2))
    assert not [child for child in active_children() if child.daemon], caught


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_prepared_items_are_of_any_kind(kind: str, workers: int) -> None:
    make, numbers = KINDS[kind]
    chunks = [np.array([3, 1, 2]), np.array([5])]
    assert [numbers(chunk) for chunk in read_chunks(make(), chunks, workers)] == [[3, 1, 2], [5]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_chunk_that_cannot_be_made_is_one_line(workers: int) -> None:
    with pytest.raises(InputError, match=r"^items cannot be read \(TypeError: several lines\)$"):
        list(read_chunks(CannotCollate(), [np.array([1])], workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_kind_that_cannot_be_told_is_one_line(workers: int) -> None:
    class Untold(Counting):
        def kind(self, number: int) -> int:
            return [1, 2][number]

    with pytest.raises(InputError, match=r"^items cannot be read \(IndexError: list index out of range\)$"):
        list(read_all(Untold(), 3, 4, workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_all_items_are_read_in_chunks_of_a_kind(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read = [(numbers.tolist(), numbers_of(chunk)) for numbers, chunk in read_all(Kinds(), 20, 3, workers)]
    assert all(numbers == of_chunk for numbers, of_chunk in read)
    assert sorted(number for numbers, _ in read for number in numbers) == list(range(20))
    assert [len(numbers) for numbers, _ in read] == [3, 3, 1, 3, 3, 1, 3, 3]
    monkeypatch.setattr("recallk.models.chunks.LOOKED_THROUGH", 4)  # two chunks of three
    some = [numbers.tolist() for numbers, _ in read_all(Kinds(), 8, 3, workers)]
    assert some == [[0, 3], [1, 4], [2, 5], [6], [7]]
    assert [numbers.tolist() for numbers, _ in read_all(Counting(), 8, 3, workers)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert list(read_all(Counting(), 0, 3, workers)) == []
