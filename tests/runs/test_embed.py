"""Items become vectors in a file: those that the network gives, with what is known of each, whatever the source is."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from recallk import InputError, embed, load, whiten
from recallk.data.item import Record
from recallk.data.vector_files import read_vectors
from recallk.data.vectors import Vector
from recallk.models.build import build
from recallk.models.made_by import backbone_alone
from recallk.models.settings import ImageSettings
from recallk.runs import embed as embedding
from recallk.runs.embed_keys import EMBED_KEYS
from recallk.runs.embedding import embed_as_configured
from recallk.training.train import train
from tests.data.miniatures import make
from tests.models.test_made_by import HEAD, NETWORK, TINY, paths
from tests.training.test_trainer import save_patterns

SMALL: dict[str, Any] = NETWORK | {"weights": "none"}
public: Any = embed


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=6, images=4)


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("runs") / "images"
    train(TINY | {"data": str(pictures)}, path)
    return path


def network(**keys: Any) -> Any:
    return backbone_alone(ImageSettings(backbone="test_resnet", **({"image_size": 32} | keys)), "none")


def vectors_in(file: Path) -> np.ndarray[Any, Any]:
    """Return the vectors of a file."""
    table = parquet.read_table(file)
    return np.stack(table["embedding"].to_pylist()).astype(np.float32)


def test_a_backbone_alone_gives_pooled_features_of_unit_length(pictures: Path, tmp_path: Path) -> None:
    found = embed(str(pictures), tmp_path / "v.parquet", **SMALL)
    assert (found.items, found.size, found.labelled, found.path) == ("24 images", 96, True, tmp_path / "v.parquet")
    vectors = vectors_in(tmp_path / "v.parquet")
    bare = network()
    views = torch.stack([bare.transform(path) for path in paths(pictures)])
    with torch.no_grad():
        features = bare.pool(bare.backbone.forward_features((views - bare.mean) / bare.std))
    expected = torch.nn.functional.normalize(features, dim=1)
    np.testing.assert_allclose(vectors, expected.numpy(), rtol=0, atol=1e-5)
    assert bare.settings.head == "none"
    again = build(bare.settings, "none")  # the settings that the file has are those of the network
    assert again.state_dict().keys() == bare.state_dict().keys()


def test_a_run_with_its_whitening(pictures: Path, run: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    whiten(copied, str(pictures), dimension=5)
    assert embed(str(pictures), tmp_path / "v.parquet", run=copied).size == 5
    expected = load(copied).embed(paths(pictures))
    np.testing.assert_allclose(vectors_in(tmp_path / "v.parquet"), expected.numpy(), rtol=0, atol=1e-5)
    item = read_vectors(tmp_path / "v.parquet")[0][0].item
    assert isinstance(item, Vector)
    made_by = item.table.made_by
    assert made_by is not None
    assert (made_by["weights"], made_by["path"], made_by["whitened"]) == ("run", str(copied), True)


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".safetensors"])
@pytest.mark.parametrize("block", [7, 24, 100])
def test_blocks_of_any_size_give_the_same(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, block: int
) -> None:
    monkeypatch.setattr(embedding, "BLOCK", block)
    told: list[tuple[str, int, int]] = []
    embed(str(pictures), tmp_path / f"v{suffix}", **SMALL, advance=lambda *step: told.append(step), chunk_size=5)
    records, _ = read_vectors(tmp_path / f"v{suffix}")
    expected = network().embed(paths(pictures))
    np.testing.assert_allclose(np.stack([np.asarray(r.item) for r in records]), expected, rtol=0, atol=1e-5)
    assert [record.label for record in records] == [path.parent.name for path in paths(pictures)]
    assert [step for step in told if step[0] == "embedding"][-1] == ("embedding", 24, 24)


def shown(file: Path) -> list[tuple[Any, ...]]:
    """Return name, label, split and image of each row."""
    found = []
    for record in read_vectors(file)[0]:
        assert isinstance(record.item, Vector)
        table, row = record.item.table, record.item.row
        images = table.images
        found.append((table.name(row), record.label, record.split, None if images is None else images[row]))
    return found


def test_a_table_keeps_its_split(pictures: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name},{'train' if n < 12 else 'test'}" for n, path in enumerate(paths(pictures))]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *rows]))
    embed(str(tmp_path / "table.csv"), tmp_path / "v.npy", **SMALL)
    for n, (path, row) in enumerate(zip(paths(pictures), shown(tmp_path / "v.npy"), strict=True)):
        name, label, split, image = row
        assert (label, split) == (path.parent.name, "train" if n < 12 else "test")
        assert (tmp_path / name).resolve() == Path(image).resolve() == path


def test_a_folder_without_classes_has_no_labels(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for number, path in enumerate(paths(pictures)[:5]):
        shutil.copy(path, tmp_path / "flat" / f"{number}.png")
    found = embed(str(tmp_path / "flat"), tmp_path / "v.parquet", **SMALL)
    assert not found.labelled
    assert [note.message for note in found.notes] == ["images outside any class: taken as a folder without classes"]
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["embedding", "id", "image"]
    assert table["id"].to_pylist() == [f"{number}.png" for number in range(5)]
    with pytest.raises(InputError, match="no column 'label'"):
        train(HEAD | {"data": str(tmp_path / "v.parquet")}, tmp_path / "run")


def test_items_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    drawn = [Record(random.integers(0, 255, (9, 9)).astype(np.uint8), f"c{n // 5}", "train") for n in range(50)]
    monkeypatch.setattr("recallk.data.source.DRAWN", {"glyphs": lambda: drawn})
    assert embed("glyphs", tmp_path / "v.parquet", **SMALL, dtype="float16").items == "50 images"
    rows = shown(tmp_path / "v.parquet")
    assert [row[1:] for row in rows] == [(record.label, record.split, None) for record in drawn]
    assert rows[0][0] == f"{drawn[0].label}/1"
    assert parquet.read_schema(tmp_path / "v.parquet").field("embedding").type.value_type == "halffloat"


def test_a_benchmark(tmp_path: Path) -> None:
    root = make("inshop", tmp_path)
    found = embed(str(root), tmp_path / "v.parquet", **SMALL, dataset="inshop")
    assert not [note for note in found.notes if "become test" in note.message]
    roles = parquet.read_table(tmp_path / "v.parquet")["role"].to_pylist()
    assert set(roles) == {None, "query", "gallery"}
    rows = shown(tmp_path / "v.parquet")
    assert {split for _, _, split, _ in rows} == {"train", "test"}
    assert all((root / name).resolve() == Path(image).resolve() for name, _, _, image in rows)
    train(HEAD | {"data": str(tmp_path / "v.parquet")}, tmp_path / "run")


def test_vectors_by_a_run_on_vectors(pictures: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    embed(str(pictures), first, **SMALL)
    train(HEAD | {"data": str(first)}, tmp_path / "run")
    assert embed(str(first), second, run=tmp_path / "run").items == "24 vectors"
    expected = load(tmp_path / "run").embed([record.item for record in read_vectors(first)[0]])
    np.testing.assert_allclose(vectors_in(second), expected.numpy(), rtol=0, atol=1e-5)
    assert shown(second) == shown(first)
    for name, said in (("first.parquet", "is what is embedded"), ("first.npy", "first.parquet, which holds vectors")):
        with pytest.raises(InputError, match=said):
            embed(str(first), tmp_path / name, run=tmp_path / "run", overwrite=True)
    with pytest.raises(InputError, match="vectors, and a backbone embeds images or texts; give --run, a run"):
        embed(str(first), tmp_path / "third.parquet", **SMALL)
    told = (
        r"photos: images, and the model of .*run embeds vectors; compose it with what made its vectors first: recallk"
    )
    with pytest.raises(InputError, match=told):
        embed("photos", tmp_path / "third.parquet", run=tmp_path / "run")


OF_IMAGES: dict[str, Any] = {
    "pooling": "average",
    "image_size": 48,
    "image_shape": "keep",
    "resize": 80,
    "interpolation": "bicubic",
    "mean": (0.1, 0.2, 0.3),
    "std": (0.1, 0.2, 0.3),
}


@pytest.mark.parametrize("key", OF_IMAGES)
def test_the_keys_of_images_are_those_of_training(pictures: Path, tmp_path: Path, key: str) -> None:
    before = {"image_size": 64}  # whose features are more than one, to be pooled
    keys = before | {key: OF_IMAGES[key]}
    embed(str(pictures), tmp_path / "v.parquet", **(SMALL | keys))
    vectors = vectors_in(tmp_path / "v.parquet")
    np.testing.assert_allclose(vectors, network(**keys).embed(paths(pictures)), rtol=0, atol=1e-5)
    assert np.abs(vectors - network(**before).embed(paths(pictures)).numpy()).max() > 1e-4


def test_every_key_is_tried() -> None:
    assert {
        *OF_IMAGES,
        "weights",
        "max_length",
        "dataset",
        "items",
        "columns",
        "root",
        "chunk_size",
        "workers",
        "accelerator",
    } == set(EMBED_KEYS)


def test_how_items_are_read(pictures: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a backbone and a run alike."""
    seen: list[dict[str, Any]] = []
    whole = embed_as_configured

    def embedded(embedder: Any, config: Any, *rest: Any, **how: Any) -> Any:
        seen.append({"chunk_size": config.embedded_at_a_time, "workers": config.readers, "on": config.accelerator})
        return whole(embedder, config, *rest, **how)

    monkeypatch.setattr(embedding, "embed_as_configured", embedded)
    how = {"chunk_size": 3, "workers": 1, "accelerator": "cpu"}
    for network in ({"backbone": "test_resnet", "image_size": 32, "weights": "none"}, {"run": run}):
        public(str(pictures), tmp_path / "v.parquet", **network, **how, overwrite=True)
    assert seen == [{"chunk_size": 3, "workers": 1, "on": "cpu"}] * 2


