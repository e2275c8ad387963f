"""How many processors a process may use, alone and beside others of its group."""

import os

import pytest

from recallk.core.cores import available_cores, own_cores
from recallk.runs.config import make_config

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SRUN = {
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}


@pytest.mark.parametrize(
    ("told", "cores", "own"),
    [
        ({}, 10, 10),
        (TORCHRUN, 10, 2),
        (TORCHRUN, 3, 1),
        (SRUN, 10, 2),
        (SRUN | {"SLURM_CPUS_PER_TASK": "6"}, 6, 6),  # bound to its own
        (SRUN | {"SLURM_CPUS_PER_TASK": "6"}, 24, 6),
        (SRUN | TORCHRUN | {"SLURM_CPUS_PER_TASK": "24"}, 24, 6),  # of the task that is torchrun
    ],
)
def test_the_processes_of_a_machine_share_its_cores(
    told: dict[str, str], cores: int, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*TORCHRUN, *SRUN, "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    assert available_cores() == cores
    assert own_cores() == own
    config = make_config({"data": "photos"})
    assert config.readers == own
    assert make_config({"data": "photos", "workers": 7}).readers == 7
