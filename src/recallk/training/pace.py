"""How long a run's steps will take, where that can be seen by a quick trial."""

import time

from recallk.core import processes
from recallk.training.chunk_size import goes_through
from recallk.training.trainer import Trainer

LONG = 30 * 60.0
"""Seconds from which on a person may want a smaller network."""
_ITEMS, _SECONDS = 4, 1.0


def seconds_on_cpu(trainer: Trainer, cost: float) -> float | None:
    """Return about how many seconds all steps take, by those of a few items without content, forward and backward.

    `cost` is what is embedded twice, as a multiple of embedding once. Reading, the loss, and evaluations are not in it.
    None on a GPU, where the first items take longest; where the network is compiled; and among several processes.
    """
    plan = trainer.plan
    if trainer.fabric.device.type != "cpu" or not processes.is_alone() or getattr(trainer.config, "compile", False):
        return None
    items = min(_ITEMS, plan.items_per_step)
    if not goes_through(trainer, items):  # which also warms up
        return None
    fastest, end = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < end or fastest == float("inf"):  # the machine may be busy with something else
        began = time.perf_counter()
        goes_through(trainer, items)
        fastest = min(fastest, time.perf_counter() - began)
    return fastest / items * plan.items_per_step * plan.steps * cost
