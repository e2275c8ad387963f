"""Of which kind data are, told before they are read."""

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from recallk import InputError
from recallk.data.kind import kind_of
from recallk.runs.config import make_config


def table(file: Path, **columns: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), file)
    return file


def test_names_of_files_tell(tmp_path: Path) -> None:
    given = ["photos", "v.npy", "v.NPY", "v.safetensors", "v.csv", "glyphs", "~nobody-at-all/v.npy", "x\0.parquet"]
    assert [name for name in given if kind_of(name) == "vectors"] == ["v.npy", "v.NPY", "v.safetensors"]


def test_columns_of_a_parquet_table_tell(tmp_path: Path) -> None:
    assert kind_of(str(table(tmp_path / "v.parquet", embedding=[[1.0]], label=["a"]))) == "vectors"
    assert kind_of(str(table(tmp_path / "i.parquet", path=["a.png"], label=["a"]))) == "images"
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    (tmp_path / "folder.parquet").mkdir()
    for name in ("damaged", "folder", "missing"):
        assert kind_of(str(tmp_path / f"{name}.parquet")) == "images"


def test_a_key_for_another_kind_of_items_is_one_line(tmp_path: Path) -> None:
    vectors = str(table(tmp_path / "v.parquet", embedding=[[1.0]], label=["a"]))
    given = {"backbone": "resnet50", "image_size": 32, "workers": 0, "trained_blocks": 1}
    for key, value in (given | {"on_bad_image": "skip", "max_bad_images": 0.5}).items():
        of = "images and texts" if key == "backbone" else "images"
        with pytest.raises(InputError, match=f"^{key} is for {of}, and the data are vectors: leave it out$"):
            make_config({"data": vectors, key: value})
    whole = make_config({"data": vectors}).model_dump()
    assert make_config(whole) == make_config({"data": vectors}), "as a config.yaml has them"
    with pytest.raises(InputError, match=r"^input_size is for vectors, and the data are images: leave it out$"):
        make_config({"data": "photos", "input_size": 3})
    for head in ("none", "whitening"):
        with pytest.raises(InputError, match=f"^head='{head}': input should be 'linear', 'residual' or 'mlp'$"):
            make_config({"data": vectors, "head": head})


def test_of_a_table_that_holds_both_items_chooses(tmp_path: Path) -> None:
    path = table(tmp_path / "b.parquet", embedding=[[1.0]], label=["a"], path=["a.png"])
    assert make_config({"data": str(path)}).items == "vectors"
    assert make_config({"data": str(path), "items": "images"}).items == "images"
    told = r"^backbone is for images and texts, and the data are vectors: leave it out, or give --items images$"
    with pytest.raises(InputError, match=told):
        make_config({"data": str(path), "backbone": "resnet50"})
    with pytest.raises(InputError, match=r"leave it out$"):
        make_config({"data": str(path), "backbone": "resnet50", "items": "vectors"})
    with pytest.raises(InputError, match=r"^items=.*sounds"):
        make_config({"data": str(path), "items": "sounds"})
