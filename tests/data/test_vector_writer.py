"""What is written of vectors is what the reader finds, in each kind of file; and nothing is left of what fails."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from recallk import InputError
from recallk.data.item import Drawing, Item, Record
from recallk.data.vector_files import read_vectors
from recallk.data.vector_writer import Dtype, VectorWriter, columns_of, require_writable
from recallk.data.vectors import Vector, VectorTable
from tests.data.limits import megabytes

ROWS, WIDTH = 23, 5
SUFFIXES = [".parquet", ".npy", ".safetensors"]
VECTORS = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
COLUMNS: dict[str, list[str | None]] = {
    "id": [f"photos/é {n}.jpg" for n in range(ROWS)],
    "label": [f"c{n // 3}" for n in range(ROWS)],
    "split": ["train" if n < 9 else "test" for n in range(ROWS)],
    "image": [f"../{n}.jpg" if n else None for n in range(ROWS)],
}
SOURCE = Path("photos")
MADE_BY: dict[str, Any] = {"format": 1, "settings": {"mean": [0.1, 0.2]}}


def write(path: Path, vectors: Any = VECTORS, columns: Any = None, dtype: Dtype = "float32", block: int = 10) -> None:
    rows, width = vectors.shape
    with VectorWriter(path, COLUMNS if columns is None else columns, rows, width, dtype, MADE_BY) as writer:
        for start in range(0, rows, block):
            writer.append(vectors[start : start + block])
        writer.finish()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path: Path, suffix: str, dtype: Dtype) -> None:
    path = tmp_path / f"vectors{suffix}"
    write(path, dtype=dtype)
    records, notes = read_vectors(path)
    assert not notes
    first = records[0].item
    assert isinstance(first, Vector)
    table = first.table
    assert table.array.dtype == dtype
    assert np.array_equal(table.array, VECTORS.astype(dtype))
    assert table.made_by == MADE_BY
    assert [record.label for record in records] == COLUMNS["label"]
    assert [record.split for record in records] == COLUMNS["split"]
    assert table.ids == COLUMNS["id"]
    assert table.images == [None if name is None else str(tmp_path / name) for name in COLUMNS["image"]]
    beside = {f"vectors{suffix}"} | ({"vectors.parquet"} if suffix != ".parquet" else set())
    assert {file.name for file in tmp_path.iterdir()} == beside


def test_a_parquet_table_is_written_in_groups_of_rows(tmp_path: Path) -> None:
    write(tmp_path / "vectors.parquet")
    with parquet.ParquetFile(tmp_path / "vectors.parquet") as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [10, 10, 3]
        assert str(file.schema_arrow.field("embedding").type).startswith("fixed_size_list")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_is_that_of_a_block(tmp_path: Path, suffix: str) -> None:
    block = np.ones((4_000, 250), np.float32)  # 4 MB, 40 of them

    def written() -> None:
        with VectorWriter(tmp_path / f"v{suffix}", {"label": ["a"] * 160_000}, 160_000, 250, "float32", {}) as writer:
            for _ in range(40):
                writer.append(block)
            writer.finish()

    assert megabytes(written) < 90


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_left_of_what_fails(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vectors{suffix}"

    def stopped(last: float, error: type[BaseException]) -> None:
        with VectorWriter(path, COLUMNS, ROWS, WIDTH, "float32", MADE_BY) as writer:
            writer.append(VECTORS[:10])
            writer.append(np.full((2, WIDTH), last, np.float32))
            raise error

    with pytest.raises(KeyboardInterrupt):
        stopped(1.0, KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []
    write(path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match="the network gives NaN"):
        stopped(np.nan, AssertionError)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_a_line(tmp_path: Path, suffix: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((20_000, 20)).astype(np.float32)
    with files_of_at_most(500_000), pytest.raises(InputError, match=f"vectors{suffix}: cannot be written") as caught:
        write(tmp_path / f"vectors{suffix}", vectors, {"label": ["a"] * len(vectors)}, block=4_000)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_an_array_is_never_with_the_table_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"vectors{suffix}"
    write(path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recallk.data.vector_writer.UnfinishedFile.finish", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path, -VECTORS)
    assert not path.exists()


def test_numbers_beyond_float16(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="numbers beyond float16"):
        write(tmp_path / "v.npy", VECTORS * 1e6, dtype="float16")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vectors.csv", "vectors are written into a .parquet, .npy or .safetensors file"),
        ("vectors", "vectors are written into a .parquet"),
        ("nowhere/vectors.npy", "nowhere; make it"),
        ("there.parquet", "there.parquet: exists already; choose another name, or write over it with --overwrite"),
        ("there.npy", "there.parquet: exists already"),
        ("labels.npy", "labels.csv is beside it, and would be taken for its labels"),
        ("folder.npy", "folder.npy: a folder"),
    ],
)
def test_where_vectors_cannot_be_written(tmp_path: Path, name: str, told: str) -> None:
    for other in ("there.parquet", "labels.csv"):
        (tmp_path / other).write_text("of somebody")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(InputError, match=told):
        require_writable(tmp_path / name, "float32", overwrite=False, source=SOURCE)
    if name.startswith("there"):
        require_writable(tmp_path / name, "float32", overwrite=True, source=SOURCE)
    else:
        with pytest.raises(InputError, match=told):
            require_writable(tmp_path / name, "float32", overwrite=True, source=SOURCE)
    with pytest.raises(InputError, match="dtype='int8': one of float32, float16"):
        require_writable(tmp_path / "new.npy", "int8", overwrite=False, source=SOURCE)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("there", "name", "told"),
    [
        ("src.parquet", "src.npy", "src.parquet, which holds vectors; choose another name"),
        ("src.parquet", "src.parquet", "src.parquet: is what is embedded, and would be replaced"),
        ("src.npy", "src.npy", "src.npy: is what is embedded"),
        ("other.parquet", "other.safetensors", "other.parquet, which holds vectors"),
        ("sib.npy", "sib.safetensors", "sib.npy is beside it, and would have its labels; choose another name"),
        ("sib.safetensors", "sib.npy", "sib.safetensors is beside it"),
        ("sib.npy", "sib.parquet", "sib.npy is beside it"),
    ],
)
def test_files_of_vectors_that_nobody_named_stay(
    tmp_path: Path, there: str, name: str, told: str, overwrite: bool
) -> None:
    write(tmp_path / there)
    with pytest.raises(InputError, match=told):
        require_writable(tmp_path / name, "float32", overwrite, tmp_path / f"src{Path(there).suffix}")


def test_a_table_of_images_that_is_embedded_stays(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"path": ["1.jpg"], "label": ["a"]}), tmp_path / "v.parquet")
    require_writable(tmp_path / "v.npy", "float32", overwrite=True, source=SOURCE)
    with pytest.raises(InputError, match="is what is embedded"):
        require_writable(tmp_path / "v.npy", "float32", overwrite=True, source=tmp_path / "v.parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_cannot_be_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recallk.data.vector_writer.parquet.ParquetWriter", full)
    monkeypatch.setattr(VectorWriter, "_header", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left"):
        write(tmp_path / f"v{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("dtype", "last"), [("float32", 0.0), ("float16", 1e-9)])
def test_a_row_of_zeros_is_refused_by_its_name(tmp_path: Path, dtype: Dtype, last: float) -> None:
    vectors = VECTORS.copy()
    vectors[17] = last
    with pytest.raises(InputError, match=r"of 'photos/é 17.jpg' the network gives zeros alone"):
        write(tmp_path / "v.parquet", vectors, dtype=dtype)
    with pytest.raises(InputError, match="of row 18 the network gives zeros alone"):
        write(tmp_path / "v.npy", vectors, {"label": COLUMNS["label"]}, dtype)
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    with pytest.raises(InputError, match="is no UTF-8, and cannot be written into a table; rename it"):
        write(tmp_path / "v.npy", VECTORS[:1], {"id": [name]})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_metadata_is_told(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recallk.data.vector_writer.json.dumps", lambda *_: "[1]")
    if suffix == ".safetensors":  # whose header is JSON as well
        monkeypatch.undo()
        monkeypatch.setattr("tests.data.test_vector_writer.MADE_BY", [1])
    write(tmp_path / f"vectors{suffix}")
    with pytest.raises(InputError, match="not what is said of the vectors' origin"):
        read_vectors(tmp_path / f"vectors{suffix}")


def test_vectors_of_others_say_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "v.csv").write_text("\n".join(["label", *map(str, COLUMNS["label"])]))
    (record, *_), _ = read_vectors(tmp_path / "v.npy")
    assert isinstance(record.item, Vector)
    assert record.item.table.made_by is None


# the columns


def columns(items: list[Item], tmp_path: Path, labels: str = "abc") -> Any:
    records = [Record(item, labels[n % len(labels)] if labels else "", None) for n, item in enumerate(items)]
    return columns_of(records, tmp_path / "photos", tmp_path / "out" / "vectors.parquet")


def test_files_are_named_from_the_source_and_found_from_the_table(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "real" / "deep")
    files = [tmp_path / "photos" / "a" / "1.jpg", tmp_path / "photos" / "b" / "2.jpg", tmp_path / "else" / "3.jpg"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    found = columns(list(files), tmp_path)
    assert found["id"] == ["a/1.jpg", "b/2.jpg", "../else/3.jpg"]
    assert found["label"] == ["a", "b", "c"]
    assert [(tmp_path / "out" / name).read_text() for name in found["image"]] == ["1.jpg", "2.jpg", "3.jpg"]
    assert not any(Path(name).is_absolute() for name in found["image"])
    assert found.keys() == {"id", "label", "image"}
    assert "label" not in columns(list(files), tmp_path, labels="")


def test_items_in_memory_have_a_number_of_their_class(tmp_path: Path) -> None:
    assert columns([np.zeros((4, 4), np.uint8)] * 4, tmp_path, labels="aab") == {
        "id": ["a/1", "a/2", "b/1", "a/3"],
        "label": ["a", "a", "b", "a"],
    }


def test_drawings_keep_their_names(tmp_path: Path) -> None:
    drawings: list[Item] = [Drawing(name, "", (0, 0, 1, 1), 8) for name in ("mdi:home", "tabler:home")]
    assert columns(drawings, tmp_path, labels="h") == {"id": ["mdi:home", "tabler:home"], "label": ["h", "h"]}


def test_vectors_keep_their_names_images_and_texts(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    image = str(tmp_path / "photos" / "1.jpg")
    table = VectorTable(tmp_path / "v.npy", VECTORS, images=[image, *[None] * 22], texts=[None, "words", *[None] * 21])
    assert columns([Vector(table, 0), Vector(table, 1)], tmp_path) == {
        "id": ["row 1", "row 2"],
        "label": ["a", "b"],
        "image": ["../photos/1.jpg", None],
        "text": [None, "words"],
    }


def test_the_metadata_is_json(tmp_path: Path) -> None:
    write(tmp_path / "v.parquet")
    assert json.loads(parquet.read_schema(tmp_path / "v.parquet").metadata[b"recallk.made_by"]) == MADE_BY
