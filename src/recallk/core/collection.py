"""Python's search for objects that only hold each other, while millions are made that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_cycle_search() -> Iterator[None]:
    """Keep Python from looking again and again through all objects there are for some that only hold each other.

    Where a million objects are made that stay, that takes a third of the time and finds nothing.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()
