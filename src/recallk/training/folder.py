"""A run's folder while the run trains."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from recallk.core import processes
from recallk.core.errors import InputError
from recallk.core.lock import locked
from recallk.runs.folder import RunFolder
from recallk.training.stopping import Stopped


@contextmanager
def run_in(folder: RunFolder, begin: Callable[[], object], resume: bool) -> Iterator[None]:
    """Have a folder for this run alone, in all processes; `begin` writes the first files, in the first process.

    Of a run that fails before its first checkpoint nothing is left that was not there before. Raises InputError, in
    all processes, for a folder that is in use, and what `begin` raises.
    """
    made, there = False, os.path.lexists(folder.path)
    try:
        with ExitStack() as held:
            try:
                with processes.failing_together():
                    if processes.is_first():
                        held.enter_context(locked(folder.path))
                        folder.remove_unfinished()
                        made = not resume and not folder.taken
                        begin()
                yield
            except (InputError, KeyboardInterrupt, Stopped):
                if made:
                    folder.remove_unless_started()
                raise
    except (InputError, KeyboardInterrupt, Stopped):
        if made and not there:
            folder.remove_if_empty()
        raise
