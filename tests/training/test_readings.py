"""The checksum that tells two readings of a batch apart, and the room for rounding between two passes."""

from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recallk import InputError

Pair = namedtuple("Pair", "pixels name")


@dataclass
class Item:
    pixels: Tensor
    weight: float


@dataclass(frozen=True, slots=True)
class Fixed:
    pixels: Tensor


def same(first: Any, second: Any) -> bool:
    from recallk.training.readings import Readings

    readings = Readings()
    readings.remember(first)
    try:
        readings.compare(0, second)
        readings.check()
    except InputError:
        return False
    return True


@pytest.mark.parametrize(
    "dtype",
    [
        torch.uint8,
        torch.bool,
        torch.int16,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
    ],
)
@pytest.mark.parametrize("size", [0, 1, 7, 8, 1000, 300_001])
def test_any_change_of_one_value_or_of_two_places_changes_the_checksum(dtype: torch.dtype, size: int) -> None:
    values = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(0)).to(dtype)
    assert same(values, values.clone())
    for place in {0, size // 2, size - 1} - {-1} if size else set():
        changed = values.clone()
        changed[place] = bool(values[place] == 0)
        assert not same(values, changed)
    if size > 7:
        swapped = values.clone()
        ones, zeros = (values == 1).nonzero(), (values == 0).nonzero()
        swapped[ones[-1]], swapped[zeros[0]] = values[zeros[0]], values[ones[-1]]
        assert not same(values, swapped)
        assert not same(values, values.flip(0))


def test_the_checksum_is_of_the_values_however_they_lie_in_memory() -> None:
    whole = torch.arange(1000, dtype=torch.uint8).reshape(10, 100)
    for one in (
        whole[:, 3:50],
        whole.t(),
        whole[1:],
        whole[0, 0],
        whole[:1].expand(4, 100),
        whole.to(torch.cfloat).conj(),
    ):
        assert same(one, one.clone().contiguous())
        assert not same(one, one + 1)
    assert not same(whole, whole.reshape(100, 10))
    assert not same(whole, whole.to(torch.int8))
    assert same(torch.full((3,), float("nan")), torch.full((3,), float("nan")))


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda x: [x, {"a": (x,)}], lambda x: [x, {"a": (x + 1,)}]),
        (lambda x: {"a": x, "b": 2 * x}, lambda x: {"b": x, "a": 2 * x}),
        (lambda x: [x, 2 * x], lambda x: [2 * x, x]),
        (lambda x: UserDict(a=x), lambda x: UserDict(a=x + 1)),
        (lambda x: Pair(x, "cat"), lambda x: Pair(x, "dog")),
        (lambda x: Fixed(x), lambda x: Fixed(x + 1)),
        (lambda x: Item(x, float("nan")), lambda x: Item(x, 0.0)),
        (lambda x: [["a", "b"], 1, None], lambda x: [["b", "a"], 1, None]),
        (lambda x: np.asarray(x), lambda x: np.asarray(x + 1)),
        (lambda x: np.array(["a", "b"]), lambda x: np.array(["b", "a"])),
        (lambda x: x.to_sparse(), lambda x: x[:-1].to_sparse()),
    ],
)
def test_chunks_of_any_make(make: Any, other: Any) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert same(make(x), make(x.clone()))
    assert not same(make(x), other(x))


def test_what_is_unknown_says_nothing() -> None:
    assert same([object(), np.array([object()])], [object(), np.array([object()])])


def differing(first: Tensor, second: Tensor) -> bool:
    from recallk.training.readings import Passes

    passes = Passes(first)
    passes.compare(first[:10], second[:10])
    passes.compare(first[10:], second[10:])
    try:
        passes.check()
    except InputError:
        return True
    return False


def test_rounding_is_accepted_and_another_embedding_is_not() -> None:
    torch.manual_seed(0)
    spread = torch.nn.functional.normalize(torch.randn(40, 16), dim=1)
    alike = torch.nn.functional.normalize(spread + 3, dim=1)  # as of an untrained network, cosines above 0.97
    for embeddings in (spread, alike, 1e4 * spread):
        assert not differing(embeddings, embeddings)
        assert not differing(embeddings, embeddings.bfloat16())
        assert not differing(embeddings.half(), embeddings.half() * (1 + 2e-3 * torch.randn(40, 16)))
        assert differing(embeddings, embeddings.roll(1, 0))
        one_row = embeddings.clone()
        one_row[3] = embeddings[4]
        assert not differing(embeddings, one_row)  # sent through another branch by rounding
    dropped = spread * (torch.rand(40, 16) > 0.1) / 0.9
    assert differing(spread, dropped)
    assert not differing(torch.full((40, 16), float("nan")), torch.full((40, 16), float("nan")))
    assert not differing(torch.zeros(40, 16), torch.zeros(40, 16))
