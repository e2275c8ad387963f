"""Tensors reach a device from within whatever holds them; what was given stays as it was."""

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from recallk.core.devices import to_device

META = torch.device("meta")
Pair = namedtuple("Pair", "values name")


class Row(list[Any]):
    """A list with a name of its own."""


@dataclass
class Item:
    values: Tensor
    doubled: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.doubled = 2 * self.values


@dataclass(frozen=True, slots=True)
class Fixed:
    values: Tensor


class Encoding(UserDict[str, Any]):
    """As a tokeniser's: holds more than its items, and moves itself in place."""

    def __init__(self, data: dict[str, Any], words: list[str]) -> None:
        super().__init__(data)
        self.words = words

    def to(self, device: torch.device) -> "Encoding":
        self.data = {key: value.to(device) for key, value in self.data.items()}
        return self


class Forgetful:
    """Moves itself in place, and returns nothing."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def to(self, device: torch.device) -> None:
        self.values = self.values.to(device)


class ReadOnly(Mapping[str, Tensor]):
    """A mapping that takes no items."""

    def __init__(self, values: Tensor) -> None:
        self.inside = {"a": values}

    def __getitem__(self, key: str) -> Tensor:
        return self.inside[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.inside)

    def __len__(self) -> int:
        return len(self.inside)


CASES: list[tuple[Callable[[Tensor], Any], type, Callable[[Any], list[Tensor]]]] = [
    (lambda x: x, Tensor, lambda found: [found]),
    (lambda x: [x, 2 * x], list, list),
    (lambda x: Row([x]), Row, list),
    (lambda x: (x, [(x,)]), tuple, lambda found: [found[0], found[1][0][0]]),
    (lambda x: Pair(x, "cat"), Pair, lambda found: [found.values]),
    (lambda x: {"a": x, 3: {"b": x}}, dict, lambda found: [found["a"], found[3]["b"]]),
    (lambda x: OrderedDict(a=x), OrderedDict, lambda found: [found["a"]]),
    (lambda x: defaultdict(list, a=x), defaultdict, lambda found: [found["a"], *found["none"]]),
    (lambda x: UserDict(a=x), UserDict, lambda found: [found["a"]]),
    (lambda x: Encoding({"ids": x}, ["a", "cat"]), Encoding, lambda found: [found["ids"]]),
    (lambda x: ReadOnly(x), dict, lambda found: [found["a"]]),
    (lambda x: MappingProxyType({"a": x}), dict, lambda found: [found["a"]]),
    (lambda x: Item(x), Item, lambda found: [found.values, found.doubled]),
    (lambda x: Fixed(x), Fixed, lambda found: [found.values]),
    (lambda x: Forgetful(x), Forgetful, lambda found: [found.values]),
    (lambda x: pack_sequence([x, x[:1]]), tuple, lambda found: [found.data]),
    (lambda x: [Fixed(x), {"pair": Pair((x,), 1)}], list, lambda found: [found[0].values, found[1]["pair"][0][0]]),
]


@pytest.mark.parametrize(("make", "kind", "tensors"), CASES)
def test_tensors_are_moved_wherever_they_are(
    make: Callable[[Tensor], Any], kind: type, tensors: Callable[[Any], list[Tensor]]
) -> None:
    given = make(torch.arange(3.0))
    moved = to_device(given, META)
    assert isinstance(moved, kind)
    assert [tensor.device for tensor in tensors(moved)] == [META] * len(tensors(moved))
    assert all(tensor.device.type == "cpu" for tensor in tensors(given))


@pytest.mark.parametrize("value", [None, 3, "cat", b"cat", Tensor, Fixed, {1, 2}, range(3), iter([]), object()])
def test_what_holds_no_tensor_is_handed_on(value: Any) -> None:
    assert to_device(value, META) is value


def test_what_stands_beside_the_tensors_stays() -> None:
    moved = to_device([Pair(torch.ones(1), "cat"), Encoding({"ids": torch.ones(1)}, ["a", "cat"]), {"b": 2}, "c"], META)
    assert moved[0].name == "cat"
    assert moved[1].words == ["a", "cat"]
    assert moved[2:] == [{"b": 2}, "c"]


def test_a_tensor_that_is_there_already_is_not_copied() -> None:
    x = torch.ones(2)
    assert to_device([x], torch.device("cpu"))[0] is x
