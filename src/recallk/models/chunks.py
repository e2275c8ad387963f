"""Items become chunks, read ahead by workers; a batch is read twice without being held whole, if it is too large."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recallk.core.errors import InputError
from recallk.core.text import one_line
from recallk.models.readers import deaths_in_one_line, ignore_interrupts, lost_reader


class Preparation(Protocol):
    """How the items of a list are made ready for a network, and put together; handed to the processes that read."""

    def prepare(self, number: int) -> Any:
        """Return item `number` as the network takes it, such as its pixels `(3, S, S)` uint8."""

    def collate(self, prepared: list[Any]) -> Any:
        """Return a chunk made of what `prepare` gave for some items, such as `(n, 3, S, S)`."""


class _Chunks(Dataset[Any]):
    """Item numbers in, one chunk out."""

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation

    def __getitem__(self, numbers: Sequence[int]) -> Any:
        try:
            return self.preparation.collate([self.preparation.prepare(int(number)) for number in numbers])
        except InputError as error:  # as a value: raised in a worker, it would come back as a traceback
            return error
        except Exception as error:
            return InputError(f"items cannot be read ({type(error).__name__}: {one_line(error)})")


def read_chunks(preparation: Preparation, chunks: Sequence[NDArray[np.int64]], workers: int) -> Iterator[Any]:
    """Yield a chunk for each list of item numbers, in order, read ahead by `workers` processes (0: by this one).

    Raises InputError, one line, for an item that cannot be read, and where a process that reads is killed or fails.
    """
    loader: DataLoader[Any] = DataLoader(
        _Chunks(preparation),
        batch_size=None,
        sampler=chunks,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=ignore_interrupts if workers else None,
    )
    if not workers:
        for chunk in loader:
            yield _whole(chunk)
        return
    try:
        stream = iter(loader)
    except (RuntimeError, OSError) as error:
        raise lost_reader(error, workers) from None
    with deaths_in_one_line(workers):
        while True:
            try:
                chunk = next(stream)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                raise lost_reader(error, workers) from None
            yield _whole(chunk)


def _whole(chunk: Any) -> Any:
    if isinstance(chunk, InputError):
        raise chunk
    return chunk


class TwiceReadBatch:
    """A batch that gives the same chunks in two readings.

    The first `in_memory` chunks wait for the second reading; the others are read again.
    """

    def __init__(self, stream: Iterator[Any], chunks: int, in_memory: int) -> None:
        self._stream, self._chunks, self._in_memory = stream, chunks, in_memory
        self._waiting: deque[Any] = deque()
        self._read = False

    def __iter__(self) -> Iterator[Any]:
        if self._read:
            while self._waiting:
                yield self._waiting.popleft()
            for _ in range(self._chunks - self._in_memory):
                yield next(self._stream)
            return
        self._read = True
        for number in range(self._chunks):
            chunk = next(self._stream)
            if number < self._in_memory:
                self._waiting.append(chunk)
            yield chunk


def read_batches(
    preparation: Preparation,
    batches: Sequence[NDArray[np.int64]],
    chunk_size: int,
    budget_bytes: float,
    workers: int,
) -> Iterator[TwiceReadBatch]:
    """Yield each batch of item numbers as a `TwiceReadBatch`, while workers read ahead across batches.

    A batch is cut into as few chunks of at most `chunk_size` as there can be, all of one size or one less, so that
    no small rest is normalised by itself.
    For the second reading at most `budget_bytes` wait in memory, if all items are as large as the first.
    """
    split = [np.array_split(batch, math.ceil(len(batch) / chunk_size)) for batch in batches]
    several = any(len(chunks) > 1 for chunks in split) and budget_bytes > 0
    fit = int(budget_bytes // (chunk_size * _item_bytes(preparation, batches[0]))) if several else 0
    # a batch of one chunk may be read once only, and then nothing may wait for it in the stream
    waiting = [1 if len(chunks) == 1 else min(fit, len(chunks)) for chunks in split]
    order = [chunk for chunks, few in zip(split, waiting, strict=True) for chunk in (*chunks, *chunks[few:])]
    stream = read_chunks(preparation, order, workers)
    for chunks, few in zip(split, waiting, strict=True):
        yield TwiceReadBatch(stream, len(chunks), few)


def _item_bytes(preparation: Preparation, batch: NDArray[np.int64]) -> int:
    """Return how much memory the first item takes once it is prepared; without a loader, which would draw a number."""
    return max(1, _bytes(_whole(_Chunks(preparation)[batch[:1].tolist()])))


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor | np.ndarray):
        return int(value.nbytes)
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return len(value) if isinstance(value, str | bytes) else 0
