"""A process that changes a catalogue is killed, wherever it is: what is there then is the old state, or the new one."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recallk import InputError
from recallk.catalogue import approximate as approximates
from recallk.catalogue import changes
from recallk.catalogue.index import Index
from recallk.catalogue.manifest import is_catalogue
from recallk.catalogue.state import check
from recallk.models.settings import VectorSettings
from recallk.models.vector_embedder import VectorEmbedder
from tests.catalogue.place import said

DIMENSIONS = 6
CALLS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "open", "close")
"""Of the system, before any of which a process may be killed."""
Said = dict[str, NDArray[Any]]


@dataclass
class Place:
    """A catalogue, the head that embeds, and the files that its changes read."""

    folder: Path
    files: Path
    head: VectorEmbedder
    random: np.random.Generator

    def embedded(self, vectors: NDArray[Any]) -> NDArray[Any]:
        return self.head.embed(list(vectors)).numpy().astype(np.float16).astype(np.float32)

    def source(self, known: dict[str, NDArray[Any]]) -> Path:
        """Write vectors with ids into a file."""
        path = self.files / "source.npy"
        np.save(path, np.stack(list(known.values())))
        path.with_suffix(".csv").write_text("\n".join(["id", *known]))
        return path


def killed(change: Callable[[], object], calls: int | None, seconds: float) -> None:
    """Make a change in a process that is killed before so many calls of the system, or after so many seconds."""
    child = os.fork()
    if not child:
        try:
            if calls is not None:
                _count(calls)
            change()
        finally:
            os._exit(0)
    if calls is None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _count(left: int) -> None:
    """Have this process killed before a call."""

    def counted(whole: Any) -> Any:
        def call(*words: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(*words, **named)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def same(one: Said, other: Said) -> bool:
    return one.keys() == other.keys() and all(np.allclose(one[name], other[name], atol=1e-3) for name in one)


def interrupt(place: Place, times: int) -> dict[str, int]:
    """Change the catalogue so many times, each time interrupted; return how often the old state was found, or the new.

    What it holds is compared with a dictionary, and a search with a loop over that.
    """
    random, count, outcomes = place.random, 0, {"old": 0, "new": 0}
    vectors: dict[str, NDArray[Any]] = {}  # of each item, before it is embedded
    held: Said = {}
    for number in range(times):
        ids = sorted(vectors)
        possible = ["add", "update", "remove", *(["approximate"] if len(ids) >= 20 else [])]
        what = str(random.choice(possible)) if len(ids) > 4 else "add"
        changed = dict(vectors)
        if what == "add":
            new = {f"i{count + n}": random.standard_normal(DIMENSIONS).astype(np.float32) for n in range(6)}
            count += 6
            changed |= new
            source = place.source(new)
        elif what == "update":
            some = {
                name: random.standard_normal(DIMENSIONS).astype(np.float32) for name in ids[:: random.integers(1, 4)]
            }
            changed |= some
            source = place.source(some)
        elif what == "remove":
            gone = [name for name in ids if random.random() < random.choice([0.1, 0.9])]
            changed = {name: vector for name, vector in vectors.items() if name not in gone}
        if not is_catalogue(place.folder):
            change: Callable[[], object] = lambda: Index.build(place.head, source, place.folder)  # noqa: B023, E731
        elif what == "add":
            change = lambda: Index.open(place.folder).add(source)  # noqa: B023, E731
        elif what == "update":
            change = lambda: Index.open(place.folder).update(source)  # noqa: B023, E731
        elif what == "approximate":
            change = lambda: Index.open(place.folder).approximate("ivf", k=1)  # noqa: E731
        else:
            change = lambda: Index.open(place.folder).remove(gone)  # noqa: B023, E731
        by_call = bool(random.random() < 0.6)
        killed(change, int(random.integers(1, 90)) if by_call else None, float(random.random() * 0.08))
        expected = dict(zip(changed, place.embedded(np.stack(list(changed.values()))), strict=True)) if changed else {}
        if not is_catalogue(place.folder):
            assert not held
            with pytest.raises(InputError, match="no catalogue"):
                Index.open(place.folder)
            outcomes["old"] += 1
            continue
        index = Index.open(place.folder)
        found = said(index)
        if what == "approximate":  # which leaves the items as they were
            _check_approximate(index, place)
            continue
        is_new = same(found, expected)
        assert is_new or same(found, held), f"interruption {number}: {what}"
        outcomes["new" if is_new else "old"] += 1
        held, vectors = found, changed if is_new else vectors
        if held:
            query = random.standard_normal(DIMENSIONS).astype(np.float32)
            ranked = index.search(query[None], 3)
            unit = place.head.embed([query])[0].double().numpy()
            best = sorted(held, key=lambda name: -float(unit @ held[name].astype(np.float64)))[:3]
            assert ranked.ids == [best]
    return outcomes


def _check_approximate(index: Index, place: Place) -> None:
    """It is there as a whole or not at all, in another process, for FAISS starts threads that a fork would lack."""
    child = os.fork()
    if not child:
        whole = 1
        try:
            check(place.folder)
            query = np.ones((1, DIMENSIONS), np.float32)
            if index.has_approximate:
                assert index.search(query, 3, approximate=True).similarities.shape == (1, 3)
            whole = 0
        finally:
            os._exit(whole)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(approximates, "FEWEST", 20)
    monkeypatch.setattr(changes, "BLOCK", 2)  # so that a change that was interrupted has embedded something
    torch.manual_seed(0)
    head = VectorEmbedder(VectorSettings(input_size=DIMENSIONS, embedding_size=4)).eval()
    return Place(tmp_path / "catalogue", tmp_path, head, np.random.default_rng(0))


def test_some_interruptions(place: Place) -> None:
    outcomes = interrupt(place, 25)
    assert min(outcomes.values()) > 2


@pytest.mark.slow
def test_a_thousand_interruptions(place: Place) -> None:
    outcomes = interrupt(place, 1_000)
    assert min(outcomes.values()) > 100
    check(place.folder)
    shutil.rmtree(place.folder)
