"""What can keep a step from being made: it happens in one process, and all of them take it alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from recallk.core import processes
from recallk.core.errors import is_out_of_memory
from recallk.core.text import one_line
from recallk.training.stopping import Stopping


class Setback(IntEnum):
    """What a process tells the others (`Stopping.agree`); where they have several, the largest counts."""

    NONE = 0
    NOT_FINITE = 1
    OUT_OF_MEMORY = 2


class NotFiniteError(processes.SharedError):
    """Embeddings, loss or gradients of a step are NaN or infinite: it would spoil whatever it moves.

    `what` says which, `remedy` what else may help than a lower learning rate.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


class ShortOfMemoryError(processes.SharedError):
    """A step ran out of memory in one of the processes."""


def check(found: int, not_finite: str = "") -> None:
    """Raise what the processes have agreed on, with words for what is not finite."""
    if found == Setback.OUT_OF_MEMORY:
        raise ShortOfMemoryError("in another process")
    if found == Setback.NOT_FINITE:
        raise NotFiniteError(not_finite)


def diverged(step: int, rate: float, error: NotFiniteError) -> processes.SharedError:
    """Return the error that ends a run: when it was, at which rate, and what to do."""
    remedies = ", or ".join(filter(None, (f"lower the learning rate ({rate:g})", error.remedy)))
    return processes.SharedError(
        f"step {step}: {error.what}; {remedies}, or leave such steps out (--on-non-finite skip)"
    )


@contextmanager
def shortage_told(stopping: Stopping, unless: Callable[[], bool]) -> Iterator[None]:
    """Where memory runs out inside, tell the others at their next `agree`, and raise ShortOfMemoryError as they do.

    Where it runs out while the processes exchange something (`unless`), the error stays what it is.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or unless():
            raise
        message = one_line(error)
    else:
        return
    stopping.agree(also=Setback.OUT_OF_MEMORY)
    raise ShortOfMemoryError(message)
