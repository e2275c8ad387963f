"""Functions run in several processes of one group, as a test needs them."""

import multiprocessing
import os
import pickle
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any, TypeVar

import torch

from recallk.core.group import joined
from recallk.core.sockets import make_socket_folder

T = TypeVar("T")
PATIENCE = 120  # seconds
PRELOADED = [
    *("recallk.comparison.worker", "recallk.reporting.run", "torch.nn.parallel", "torch._dynamo", "sklearn.metrics"),
    *("timm", "torchvision.transforms", "pytorch_metric_learning.losses", "pytest", "tests.processes"),
]
"""What the server has imported that processes are forked from: with it a process starts in no time."""


def server() -> ForkServerContext:
    """Return what starts processes, forked from one that has imported everything and computed nothing."""
    make_socket_folder()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def in_processes(function: Callable[..., T], count: int, *arguments: Any) -> list[T]:
    """Call a function of a module, with the same arguments, in `count` processes of a group; return its results.

    The function finds out which one it is in by `recallk.core.processes.number`. An exception in one of them is raised.
    """
    context = server()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    pipes, running = [], []
    for number in range(count):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(theirs, number, count, port, function, arguments))
        process.start()
        theirs.close()
        pipes.append(ours)
        running.append(process)
    try:
        answers = [_answer(pipe, number) for number, pipe in enumerate(pipes)]
    finally:
        for process in running:
            process.kill()
            process.join()
    results = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        results.append(answer)
    return results


def _answer(pipe: Connection, number: int) -> Any:
    if not pipe.poll(PATIENCE):
        return TimeoutError(f"process {number} did not answer in {PATIENCE} s")
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        return RuntimeError(f"process {number} ended without an answer")


def _run(
    pipe: Connection,
    number: int,
    count: int,
    port: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    names = {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined("cpu"):
        try:
            answer = function(*arguments)
        except BaseException as error:
            answer = error
        # as values: a tensor that is sent would be shared with a process that ends
        pipe.send_bytes(pickle.dumps(answer))
    if number == 0:  # by which the others find each other, in groups of their own too
        time.sleep(PATIENCE)
