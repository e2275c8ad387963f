"""A process that ends with the one that started it, however that ends: nobody else knows of it."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Let this process, which `multiprocessing` started, be killed when the one that started it has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a process that another one started"

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