def test_what_a_table_holds_of_both(pictures: Path, run: Path, tmp_path: Path) -> None:
    embed(str(pictures), tmp_path / "v.parquet", **SMALL)
    table = parquet.read_table(tmp_path / "v.parquet")
    both = table.append_column("path", table["image"])
    parquet.write_table(both, tmp_path / "both.parquet")
    for network in (SMALL, {"run": run}):
        assert public(str(tmp_path / "both.parquet"), tmp_path / "w.npy", **network, items="images", overwrite=True)
        with pytest.raises(InputError, match="vectors"):
            public(str(tmp_path / "both.parquet"), tmp_path / "w.npy", **network, overwrite=True)


# what goes wrong

WRONG: dict[str, Callable[[Path, Path, Path], Any]] = {
    "give --backbone NAME (of timm), or --run RUN": lambda data, run, out: embed(str(data), out),
    "both are given: choose one": lambda data, run, out: embed(str(data), out, backbone="test_resnet", run=run),
    "backbone=no_such_net": lambda data, run, out: embed(str(data), out, **(SMALL | {"backbone": "no_such_net"})),
    "image_size is for a backbone, and a run has its own": lambda data, run, out: embed(
        str(data), out, run=run, image_size=64
    ),
    "'head' says nothing of how items are embedded; the keys are": lambda data, run, out: embed(
        str(data), out, **SMALL, head="linear"
    ),
    "weights=nowhere.pt: no such file": lambda data, run, out: embed(
        str(data), out, **(SMALL | {"weights": "nowhere.pt"})
    ),
    "image_size='small'": lambda data, run, out: embed(str(data), out, **(SMALL | {"image_size": "small"})),
    "dtype='int8': one of float32, float16": lambda data, run, out: public(str(data), out, **SMALL, dtype="int8"),
    "nowhere: no such folder": lambda data, run, out: embed(str(data / "nowhere"), out, **SMALL),
    "no such run folder": lambda data, run, out: embed(str(data), out, run=data / "nowhere"),
    "no config.yaml in this folder": lambda data, run, out: embed(str(data), out, run=data),
    "no data set 'birds'": lambda data, run, out: embed(str(data), out, run=run, dataset="birds"),
    "there.parquet: exists already": lambda data, run, out: embed(str(data), out.parent / "there.parquet", **SMALL),
    "vectors.txt: vectors are written into a": lambda data, run, out: embed(
        str(data), out.with_suffix(".txt"), run=run
    ),
    "deep: no folder": lambda data, run, out: embed(str(data), out.parent / "deep" / "vectors.npy", run=run),
}


