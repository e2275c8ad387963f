"""The trainer's batches in a loop of one's own."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

import recallk
from recallk import ClassBatchSampler, InputError
from recallk.training.sampler import make_sampler


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=12),
    items_per_class=st.integers(2, 3),
    classes=st.integers(2, 4),
    epoch=st.integers(0, 5),
    texts=st.booleans(),
)
def test_batches_are_whole_and_nothing_is_drawn_twice(
    sizes: list[int], items_per_class: int, classes: int, epoch: int, texts: bool
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)) * 7 - 3, sizes))
    given: Any = [f"class {label}" for label in labels] if texts else labels
    if sum(size >= items_per_class for size in sizes) < classes:
        with pytest.raises(InputError, match="training classes have"):
            ClassBatchSampler(given, classes * items_per_class, items_per_class, seed=4)
        return
    sampler = ClassBatchSampler(given, classes * items_per_class, items_per_class, seed=4)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler) >= 1
    drawn = [place for batch in batches for place in batch]
    assert len(set(drawn)) == len(drawn)
    for batch in batches:
        found, counts = np.unique(labels[batch], return_counts=True)
        assert len(found) == classes
        assert set(counts) == {items_per_class}
    assert batches == list(sampler)
    if not texts:  # these are the trainer's
        numbers = np.unique(labels, return_inverse=True)[1]
        trainers, _ = make_sampler(numbers, classes * items_per_class, items_per_class, 4)
        assert batches == [batch.tolist() for batch in trainers.epoch(epoch + 1)]


def test_a_loop_of_ones_own() -> None:
    labels = torch.arange(60) // 6
    data = TensorDataset(torch.randn(60, 8), labels)
    sampler = ClassBatchSampler(labels.numpy(), batch_size=20, items_per_class=2)
    loader: Any = DataLoader(data, batch_sampler=sampler)
    network, loss_fn, seen = torch.nn.Linear(8, 4), recallk.RecallAtKLoss(), []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for rows, own in loader:
            loss_fn(network(rows), own).backward()
            seen.append(own)
    assert len(seen) == 2 * len(loader) == 6
    assert not torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))
    assert len(ClassBatchSampler(labels)) == len(ClassBatchSampler(labels.tolist())) == 1, "all classes"
    column = np.array(["a", "b"] * 4, dtype=object)  # of pandas
    assert sorted(next(iter(ClassBatchSampler(column)))) == list(range(8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": []}, r"labels: a row of whole numbers or texts is needed, got float64 \(0,\)"),
        ({"labels": [0.5, 0.5]}, "got float64"),
        ({"labels": [[0, 1], [0, 1]]}, r"got int64 \(2, 2\)"),
        ({"labels": 3}, "a row of whole numbers"),
        ({"labels": [[1], [1, 2]]}, "a row of whole numbers or texts is needed$"),
        ({"labels": np.array(["a", 1, None], dtype=object)}, "got object"),
        ({"batch_size": 10}, "batch_size=10 is no multiple of items_per_class=4"),
        ({"batch_size": 4}, "batch_size=4: a whole number of at least 8 is needed"),
        ({"batch_size": 8.0}, "batch_size=8.0: a whole number"),
        ({"batch_size": 80}, "choose 8 to 20, or lower items_per_class"),
        ({"items_per_class": 1}, "items_per_class=1: a whole number of at least 2"),
        ({"items_per_class": 9}, "0 of 5 training classes have 9 items or more"),
        ({"seed": -1}, "seed=-1: a whole number of at least 0"),
        ({"seed": True}, "seed=True"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClassBatchSampler(**({"labels": np.arange(30) // 6} | arguments))
    with pytest.raises(InputError, match="epoch='1'"):
        ClassBatchSampler(np.arange(30) // 6).set_epoch("1")  # type: ignore[arg-type]
