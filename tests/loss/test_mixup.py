import logging
import time
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recallk import InputError, RecallAtKLoss, SimilarityMixup, recall_at_k_loss
from recallk.core.relevance import Positives
from recallk.loss.kernels import streamed
from recallk.loss.kernels.mixing import related
from recallk.loss.mixup import labels_of_all, pairs_of_a_class


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


def sizes_of(*sizes: int) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def test_a_large_class_gives_a_stated_number_of_pairs(caplog: pytest.LogCaptureFixture) -> None:
    labels = sizes_of(100, *[4] * 75)[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    mixup = SimilarityMixup()
    with caplog.at_level(logging.WARNING, logger="recallk"):
        drawn = [mixup.draw(labels, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    for pairs in drawn:
        of_class = torch.bincount(labels[pairs[:, 0]])
        assert of_class.tolist() == [105, *[6] * 75]
        assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()
        assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)
        assert all(len(set(pair)) == 2 for pair in pairs.tolist())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert [record.getMessage() for record in caplog.records] == [
        "similarity mixup: a class of 100 items gives 105 of its 4950 pairs in every step (pairs_per_class)"
    ]


@pytest.mark.parametrize("relatives", ["keep", "exclude"])
def test_a_class_of_a_hundred_is_done_in_seconds(relatives: Any) -> None:
    labels = sizes_of(100, *[4] * 75)
    loss = RecallAtKLoss(mixup=SimilarityMixup(relatives))
    generator = torch.Generator().manual_seed(0)
    assert len(SimilarityMixup(relatives).draw(labels, generator)[0]) == 105 + 75 * 6  # all pairs took minutes
    start = time.process_time()
    embeddings = torch.randn(400, 64, generator=generator, requires_grad=True)
    loss(embeddings, labels, generator=generator).backward()
    assert time.process_time() - start < 5


def test_all_pairs_up_to_the_cap_and_the_same_draw_as_ever() -> None:
    """Fifteen items have 105 pairs: all, with alphas straight from the generator."""
    labels = sizes_of(15, 4, 3)
    pairs, alpha = SimilarityMixup().draw(labels, torch.Generator().manual_seed(5))
    assert torch.equal(pairs, pairs_of_a_class(labels))
    assert torch.equal(alpha, torch.rand(len(pairs), generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    assert len(SimilarityMixup().draw(sizes_of(16))[0]) == 105


@given(st.integers(2, 12), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_any_cap(items: int, cap: int, seed: int) -> None:
    labels = torch.cat([sizes_of(items, 2, 1), torch.zeros(1, dtype=torch.int64)])
    pairs, alpha = SimilarityMixup(pairs_per_class=cap).draw(labels, torch.Generator().manual_seed(seed))
    every = {frozenset(pair) for pair in pairs_of_a_class(labels).tolist()}
    drawn = {frozenset(pair) for pair in pairs.tolist()}
    assert len(drawn) == len(pairs) == len(alpha)
    assert drawn <= every
    assert len(pairs) == min(cap, items * (items + 1) // 2) + 1


def test_each_pair_is_drawn_as_often_as_any_other() -> None:
    mixup, generator = SimilarityMixup(pairs_per_class=3), torch.Generator().manual_seed(0)
    counts = torch.zeros(5, 5)
    for _ in range(2000):
        pairs = mixup.draw(torch.zeros(5, dtype=torch.int64), generator)[0].sort(1).values
        counts[pairs[:, 0], pairs[:, 1]] += 1
    of_pairs = counts[torch.ones(5, 5).triu(1).bool()]
    assert (of_pairs - 600).abs().max() < 5 * (2000 * 0.3 * 0.7) ** 0.5  # five standard deviations
    assert counts.sum() == of_pairs.sum() == 6000


def test_a_class_of_a_hundred_thousand_can_be_drawn_from() -> None:
    pairs, _ = SimilarityMixup(pairs_per_class=10).draw(torch.zeros(100_000, dtype=torch.int64))
    assert len({frozenset(pair) for pair in pairs.tolist()}) == 10
    assert pairs.max() < 100_000


@pytest.mark.parametrize("cap", [0, -1, 1.5, True, None, "all"])
def test_a_cap_that_is_none(cap: Any) -> None:
    with pytest.raises(InputError, match=r"pairs_per_class=.*an integer of at least 1 is needed"):
        SimilarityMixup(pairs_per_class=cap)


@pytest.mark.parametrize("labels", [None, ["a", "a"], [[0, 0], [1, 1]], [0.0, 0.0]])
def test_labels_that_cannot_be_paired(labels: Any) -> None:
    with pytest.raises(InputError, match="labels"):
        SimilarityMixup().draw(labels)


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


def test_relatives_are_left_out() -> None:
    """A class of three, counted by hand: without relatives, each has what shares no parent with it."""
    embeddings = torch.eye(6)[:, :4] + 0.5
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    pairs = pairs_of_a_class(labels)
    objective = streamed.objective_of(
        embeddings,
        Positives.from_labels(labels_of_all(labels, pairs)),
        ks=(1,),
        rank_temperature=0.01,
        recall_temperatures=(1.0,),
        query_in_database=True,
        mix_pairs=pairs,
        mix_alpha=torch.full((6,), 0.5),
        exclude_relatives=True,
    )
    assert objective.mixing is not None
    assert objective.mixing.parents is not None
    # item 0 has the items 1, 2 and the virtual one of both; that one has item 0 alone, for any other shares a parent
    assert objective.has_positive.all()
    relatives = related(objective.mixing.parents, torch.arange(12), torch.arange(12).expand(12, -1))
    assert relatives[0].nonzero()[:, 0].tolist() == [0, *(6 + v for v, pair in enumerate(pairs.tolist()) if 0 in pair)]
    both = pairs.tolist().index([1, 2]) + 6
    same_class = labels_of_all(labels, pairs) == 0
    assert (same_class & ~relatives[both]).nonzero()[:, 0].tolist() == [0]


def test_a_pair_without_relatives_is_no_query() -> None:
    """Of a class of two, the virtual item is related to all there is."""
    embeddings, labels = torch.randn(4, 3), torch.tensor([0, 0, 1, 1])
    pairs = pairs_of_a_class(labels)
    for implementation in ("definition", "tiled"):
        settings: dict[str, Any] = {"mix_pairs": pairs, "mix_alpha": torch.rand(2), "implementation": implementation}
        losses = recall_at_k_loss(embeddings, labels, mix_relatives="exclude", reduction="none", **settings)
        assert losses.shape == (4,)
        assert recall_at_k_loss(embeddings, labels, reduction="none", **settings).shape == (6,)


def test_an_unknown_word_for_relatives() -> None:
    with pytest.raises(InputError, match="mix_relatives='some'"):
        recall_at_k_loss(torch.eye(2), torch.zeros(2, dtype=torch.int64), mix_relatives="some")  # type: ignore[arg-type]
