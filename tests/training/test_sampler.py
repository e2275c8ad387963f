from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recallk import InputError
from recallk.training.sampler import Lengths, Sampler, make_sampler, whole_set


@given(st.lists(st.integers(1, 23), min_size=2, max_size=30), st.integers(2, 5), st.integers(2, 6), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_a_batch_is_so_many_classes_times_so_many_items(sizes: list[int], items: int, classes: int, epoch: int) -> None:
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    sampler = Sampler(labels, classes, items, seed=3)
    used: Counter[int] = Counter()
    batches = list(sampler.epoch(epoch))
    for batch in batches:
        of_class = Counter(labels[batch].tolist())
        assert len(of_class) == classes
        assert set(of_class.values()) == {items}
        used.update(batch.tolist())
    assert not used or max(used.values()) == 1, "an item twice in an epoch"
    left = Counter(labels.tolist())
    left.subtract(labels[list(used)].tolist())
    assert sum(count >= items for count in left.values()) < classes, "one more batch could have been made"
    assert len(batches) == sampler.batches(epoch)


def test_epochs_differ_and_can_be_repeated() -> None:
    labels = np.arange(60) // 6
    sampler = Sampler(labels, 3, 4, seed=1)

    def order(sampler: Sampler, epoch: int) -> list[int]:
        return np.concatenate(list(sampler.epoch(epoch))).tolist()  # type: ignore[no-any-return]

    assert order(sampler, 5) == order(sampler, 5)
    assert order(sampler, 5) != order(sampler, 6)
    assert order(sampler, 5) != order(Sampler(labels, 3, 4, seed=2), 5)


def test_small_classes_are_counted_as_left_out() -> None:
    labels = np.repeat(np.arange(4), [4, 1, 3, 9])
    sampler, left_out = make_sampler(labels, None, 4, seed=0)
    assert (left_out.classes, left_out.items) == (2, 4)
    assert sampler.classes_per_batch == 2


def test_the_default_batch_is_all_classes_up_to_4000_items() -> None:
    assert make_sampler(np.arange(40) // 4, None, 4, 0)[0].classes_per_batch == 10
    assert make_sampler(np.arange(8000) // 4, None, 4, 0)[0].classes_per_batch == 1000


@pytest.mark.parametrize(
    ("labels", "batch_size", "message"),
    [
        (np.arange(10) // 2, None, "0 of 5 training classes have 4 items or more"),
        (np.arange(40) // 4, 44, "batch_size=44 is 11 classes of 4 items, and 10 training classes"),
        (np.arange(40) // 4, 4, "choose 8 to 40"),
    ],
)
def test_impossible_batches(labels: np.ndarray, batch_size: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_sampler(labels, batch_size, 4, 0)


@pytest.mark.parametrize("sizes", [[8] * 9, [4, 7, 5] * 3, [8, 16, 4, 25, 9, 4]])
def test_the_lengths_of_epochs(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    from recallk.training import sampler as samplers

    sampler = Sampler(np.repeat(np.arange(len(sizes)), sizes), 3, 4, seed=5)
    counts = [sampler.batches(epoch) for epoch in range(1, 41)]
    lengths = samplers.Lengths(sampler, 40)
    assert [lengths.until(epoch) - lengths.until(epoch - 1) for epoch in range(1, 41)] == counts
    assert [lengths.until(epoch) for epoch in (0, 1, 40)] == [0, counts[0], sum(counts)]
    assert lengths.total == sum(counts)
    assert lengths.fewest_and_most == (min(counts), max(counts))
    monkeypatch.setattr(samplers, "ALWAYS_COUNTED", 20)
    monkeypatch.setattr(samplers, "COUNTED_ITEMS", 0)
    assert samplers.Lengths(sampler, 40).total == pytest.approx(sum(counts), rel=0.1)
    assert samplers.Lengths(sampler, 40).until(40) == sum(counts), "what has passed is counted, not expected"


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12))
@settings(max_examples=50, deadline=None)
def test_the_whole_set_is_one_batch_an_epoch(sizes: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    if max(sizes) < 2:
        with pytest.raises(InputError, match="training classes of at most 1 items: at least two classes are needed"):
            whole_set(labels)
        return
    sampler = whole_set(labels)
    (batch,) = sampler.epoch(1)
    assert sorted(batch.tolist()) == list(range(len(labels)))
    assert sorted(labels.tolist()) == labels[batch].tolist(), "classes side by side"
    assert [batch.tolist()] == [again.tolist() for again in sampler.epoch(7)]
    assert Lengths(sampler, epochs=5).total == 5
    assert sampler.equal_classes == (len(set(sizes)) == 1)
    found = [sizes[label] for label in labels]
    assert sampler.items_per_class == max(2, round(sum(found) / len(found)))


def test_of_one_class_there_is_no_batch() -> None:
    with pytest.raises(InputError, match="1 training classes of at most 5 items"):
        whole_set(np.zeros(5, dtype=np.int64))
