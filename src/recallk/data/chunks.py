"""Workers deliver chunks of 8-bit images; a batch is read twice without ever being held whole, if it is too large."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recallk.core.errors import InputError
from recallk.core.text import one_line
from recallk.data.readers import deaths_in_one_line, ignore_interrupts, lost_reader

View = Callable[[int], Tensor]  # the number of an item -> (3, S, S) uint8


class _Chunks(Dataset[Tensor | InputError]):
    """Item numbers in, one stacked chunk out."""

    def __init__(self, view: View) -> None:
        self.view = view

    def __getitem__(self, items: Sequence[int]) -> Tensor | InputError:
        try:
            return torch.stack([self.view(int(item)) for item in items])
        except InputError as error:  # as a value: raised in a worker, it would come back as a traceback
            return error
        except Exception as error:
            return InputError(f"images cannot be read ({type(error).__name__}: {one_line(error)})")


def read_chunks(view: View, chunks: Sequence[NDArray[np.int64]], workers: int) -> Iterator[Tensor]:
    """Yield each chunk `(n, 3, S, S)` uint8, in order, read ahead by `workers` processes (0: by this one).

    Raises InputError, one line, for an image that cannot be read, and where a process that reads is killed or fails.
    """
    loader: DataLoader[Tensor | InputError] = DataLoader(
        _Chunks(view),
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


def _whole(chunk: Tensor | InputError) -> Tensor:
    if isinstance(chunk, InputError):
        raise chunk
    return chunk


class TwiceReadBatch:
    """A batch that gives the same chunks in two readings.

    As many chunks as fit a budget of bytes wait in memory for the second reading; the others are decoded again.
    """

    def __init__(self, stream: Iterator[Tensor], chunks: int, kept: int) -> None:
        self._stream, self._chunks, self._kept = stream, chunks, kept
        self._waiting: deque[Tensor] = deque()
        self._read = False

    def __iter__(self) -> Iterator[Tensor]:
        if self._read:
            while self._waiting:
                yield self._waiting.popleft()
            for _ in range(self._chunks - self._kept):
                yield next(self._stream)
            return
        self._read = True
        for number in range(self._chunks):
            chunk = next(self._stream)
            if number < self._kept:
                self._waiting.append(chunk)
            yield chunk


def read_batches(
    view: View,
    batches: Sequence[NDArray[np.int64]],
    chunk_size: int,
    image_bytes: int,
    budget_bytes: float,
    workers: int,
) -> Iterator[TwiceReadBatch]:
    """Yield each batch of item numbers as a `TwiceReadBatch`, while workers read ahead across batches.

    A batch is cut into as few chunks of at most `chunk_size` as there can be, all of one size or one less, so that
    no small rest is normalised by itself.
    What is kept for the second reading is `budget_bytes` at the most, for images of `image_bytes` each.
    """
    split = [np.array_split(batch, math.ceil(len(batch) / chunk_size)) for batch in batches]
    fit = int(budget_bytes // (image_bytes * chunk_size))
    # a batch of one chunk may be read once only, and then nothing may wait for it in the stream
    kept = [1 if len(chunks) == 1 else min(fit, len(chunks)) for chunks in split]
    order = [chunk for chunks, few in zip(split, kept, strict=True) for chunk in (*chunks, *chunks[few:])]
    stream = read_chunks(view, order, workers)
    for chunks, few in zip(split, kept, strict=True):
        yield TwiceReadBatch(stream, len(chunks), few)
