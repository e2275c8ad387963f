"""What the loss says of input that it cannot use, and of batches at the edge."""

import logging
import math
import sys
from typing import Any

import pytest
import torch

from recallk import InputError, RecallAtKLoss, SimilarityMixup, recall_at_k_loss

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) // 2
PAIR = torch.tensor([[0, 1]])
NAN = X.clone()
NAN[3, 1] = float("nan")


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((X, LABELS[:7]), {}, r"labels have shape \(7,\), embeddings have 8 rows"),
        ((X, LABELS.float()), {}, "labels are float32: integers are needed"),
        ((X, LABELS > 1), {}, "labels are bool: integers are needed"),
        ((X, LABELS, X, LABELS > 1), {}, "gallery_labels are bool: integers are needed"),
        ((X[0], LABELS), {}, r"shape \(4,\)"),
        ((X.long(), LABELS), {}, "int64"),
        ((X[:0], LABELS[:0]), {}, r"shape \(0, 4\)"),
        ((NAN, LABELS), {}, "1 of 8 rows of the embeddings hold NaN"),
        ((X, torch.arange(8)), {}, "no query has a positive"),
        ((X, LABELS, X, LABELS + 9), {}, "none of the labels is in the gallery"),
        ((X, LABELS, X), {}, "give both or neither"),
        ((X, LABELS, X[:, :3], LABELS), {}, "3 dimensions, the queries 4"),
        ((X, LABELS, NAN, LABELS), {}, "rows of the gallery"),
        ((X, LABELS), {"ks": ()}, "at least one"),
        ((X, LABELS), {"ks": (0, 1)}, "an integer of at least 1, got 0"),
        ((X, LABELS), {"rank_temperature": 0}, "temperatures are above 0"),
        ((X, LABELS), {"recall_temperature": (1, 2)}, "2 values for 5 ks"),
        ((X, LABELS), {"recall_temperature": (1, 2, 3, 4, -1)}, "temperatures are above 0"),
        ((X, LABELS), {"implementation": "fast"}, "choose one of 'auto', 'definition', 'tiled', 'fused'"),
        ((X.double(), LABELS), {"implementation": "fused"}, "computes in float32, these are float64"),
        ((X, LABELS), {"reduction": "sum"}, "choose one of 'mean', 'none'"),
        ((X, LABELS), {"mix_pairs": torch.tensor([[0, 1]])}, "go together"),
        ((X, LABELS), {"mix_pairs": PAIR.float(), "mix_alpha": torch.ones(1)}, "mix_pairs are float32: integers"),
        ((X, LABELS), {"mix_pairs": PAIR.bool(), "mix_alpha": torch.ones(1)}, "mix_pairs are bool: integers"),
        ((X, LABELS), {"mix_pairs": PAIR.byte(), "mix_alpha": torch.ones(1)}, "mix_pairs are uint8: integers"),
        ((X, LABELS), {"mix_pairs": PAIR, "mix_alpha": torch.ones(1).long()}, "mix_alpha is int64: floating-point"),
        ((X, LABELS), {"mix_pairs": torch.tensor([[0, 2]]), "mix_alpha": torch.rand(1)}, "different classes"),
        ((X, LABELS), {"mix_pairs": torch.tensor([[0, 8]]), "mix_alpha": torch.rand(1)}, "rows 0 to 7"),
        (
            (X, LABELS),
            {"mix_pairs": torch.tensor([[0, 1]]), "mix_alpha": torch.ones(1) * 2},
            r"outside \[0, 1\]",
        ),
        ((X, LABELS), {"mix_pairs": torch.tensor([[0, 1]]), "mix_alpha": torch.ones(2)}, "are needed"),
        (
            (X, LABELS, X, LABELS),
            {"mix_pairs": torch.tensor([[0, 1]]), "mix_alpha": torch.ones(1)},
            "leave out the gallery or the mixup",
        ),
        ((X, LABELS), {"query_rows": torch.arange(8)}, "give gallery and gallery_labels too"),
        ((X, LABELS, X, LABELS), {"query_rows": torch.arange(7)}, r"query_rows have shape \(7,\), there are 8 queries"),
        ((X, LABELS, X, LABELS), {"query_rows": torch.arange(8) + 1}, r"must lie in -1 \.\. 7, .*, got 8"),
        ((X, LABELS, X, LABELS), {"query_rows": torch.ones(8)}, "query_rows are float32: integers are needed"),
        (
            (X, LABELS, X, LABELS),
            {"query_rows": torch.arange(7, -1, -1)},
            "query 0 has the label 0, row 7 .* 3: a query",
        ),
        ((X[:1], LABELS[:1], X[1:4], LABELS[:3] * 0 + 9), {"query_rows": [-1]}, "no query has a positive"),
        ((X[:1], [5], X[:1], [5]), {"query_rows": [0]}, "is in the gallery, but for the queries themselves"),
        (
            (X, LABELS, X, LABELS),
            {"query_rows": torch.arange(8), "mix_pairs": PAIR, "mix_alpha": torch.ones(1)},
            "leave out the gallery or the mixup",
        ),
    ],
)
def test_bad_input_gets_one_line(arguments: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        recall_at_k_loss(*arguments, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("implementation", ["definition", "tiled"])
@pytest.mark.parametrize("integers", [torch.int8, torch.uint8, torch.int32, torch.uint16, torch.uint32, torch.uint64])
def test_integers_of_any_width(integers: torch.dtype, implementation: Any) -> None:
    labels = LABELS.to(integers)
    expected = recall_at_k_loss(X, LABELS, X, LABELS, implementation=implementation)
    assert recall_at_k_loss(X, labels, X, labels, implementation=implementation) == expected
    if integers != torch.uint8:
        mix: dict[str, Any] = {"mix_alpha": torch.full((1,), 0.25), "implementation": implementation}
        expected = recall_at_k_loss(X, LABELS, mix_pairs=PAIR, **mix)
        assert recall_at_k_loss(X, labels, mix_pairs=PAIR.to(integers), **mix) == expected
    module = RecallAtKLoss(mixup=SimilarityMixup(), implementation=implementation)
    drawn = [module(X, given, generator=torch.Generator().manual_seed(0)) for given in (LABELS, labels)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("implementation", ["definition", "tiled"])
@pytest.mark.parametrize("precision", [torch.float16, torch.float32, torch.float64])
def test_no_gradient_reaches_the_shares(implementation: Any, precision: torch.dtype) -> None:
    x, alpha = X.clone().requires_grad_(), torch.full((1,), 0.25, dtype=precision, requires_grad=True)
    recall_at_k_loss(x, LABELS, mix_pairs=PAIR, mix_alpha=alpha, implementation=implementation).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert alpha.grad is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("implementation", ["definition", "tiled"])
def test_labels_and_mixup_are_moved_to_the_embeddings(implementation: Any) -> None:
    mix: dict[str, Any] = {"mix_pairs": PAIR, "mix_alpha": torch.full((1,), 0.25)}
    expected = recall_at_k_loss(X, LABELS, implementation=implementation, **mix)
    moved = recall_at_k_loss(X.cuda(), LABELS, implementation=implementation, **mix)
    assert moved.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_fused_loss_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = pytest.importorskip("recallk.loss.kernels.fused")
    monkeypatch.setattr(fused, "INTERPRETED", False)
    with pytest.raises(InputError, match="on cpu: move them to a GPU, or choose 'auto'"):
        recall_at_k_loss(X, LABELS, implementation="fused")
    monkeypatch.delattr("recallk.loss.kernels.fused")
    monkeypatch.setitem(sys.modules, "recallk.loss.kernels.fused", None)
    with pytest.raises(InputError, match="install triton, or choose 'auto'"):
        recall_at_k_loss(X, LABELS, implementation="fused")
    assert recall_at_k_loss(X, LABELS) == recall_at_k_loss(X, LABELS, implementation="tiled")


def test_the_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="recallk"):
        recall_at_k_loss(X, LABELS)
    assert "8 items on cpu is computed by 'tiled'" in caplog.text


def test_a_wrong_setting_is_refused_before_the_first_batch() -> None:
    with pytest.raises(InputError, match="rank_temperature"):
        RecallAtKLoss(rank_temperature=-1)


@pytest.mark.parametrize("mixup", [True, "keep", SimilarityMixup])
def test_what_is_no_mixup_is_refused(mixup: Any) -> None:
    with pytest.raises(InputError, match=r"mixup=.*: give recallk.SimilarityMixup\(\), or None"):
        RecallAtKLoss(mixup=mixup)


def test_queries_without_a_positive_are_left_out() -> None:
    lonely = torch.cat([LABELS, torch.tensor([99])])
    x = torch.cat([X, torch.randn(1, 4)])
    losses = recall_at_k_loss(x, lonely, reduction="none")
    assert losses.shape == (8,)
    assert recall_at_k_loss(x, lonely) == pytest.approx(losses.mean().item(), rel=1e-6)


def test_a_perfect_batch_and_a_hopeless_one() -> None:
    """Two items a class: at best one rank of 1 and sigmoid(0) = 0.5 at k=1; at worst no hits at all."""
    corners = torch.eye(40).repeat_interleave(2, 0)
    labels = torch.arange(80) // 2
    assert recall_at_k_loss(corners, labels, ks=[1], query_in_database=False).item() == pytest.approx(0.5)
    in_database = 1 - 1 / (1 + math.exp(0.5))  # the query ties with its duplicate: half a rank more
    assert recall_at_k_loss(corners, labels, ks=[1]).item() == pytest.approx(in_database, rel=1e-5)
    wrong = torch.cat([torch.eye(40), torch.eye(40).roll(1, 0)])
    assert recall_at_k_loss(wrong, torch.arange(40).repeat(2), ks=[1]).item() > 0.99


def test_the_module_equals_the_function_and_prints_its_settings() -> None:
    loss = RecallAtKLoss(ks=(1, 3), rank_temperature=0.1, recall_temperature=2.0, query_in_database=False)
    expected = recall_at_k_loss(
        X, LABELS, ks=(1, 3), rank_temperature=0.1, recall_temperature=2.0, query_in_database=False
    )
    assert loss(X, LABELS) == expected
    assert "ks=(1, 3)" in repr(loss)


@pytest.mark.parametrize("implementation", ["tiled", "definition"])
@pytest.mark.parametrize("mixup", [None, SimilarityMixup()])
@pytest.mark.parametrize("apart", [False, True])
def test_a_batch_without_positives_may_be_zero(
    implementation: Any, mixup: SimilarityMixup | None, apart: bool, recwarn: pytest.WarningsRecorder
) -> None:
    if apart and mixup is not None:
        pytest.skip("mixup mixes a batch with itself")
    loss = RecallAtKLoss(implementation=implementation, mixup=mixup, on_no_positives="zero")
    x, gallery = (torch.full((4, 3), 3e38, requires_grad=True) for _ in range(2))
    other = (gallery, torch.arange(4) + 9) if apart else ()
    for _ in range(2):
        value = loss(x, torch.arange(4), *other)
        value.backward()
        assert value == 0
        assert value.dtype == torch.float32
        assert (x.grad == 0).all()  # type: ignore[union-attr]
        assert not apart or (gallery.grad == 0).all()  # type: ignore[union-attr]
    (told,) = [warning for warning in recwarn.list if "positive" in str(warning.message)]
    assert str(told.message) == "no query has a positive in a batch: its loss is zero, and it teaches nothing"
    assert told.filename == __file__
    raising = RecallAtKLoss(implementation=implementation, mixup=mixup)
    with pytest.raises(InputError, match="no query has a positive"):
        raising(x, torch.arange(4), *other)
    assert torch.equal(loss(X, LABELS, generator=seeded()), raising(X, LABELS, generator=seeded()))
    with pytest.raises(InputError, match="on_no_positives='skip' is unknown: choose one of 'raise', 'zero'"):
        RecallAtKLoss(on_no_positives="skip")  # type: ignore[arg-type]
    assert "on_no_positives='zero'" in repr(loss)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)
