"""Products of float32 numbers in full float32, whatever else the program has allowed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SETTINGS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute products of float32 in IEEE float32 inside, without autocast; give PyTorch's settings back after.

    `torch.set_float32_matmul_precision("high")` or "medium", right for a network, would round a cosine by 1e-4 to
    1e-3: a rank temperature of 0.01 makes a tenth of that a rank. `benchmarks/NOTES.md` has what it costs.
    """
    before = [place.fp32_precision for place in SETTINGS]
    try:
        for place in SETTINGS:
            place.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for place, precision in zip(SETTINGS, before, strict=True):
            place.fp32_precision = precision
