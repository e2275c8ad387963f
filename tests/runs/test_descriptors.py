"""Descriptors in a file: written block by block, resumed where they were, used again, and made anew where need be."""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from recallk import InputError
from recallk.core import processes
from recallk.core.files import write_text
from recallk.data.item import Item
from recallk.runs import descriptors
from recallk.runs.descriptors import stored_descriptors
from tests.processes import in_processes

ITEMS = [f"item {number}" for number in range(100)]
DIMENSION = 8


def directions(items: Sequence[Item]) -> Tensor:
    """Return a direction for each text, a function of it alone."""
    seeds = [int.from_bytes(str(item).encode()[-8:]) for item in items]
    rows = [torch.randn(DIMENSION, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.nn.functional.normalize(torch.stack(rows), dim=1)


class Recorded:
    """Makes directions, and remembers of which items."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.blocks = 0

    def __call__(self, items: Sequence[Item]) -> Tensor:
        self.items += items
        self.blocks += 1
        return directions(items)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "BLOCK", 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "descriptors" / "gallery.npy"


def in_a_process_of_its_own(call: Callable[[], object]) -> Any:
    process: Any = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    return process


def right(found: NDArray[np.float16]) -> bool:
    return found.dtype == np.float16 and np.array_equal(found, directions(ITEMS).numpy().astype(np.float16))


def test_they_are_those_of_the_items_in_float16(path: Path) -> None:
    made, told = Recorded(), list[int]()
    found = stored_descriptors(path, "a", ITEMS, made, told.append)
    assert right(found)
    assert isinstance(found, np.memmap)
    assert np.array_equal(np.load(path), found)  # an ordinary file of NumPy
    assert made.items == ITEMS
    assert made.blocks == 7
    assert told == []  # the embedding tells


def test_they_are_used_again(path: Path) -> None:
    stored_descriptors(path, "a", ITEMS, directions)
    made, told = Recorded(), list[int]()
    assert right(stored_descriptors(path, "a", ITEMS, made, told.append))
    assert made.items == []
    assert told == [100]


@pytest.mark.parametrize("other", ["fingerprint", "items", "version"])
def test_others_are_made_anew(path: Path, other: str) -> None:
    stored_descriptors(
        path, "a" if other != "fingerprint" else "b", ITEMS[: 100 if other != "items" else 99], Recorded()
    )
    about = path.with_suffix(".json")
    if other == "version":
        about.write_text(about.read_text().replace('"format": 1', '"format": 2, "more": "b"'))
    made = Recorded()
    assert right(stored_descriptors(path, "a", ITEMS, made))
    assert made.items == ITEMS


def test_a_file_without_its_facts_is_made_anew(path: Path) -> None:
    stored_descriptors(path, "a", ITEMS, directions)
    path.with_suffix(".json").unlink()
    made = Recorded()
    assert right(stored_descriptors(path, "a", ITEMS, made))
    assert made.items == ITEMS


def test_a_killed_process_is_followed_by_another(path: Path) -> None:
    def slowly(items: Sequence[Item]) -> Tensor:
        time.sleep(0.05)
        return directions(items)

    about = path.with_suffix(".json")
    process = in_a_process_of_its_own(lambda: stored_descriptors(path, "a", ITEMS, slowly))
    deadline = time.monotonic() + 20
    while not (about.exists() and json.loads(about.read_text())["done"] >= 32) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    done = json.loads(about.read_text())["done"]
    assert 32 <= done < 100
    made, told = Recorded(), list[int]()
    assert right(stored_descriptors(path, "a", ITEMS, made, told.append))
    assert made.items == ITEMS[done:]
    assert told == [done]


@pytest.mark.parametrize("moment", ["rows", "count", "anew"])
def test_a_kill_at_any_moment_loses_one_block(path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the rows go to the disk, as the count of them does, and as others take the place of a whole file."""
    room, name, call = (descriptors, "write_text", write_text) if moment == "count" else (os, "fsync", os.fsync)
    left = {"rows": 4, "count": 3, "anew": 1}[moment]  # each count takes two more of the system's writes

    def killing(*given: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        call(*given)

    def fails() -> None:
        monkeypatch.setattr(room, name, killing)
        stored_descriptors(path, "a", ITEMS, directions)

    if moment == "anew":
        stored_descriptors(path, "b", ITEMS[::-1], directions)
    process = in_a_process_of_its_own(fails)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if moment == "anew":  # the whole file is gone, and nothing says that it is there
        stored_descriptors(path, "b", ITEMS[::-1], again := Recorded())
        assert again.items == ITEMS[::-1]
    made = Recorded()
    assert right(stored_descriptors(path, "a", ITEMS, made))
    assert made.items == ITEMS[{"rows": 16, "count": 32, "anew": 0}[moment] :]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_what_float16_cannot_hold_is_refused(path: Path, value: float) -> None:
    with pytest.raises(InputError, match=r"gallery\.npy: the model gives NaN, or numbers beyond float16") as caught:
        stored_descriptors(path, "a", ITEMS, lambda items: torch.full((len(items), 2), value))
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize(
    "damage", ["cut", "longer", "other header", "no file", "facts", "count", "counts", "list", "folder"]
)
def test_a_damaged_file_is_one_line(path: Path, damage: str) -> None:
    stored_descriptors(path, "a", ITEMS, directions)
    about, whole = path.with_suffix(".json"), path.read_bytes()
    facts = json.loads(about.read_text())
    match damage:
        case "cut":
            path.write_bytes(whole[:-1])
        case "longer":
            path.write_bytes(whole + b"x")
        case "other header":
            path.write_bytes(whole.replace(b"<f2", b"<i2", 1))
        case "no file":
            path.unlink()
        case "facts":
            about.write_text("{")
        case "count":
            about.write_text(json.dumps(facts | {"done": 101}))
        case "counts":
            about.write_text(json.dumps(facts | {"dimension": "8"}))
        case "list":
            about.write_text("[]")
        case "folder":
            path.unlink()
            path.mkdir()
    with pytest.raises(InputError, match=r"gallery\.(npy|json): .*remove ") as caught:
        stored_descriptors(path, "a", ITEMS, directions)
    assert "\n" not in str(caught.value)


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Has files end at so many bytes, as where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_what_is_written_is_used(path: Path, limit: Callable[[int], None]) -> None:
    limit(1_000)
    with pytest.raises(InputError, match=r"gallery\.npy: cannot be written \(File too large\)"):
        stored_descriptors(path, "a", ITEMS, directions)
    limit(resource.RLIM_INFINITY)
    made = Recorded()
    assert right(stored_descriptors(path, "a", ITEMS, made))
    assert made.items == ITEMS[48:]


def test_a_disk_that_is_too_small_is_told_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_599}))
    made = Recorded()
    with pytest.raises(InputError, match=r"100 descriptors do not fit on the disk \(0.0 GB are needed, 0.0 GB free\)"):
        stored_descriptors(path, "a", ITEMS, made)
    assert made.blocks == 1


