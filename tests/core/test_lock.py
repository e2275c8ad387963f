import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recallk import InputError
from recallk.core.lock import locked

HOLD = "import sys, time; from pathlib import Path; from recallk.core.lock import locked\n" \
    "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"  # fmt: skip


def test_one_at_a_time_in_a_process(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        with pytest.raises(InputError, match="in use by this very process"), locked(tmp_path / "run"):
            pass
        with locked(tmp_path / "other"):
            pass
    assert not list((tmp_path / "run").iterdir())
    with locked(tmp_path / "run"):
        pass


def test_however_the_folder_is_spelt(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with locked(tmp_path / "run"):
        for other in (tmp_path / "link", tmp_path / "link/../run"):
            with pytest.raises(InputError, match="this very process"), locked(other):
                pass


def test_one_of_many_threads_is_let_in(tmp_path: Path) -> None:
    inside, refused = list[int](), list[int]()
    start, over = threading.Barrier(8), threading.Event()

    def work(number: int) -> None:
        start.wait()
        try:
            with locked(tmp_path):
                inside.append(number)
                over.wait(10)
        except InputError:
            refused.append(number)
            if len(refused) == 7:
                over.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 1
    assert len(refused) == 7


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    try:
        with pytest.raises(InputError, match=f"in use by process {process.pid} on "), locked(tmp_path):
            pass
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with locked(tmp_path):
        pass


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match="cannot be written"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "keep"


def test_a_full_disk_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(InputError, match="No space left on device"), locked(tmp_path):
            pass
        with pytest.raises(InputError, match="No space left on device"), locked(tmp_path / "new"):
            pass
    assert not list(tmp_path.iterdir())
    with locked(tmp_path):
        pass
