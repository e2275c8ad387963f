"""How long a run's steps will take, where that can be seen by a quick trial."""

import time

from recallk.core import processes
from recallk.training.chunk_size import goes_through
from recallk.training.trainer import Trainer

LONG = 30 * 60.0
"""Seconds from which on a person may want a smaller network."""
_ITEMS, _SECONDS = 2, 0.5


def seconds_on_cpu(trainer: Trainer, cost: float) -> float | None:
    """Return about how many seconds all steps take, by those of some items without content, forward and backward.

    So many items as take half a second, or a chunk: of few, small networks take most of the time to be called. `cost`
    is what is embedded twice, as a multiple of embedding once. Reading, the loss, and evaluations are not in it. None
    on a GPU, where the first items take longest; where the network is compiled; and among several processes.
    """
    plan = trainer.plan
    if trainer.fabric.device.type != "cpu" or not processes.is_alone() or getattr(trainer.config, "compile", False):
        return None
    items, most = min(_ITEMS, plan.items_per_step), min(trainer.chunk_size, plan.items_per_step)
    if not goes_through(trainer, items):  # which also warms up
        return None
    while True:
        began = time.perf_counter()
        if not goes_through(trainer, items):
            return None
        taken = time.perf_counter() - began
        if taken >= _SECONDS or items >= most:
            return taken / items * plan.items_per_step * plan.steps * cost
        items = min(2 * items, most)
