"""A batch as chunks, read twice without being held whole, if it is too large."""

import logging
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recallk.core import processes
from recallk.models.chunks import Preparation, by_kind, prepared_chunk, read_chunks

log = logging.getLogger("recallk")


@dataclass(frozen=True)
class Cut:
    """A batch cut into chunks, each of one kind; the numbers of their items."""

    chunks: list[NDArray[np.int64]]
    kinds: list[Hashable]
    """Of each chunk."""

    @property
    def items(self) -> NDArray[np.int64]:
        """All numbers, in the order of the chunks."""
        return np.concatenate([np.empty(0, np.int64), *self.chunks])

    def part(self, chunks: range) -> "Cut":
        """Return some of the chunks, neighbours."""
        some = slice(chunks.start, chunks.stop)
        return Cut(self.chunks[some], self.kinds[some])


def cut(preparation: Preparation, batch: NDArray[np.int64], chunk_size: int) -> Cut:
    """Cut a batch of item numbers into as few chunks of at most `chunk_size` as there can be of each kind.

    All chunks of a kind are of one size or one less, so that no small rest is normalised by itself.
    """
    chunks, kinds = list[NDArray[np.int64]](), list[Hashable]()
    for kind, numbers in by_kind(preparation, batch).items():
        chunks += np.array_split(numbers, math.ceil(len(numbers) / chunk_size))
        kinds += [kind] * (len(chunks) - len(kinds))
    return Cut(chunks, kinds)


class TwiceReadBatch:
    """A batch that gives the same chunks in two readings.

    Of the batch's chunks they are this process's `share`, of these `sizes`. `items` are the numbers of their items, in
    the order of the chunks, `all_items` those of the whole batch, over all processes.

    The first chunks are expected to be needed once, the next ones wait for the second reading (`again`), and the others
    are read again.
    """

    def __init__(self, stream: Iterator[Any], preparation: Preparation, whole: Cut, share: range, again: range) -> None:
        self.all_items, self.share = whole.items, share
        own = whole.part(share)
        self.items, self.sizes = own.items, [len(chunk) for chunk in own.chunks]
        self._stream, self._preparation, self._chunks, self._again = stream, preparation, own.chunks, again
        self._ahead = 2 * len(own.chunks) - again.stop
        self._waiting: deque[Any] = deque()
        self._read = False

    def __iter__(self) -> Iterator[Any]:
        if self._read:
            yield from self.second_reading(0)
            return
        self._read = True
        for number in range(len(self._chunks)):
            chunk = self._next()
            if number in self._again:
                self._waiting.append(chunk)
            yield chunk

    def second_reading(self, kept: int) -> Iterator[Any]:
        """Yield the chunks behind the first `kept`; this process reads those that were expected to be kept."""
        for number, chunk in enumerate(self._chunks):
            if number < self._again.start:
                if number >= kept:
                    yield prepared_chunk(self._preparation, chunk.tolist())
                continue
            found = self._waiting.popleft() if number in self._again else self._next()
            if number >= kept:
                yield found

    def pass_over(self) -> None:
        """Read what has not been read, before the next batch is: a step may end before the second reading."""
        while self._ahead:
            self._next()

    def _next(self) -> Any:
        self._ahead -= 1
        return next(self._stream)


def read_batches(
    preparation: Preparation,
    batches: Sequence[NDArray[np.int64]],
    chunk_size: int,
    budget_bytes: float,
    workers: int,
    kept: Callable[[], float] = lambda: 0.0,
) -> Iterator[TwiceReadBatch]:
    """Yield each batch of item numbers as a `TwiceReadBatch`, while workers read ahead across batches.

    A batch is `cut` when its turn to be read comes, alike in all processes, each of which reads its share of the
    chunks. `kept` then says which share of them, the first ones, is likely not to be needed a second time. For the
    second reading of the others at most `budget_bytes` wait in memory, if all items of a kind are as large as the
    first.
    """
    room = _Room(preparation, budget_bytes)
    cuts: dict[int, tuple[Cut, range, range]] = {}  # of batches that are not done; which chunks are ours, which wait

    def cut_of(number: int) -> tuple[Cut, range, range]:
        if number not in cuts:
            whole = cut(preparation, batches[number], chunk_size)
            share = processes.share(len(whole.chunks))
            once = int(kept() * len(share) + 1e-6)
            waiting = room.for_chunks(whole.part(share[once:]), single=len(share) == 1)
            cuts[number] = whole, share, range(once, once + waiting)
        return cuts[number]

    def order() -> Iterator[NDArray[np.int64]]:
        for number in range(len(batches)):
            whole, share, again = cut_of(number)
            own = whole.part(share).chunks
            yield from own
            yield from own[again.stop :]

    stream = read_chunks(preparation, order(), workers)
    for number in range(len(batches)):
        whole, share, again = cut_of(number)
        told = "a batch of %s items in %s chunks: %s are embedded here, of which %s wait in memory for the second pass"
        log.debug(told, len(whole.items), len(whole.chunks), len(share), len(again))
        yield TwiceReadBatch(stream, preparation, whole, share, again)
        del cuts[number]


class _Room:
    """The memory in which chunks wait for the second reading."""

    def __init__(self, preparation: Preparation, budget_bytes: float) -> None:
        self._preparation, self._budget = preparation, budget_bytes
        self._bytes: dict[Hashable, int] = {}  # of an item of each kind

    def for_chunks(self, made: Cut, *, single: bool) -> int:
        """Return how many of the first chunks it holds."""
        if single:  # read once, as a rule
            return len(made.chunks)
        fit, left = 0, self._budget
        for chunk, kind in zip(made.chunks, made.kinds, strict=True):
            if left <= 0:
                break
            left -= len(chunk) * self._item_bytes(kind, int(chunk[0]))
            fit += left >= 0
        return fit

    def _item_bytes(self, kind: Hashable, number: int) -> int:
        if kind not in self._bytes:
            self._bytes[kind] = self._preparation.bytes_of(number) or _measured(self._preparation, number)
        return self._bytes[kind]


def _measured(preparation: Preparation, number: int) -> int:
    """Return how much memory an item takes once it is prepared."""
    return max(1, _bytes(prepared_chunk(preparation, [number])))


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor | np.ndarray):
        return int(value.nbytes)
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return len(value) if isinstance(value, str | bytes) else 0
