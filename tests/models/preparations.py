"""Preparations of items that are no images, to read chunks and batches of."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from recallk import InputError
from recallk.models.chunks import Preparation


class Counting(Preparation):
    """An item of three bytes, its number; counts what is prepared."""

    def __init__(self) -> None:
        self.prepared: Counter[int] = Counter()

    def prepare(self, number: int) -> torch.Tensor:
        self.prepared[number] += 1
        return torch.full((3, 1, 1), number, dtype=torch.uint8)

    def collate(self, prepared: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(prepared)


class Broken(Counting):
    def prepare(self, number: int) -> torch.Tensor:
        raise InputError(f"image {number} is broken")


class Tokens(Preparation):
    """A text of as many tokens as its number: a dictionary of arrays, made one chunk by padding."""

    def prepare(self, number: int) -> dict[str, torch.Tensor]:
        return {"tokens": torch.arange(number), "length": torch.tensor([number])}

    def collate(self, prepared: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        tokens = torch.nn.utils.rnn.pad_sequence([item["tokens"] for item in prepared], batch_first=True)
        return {"tokens": tokens, "length": torch.cat([item["length"] for item in prepared])}


class Words(Preparation):
    """A text that a model takes as it is; a chunk is a list."""

    def prepare(self, number: int) -> str:
        return f"item {number:03}"

    def collate(self, prepared: list[str]) -> list[str]:
        return prepared


class Pairs(Preparation):
    """A tuple of an array and bytes; a chunk joins each."""

    def prepare(self, number: int) -> tuple[np.ndarray[Any, Any], bytes]:
        return np.full(2, number, np.int64), bytes([number])

    def collate(self, prepared: list[tuple[np.ndarray[Any, Any], bytes]]) -> tuple[np.ndarray[Any, Any], bytes]:
        return np.stack([array for array, _ in prepared]), b"".join(byte for _, byte in prepared)


def numbers_in_tokens(chunk: Any) -> list[int]:
    assert chunk["tokens"].shape == (len(chunk["length"]), int(chunk["length"].max()))
    return [int(length) for length in chunk["length"]]


def numbers_in_words(chunk: Any) -> list[int]:
    return [int(text.split()[1]) for text in chunk]


def numbers_in_pairs(chunk: Any) -> list[int]:
    array, joined = chunk
    assert array[:, 0].tolist() == list(joined)
    return list(joined)


KINDS: dict[str, tuple[Callable[[], Preparation], Callable[[Any], list[int]]]] = {
    "dictionaries": (Tokens, numbers_in_tokens),
    "strings": (Words, numbers_in_words),
    "tuples": (Pairs, numbers_in_pairs),
}


class CannotCollate(Words):
    def collate(self, prepared: list[str]) -> list[str]:
        raise TypeError("several\nlines")


class Kinds(Counting):
    """An item of the kind `number % 3`, as many bytes long as 3 to the power of it; tells what is asked when."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def kind(self, number: int) -> int:
        self.asked.append(number)
        return number % 3

    def prepare(self, number: int) -> torch.Tensor:
        self.prepared[number] += 1
        return torch.full((3 ** (number % 3),), number, dtype=torch.uint8)


class KnownBytes(Kinds):
    def bytes_of(self, number: int) -> int:
        return int(3 ** (number % 3))


def numbers_of(chunk: torch.Tensor) -> list[int]:
    return [int(number) for number in chunk[:, 0]]