@pytest.mark.parametrize("told", WRONG)
def test_what_cannot_be_is_a_line_before_anything_is_embedded(
    pictures: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(embedding, "embed_as_configured", never)
    (tmp_path / "there.parquet").write_text("there")
    with pytest.raises(InputError) as caught:
        WRONG[told](pictures, run, tmp_path / "vectors.parquet")
    if told == "deep: no folder":
        told = f"no folder {tmp_path / 'deep'}"
    if told == "no such run folder":
        told = "no config.yaml in this folder"
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there.parquet"]


def test_an_unreadable_image_leaves_nothing(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(shutil.copytree(pictures, tmp_path / "data"))
    paths(data)[20].write_bytes(paths(data)[20].read_bytes()[:60])
    (tmp_path / "out").mkdir()
    for checked in (True, False):  # as it is opened before, or met on the way
        if not checked:
            monkeypatch.setattr(embedding, "check_files", lambda *_, **__: 0)
            monkeypatch.setattr(embedding, "BLOCK", 8)
        with pytest.raises(InputError, match=f"{paths(data)[20].name}.*broken image"):
            embed(str(data), tmp_path / "out" / "v.npy", **SMALL)
        assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_exists_is_replaced_when_told_to(pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / "v.npy"
    embed(str(pictures), file, **SMALL)
    before = np.load(file)
    with pytest.raises(InputError, match="exists already"):
        embed(str(pictures), file, **(SMALL | {"resize": 40}))
    assert np.array_equal(np.load(file), before)
    embed(str(pictures), file, **(SMALL | {"resize": 40}), overwrite=True)
    assert not np.array_equal(np.load(file), before)
