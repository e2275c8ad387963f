"""Files of descriptors that somebody else made: read a block at a time, and refused where they do not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from recallk import InputError
from recallk.retrieval import parts
from recallk.runs.given_descriptors import read_descriptors
from tests.data.limits import megabytes

SUFFIXES = [".npz", ".safetensors"]


def unit(count: int, dimension: int = 8, seed: int = 0) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    normalised: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        save_file(arrays, path)
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_BLOCK_ROWS", 4)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_of_unit_length_are_read_as_they_are(tmp_path: Path, suffix: str, dtype: Any) -> None:
    queries, gallery, distractors = (unit(count).astype(dtype) for count in (3, 10, 7))
    file = save(tmp_path / f"d{suffix}", queries=queries, gallery=gallery, distractors=distractors)
    told = list[tuple[str, int, int]]()
    found = read_descriptors(file, 3, 10, lambda *progress: told.append(progress))
    assert not found.scaled
    assert found.queries.dtype == torch.float32
    assert np.array_equal(found.queries, queries.astype(np.float32))
    kept = np.float16 if dtype == np.float16 else np.float32
    assert found.gallery.dtype == found.gallery[0:2].dtype == kept
    assert (len(found.gallery), found.gallery.shape) == (10, (10, 8))
    assert np.array_equal(found.gallery[:], gallery.astype(kept))
    assert np.array_equal(found.gallery[4:99], gallery[4:].astype(kept))
    assert found.distractors is not None
    assert np.array_equal(found.distractors[2:5], distractors[2:5].astype(kept))
    assert told[-1] == ("looking through the descriptors", 20, 20)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("dtype", "factor"), [(np.float16, 300), (np.float32, 1e30), (np.float32, 1e-30), (np.float64, 1e30)]
)
def test_other_rows_are_divided_by_their_length(tmp_path: Path, suffix: str, dtype: Any, factor: float) -> None:
    gallery = unit(10)
    written = gallery.copy()
    written[7:] *= factor
    arrays = {"queries": (unit(3, seed=1) * factor).astype(dtype), "gallery": written.astype(dtype)}
    found = read_descriptors(save(tmp_path / f"d{suffix}", **arrays), 3, 10)
    assert found.scaled
    assert found.distractors is None
    assert found.gallery.dtype == found.gallery[0:2].dtype == np.float32
    assert np.allclose(found.gallery[:], gallery, atol=1e-3 if dtype == np.float16 else 1e-6)
    assert np.allclose(found.queries, unit(3, seed=1), atol=1e-3 if dtype == np.float16 else 1e-6)
    assert np.allclose(np.linalg.norm(found.gallery[6:9], axis=1), 1, atol=1e-6)


def test_no_distractors_and_an_empty_list_of_them_are_one(tmp_path: Path) -> None:
    file = save(tmp_path / "d.npz", queries=unit(3), gallery=unit(10), distractors=np.zeros((0, 8)))
    assert read_descriptors(file, 3, 10).distractors is None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": unit(4)}, "queries has 4 rows, the test set 3: give one for each, in its lists' order"),
        ({"gallery": unit(9)}, "gallery has 9 rows, the test set 10"),
        ({"gallery": None}, "has no gallery, but queries; save queries"),
        ({"gallery": unit(10, 7)}, r"different dimensions \(.*queries 8.*\): make all with one model"),
        ({"distractors": unit(2, 9)}, r"different dimensions \(.*distractors 9.*\)"),
        ({"gallery": np.zeros((10, 0)), "queries": np.zeros((3, 0))}, "different dimensions"),
        ({"gallery": unit(10).ravel()}, r"its gallery are (<f8|F64) \(80,\), float16, float32 or float64 \(items"),
        ({"gallery": np.ones((10, 8), np.int64)}, r"its gallery are (<i8|I64) \(10, 8\)"),
        ({"distractor": unit(2)}, "it has 'distractor', which is none of queries, gallery, distractors"),
        ({"gallery": np.where(np.arange(80).reshape(10, 8) == 50, np.nan, 1)}, "row 6 of gallery holds NaN, inf"),
        ({"gallery": unit(10) * 1e200}, "row 0 of gallery holds NaN, infinity, or numbers beyond float32"),
        ({"distractors": np.full((2, 8), np.inf)}, "row 0 of distractors holds NaN, infinity"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, suffix: str, changes: dict[str, Any], message: str) -> None:
    arrays = {"queries": unit(3), "gallery": unit(10)} | changes
    file = save(tmp_path / f"d{suffix}", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(InputError, match=message) as caught:
        read_descriptors(file, 3, 10)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_damaged_is_one_line(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path / f"d{suffix}", queries=unit(3), gallery=unit(10))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"not a file of descriptors \(.*save queries \(Q, D\) and gallery") as caught:
        read_descriptors(file, 3, 10)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"nowhere.*no such file"):
        read_descriptors(tmp_path / f"nowhere{suffix}", 3, 10)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    file = save(tmp_path / "d.npz", queries=unit(3), gallery=np.array([{}] * 10, dtype=object))
    with pytest.raises(InputError, match="allow_pickle=False"):
        read_descriptors(file, 3, 10)


def test_an_array_alone_and_other_kinds_of_file_are_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", unit(3))
    with pytest.raises(InputError, match=r"d\.npy: neither a \.safetensors nor a \.npz file"):
        read_descriptors(tmp_path / "d.npy", 3, 10)
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    with pytest.raises(InputError, match=r"d\.npz: not a file of descriptors") as caught:
        read_descriptors(tmp_path / "d.npz", 3, 10)
    assert "\n" not in str(caught.value)


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    rows = np.ones((500_000, 256), np.float16)  # 256 MB, of another length
    file = save(tmp_path / "d.safetensors", queries=rows[:3], gallery=rows)
    count = len(rows)
    del rows

    def read_through() -> None:
        found = read_descriptors(file, 3, count)
        assert found.scaled
        for _, block in parts.Parts([found.gallery]).blocks():
            assert abs(float(block[0, 0]) - 1 / 16) < 1e-6

    assert megabytes(read_through) < 230  # blocks of 64 MB, and what becomes of them
