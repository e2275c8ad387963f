"""A change that was interrupted goes on from what it had embedded."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recallk import Index, InputError
from recallk.catalogue import changes
from recallk.catalogue.manifest import PARTS, VectorDtype
from recallk.catalogue.part import BLOCKS, CODES, CONTENTS, SCALES, VECTORS
from recallk.models.settings import VectorSettings
from recallk.models.together import embed_together
from recallk.models.vector_embedder import VectorEmbedder
from tests.catalogue.place import draw_all, small_embedder

ITEMS, BLOCK, SIZE = 50, 8, 6


class Embedding:
    """Counts what is embedded, and interrupts where it is to."""

    def __init__(self) -> None:
        self.items = 0
        self.most: int | None = None
        self.by: Callable[[], object] = self.interrupt

    def __call__(self, embedder: Any, items: Any, **how: Any) -> torch.Tensor:
        if self.most is not None and self.items + len(items) > self.most:
            self.by()
        self.items += len(items)
        return embed_together(embedder, items, **how)

    @staticmethod
    def interrupt() -> None:
        raise KeyboardInterrupt


@pytest.fixture
def embedding(monkeypatch: pytest.MonkeyPatch) -> Embedding:
    counted = Embedding()
    monkeypatch.setattr(changes, "embed_together", counted)
    monkeypatch.setattr(changes, "BLOCK", BLOCK)
    return counted


def head(seed: int = 0) -> VectorEmbedder:
    torch.manual_seed(seed)
    return VectorEmbedder(VectorSettings(input_size=SIZE, embedding_size=4)).eval()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "source.npy", np.random.default_rng(0).standard_normal((ITEMS, SIZE)).astype(np.float32))
    (tmp_path / "source.csv").write_text("\n".join(["id", *map(str, range(ITEMS))]))
    return tmp_path / "source.npy"


def interrupted(embedding: Embedding, change: Callable[[], object], most: int = 3 * BLOCK) -> None:
    """Make a change that ends after so many items, and count from there on."""
    embedding.items, embedding.most = 0, most
    with pytest.raises(KeyboardInterrupt):
        change()
    embedding.most, embedding.items = None, 0


def arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Return what the only part of a catalogue has in its files."""
    (part,) = (folder / PARTS).iterdir()
    assert not (part / BLOCKS).exists()
    names = [name for name in (VECTORS, CONTENTS, CODES, SCALES) if (part / name).exists()]
    return {name: np.load(part / name) for name in names}


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_built_to_the_end(tmp_path: Path, embedding: Embedding, source: Path, dtype: VectorDtype) -> None:
    """It is the same catalogue as of a build that was not interrupted, bit by bit."""
    whole = Index.build(head(), source, tmp_path / "whole", dtype=dtype)
    assert whole.notes == ()
    embedding.items = 0
    interrupted(embedding, lambda: Index.build(head(), source, tmp_path / "catalogue", dtype=dtype))
    with pytest.raises(InputError, match="no catalogue"):
        Index.open(tmp_path / "catalogue")
    index = Index.build(head(), source, tmp_path / "catalogue", dtype=dtype)
    assert embedding.items == ITEMS - 3 * BLOCK
    (note,) = index.notes
    assert note.message == "24 vectors that an interrupted change had embedded are taken over"
    one, other = arrays(tmp_path / "whole"), arrays(tmp_path / "catalogue")
    assert list(one) == list(other)
    assert all((one[name] == other[name]).all() for name in one)
    query = np.ones((1, SIZE), np.float32)
    assert index.search(query, 50).ids == whole.search(query, 50).ids


def test_interrupted_twice(tmp_path: Path, embedding: Embedding, source: Path) -> None:
    def build() -> None:
        Index.build(head(), source, tmp_path / "catalogue")

    interrupted(embedding, build, 2 * BLOCK)
    interrupted(embedding, build, 2 * BLOCK)
    assert len(list((tmp_path / "catalogue" / PARTS).iterdir())) == 1
    build()
    assert embedding.items == ITEMS - 4 * BLOCK


@pytest.mark.parametrize("change", ["add", "update"])
def test_changes(tmp_path: Path, embedding: Embedding, source: Path, change: str) -> None:
    np.save(tmp_path / "first.npy", np.ones((2, SIZE), np.float32))
    (tmp_path / "first.csv").write_text("id\na\nb\n")
    folder = tmp_path / "catalogue"
    index = Index.build(head(), tmp_path / "first.npy", folder)
    interrupted(embedding, lambda: getattr(index, change)(source))
    assert len(Index.open(folder)) == 2
    changed = getattr(index, change)(source)
    assert embedding.items == ITEMS - 3 * BLOCK
    assert changed.added == ITEMS
    assert len(index) == ITEMS + 2
    assert [note.kind for note in changed.notes] == ["embedded before"]
    whole = Index.build(head(), source, tmp_path / "whole")
    assert all((index.item(str(row))[0] == whole.item(str(row))[0]).all() for row in range(ITEMS))  # type: ignore[index]
    assert len(list((folder / PARTS).iterdir())) == 2


