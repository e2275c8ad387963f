"""How far something that takes long has come, told to whoever wants to know."""

from collections.abc import Callable

Advance = Callable[[str, int, int], None]
"""Told what is being done, how many items are done, and of how many (0: nobody knows)."""


def silent(_what: str, _done: int, _of: int) -> None:
    """Tell nobody."""


def counting(advance: Advance, what: str, of: int) -> Callable[[int], None]:
    """Return a function that takes how many more are done."""
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        advance(what, done, of)

    return more
