"""A batch as chunks that can be read twice; whether both readings, and the embeddings of both passes, are the same."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recallk.core.arrays import as_tensor
from recallk.core.errors import InputError

BLOCK = 2**17
"""Words of 8 bytes that are summed at a time: 1 MB, whatever the size of a chunk."""
SHARE_OF_LENGTH, SHARE_OF_SPREAD = 0.03, 0.1
"""How far an embedding may move between the passes, the larger of two: 3% of its own length, which eight roundings
to bfloat16 in a row stay below, and a tenth of how far the embeddings of the batch lie from their mean. Passes
without and with a graph may run different kernels, on a GPU not the same twice. Another item, or another draw of
dropout, moves an embedding by a good part of the spread or more."""
FEW_ROWS = 0.05
"""Share of the rows that may move further: rounding can send a row through another branch of the model."""


def as_chunks(inputs: Any, chunk_size: int) -> Iterable[Any]:
    """Return inputs as something that gives chunks, twice. Raises InputError for what cannot."""
    if isinstance(inputs, np.ndarray):
        inputs = as_tensor(inputs, "inputs", "numbers are needed")
    if isinstance(inputs, Tensor):
        if not inputs.ndim or not len(inputs):
            raise InputError(f"inputs are of shape {tuple(inputs.shape)}: rows are needed, (B, ...)")
        return torch.split(inputs, int(chunk_size))
    if isinstance(inputs, Iterator):
        raise InputError("inputs can be iterated only once: give a tensor, a list, or an object that starts anew")
    # not by trying: a data loader draws, and starts its workers, when it is asked for an iterator
    able = hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__")
    if not able or isinstance(inputs, str | bytes | Mapping):
        raise InputError(f"inputs are of type {type(inputs).__name__}: give a tensor, or a list of chunks")
    chunks: Iterable[Any] = inputs
    return chunks


class Readings:
    """Remembers the first reading of a batch, chunk by chunk, as a checksum each, and compares the second with it."""

    def __init__(self) -> None:
        self._kinds: list[list[Hashable]] = []
        self._sums: list[Tensor] = []
        self._again: dict[int, Tensor] = {}

    def remember(self, chunk: Any) -> None:
        """Take the next chunk of the first reading, as the model gets it."""
        kinds, total = _checksum(chunk)
        self._kinds.append(kinds)
        self._sums.append(total)

    def compare(self, number: int, chunk: Any) -> None:
        """Take a chunk of the second reading, of any number. Raises InputError where not even its shapes are the same.

        Chunks are counted from 0.
        """
        kinds, total = _checksum(chunk)
        if kinds != self._kinds[number]:
            raise _differs(number)
        self._again[number] = total

    def check(self) -> None:
        """Raise InputError where any value differed; only here, so that a GPU need not be waited for each time."""
        if not self._again:
            return
        sums = torch.stack([self._sums[number] for number in self._again])
        differing = sums.ne(torch.stack(list(self._again.values()))).nonzero()
        if len(differing):
            raise _differs(list(self._again)[int(differing[0])])


class Passes:
    """Counts the rows that the second pass embeds otherwise than the first, of those that it embeds."""

    def __init__(self, embeddings: Tensor) -> None:
        self._rows = 0
        first = _wide(embeddings)
        self._allowed = SHARE_OF_SPREAD * (first - first.mean(dim=0)).norm(dim=1).square().mean().sqrt()
        self._differing = torch.zeros((), dtype=torch.long, device=embeddings.device)

    def compare(self, first: Tensor, second: Tensor) -> None:
        """Take a chunk's embeddings `(n, D)` of either pass."""
        self._rows += len(first)
        first, second = _wide(first), _wide(second)
        moved, length = (second - first).norm(dim=1), first.norm(dim=1)
        # NaN is never greater: embeddings that are not finite are for the loss to refuse, or a gradient scaler
        self._differing += (moved > torch.maximum(SHARE_OF_LENGTH * length, self._allowed)).sum()

    def check(self) -> None:
        """Raise InputError where more than a few rows differed."""
        differing = int(self._differing)
        if differing > FEW_ROWS * self._rows:
            raise InputError(
                f"the second pass embedded {differing} of {self._rows} rows differently, from the same inputs: let "
                f"the model draw from PyTorch's, NumPy's or Python's global random state, and keep what it remembers "
                f"from call to call in buffers"
            )


def _wide(embeddings: Tensor) -> Tensor:
    embeddings = embeddings.detach()
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))


def _differs(number: int) -> InputError:
    return InputError(
        f"chunk {number + 1} of the inputs is another in the second reading than in the first: both readings must give "
        f"the same chunks, and the model must not write into them; draw and shuffle once, into a list"
    )


def _checksum(chunk: Any) -> tuple[list[Hashable], Tensor]:
    """Return what a chunk consists of, and a checksum of its tensors, still on their device."""
    kinds: list[Hashable] = []
    total: Tensor | None = None
    for place, content in enumerate(contents(chunk)):
        if not isinstance(content, Tensor):
            kinds.append(content)
            continue
        kinds.append((content.dtype, content.shape))
        if content.layout == torch.strided and not content.is_nested and not content.is_meta:
            own = _sum(content.detach()) * (2 * place + 1)
            total = own if total is None else total + own.to(total.device)
    return kinds, torch.zeros((), dtype=torch.long) if total is None else total


def contents(value: Any) -> Iterator[Any]:
    """Yield tensors as they are, however wrapped, of other plain values something hashable, of what is unknown None."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield (str(value.dtype), value.shape, hash(value.tobytes()))
    elif isinstance(value, Mapping):
        yield len(value)
        for key, item in value.items():
            yield repr(key) if isinstance(key, str | int) else None
            yield from contents(item)
    elif isinstance(value, list | tuple):
        yield len(value)
        for item in value:
            yield from contents(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from contents({field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, str | bytes):
        yield hash(value)
    elif isinstance(value, int | float | complex | np.generic) or value is None:
        yield repr(value)  # so that NaN is itself


def _sum(tensor: Tensor) -> Tensor:
    """Return a sum of a tensor's bytes, in words of 8, each times an odd number of its place, modulo 2**64."""
    data = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    if data.storage_offset() % 8:
        data = data.clone()
    whole = len(data) // 8 * 8
    words, rest = data[:whole].view(torch.long), data[whole:].long()
    weights = _weights(data.device)
    sums = [(piece * weights[: len(piece)]).sum() for piece in torch.split(words, BLOCK) if len(piece)]
    sums.append((rest * weights[: len(rest)]).sum())
    places = torch.arange(1, 2 * len(sums), 2, device=data.device)
    return (torch.stack(sums) * places).sum()


@cache
def _weights(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    odd: Tensor = torch.randint(-(2**62), 2**62, (BLOCK,), generator=generator) * 2 + 1
    return odd.to(device)
