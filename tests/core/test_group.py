"""What torchrun and srun say of a process, and joining the others."""

import os
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import pytest
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from recallk import InputError
from recallk.core import group
from recallk.core.group import OwnError, Place, joined, message_of, place
from recallk.core.processes import SharedError, count
from tests.processes import in_processes, server

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_JOB_ID": "4321987",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*TORCHRUN, *SRUN, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("told", [TORCHRUN, SRUN])
def test_the_place_is_what_the_environment_says(environment: pytest.MonkeyPatch, told: dict[str, str]) -> None:
    assert place() is None
    for name, value in told.items():
        environment.setenv(name, value)
    assert place() == Place(number=3, count=4, local_number=1, on_machine=2)
    assert place() is not None
    assert Place(3, 4, 1, 2).machines == 2


def test_a_process_alone_joins_nothing(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SLURM_STEP_ID", "0")
    environment.setenv("SLURM_NTASKS", "1")
    with joined("cpu"):
        assert count() == 1
    for name, value in (
        TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    ).items():
        environment.setenv(name, value)
    assert place() is None


IN_GROUPS = """
import os, time
from recallk.core import processes
from recallk.core.group import joined

late = os.environ["RANK"]
for number in range(4):
    time.sleep(0.5 * (str(number % 2) == late))
    with joined("cpu"):
        print(processes.number(), processes.of_each(10 * number + processes.number()))
"""


@pytest.mark.slow
def test_groups_follow_each_other() -> None:
    """In turn one is late, and the other finds in torchrun's store what the groups before have left there."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    of_all = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", IN_GROUPS],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | where | of_all | {"RANK": str(number), "LOCAL_RANK": str(number)},
        )
        for number in range(2)
    ]
    for number, process in enumerate(started):
        out, _ = process.communicate(timeout=60)
        assert out.splitlines() == [f"{number} [{first}, {first + 1}]" for first in (0, 10, 20, 30)]


def entered(number: int, port: int, pipe: Connection) -> None:
    """Join; the second process is slow to have found the first. Tell when it had, and when the context was entered."""
    found, init = list[float](), distributed.init_process_group

    def slow(*arguments: Any, **named: Any) -> None:
        init(*arguments, **named)
        time.sleep(1.0 * number)
        found.append(time.monotonic())

    distributed.init_process_group = slow
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined("cpu"):
        pipe.send((found[0], time.monotonic()))
        time.sleep(2 * (1 - number))  # it has the store by which they find each other


def test_none_goes_on_before_all_have_found_each_other() -> None:
    """It could end, and the others would still look for it."""
    context = server()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    started = [context.Process(target=entered, args=(number, port, pipes[number][1])) for number in range(2)]
    for process in started:
        process.start()
    try:
        assert all(pipe.poll(60) for pipe, _ in pipes)
        (_, first_entered), (second_found, _) = (pipe.recv() for pipe, _ in pipes)
    finally:
        for process in started:
            process.kill()
            process.join()
    assert first_entered >= second_found


@pytest.mark.parametrize("change", [{"RANK": "4"}, {"LOCAL_RANK": "2"}, {"LOCAL_WORLD_SIZE": ""}, {"RANK": "x"}])
def test_an_environment_that_does_not_fit_together(environment: pytest.MonkeyPatch, change: dict[str, str]) -> None:
    for name, value in (TORCHRUN | change).items():
        environment.setenv(name, value)
    with pytest.raises(InputError, match="RANK="):
        place()


def test_what_torchrun_would_say_under_slurm(environment: pytest.MonkeyPatch) -> None:
    for name, value in SRUN.items():
        environment.setenv(name, value)
    own = place()
    assert own is not None
    assert group._of_slurm(own) == {
        "MASTER_ADDR": "node07",
        "MASTER_PORT": "16987",
        "RANK": "3",
        "WORLD_SIZE": "4",
    }
    for nodes, first in {"node3": "node3", "a1,b2": "a1", "x[12,14-15],y1": "x12"}.items():
        environment.setenv("SLURM_STEP_NODELIST", nodes)
        assert group._of_slurm(own)["MASTER_ADDR"] == first


def test_only_the_first_process_says_what_all_know(environment: pytest.MonkeyPatch) -> None:
    known, own = InputError("no such file"), OwnError("process 3: no such file")
    assert message_of(known) == "no such file"
    for name, value in TORCHRUN.items():
        environment.setenv(name, value)
    assert message_of(known) is None
    assert message_of(own) == "process 3: no such file"
    environment.setenv("LOCAL_RANK", "0")  # the first of its machine: before they have met, it alone can say
    assert message_of(known) == "process 3: no such file"
    assert message_of(SharedError("no such file")) is None
    environment.setenv("LOCAL_RANK", "")
    assert message_of(known) == "no such file"


def in_another_group() -> tuple[int, bool, int]:
    """As a program that has made a group of its own, and calls what would join one."""
    token = group._inside.set(False)
    with joined("cpu"):
        alone = count()
    group._inside.reset(token)
    with joined("cpu"):
        return alone, group.place() is not None, count()


def test_each_step_of_a_job_has_a_port_of_its_own(environment: pytest.MonkeyPatch) -> None:
    for name, value in SRUN.items():
        environment.setenv(name, value)
    own, ports = place(), set[str]()
    assert own is not None
    for step in range(5):
        environment.setenv("SLURM_STEP_ID", str(step))
        ports.add(group._of_slurm(own)["MASTER_PORT"])
    assert len(ports) == 5


def test_in_the_group_of_somebody_else_a_process_is_alone() -> None:
    assert in_processes(in_another_group, 2) == [(1, True, 2)] * 2


def test_who_sees_one_gpu_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Place(number=5, count=8, local_number=1, on_machine=4)
    for there, device in {0: 0, 1: 0, 2: 1, 4: 1}.items():
        monkeypatch.setattr("torch.cuda.device_count", lambda there=there: there)
        assert group.local_device(own) == device
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match="4 processes were started on this machine, and it has 2 GPUs"):
        group.local_device(Place(6, 8, 2, 4))