def test_a_place_that_cannot_be_written_is_one_line(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(InputError, match=r"descriptors: cannot be written") as caught:
        stored_descriptors(path, "a", ITEMS, directions)
    assert "\n" not in str(caught.value)


class InShards(Recorded):
    """Makes directions in all processes of a group; the last one meets a mistake in a block."""

    def __init__(self, failing: int | None) -> None:
        super().__init__()
        self._failing = failing

    def __call__(self, items: Sequence[Item]) -> Tensor:
        share = processes.share(len(items))
        with processes.failing_together():
            if self.blocks == self._failing and processes.number() == processes.count() - 1:
                raise InputError("broken")
            made = super().__call__(items[share.start : share.stop])
        return processes.gather_to_first(made)


def made_in_shards(file: str, failing: int | None) -> tuple[NDArray[np.float16] | str, list[Item], list[int]]:
    """Return the rows, or the mistake; what this process embedded, and how many it was told were there."""
    descriptors.BLOCK = 4
    made, told = InShards(failing), list[int]()
    try:
        found: NDArray[np.float16] | str = np.array(stored_descriptors(Path(file), "a", ITEMS, made, told.append))
    except InputError as error:
        found = str(error)
    return found, made.items, told


def test_another_number_of_processes_goes_on_with_them(path: Path) -> None:
    """Three stop after two blocks, of twelve; two go on to the end; one has nothing left to do."""
    stopped = in_processes(made_in_shards, 3, str(path), 2)
    assert [found for found, _, _ in stopped] == ["process 2: broken"] * 3
    assert json.loads(path.with_suffix(".json").read_text())["done"] == 24
    first, other = in_processes(made_in_shards, 2, str(path), None)
    assert right(first[0])  # type: ignore[arg-type]
    assert isinstance(other[0], np.ndarray)
    assert other[0].shape == (0, DIMENSION)
    assert sorted(first[1] + other[1]) == sorted(ITEMS[24:])  # type: ignore[type-var]
    assert min(len(first[1]), len(other[1])) == 38
    assert first[2] == other[2] == [24]
    made = Recorded()
    assert right(stored_descriptors(path, "a", ITEMS, made))
    assert made.items == []
