"""Searches that wait are answered together: several clients cost one pass through the network and the vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from anyio import CancelScope, CapacityLimiter, Event, to_thread

from recallk.core.errors import InputError

Search = TypeVar("Search")
MOST_TOGETHER = 24
"""Searches of one pass: more would have the first wait for the last."""


@dataclass(eq=False)  # one is like no other, and images are dear to compare
class Waiting(Generic[Search]):
    """A search that waits, and in the end its answer, or the error that is to be raised."""

    search: Search
    answer: Any = None
    error: Exception | None = None
    done: Event = field(default_factory=Event, repr=False)


class Gathered(Generic[Search]):
    """Answers searches: whatever has come while others were computed is computed in one go.

    `compute`, called in a thread, fills in the answers or errors of some searches.
    """

    def __init__(self, compute: Callable[[Sequence[Waiting[Search]]], None], at_once: CapacityLimiter) -> None:
        self._compute, self._at_once = compute, at_once
        self._waiting = list[Waiting[Search]]()

    async def __call__(self, search: Search) -> Any:
        """Return the answer to a search, or raise its error."""
        own = Waiting(search)
        self._waiting.append(own)
        try:
            async with self._at_once:
                while own in self._waiting:  # else another has taken it along
                    some = self._waiting[:MOST_TOGETHER]
                    del self._waiting[:MOST_TOGETHER]
                    with CancelScope(shield=True):  # whoever leaves, the others get their answers
                        await self._computed(some)
            await own.done.wait()
        finally:
            if own in self._waiting:  # whoever has asked has left
                self._waiting.remove(own)
        if own.error is not None:
            raise own.error
        return own.answer

    async def _computed(self, some: Sequence[Waiting[Search]]) -> None:
        try:
            await to_thread.run_sync(self._compute, some)
        except Exception as error:
            for each in some:
                each.error = error if isinstance(error, InputError) else RuntimeError(repr(error))
        finally:
            for each in some:
                each.done.set()
