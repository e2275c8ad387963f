"""Joining the group of processes that this one was started for: by `torchrun`, SLURM's `srun`, or a first process."""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import count
from typing import TypeVar

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from recallk.core import processes
from recallk.core.errors import InputError, RecallkError

T = TypeVar("T")
_inside: ContextVar[bool] = ContextVar("inside", default=False)


class OwnError(InputError):
    """An error of one process of several, which says so itself."""


PATIENCE = timedelta(minutes=60)
"""How long a process waits for the others: the first one measures and writes while they do."""
PATIENCE_AT_START = timedelta(minutes=5)
"""How long it waits for them to come."""


@dataclass(frozen=True)
class Place:
    """Where a process stands: its number among `count`, and among the `on_machine` of its machine."""

    number: int
    count: int
    local_number: int
    on_machine: int

    @property
    def machines(self) -> int:
        """How many machines there are."""
        return self.count // self.on_machine


def place() -> Place | None:
    """Return what whoever started this process says of its place; None where it was started alone.

    Raises InputError where what the environment says does not fit together.
    """
    environment = os.environ
    if "WORLD_SIZE" in environment and "RANK" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    elif "SLURM_STEP_ID" in environment and environment.get("SLURM_NTASKS", "1") != "1":
        names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE")
    else:
        return None
    # tasks per node as SLURM writes them, "4(x2)"
    numbers = [re.split(r"[(,]", environment.get(name, ""))[0] for name in names]
    if not all(number.isdecimal() for number in numbers):
        told = ", ".join(f"{name}={environment.get(name, '')}" for name in names)
        raise InputError(f"{told}: not what torchrun or srun says of a process; start it with one of them")
    found = Place(*map(int, numbers))
    if not (found.number < found.count and found.local_number < found.on_machine <= found.count):
        raise InputError(f"{', '.join(map('='.join, zip(names, numbers, strict=True)))}: these do not fit together")
    return None if found.count == 1 else found


def by_first(compute: Callable[[], T]) -> T:
    """Return what the first process of the group of `place()` computes, in all of them; they raise what it raises."""
    with joined("cpu"):
        return processes.from_first(compute)


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Be in the process group of `place()` while the context lasts; where there is none, nothing happens.

    Tensors are exchanged on the CPU (gloo) and, where `device` is "cuda", on the GPU (NCCL). In a group that somebody
    else has made, such as that of a program around, this process is alone instead. Raises InputError where the others
    do not come.
    """
    own = place()
    if distributed.is_available() and distributed.is_initialized():
        with nullcontext() if _inside.get() else processes.apart():
            yield
        return
    if own is None:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(local_device(own))
    with _in_environment({} if "RANK" in os.environ else _of_slurm(own)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of gloo, about names of machines
                distributed.init_process_group(
                    "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
                    store=_store_of_next_group(),
                    rank=own.number,
                    world_size=own.count,
                    timeout=PATIENCE,
                )
                # one that ends at once would leave others that still look for it
                distributed.all_reduce(torch.zeros(1))
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"process {own.number} of {own.count} does not find the others ({reason})") from None
    token = _inside.set(True)
    try:
        yield
    except InputError as error:
        if own.number == 0 or isinstance(error, processes.SharedError):
            raise
        raise OwnError(f"process {own.number}: {error}") from None
    finally:
        _inside.reset(token)
        distributed.destroy_process_group()


def local_device(own: Place | None) -> int:
    """Return the number of the GPU that is this process's: the only one that it sees, or that of its place.

    Raises InputError where there are fewer than processes.
    """
    there = torch.cuda.device_count()
    if own is None or there <= 1:
        return 0
    if own.local_number >= there:
        raise InputError(f"{own.on_machine} processes were started on this machine, and it has {there} GPUs")
    return own.local_number


def message_of(error: RecallkError) -> str | None:
    """Return what this process is to print of an error that ends it; None where another says it.

    What all raise alike the first one says; what comes up before they have found each other the first of a machine.
    """
    try:
        own = place()
    except InputError:  # which may be the error
        return str(error)
    if own is None or own.number == 0 or isinstance(error, OwnError):
        return str(error)
    if own.local_number == 0 and not isinstance(error, processes.SharedError):
        return f"process {own.number}: {error}"
    return None


def _store_of_next_group() -> Store:
    """Return what the processes find each other by: nothing in it is left of the groups before."""
    store, numbers = _store(os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])
    return PrefixStore(f"group {next(numbers)}", store)


@lru_cache(maxsize=1)
def _store(_address: str, _port: str) -> tuple[Store, Iterator[int]]:
    """Return the store of all groups, kept from one to the next, and their numbers.

    Where this process holds it, the others may be in the next group before this one has left.
    """
    store, _, _ = next(rendezvous("env://", timeout=PATIENCE_AT_START))
    return store, count()


def _of_slurm(own: Place) -> Mapping[str, str]:
    """Return what torchrun would have put into the environment."""
    nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
    first = re.sub(r"\[([^],-]*)[^]]*\]", r"\1", nodes).partition(",")[0]  # "node[07-09,12],other" begins with node07
    # the same for all of a job's step
    port = 15_000 + (int(os.environ.get("SLURM_JOB_ID", "0")) + 97 * int(os.environ["SLURM_STEP_ID"])) % 10_000
    return {
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", first),
        "MASTER_PORT": os.environ.get("MASTER_PORT", str(port)),
        "RANK": str(own.number),
        "WORLD_SIZE": str(own.count),
    }


@contextmanager
def _in_environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
