"""The processes that work on one batch together: who they are, and what they exchange, with and without a gradient.

They are those of PyTorch's default process group; without one, this process is alone, and everything below does nothing
or returns what it was given. Rows are in the order of the processes, of any number each. Where one process has ended,
the others get LostProcessError from what they next exchange.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from recallk.core.errors import InputError, is_out_of_memory
from recallk.core.text import one_line

T = TypeVar("T")


def is_alone() -> bool:
    """Whether there is no other process."""
    return count() == 1


def count() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if _grouped() else 1


def number() -> int:
    """Return which one this is, from 0."""
    return distributed.get_rank() if _grouped() else 0


def is_first() -> bool:
    """Whether this is the one that writes and prints."""
    return number() == 0


def gather(rows: Tensor) -> Tensor:
    """Return the rows `(n, ...)` of all processes, `(N, ...)`, without a gradient; n may differ, and be 0."""
    return rows.detach() if is_alone() else torch.cat(_gathered(rows.detach()))


def gather_to_first(rows: Tensor) -> Tensor:
    """Return the rows `(n, ...)` of all processes in the first one, and none, `(0, ...)`, in the others."""
    if is_alone():
        return rows
    padded, sizes = _padded(rows)
    parts = [torch.empty_like(padded) for _ in sizes] if is_first() else None
    with _all_there():
        distributed.gather(padded, parts)
    if parts is None:
        return rows[:0]
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def gather_rows(rows: Tensor, *, parts: bool) -> Tensor:
    """Return the rows `(n, D)` of all processes as `(N, D)`; the gradient of each row goes back to its owner.

    It arrives there times the number of processes: `DistributedDataParallel`, and `synchronise` in training, take the
    mean of the processes' gradients, and the result is then the gradient of one loss of the whole batch.

    Args:
        rows: of this process, floating-point.
        parts: whether each process computes a part of the loss of all rows, and the gradient is the sum of theirs; else
            all compute the same whole loss, and nothing needs to be exchanged in the backward pass.

    """
    if is_alone():
        return rows
    gathered: Tensor = _GatherRows.apply(rows, parts)
    return gathered


def total(part: Tensor) -> Tensor:
    """Return the sum over the processes, on each the same; the gradient goes to this process's part alone."""
    if is_alone():
        return part
    return add_up(part.detach().clone()) + (part - part.detach())  # 0 is added: bit for bit the same on each


def add_up(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over the processes, in place, and return it."""
    if not is_alone():
        with _all_there():
            distributed.all_reduce(tensor)
    return tensor


def largest(*values: int) -> list[int]:
    """Return the largest of each value in any process."""
    if is_alone():
        return list(values)
    held = torch.tensor(values)
    with _all_there():
        distributed.all_reduce(held, distributed.ReduceOp.MAX)
    return [int(value) for value in held]


def of_first(value: T) -> T:
    """Return the value that the first process has: any object that can be pickled."""
    if is_alone():
        return value
    held: list[Any] = [value]
    with _all_there():
        distributed.broadcast_object_list(held, 0)
    kept: T = held[0]
    return kept


def of_each(value: T) -> list[T]:
    """Return what each process has, in their order: any objects that can be pickled."""
    if is_alone():
        return [value]
    held: list[Any] = [None] * count()
    with _all_there():
        distributed.all_gather_object(held, value)
    return held


@torch.no_grad()
def copy_first(tensors: list[Tensor]) -> None:
    """Give all processes the values that the tensors have in the first."""
    if not is_alone():
        with _all_there():
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


class SharedError(InputError):
    """An error that all processes raise alike: the first one says it."""


class LostProcessError(InputError):
    """Another process has ended, and this one waited for it."""


@contextmanager
def failing_together() -> Iterator[None]:
    """Where anything inside is a mistake in one process, have all of them raise it, as SharedError."""
    try:
        yield
    except InputError as error:
        if is_alone():
            raise
        mistake: str | None = str(error)
    else:
        mistake = None
    if is_alone():
        return
    told = of_each(mistake)
    for process, message in enumerate(told):
        if message is not None:
            everywhere = all(other == message for other in told)
            raise SharedError(message if process == 0 or everywhere else f"process {process}: {message}")


@contextmanager
def entered_by_first(context: AbstractContextManager[object]) -> Iterator[None]:
    """Have the first process be in a context, such as a lock; a mistake as it enters is raised in all."""
    with ExitStack() as held:
        with failing_together():
            if is_first():
                held.enter_context(context)
        yield


def share(count_of_parts: int) -> range:
    """Return which of so many parts are this process's: neighbours, as evenly as can be.

    >>> share(5)
    range(0, 5)

    """
    size, own = count(), number()
    return range(count_of_parts * own // size, count_of_parts * (own + 1) // size)


def from_first(compute: Callable[[], T]) -> T:
    """Return what the first process computes; an error there is raised in all."""
    found: T | None = None
    with failing_together():
        if is_first():
            found = compute()
    result: Any = of_first(found)
    return result  # type: ignore[no-any-return]


_APART: ContextVar[bool] = ContextVar("apart", default=False)


@contextmanager
def apart() -> Iterator[None]:
    """Be alone while the context lasts, whatever group the program around is in."""
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


def _grouped() -> bool:
    return not _APART.get() and distributed.is_available() and distributed.is_initialized()


def _gathered(rows: Tensor) -> list[Tensor]:
    """Return the rows of each process, which may be as many as they like."""
    padded, sizes = _padded(rows)
    parts = [torch.empty_like(padded) for _ in sizes]
    with _all_there():
        distributed.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]


def _padded(rows: Tensor) -> tuple[Tensor, list[int]]:
    """Return the rows with as many more as the process that has most has, and how many each process has."""
    own = torch.tensor(len(rows), device=rows.device)
    sizes = [torch.zeros_like(own) for _ in range(count())]
    with _all_there():
        distributed.all_gather(sizes, own)
    counted = [int(size) for size in sizes]
    padded = rows.new_zeros((max(counted), *rows.shape[1:]))
    padded[: len(rows)] = rows
    return padded, counted


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, parts: bool) -> Tensor:
        gathered = _gathered(rows)
        ctx.sizes, ctx.parts = [len(part) for part in gathered], parts
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # they would lack what the other processes compute
            raise InputError("second derivatives (create_graph=True) do not go from process to process: leave it out")
        if ctx.parts:
            upstream = add_up(upstream.contiguous().clone())
        return torch.split(upstream, ctx.sizes)[number()] * count(), None


@contextmanager
def _all_there() -> Iterator[None]:
    """Say in a line that another process is gone, whatever PyTorch and its backend call that."""
    try:
        yield
    except RuntimeError as error:  # DistBackendError among them
        if is_out_of_memory(error):
            raise
        told = "another process of this run has ended; what it printed last says why"
        raise LostProcessError(f"{told} ({one_line(error)})") from error
