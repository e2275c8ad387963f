"""How many processors this process may use."""

import os

from recallk.core.group import place


def available_cores() -> int:
    """Return the number of cores, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_cores() -> int:
    """Return this process's share of the cores, at least 1, where others of its group work on the same machine.

    Where `srun --cpus-per-task` has given each its own, all of those.
    """
    own, given = place(), os.environ.get("SLURM_CPUS_PER_TASK", "")
    if own is None:
        return available_cores()
    if "RANK" not in os.environ and given.isdecimal():  # as torchrun has it
        return min(available_cores(), int(given))
    return max(1, available_cores() // own.on_machine)
