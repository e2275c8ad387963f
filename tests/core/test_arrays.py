"""Embeddings, labels and ks of any kind, given to the loss and to evaluation, which check them in one place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recallk import InputError, RecallAtKLoss, SimilarityMixup, recall_at_k_loss
from recallk.evaluation import nmi, retrieval_metrics

ROWS = np.random.default_rng(0).normal(size=(12, 4))
LABELS = np.arange(12) // 3


def loss(rows: Any, labels: Any, *gallery: Any, **settings: Any) -> float:
    return float(recall_at_k_loss(rows, labels, *gallery, **settings))


def module(rows: Any, labels: Any, *gallery: Any, **settings: Any) -> float:
    generator = torch.Generator().manual_seed(0)
    mixup = None if gallery else SimilarityMixup()
    return float(RecallAtKLoss(mixup=mixup, **settings)(rows, labels, *gallery, generator=generator))


def metrics(rows: Any, labels: Any, *gallery: Any, **settings: Any) -> float:
    return retrieval_metrics(rows, labels, *gallery, **settings)["map@r"]


def clusters(rows: Any, labels: Any, *_: Any, **__: Any) -> float:
    return float(nmi(rows, labels))


TAKERS = (loss, module, metrics, clusters)
Taker = Callable[..., float]


def as_words(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array([f"class {label}" for label in labels])


class Failing:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("two\nlines")


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


KINDS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "a list of arrays": lambda a: list(a),
    "a list of tensors": lambda a: list(torch.from_numpy(a.copy())),
    "array": lambda a: a,
    "tensor": lambda a: torch.from_numpy(a),
    "read-only": read_only,
    "turned": lambda a: np.asfortranarray(a[::-1].copy())[::-1],
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("take", TAKERS)
def test_arrays_of_any_kind(take: Taker, kind: str) -> None:
    expected = take(torch.from_numpy(ROWS), torch.from_numpy(LABELS))
    assert take(KINDS[kind](ROWS), KINDS[kind](LABELS)) == pytest.approx(expected, abs=1e-12)
    side = torch.from_numpy(ROWS), torch.from_numpy(LABELS)
    apart = take(*side, *side)
    assert take(*side, KINDS[kind](ROWS), KINDS[kind](LABELS)) == pytest.approx(apart, abs=1e-12)


@pytest.mark.parametrize("integers", ["u1", "u2", "u4", "u8", "i1", ">i4", ">u4", "i8"])
@pytest.mark.parametrize("take", TAKERS)
def test_labels_of_any_integers(take: Taker, integers: str) -> None:
    assert take(ROWS, LABELS.astype(integers)) == take(torch.from_numpy(ROWS), torch.from_numpy(LABELS))


@pytest.mark.parametrize("floats", ["f2", "f4", ">f2", ">f4"])
@pytest.mark.parametrize("take", TAKERS)
def test_embeddings_of_any_floats(take: Taker, floats: str) -> None:
    rounded = ROWS.astype(floats)
    native = torch.from_numpy(rounded.astype(floats.strip(">")))
    assert take(rounded, LABELS) == take(native, torch.from_numpy(LABELS))


def test_the_gradient_reaches_a_list_of_tensors() -> None:
    rows = [torch.tensor(row, requires_grad=True) for row in ROWS]
    recall_at_k_loss(rows, LABELS).backward()  # type: ignore[no-untyped-call]
    whole = torch.tensor(ROWS, requires_grad=True)
    recall_at_k_loss(whole, torch.from_numpy(LABELS)).backward()  # type: ignore[no-untyped-call]
    assert whole.grad is not None
    for row, expected in zip(rows, whole.grad, strict=True):
        assert row.grad is not None
        assert torch.equal(row.grad, expected)


def test_what_the_caller_owns_stays_as_it_was() -> None:
    rows, labels = ROWS.astype(np.float32), LABELS.copy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    before = unit.copy()
    loss(rows, labels)
    loss(unit, labels, normalized=True)
    metrics(rows, labels)
    assert np.array_equal(rows, ROWS.astype(np.float32))
    assert np.array_equal(unit, before)
    assert np.array_equal(labels, LABELS)


def test_mixup_from_lists_and_arrays() -> None:
    pairs, alpha = [[0, 1], [3, 5]], [0.25, 0.5]
    expected = loss(ROWS, LABELS, mix_pairs=torch.tensor(pairs), mix_alpha=torch.tensor(alpha))
    assert loss(ROWS, LABELS, mix_pairs=pairs, mix_alpha=alpha) == expected
    assert loss(ROWS, LABELS, mix_pairs=np.array(pairs, ">u4"), mix_alpha=np.array(alpha, ">f4")) == expected
    drawn = [SimilarityMixup().draw(y, torch.Generator().manual_seed(1)) for y in (LABELS, LABELS.tolist())]
    assert torch.equal(drawn[0][0], drawn[1][0])


WITH_NAN = np.where(np.arange(12)[:, None] < 2, np.nan, ROWS)
BAD_SIDES: dict[str, tuple[Any, Any, str]] = {
    "no embeddings": (None, LABELS, "embeddings are of type NoneType: floating-point numbers are needed"),
    "no labels": (ROWS, None, "labels are of type NoneType: integers are needed"),
    "words": (ROWS, as_words(LABELS), r"labels are strings: .*numpy.unique\(labels, return_inverse=True\)"),
    "a list of words": (ROWS, as_words(LABELS).tolist(), "labels are strings: integers are needed; number the classes"),
    "objects of words": (ROWS, as_words(LABELS).astype(object), "labels are strings"),
    "bytes": (ROWS, as_words(LABELS).astype("S"), "labels are strings"),
    "dates": (ROWS, LABELS.astype("M8[D]"), r"labels are datetime64\[D\]: integers are needed"),
    "floats": (ROWS, LABELS * 1.0, "labels are float64: integers are needed; number the classes"),
    "truths": (ROWS, LABELS > 1, "labels are bool: integers are needed"),
    "complex": (ROWS, LABELS * 1j, "labels are complex128: integers are needed"),
    "great integers": (ROWS, [10**30] * 12, "labels are of type int: integers are needed"),
    "one label": (ROWS, 3, r"labels have shape \(\), embeddings have 12 rows"),
    "a dictionary": ({"a": 1}, LABELS, "embeddings are of type dict"),
    "a generator": ((row for row in ROWS), LABELS, "embeddings are of type generator"),
    "a word": ("embeddings", LABELS, "embeddings are strings"),
    "rows of several lengths": ([[1.0, 2.0], [1.0]], [0, 0], "embeddings make no array .*: give rows of one length"),
    "tensors of several lengths": ([torch.ones(2), torch.ones(3)], [0, 0], "embeddings are tensors that do not go"),
    "an array that fails": (Failing(), LABELS, "embeddings make no array .two lines."),
    "integers": (ROWS.astype(int), LABELS, "embeddings are int64: floating-point numbers are needed"),
    "complex rows": (ROWS * 1j, LABELS, "embeddings are complex128: floating-point numbers are needed"),
    "eight bits": (torch.from_numpy(ROWS).to(torch.float8_e5m2), LABELS, "embeddings are float8_e5m2: floating-point"),
    "sparse": (torch.from_numpy(ROWS).to_sparse(), LABELS, "embeddings are a sparse, nested or quantized tensor"),
    "one row": (ROWS[0], LABELS, r"embeddings have shape \(4,\): \(items, dimensions\) is needed"),
    "no rows": ([], [], r"embeddings have shape \(0,\): \(items, dimensions\)"),
    "no items": (ROWS[:0], LABELS[:0], r"embeddings are empty, of shape \(0, 4\)"),
    "no dimensions": (ROWS[:, :0], LABELS, r"embeddings are empty, of shape \(12, 0\)"),
    "labels too short": (ROWS, LABELS[:5], r"labels have shape \(5,\), embeddings have 12 rows: give one label per"),
    "labels in rows": (ROWS, LABELS[:, None], r"labels have shape \(12, 1\), embeddings have 12 rows"),
    "NaN": (WITH_NAN, LABELS, "2 of 12 rows of the embeddings hold NaN or infinity: .*lower the learning rate; other"),
    "infinite": (ROWS * np.inf, LABELS, "12 of 12 rows of the embeddings .* broken input"),
}


@pytest.mark.parametrize("mistake", BAD_SIDES)
@pytest.mark.parametrize("take", TAKERS)
def test_mistakes_get_one_line(take: Taker, mistake: str) -> None:
    rows, labels, message = BAD_SIDES[mistake]
    with pytest.raises(InputError, match=message) as caught:
        take(rows, labels)
    assert "\n" not in str(caught.value)
    if take is clusters or rows is None or labels is None or mistake == "a generator":
        return
    with pytest.raises(
        InputError, match=message.replace("labels", "gallery_labels", 1).replace("embeddings", "gallery")
    ):
        take(ROWS, LABELS, rows, labels)


@pytest.mark.skipif(np.dtype(np.longdouble) == np.float64, reason="has no floats beyond float64")
def test_extended_precision() -> None:
    with pytest.raises(InputError, match=r"embeddings are .*, which PyTorch does not know"):
        loss(ROWS.astype(np.longdouble), LABELS)


@pytest.mark.parametrize("take", [loss, module, metrics])
@pytest.mark.parametrize(
    ("ks", "message"),
    [
        (5, r"ks must be a sequence of at least one k, such as \(1, 10\), got 5"),
        (np.int64(5), "ks must be a sequence"),
        (torch.tensor(5), "ks must be a sequence"),
        (None, "ks must be a sequence of at least one k.*got None"),
        ("12", "ks must be a sequence.*got '12'"),
        ((), "ks must be a sequence of at least one k"),
        ((1, 0), "an integer of at least 1, got 0"),
        ((1, -(10**5000)), "an integer of at least 1, got a value of type int"),
        ((1, 1.5), "an integer of at least 1, got 1.5"),
        ((True,), "an integer of at least 1, got True"),
        (np.array([True]), "an integer of at least 1, got True"),
        (("1",), "an integer of at least 1, got '1'"),
        ((None,), "an integer of at least 1, got None"),
        ((float("nan"),), "an integer of at least 1, got nan"),
        ((float("inf"),), "an integer of at least 1, got inf"),
        ((10**30,), "every k must be at most 2147483647"),
        ((10**400,), "every k must be at most 2147483647"),
    ],
)
def test_ks_that_are_none(take: Taker, ks: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        take(ROWS, LABELS, ks=ks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("take", [loss, module, metrics])
@pytest.mark.parametrize(
    "ks", [[1, 2], range(1, 3), np.array([1, 2], ">u2"), (np.int32(1), np.uint8(2)), torch.tensor([1, 2]), (1.0, 2)]
)
def test_ks_of_any_kind(take: Taker, ks: Any) -> None:
    assert take(ROWS, LABELS, ks=ks) == take(ROWS, LABELS, ks=(1, 2))


def test_ks_far_beyond_the_gallery() -> None:
    assert metrics(ROWS, LABELS, ks=(1, 2**31 - 1)) == metrics(ROWS, LABELS, ks=(1,))
    assert 0 < loss(ROWS, LABELS, ks=(1, 2**31 - 1)) < 1


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_rows_of_any_length_are_normalised(precision: torch.dtype) -> None:
    from recallk.core.arrays import normalised

    smallest, largest = torch.finfo(precision).smallest_normal, torch.finfo(precision).max
    for length in (smallest, 1e-20, 1.0, 1e20, largest):
        rows = torch.tensor([[0.6, 0.8, 0], [0, 0, 0]], dtype=precision) * length
        torch.testing.assert_close(normalised(rows), torch.tensor([[0.6, 0.8, 0], [0, 0, 0]], dtype=precision))
    rows = torch.full((1, 4), largest, dtype=precision)  # its length is no number of this precision
    torch.testing.assert_close(normalised(rows), torch.full((1, 4), 0.5, dtype=precision))


def test_labels_are_int64_and_the_embeddings_type_stays() -> None:
    from recallk.core.arrays import labelled_embeddings

    given = torch.from_numpy(ROWS).half().requires_grad_()
    rows, labels = labelled_embeddings(given, LABELS.astype(np.uint16))
    assert rows is given
    assert isinstance(labels, Tensor)
    assert labels.dtype == torch.int64
