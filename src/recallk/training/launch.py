"""A run in several processes: this one and others, started for it or by whoever started this one."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from recallk.core.cores import available_cores
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.group import joined, place
from recallk.core.processes import LostProcessError
from recallk.runs.train_config import TrainConfig

GRACE = 30
"""Seconds that the others have to end once one of them has."""


@contextmanager
def in_processes_of(config: TrainConfig, task: Mapping[str, Any]) -> Iterator[None]:
    """Be in the group of as many processes as are configured, or as `torchrun` or `srun` have started.

    Where nobody else has started them, those of this machine are started here; each of them does the `task` with
    `training.member`. On several machines the command is given on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK in
    the environment. Raises InputError where the devices or machines that are asked for are not those that there are.
    """
    device = available_device(config.accelerator).type
    started = place()
    if started is not None:
        asked = (config.devices, config.nodes)
        if asked != (1, 1) and asked != (started.on_machine, started.machines):
            raise InputError(
                f"devices={config.devices}, nodes={config.nodes}, and {started.on_machine} processes were started on "
                f"each of {started.machines} machines: leave both out"
            )
        with joined(device), _own_cores(started.on_machine):
            yield
    elif config.devices * config.nodes == 1:
        yield
    else:
        require_devices(config)
        with _others(config, task) as told, joined(device), _own_cores(config.devices), told:
            yield


def require_devices(config: TrainConfig) -> None:
    """Raise InputError where this machine has not the devices that are asked for."""
    device = available_device(config.accelerator).type
    there = torch.cuda.device_count() if device == "cuda" else None
    if there is not None and config.devices > there:
        raise InputError(f"devices={config.devices}: {there} GPUs are here")
    if device == "mps" and config.devices > 1:
        raise InputError(f"devices={config.devices}: there is one of this kind; take --accelerator cpu, or 1")


@contextmanager
def _own_cores(processes: int) -> Iterator[None]:
    """Compute on this process's share of the cores; a smaller number that was asked for stays."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, available_cores() // processes)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _others(config: TrainConfig, task: Mapping[str, Any]) -> Iterator[Any]:
    """Start the other processes of this machine; yield a context that says which of them failed, where one did."""
    environment = _environment(config)
    before = dict(os.environ)
    started: list[subprocess.Popen[bytes]] = []
    ended = threading.Event()
    try:
        for number in range(1, config.devices):
            own = {"RANK": str(int(environment["RANK"]) + number), "LOCAL_RANK": str(number)}
            words = [sys.executable, "-m", "recallk.training.member"]
            process = subprocess.Popen(words, stdin=subprocess.PIPE, env={**before, **environment, **own})
            started.append(process)
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended already: its exit status is seen below
                process.stdin.write(json.dumps(task).encode() + b"\n")
                process.stdin.flush()  # and stays open: that it is closed tells them that this process is gone
        os.environ.update(environment)
        threading.Thread(target=_watch, args=(started, ended), daemon=True).start()
        yield _told_of(started)
        _wait(started)
    finally:
        ended.set()
        for name in environment:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()


def _environment(config: TrainConfig) -> dict[str, str]:
    """Return what tells processes their place, as torchrun would; for the first process of this machine."""
    given = os.environ
    machine = given.get("NODE_RANK", "0")
    if config.nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= given.keys():
        raise InputError(
            f"nodes={config.nodes}: put MASTER_ADDR and MASTER_PORT (the first machine, a free port) and NODE_RANK "
            f"(0 to {config.nodes - 1}) into the environment on each machine, or start with torchrun"
        )
    if not machine.isdecimal() or int(machine) >= config.nodes:
        raise InputError(
            f"NODE_RANK={machine}: a number from 0 to {config.nodes - 1} is needed, for nodes={config.nodes}"
        )
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    return {
        **({} if config.nodes > 1 else here),
        "RANK": str(int(machine) * config.devices),
        "WORLD_SIZE": str(config.nodes * config.devices),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": str(config.devices),
    }


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


def _failed(started: list[subprocess.Popen[bytes]]) -> str | None:
    """Say which of the others has failed, and how; None where none has."""
    for number, process in enumerate(started, start=1):
        code = process.poll()
        if code:
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            why = "; it may have run out of memory" if code == -signal.SIGKILL else ""
            return f"process {number} of this machine has ended ({how}{why})"
    return None


@contextmanager
def _told_of(started: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Where another process is lost, say which and how."""
    try:
        yield
    except LostProcessError as error:
        until = time.monotonic() + 5
        while _failed(started) is None and time.monotonic() < until:
            time.sleep(0.1)
        failed = _failed(started)
        raise error if failed is None else InputError(f"{failed}, and the run with it") from None


def _watch(started: list[subprocess.Popen[bytes]], ended: threading.Event) -> None:
    """End this process where another has failed and nobody has noticed: it would wait for that one."""
    while not ended.wait(0.5):
        if (failed := _failed(started)) is None:
            continue
        if not ended.wait(GRACE):
            print(f"recallk: {failed}, and the run with it", file=sys.stderr, flush=True)
            for process in started:
                process.kill()
            os._exit(2)
        return


def _wait(started: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + GRACE
    for process in started:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, until - time.monotonic()))
