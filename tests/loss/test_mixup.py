import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recallk import InputError, RecallAtKLoss, SimilarityMixup
from recallk.loss.mixup import pairs_of_a_class


@given(st.lists(st.integers(-3, 6), min_size=1, max_size=30))
def test_every_pair_of_a_class_once(labels: list[int]) -> None:
    pairs = {frozenset(pair) for pair in pairs_of_a_class(torch.tensor(labels)).tolist()}
    rows = range(len(labels))
    assert pairs == {frozenset((i, j)) for i in rows for j in rows if i < j and labels[i] == labels[j]}
    assert len(pairs) == len(pairs_of_a_class(torch.tensor(labels)))


def test_four_items_give_six_virtual_ones() -> None:
    pairs, alpha = SimilarityMixup().draw(torch.arange(40) // 4)
    assert len(pairs) == len(alpha) == 60
    assert alpha.min() >= 0
    assert alpha.max() < 1


def test_a_generator_repeats_the_draw() -> None:
    labels = torch.arange(40) // 4
    draws = [SimilarityMixup().draw(labels, torch.Generator().manual_seed(seed))[1] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_module_draws_anew_in_every_call() -> None:
    embeddings, labels = torch.randn(40, 8), torch.arange(40) // 4
    loss = RecallAtKLoss(mixup=SimilarityMixup())
    first, second = loss(embeddings, labels), loss(embeddings, labels)
    assert first != second
    repeated = [loss(embeddings, labels, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert repeated[0] == repeated[1]


def test_a_gallery_apart_cannot_be_mixed() -> None:
    x, labels = torch.randn(8, 4), torch.arange(8) // 2
    with pytest.raises(InputError, match="leave out the gallery or the mixup"):
        RecallAtKLoss(mixup=SimilarityMixup())(x, labels, x, labels)


def test_unknown_relatives() -> None:
    with pytest.raises(InputError, match="'drop' is unknown"):
        SimilarityMixup(relatives="drop")  # type: ignore[arg-type]