def test_left_behind(tmp_path: Path, embedding: Embedding, source: Path) -> None:
    """What no change takes over is gone after the next one."""
    np.save(tmp_path / "first.npy", np.ones((2, SIZE), np.float32))
    (tmp_path / "first.csv").write_text("id\na\nb\n")
    index = Index.build(head(), tmp_path / "first.npy", tmp_path / "catalogue")
    interrupted(embedding, lambda: index.add(source))
    assert len(list((index.folder / PARTS).iterdir())) == 2
    assert index.update(tmp_path / "first.npy").notes == ()  # nothing to do
    assert len(list((index.folder / PARTS).iterdir())) == 1


def test_another_model(tmp_path: Path, embedding: Embedding, source: Path) -> None:
    interrupted(embedding, lambda: Index.build(head(), source, tmp_path / "catalogue"))
    index = Index.build(head(1), source, tmp_path / "catalogue")
    assert embedding.items == ITEMS
    assert index.notes == ()
    found, by_it = index.item("3"), head(1).embed(list(np.load(source)))
    assert found is not None
    assert np.allclose(found[0], by_it[3].numpy(), atol=1e-3)
    assert len(arrays(tmp_path / "catalogue")[VECTORS]) == ITEMS


def test_another_dtype(tmp_path: Path, embedding: Embedding, source: Path) -> None:
    interrupted(embedding, lambda: Index.build(head(), source, tmp_path / "catalogue"))
    Index.build(head(), source, tmp_path / "catalogue", dtype="float32")
    assert embedding.items == ITEMS


def test_another_source(tmp_path: Path, embedding: Embedding, source: Path) -> None:
    """By its content, not by its place or name: what has changed is embedded."""
    interrupted(embedding, lambda: Index.build(head(), source, tmp_path / "catalogue"))
    rows = np.load(source)[::-1].copy()
    rows[-1] = 1  # was the first
    np.save(source, rows)
    index = Index.build(head(), source, tmp_path / "catalogue")
    assert embedding.items == ITEMS - 3 * BLOCK + 1
    found = np.stack([index.item(str(row))[0] for row in range(ITEMS)])  # type: ignore[index]
    assert np.allclose(found, head().embed(list(rows)).numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda part: damaged(part / VECTORS, -1), 1),
        (lambda part: damaged(part / CONTENTS, -1), 1),
        (lambda part: damaged(part / VECTORS, 130), 3),
        (lambda part: os.truncate(part / VECTORS, (part / VECTORS).stat().st_size - 1), 1),
        (lambda part: os.truncate(part / CONTENTS, 100), 3),
        (lambda part: os.truncate(part / BLOCKS, (part / BLOCKS).stat().st_size - 5), 1),
        (lambda part: (part / BLOCKS).write_text("[1]\n"), 3),
        (lambda part: (part / BLOCKS).write_text('{"rows": 3}\n'), 3),
        (lambda part: (part / BLOCKS).unlink(), 3),
        (lambda part: (part / VECTORS).write_bytes(b""), 3),
        (lambda part: (part.parent / "a file").touch(), 0),
    ],
)
def test_damaged(
    tmp_path: Path, embedding: Embedding, source: Path, damage: Callable[[Path], object], lost: int
) -> None:
    """A machine that lost its power leaves anything: only whole blocks that are as they were written are taken over."""
    interrupted(embedding, lambda: Index.build(head(), source, tmp_path / "catalogue"))
    (part,) = (tmp_path / "catalogue" / PARTS).iterdir()
    damage(part)
    index = Index.build(head(), source, tmp_path / "catalogue")
    assert embedding.items == ITEMS - (3 - lost) * BLOCK
    found = np.stack([index.item(str(row))[0] for row in range(ITEMS)])  # type: ignore[index]
    assert np.allclose(found, head().embed(list(np.load(source))).numpy(), atol=1e-3)


def damaged(path: Path, place: int) -> None:
    written = bytearray(path.read_bytes())
    written[place] ^= 1
    path.write_bytes(written)


def test_nothing_embedded_yet(tmp_path: Path, embedding: Embedding, source: Path) -> None:
    interrupted(embedding, lambda: Index.build(head(), source, tmp_path / "catalogue"), 0)
    assert not (tmp_path / "catalogue").exists()


def test_killed(tmp_path: Path, embedding: Embedding) -> None:
    """Of images, in a process that is killed."""
    folder = draw_all(tmp_path / "images", ITEMS)
    child = os.fork()
    if not child:
        try:
            embedding.most, embedding.by = 3 * BLOCK, lambda: os.kill(os.getpid(), signal.SIGKILL)
            Index.build(small_embedder(), folder, tmp_path / "catalogue", workers=0)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    index = Index.build(small_embedder(), folder, tmp_path / "catalogue", workers=0)
    assert embedding.items == ITEMS - 3 * BLOCK
    whole = Index.build(small_embedder(), folder, tmp_path / "whole", workers=0)
    assert (index.vectors()[1] == whole.vectors()[1]).all()
    assert index.search(["a/0.png"]).ids == whole.search(["a/0.png"]).ids
