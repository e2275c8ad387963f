"""Products of float32 numbers in full float32, whatever else the program has allowed."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

SETTINGS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]


class _Users:
    """Who computes in full precision at the moment: PyTorch's settings are the process's, not a thread's.

    The first to come keeps what it finds, the last to go puts it back.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._before: list[str] = []

    def enter(self) -> None:
        with self._lock:
            if self._count == 0:
                self._before = [place.fp32_precision for place in SETTINGS]
                for place in SETTINGS:
                    place.fp32_precision = "ieee"
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                for place, precision in zip(SETTINGS, self._before, strict=True):
                    place.fp32_precision = precision


_users = _Users()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute products of float32 in IEEE float32 inside, without autocast; give PyTorch's settings back after.

    `torch.set_float32_matmul_precision("high")` or "medium", right for a network, would round a cosine by 1e-4 to
    1e-3: a rank temperature of 0.01 makes a tenth of that a rank. `benchmarks/NOTES.md` has what it costs.

    Any number of threads may be inside at a time. What a thread outside multiplies meanwhile is exact too.
    """
    _users.enter()
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        _users.leave()
