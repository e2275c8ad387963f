"""Items become chunks, read ahead by workers."""

import logging
import math
import sys
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from recallk.core.errors import InputError
from recallk.core.text import one_line
from recallk.models.readers import deaths_in_one_line, lost_reader, prepare_reader, starting_readers

log = logging.getLogger("recallk")

LOOKED_THROUGH = 4_096
"""Items among which those of a kind are looked for, where all are embedded."""


class Preparation(Protocol):
    """How the items of a list are made ready for a network, and put together; handed to the processes that read."""

    def prepare(self, number: int) -> Any:
        """Return item `number` as the network takes it, such as its pixels `(3, S, S)` uint8."""

    def collate(self, prepared: list[Any]) -> Any:
        """Return a chunk made of what `prepare` gave for some items of one kind, such as `(n, 3, S, S)`."""

    def kind(self, number: int) -> Hashable:  # noqa: ARG002
        """Return what items must have in common to make a chunk, such as the shape; asked before they are prepared.

        None of all, unless a preparation says otherwise.
        """
        return None

    def bytes_of(self, number: int) -> int | None:  # noqa: ARG002
        """Return what an item takes in memory once it is prepared, as others of its kind do; None: to be measured."""
        return None


class _Chunks(Dataset[Any]):
    """Item numbers in, one chunk out."""

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation

    def __getitem__(self, numbers: Sequence[int]) -> Any:
        try:
            return self.preparation.collate([self.preparation.prepare(int(number)) for number in numbers])
        except Exception as error:  # as a value: raised in a worker, it would come back as a traceback
            return _in_one_line(error)


def _in_one_line(error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError(f"items cannot be read ({type(error).__name__}: {one_line(error)})")


def prepared_chunk(preparation: Preparation, numbers: Sequence[int]) -> Any:
    """Return the chunk of some items, read by this process without a loader, which would draw a random number.

    Raises InputError, one line, for an item that cannot be read.
    """
    return _whole(_Chunks(preparation)[numbers])


def read_chunks(preparation: Preparation, chunks: Iterable[NDArray[np.int64]], workers: int) -> Iterator[Any]:
    """Yield a chunk for each list of item numbers, in order, read ahead by `workers` processes (0: by this one).

    Lists are asked for only as far as is read ahead. Raises InputError, one line, for an item that cannot be read, and
    where a process that reads is killed or fails; and what `chunks` raises, after the chunks before.
    """
    failed: list[InputError] = []
    yield from _read(preparation, _ending_with_an_error(chunks, failed), workers)
    if failed:
        raise failed[0]


def _ending_with_an_error(chunks: Iterable[NDArray[np.int64]], failed: list[InputError]) -> Iterator[NDArray[np.int64]]:
    """Yield the chunks; keep an error back that would come up wherever the loader happens to read ahead."""
    try:
        yield from chunks
    except InputError as error:
        failed.append(error)


def _read(preparation: Preparation, chunks: Iterable[NDArray[np.int64]], workers: int) -> Iterator[Any]:
    loader: DataLoader[Any] = DataLoader(
        _Chunks(preparation),
        batch_size=None,
        sampler=chunks,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=prepare_reader if workers else None,
        # of a run of a comparison the usual way would be a server that imports everything anew: seven seconds each time
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    if not workers:
        for chunk in loader:
            yield _whole(chunk)
        return
    try:
        with starting_readers():
            stream = iter(loader)
    except (RuntimeError, OSError) as error:
        raise lost_reader(error, workers) from None
    log.debug("%s processes read items", workers)
    try:
        with deaths_in_one_line(workers):
            while True:
                try:
                    chunk = next(stream)
                except StopIteration:
                    return
                except (RuntimeError, OSError, EOFError) as error:
                    raise lost_reader(error, workers, stream._workers) from None  # type: ignore[attr-defined]
                yield _whole(chunk)
    finally:
        del stream  # else an error's traceback keeps its processes, which then take 5 s each to end


def _whole(chunk: Any) -> Any:
    if isinstance(chunk, InputError):
        raise chunk
    return chunk


def read_all(
    preparation: Preparation, count: int, chunk_size: int, workers: int
) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Yield items 0 to `count` in chunks of `chunk_size` at most, each with the numbers of its items.

    In their order where all are of one kind. Otherwise those of a kind are looked for among some thousands at a time.
    """
    asked: deque[NDArray[np.int64]] = deque()

    def chunks() -> Iterator[NDArray[np.int64]]:
        at_a_time = chunk_size * math.ceil(LOOKED_THROUGH / chunk_size)
        for start in range(0, count, at_a_time):
            for numbers in by_kind(preparation, np.arange(start, min(start + at_a_time, count))).values():
                for chunk in np.array_split(numbers, range(chunk_size, len(numbers), chunk_size)):
                    asked.append(chunk)
                    yield chunk

    for chunk in read_chunks(preparation, chunks(), workers):
        yield asked.popleft(), chunk


def by_kind(preparation: Preparation, numbers: NDArray[np.int64]) -> dict[Hashable, NDArray[np.int64]]:
    """Return the item numbers of each kind, in the order given, and the kinds as they first come.

    Raises InputError, one line, for an item whose kind cannot be told.
    """
    found: dict[Hashable, list[int]] = {}
    try:
        for number in numbers.tolist():
            found.setdefault(preparation.kind(number), []).append(number)
    except Exception as error:
        raise _in_one_line(error) from None
    return {kind: np.array(of_kind) for kind, of_kind in found.items()}
