"""Vectors that are searched: by file, by id, by row and as arrays, against a loop over the gallery."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

import recallk
from recallk import InputError
from recallk.models.saved import save
from recallk.models.settings import VectorSettings
from recallk.models.vector_embedder import VectorEmbedder
from tests.processes import in_processes

X = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)


def write(path: Path, array: Any, **columns: Any) -> Path:
    parquet.write_table(pyarrow.table({"embedding": list(array), **columns}), path)
    return path


@pytest.fixture(scope="module")
def embedder() -> VectorEmbedder:
    torch.manual_seed(0)
    made = VectorEmbedder(VectorSettings(input_size=6, embedding_size=4)).eval()
    made.standardise(X)
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery with ids and labels, one without anything, and queries."""
    folder = tmp_path_factory.mktemp("vectors")
    write(folder / "named.parquet", X, id=[*"abcdefghi"], label=[*"xxxyyyzzz"])
    write(folder / "plain.parquet", X)
    write(folder / "queries.parquet", Y)
    np.save(folder / "alone.npy", X.astype(np.float16))
    np.save(folder / "wide.npy", np.ones((2, 7), np.float32))
    return folder


def by_hand(embedder: VectorEmbedder, query: Any, but: int = -1, k: int = 3) -> list[int]:
    cosines = embedder.transform(X) @ embedder.transform(query[None])[0]
    return [row for row in cosines.argsort(descending=True).tolist() if row != but][:k]


def test_each_row_of_a_file_is_a_query(embedder: VectorEmbedder, files: Path) -> None:
    found = recallk.search(embedder, [files / "queries.parquet"], files / "named.parquet", 3)
    assert found.ids == [["abcdefghi"[row] for row in by_hand(embedder, query)] for query in Y]
    assert [item.label for item in found.items[0]] == ["xxxyyyzzz"[row] for row in by_hand(embedder, Y[0])]  # type: ignore[union-attr]
    assert found.similarities.shape == (4, 3)
    plain = recallk.search(embedder, [str(files / "queries.parquet")], str(files / "plain.parquet"), 3)
    assert plain.ids == [by_hand(embedder, query) for query in Y]
    assert torch.equal(plain.similarities, found.similarities)


def test_ids_and_rows_of_the_gallery_are_queries_and_not_their_own_results(
    embedder: VectorEmbedder, files: Path
) -> None:
    named = recallk.search(embedder, ["c", "f", str(files / "queries.parquet")], files / "named.parquet", 3)
    for row, place in ((0, 2), (1, 5)):
        assert named.ids[row] == ["abcdefghi"[other] for other in by_hand(embedder, X[place], place)]
    assert [query.name for query in named.queries[:3]] == ["c", "f", "row 1"]
    assert len(named.ids) == 6
    plain = recallk.search(embedder, ["3", "6"], files / "plain.parquet", 3)
    assert plain.ids == [by_hand(embedder, X[2], 2), by_hand(embedder, X[5], 5)]


@pytest.mark.parametrize("name", ["named.parquet", "alone.npy"])
def test_a_gallery_searched_by_itself(embedder: VectorEmbedder, files: Path, name: str) -> None:
    found = recallk.search(embedder, [files / ".." / files.name / name], files / name, 100)
    assert all(len(row) == 8 for row in found.ids)
    assert all(query.id not in row for query, row in zip(found.queries, found.ids, strict=True))  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, list, np.float16, np.float64])
def test_arrays_are_searched_as_files(embedder: VectorEmbedder, kind: Any) -> None:
    exact = kind is not np.float16
    queries, gallery = (kind(array) if exact else array.astype(kind) for array in (Y, X))
    found = recallk.search(embedder, queries, gallery, 3)
    assert found.ids == [by_hand(embedder, query) for query in Y]
    itself = recallk.search(embedder, gallery, gallery, 3)
    assert itself.ids == [by_hand(embedder, query, row) for row, query in enumerate(X)]
    part = recallk.search(embedder, gallery[:3], gallery, 1)
    assert part.ids == [[0], [1], [2]], "another array, which is not known to be of the gallery"


def searched_in_a_group(folder: str) -> tuple[list[list[Any]], bool]:
    """Return what is found, and whether it is of the gallery that this process has."""
    found = recallk.search(Path(folder) / "run", Y, X, 3)
    return found.ids, all(np.shares_memory(item.table.array, X) for row in found.items for item in row)  # type: ignore[union-attr]


def test_processes_are_not_sent_the_vectors(embedder: VectorEmbedder, tmp_path: Path) -> None:
    save(embedder, tmp_path / "run" / "model")
    expected = [by_hand(embedder, query) for query in Y]
    assert in_processes(searched_in_a_group, 2, str(tmp_path)) == [(expected, True)] * 2


def test_a_run_is_named_by_its_folder(embedder: VectorEmbedder, files: Path, tmp_path: Path) -> None:
    save(embedder, tmp_path / "run" / "model")
    found = recallk.search(tmp_path / "run", ["a"], files / "named.parquet", 3)
    assert found.ids == recallk.search(embedder, ["a"], files / "named.parquet", 3).ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": []}, "no query: give at least one vector"),
        ({"queries": "a"}, r"queries: an array, or a list of files and ids, is needed; write \[file\]"),
        ({"queries": ["j"]}, "j: neither an id in .*named.parquet nor a .parquet"),
        ({"queries": ["1"]}, "1: neither an id in"),
        ({"queries": ["a.png"]}, r"a\.png: neither an id in"),
        ({"queries": ["10"], "gallery": "plain.parquet"}, "10: neither a row from 1 to 9 in"),
        ({"queries": ["nowhere.npy"]}, "nowhere.npy: no such file"),
        ({"queries": ["queries.parquet", "wide.npy"]}, "wide.npy: vectors of 7 numbers, and those of .* have 6"),
        ({"queries": 3}, "queries are 3"),
        ({"queries": Y[0]}, r"queries: an array of shape \(6,\); vectors are"),
        ({"queries": Y[:, :5]}, r"vectors of shape \(4, 5\): \(items, 6\) is needed"),
        ({"queries": np.zeros((1, 6), np.float32)}, "zeros alone"),
        ({"gallery": "."}, "the run is on vectors: give a .parquet"),
        ({"gallery": "photos"}, "photos: the run is on vectors: give a .parquet"),
        ({"gallery": "images.parquet"}, "no column 'embedding'"),
        ({"gallery": X[:0]}, "gallery|vectors"),
        ({"scales": [1, 2]}, "scales: vectors cannot be scaled"),
    ],
)
def test_mistakes_are_one_line(
    embedder: VectorEmbedder, files: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(files)
    parquet.write_table(pyarrow.table({"path": ["a.png"], "label": ["a"]}), "images.parquet")
    given: dict[str, Any] = {"model": embedder, "queries": ["a"], "gallery": "named.parquet", "k": 3}
    with pytest.raises(InputError, match=message) as caught:
        recallk.search(**(given | change))
    assert str(caught.value).isprintable()
