"""The state of a catalogue: opened while it changes, damaged, interrupted, of another version."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from recallk import InputError
from recallk.catalogue import manifest as manifests
from recallk.catalogue import part as parts
from recallk.catalogue import state as states
from recallk.catalogue.index import Index
from recallk.catalogue.manifest import MANIFEST, PARTS
from recallk.catalogue.state import check, open_state
from recallk.core.lock import locked
from tests.catalogue.place import draw, draw_all, said, small_embedder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("state")
    index = Index.build(small_embedder(), draw_all(place / "photos"), place / "catalogue", workers=0)
    index.remove(["a/0.png"])
    return index.folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "catalogue"))


def part_with(folder: Path, name: str) -> Path:
    """The file of that name, in whatever part has it."""
    (found,) = folder.glob(f"{PARTS}/*/{name}")
    return found


def test_a_whole_one_passes_the_check(folder: Path) -> None:
    assert len(check(folder)) == 8


@pytest.mark.parametrize("name", ["vectors.npy", "items.parquet", "contents.npy", "removed.npy"])
def test_a_byte_that_is_another_is_found_by_the_check(folder: Path, name: str) -> None:
    file = part_with(folder, name)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: other bytes than when it was written"):
        check(folder)


@pytest.mark.parametrize("name", ["vectors.npy", "items.parquet", "contents.npy", "removed.npy"])
@pytest.mark.parametrize("cut", [0.0, 0.5])
def test_a_file_that_was_cut_is_told_when_it_is_opened(folder: Path, name: str, cut: float) -> None:
    file = part_with(folder, name)
    file.write_bytes(file.read_bytes()[: int(cut * file.stat().st_size)])
    with pytest.raises(InputError, match=f"{name}: .* bytes, and the manifest says"):
        Index.open(folder)


@pytest.mark.parametrize("name", ["vectors.npy", "items.parquet", "removed.npy"])
def test_a_file_that_is_missing_is_told(folder: Path, name: str) -> None:
    part_with(folder, name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file; the catalogue is damaged"):
        Index.open(folder)


def test_a_model_that_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "model")
    with pytest.raises(InputError, match="no such run folder"):
        Index.open(folder).search([draw(tmp_path / "query.png", 99)])


def test_another_model_is_told(folder: Path, tmp_path: Path) -> None:
    """Its vectors would be compared with those of the old one."""
    weights = folder / "model" / "weights.safetensors"
    other = {name: 0.9 * value if value.is_floating_point() else value for name, value in load_file(weights).items()}
    save_file(other, weights)
    told = "not the model that made the vectors"
    with pytest.raises(InputError, match=told):
        Index.open(folder).search([draw(tmp_path / "query.png", 99)])
    with pytest.raises(InputError, match=told):
        check(folder)
    assert Index.open(folder).search(["b/1.png"], 1).ids != [[]]  # which needs no model


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m | {"format": 2}, r"written by another version of recallk \(format 2\)"),
        (lambda m: m | {"more": 1}, "more: Extra inputs"),
        (lambda m: {key: value for key, value in m.items() if key != "dtype"}, "dtype: Field required"),
        (lambda m: m | {"dtype": "float64"}, "dtype"),
        (lambda m: [m], "no table of keys and values"),
        (lambda m: m | {"parts": [m["parts"][0] | {"name": "../../etc"}]}, "parts.0.name"),
        (lambda m: m | {"parts": [m["parts"][0] | {"rows": 5}]}, "9 rows, and the manifest says 5"),
        (lambda m: m | {"parts": [m["parts"][0] | {"files": {"../x.npy": {"bytes": 1, "sha256": "0" * 64}}}]}, "files"),
    ],
)
def test_a_manifest_that_cannot_be_used(folder: Path, change: Callable[[Any], Any], told: str) -> None:
    file = folder / MANIFEST
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(InputError, match=told) as refused:
        Index.open(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_manifest_that_is_none(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match="not the manifest of a catalogue"):
        Index.open(folder)


def test_one_writer_at_a_time(folder: Path) -> None:
    index = Index.open(folder)
    with locked(folder), pytest.raises(InputError, match="in use by"):
        index.remove(["b/1.png"])
    assert "b/1.png" in index


def test_what_an_interrupted_writer_left_is_removed_by_the_next(folder: Path, tmp_path: Path) -> None:
    (folder / PARTS / "0123456789abcdef").mkdir()
    (folder / PARTS / "0123456789abcdef" / "vectors.npy").write_bytes(b"half")
    (folder / f"{MANIFEST}.01234567.unfinished").write_bytes(b"half")
    index = Index.open(folder)
    assert len(index) == 8
    index.add(draw(tmp_path / "more" / "d" / "new.png", 50).parents[1], workers=0)
    state = open_state(folder)
    assert {path.name for path in (folder / PARTS).iterdir()} == {part.name for part in state.manifest.stored}
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "model", PARTS]


@pytest.mark.parametrize("left", [(), ("model",), ("model", "parts", ".lock")])
def test_a_build_that_was_interrupted_can_be_done_again(tmp_path: Path, left: tuple[str, ...]) -> None:
    folder = tmp_path / "catalogue"
    folder.mkdir()
    for name in left:
        if name == ".lock":
            (folder / name).write_text("process 1 on a machine that is off")
        else:
            (folder / name / "0123456789abcdef").mkdir(parents=True)
    index = Index.build(small_embedder(), draw_all(tmp_path / "photos", 3), folder, workers=0)
    assert len(index) == 3
    assert len(list((folder / PARTS).iterdir())) == 1


@pytest.mark.parametrize("step", ["write_manifest", "open_part", "write_removed"])
def test_a_change_that_fails_leaves_the_old_state(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.open(folder)
    before = said(index)

    def full(*_: Any) -> Any:
        raise InputError("the disk is full")

    with monkeypatch.context() as patch:
        if step == "open_part":
            patch.setattr(states, "write_manifest", full)
        else:
            patch.setattr(states, step, full)
        with pytest.raises(InputError, match="the disk is full"):
            index.remove(["b/1.png"])
    assert said(Index.open(folder)).keys() == before.keys()
    index.remove(["b/1.png"])
    assert len(Index.open(folder)) == 7


def test_a_reader_that_comes_while_files_are_replaced_opens_the_new_state(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is read, then a writer replaces everything, then the files of the old manifest are looked for."""
    writer = Index.open(folder)
    whole, done = parts.open_part, list[int]()

    def opened(*about: Any) -> Any:
        if not done:
            done.append(1)
            monkeypatch.setattr(states, "open_part", whole)
            writer.remove(["b/1.png", "b/4.png", "b/7.png"])
        return whole(*about)

    monkeypatch.setattr(states, "open_part", opened)
    assert len(Index.open(folder)) == 5
    assert done


def test_numbers_that_are_none_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    embedder = small_embedder()
    monkeypatch.setattr(type(embedder), "embed", lambda self, items, **_: torch.full((len(items), 8), float("nan")))
    with pytest.raises(InputError, match="NaN"):
        Index.build(embedder, draw_all(tmp_path / "photos", 3), tmp_path / "catalogue", workers=0)
    assert not (tmp_path / "catalogue").exists()


def test_the_names_of_files_are_those_of_the_format(folder: Path) -> None:
    """Another program may rely on them."""
    written = json.loads((folder / MANIFEST).read_text())
    assert written["format"] == manifests.FORMAT == 1
    assert written["dtype"] == "float16"
    assert (written["items"], written["dimensions"]) == ("images", 8)
    (part,) = written["parts"]
    assert sorted(part["files"]) == ["contents.npy", "items.parquet", "vectors.npy"]
    vectors = np.load(folder / PARTS / part["name"] / "vectors.npy")
    assert vectors.dtype == np.float16
    assert vectors.shape == (9, 8)
    assert np.load(folder / PARTS / written["removed"]["name"] / "removed.npy").tolist() == [0]
