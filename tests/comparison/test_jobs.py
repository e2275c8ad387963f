"""How the runs of a comparison are started: with what is dear done once, before them."""

import multiprocessing
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recallk.comparison import jobs, worker
from recallk.comparison.contenders import Contender
from recallk.data import opening
from recallk.data.opening import check_files
from recallk.runs.folder import RunFolder
from tests.data.test_opening import saved


@pytest.mark.parametrize("planned", [True, False])
def test_what_the_plan_has_imported_the_server_imports_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, planned: bool
) -> None:
    imported = list[str]()
    server = SimpleNamespace(
        set_forkserver_preload=imported.extend, Process=lambda **_: SimpleNamespace(start=lambda: None)
    )
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: server)
    for name in jobs._SLOW_TO_IMPORT:
        if planned:
            monkeypatch.setitem(sys.modules, name, sys)
        else:
            monkeypatch.delitem(sys.modules, name, raising=False)
    jobs.start(jobs.Job(Contender("one", {}), {}, RunFolder(tmp_path)), 1)
    assert imported == ["recallk.comparison.worker", *(jobs._SLOW_TO_IMPORT if planned else ())]


def test_a_run_does_not_open_for_a_minute_what_the_plan_has_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files, opened = saved(tmp_path, 9), list[int]()
    for name in ("SAMPLE", "_BLOCK"):
        monkeypatch.setattr(opening, name, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)

    def trained(*_: Any) -> None:
        opened.append(check_files(files, looked_for=True, seconds=100))

    monkeypatch.setattr(worker, "train", trained)
    monkeypatch.setattr(worker, "write_cost", lambda *_: None)
    worker._train({"data": str(tmp_path), "backbone": "test_resnet"}, RunFolder(tmp_path / "run"), 1)
    assert opened == [2]
