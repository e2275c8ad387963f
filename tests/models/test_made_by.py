"""A head is composed with what made its vectors: found again by what their file says, and checked."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from recallk import InputError, compose, embed, evaluate, load, report, search, whiten
from recallk.data.vector_files import read_vectors
from recallk.evaluation.metrics import retrieval_metrics
from recallk.models.composed import ComposedEmbedder
from recallk.models.fetching import not_fetched
from recallk.models.made_by import backbone_alone, of_backbone
from recallk.models.saved import save
from recallk.models.settings import ImageSettings
from recallk.models.vector_embedder import VectorEmbedder
from recallk.runs.folder import RunFolder
from recallk.runs.whiten import remove_whitening
from recallk.training.train import resume, train
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "select": "last", "epochs": 1}
NETWORK: dict[str, Any] = {"backbone": "test_resnet", "image_size": 32, "workers": 0, "accelerator": "cpu"}
HEAD: dict[str, Any] = {"embedding_size": 8, "epochs": 2, "select": "last", "accelerator": "cpu"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=10, images=5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file(backbone_alone(ImageSettings(backbone="test_resnet", image_size=32), "none").backbone.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def image_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run: Path = tmp_path_factory.mktemp("runs") / "images"
    train(TINY | {"data": str(pictures)}, run)
    whiten(run, str(pictures), dimension=9)
    return run


def paths(pictures: Path) -> list[Path]:
    return sorted(pictures.rglob("*.png"))


def by_none(pictures: Path, file: Path, weights: Path, image_run: Path, **how: Any) -> None:
    embed(str(pictures), file, **NETWORK, weights="none", **how)


def by_file(pictures: Path, file: Path, weights: Path, image_run: Path) -> None:
    embed(str(pictures), file, **NETWORK, weights=str(weights))


def by_run(pictures: Path, file: Path, weights: Path, image_run: Path, **how: Any) -> None:
    embed(str(pictures), file, run=image_run, **how)


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".safetensors"])
@pytest.mark.parametrize("made", [by_none, by_file, by_run])
def test_the_numbers_are_those_of_the_trainer_everywhere(
    pictures: Path, weights: Path, image_run: Path, tmp_path: Path, made: Callable[..., None], suffix: str
) -> None:
    """In the run's result, of the loaded head on the vectors, and composed with its backbone on the images."""
    file, run = tmp_path / f"vectors{suffix}", tmp_path / "run"
    made(pictures, file, weights, image_run)
    summary = train(HEAD | {"data": str(file)}, run)

    records, _ = read_vectors(file)
    vectors = np.stack([np.asarray(record.item) for record in records])
    head = load(run)
    assert isinstance(head, VectorEmbedder)
    embeddings = head.transform(vectors)

    split = RunFolder(run).read_split()
    assert split is not None
    tested = [number for number, record in enumerate(records) if record.label in split.splits["test"]]
    labels = np.unique([records[number].label for number in tested], return_inverse=True)[1]
    measured = retrieval_metrics(embeddings[tested], labels, ks=(1, 2, 4, 8))
    for name, value in summary.after.metrics.items():
        assert measured[name] == pytest.approx(value, abs=1e-9), name

    composed = compose(run, tmp_path / "model")
    for embedder in (composed, load(tmp_path / "model")):
        torch.testing.assert_close(embedder.embed(paths(pictures)), embeddings, rtol=0, atol=1e-5)
    assert [record.label for record in records] == [path.parent.name for path in paths(pictures)]


@pytest.mark.parametrize(
    ("made", "dtype", "least", "most"),
    [
        (by_run, "float32", 0, 1e-5),
        (by_none, "float32", 0, 1e-5),
        (by_run, "float16", 1e-5, 1e-3),
        (by_none, "float16", 1e-2, 2),  # of random weights: dimensions that vary less than float16 tells apart
    ],
)
def test_composed_numbers_differ_by_the_rounding_of_the_file(
    pictures: Path,
    weights: Path,
    image_run: Path,
    tmp_path: Path,
    made: Callable[..., None],
    dtype: str,
    least: float,
    most: float,
) -> None:
    """As README and docs/vectors.md say: a file of float16 has rounded what the composed network has not."""
    file, run = tmp_path / "vectors.parquet", tmp_path / "run"
    made(pictures, file, weights, image_run, dtype=dtype)
    train(HEAD | {"data": str(file)}, run)
    trained = load(run).embed([record.item for record in read_vectors(file)[0]])
    composed = compose(run).embed(paths(pictures))
    assert least <= float((composed - trained).abs().max()) <= most


@pytest.fixture(scope="module")
def head_run(pictures: Path, image_run: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("head")
    own = Path(shutil.copy(weights, folder / "own.safetensors"))
    embed(str(pictures), folder / "vectors.parquet", **NETWORK, weights=str(own))
    train(HEAD | {"data": str(folder / "vectors.parquet")}, folder / "run")
    return folder / "run"


def test_a_composed_folder_is_searched_and_measured_as_a_model(head_run: Path, pictures: Path, tmp_path: Path) -> None:
    compose(head_run, tmp_path / "model")
    query = paths(pictures)[7]
    found = search(tmp_path / "model", [query], pictures, k=3, workers=0)
    embeddings = load(tmp_path / "model").embed(paths(pictures))
    similarities = embeddings @ embeddings[7]
    similarities[7] = -2
    assert found.ids[0] == [paths(pictures)[i] for i in similarities.topk(3).indices.tolist()]
    measured = evaluate(tmp_path / "model", str(pictures), ks=(1,))
    labels = np.repeat(np.arange(10), 5)
    assert measured.metrics["recall@1"] == pytest.approx(retrieval_metrics(embeddings, labels, ks=(1,))["recall@1"])
    own = evaluate(tmp_path / "model", str(pictures), benchmark="own")
    assert 0 < own.metrics["map"] < 1
    with pytest.raises(InputError, match="a model without a run, which has no data of its own: give --data"):
        evaluate(tmp_path / "model")


def test_a_composed_folder_is_whitened_and_has_no_report(head_run: Path, pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    compose(head_run, model)
    before = load(model).embed(paths(pictures))
    found = whiten(model, str(pictures), dimension=4)
    torch.testing.assert_close(load(model).embed(paths(pictures)), found.whitening(before), rtol=0, atol=1e-5)
    assert not (model / "model").exists()
    remove_whitening(model)
    assert torch.equal(load(model).embed(paths(pictures)), before)
    told = said(lambda: report(model))
    assert f"a model without a run, which has no result; measure it: recallk evaluate {model} --data PATH" in told


def test_a_composed_folder_embeds(head_run: Path, pictures: Path, tmp_path: Path) -> None:
    compose(head_run, tmp_path / "model")
    embed(str(pictures), tmp_path / "further.npy", run=tmp_path / "model")
    expected = load(tmp_path / "model").embed(paths(pictures))
    assert np.allclose(np.load(tmp_path / "further.npy"), expected, atol=1e-6)
    train(HEAD | {"data": str(tmp_path / "further.npy")}, tmp_path / "run")
    assert compose(tmp_path / "run").noun == "images"


def test_a_run_that_goes_on_remembers_too(head_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(head_run, tmp_path / "run"))
    before = load(run).made_by
    resume(run, {"epochs": 3})
    assert load(run).made_by == before
    assert isinstance(compose(run), ComposedEmbedder)


def test_other_vectors_under_the_same_name_are_told(pictures: Path, weights: Path, tmp_path: Path) -> None:
    """Of a run that goes on, and of what is measured; the same ones, wherever the weights are, are not others."""
    file, run, moved = tmp_path / "vectors.parquet", tmp_path / "run", tmp_path / "moved.safetensors"
    embed(str(pictures), file, **NETWORK, weights=str(weights))
    train(HEAD | {"data": str(file)}, run)
    shutil.copy(weights, moved)
    embed(str(pictures), file, **NETWORK, weights=str(moved), overwrite=True)
    resume(run, {"epochs": 3})
    assert not evaluate(run).notes
    assert report(run) == []

    other = load_file(weights)
    save_file({name: value + 0.01 if value.is_floating_point() else value for name, value in other.items()}, moved)
    embed(str(pictures), file, **NETWORK, weights=str(moved), overwrite=True)
    told = said(lambda: resume(run, {"epochs": 4}))
    assert told.startswith(f"{file}: other vectors than the run was trained on so far")
    assert "put those back, or start a new run" in told
    for note in (evaluate(run).notes, evaluate(run, str(file)).notes):
        assert [found.kind for found in note][-1] == "other vectors"
    assert "other vectors than the model was trained on" in report(run)[0]
    found = search(run, [file], file, k=1)
    assert [note.kind for note in found.notes] == ["other vectors"]

    embed(str(pictures), file, **(NETWORK | {"resize": 40}), weights=str(weights), overwrite=True)  # the same weights
    assert "other vectors" in said(lambda: resume(run, {"epochs": 4}))
    parquet.write_table(parquet.read_table(file).replace_schema_metadata(None), file)  # which may be any
    assert "other vectors" in said(lambda: resume(run, {"epochs": 4}))
    assert not evaluate(run).notes


# what goes wrong


def said(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_that_are_gone_or_others(head_run: Path, tmp_path: Path) -> None:
    own = head_run.parent / "own.safetensors"
    before = own.read_bytes()
    state = load_file(own)
    try:
        name = next(name for name in state if name.endswith("weight"))
        save_file(state | {name: state[name] + 1}, own)
        told = said(lambda: compose(head_run))
        assert f"{own} is not what made its vectors (another checksum); put that back" in told
        own.unlink()
        told = said(lambda: compose(head_run))
        assert "what made its vectors is not there" in told
        assert f"put {own} back, or compose it yourself: recallk.load(run).after(embedder)" in told
    finally:
        own.write_bytes(before)
    assert compose(head_run).noun == "images"


def test_a_run_whose_whitening_has_changed(pictures: Path, image_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(image_run, tmp_path / "images"))
    embed(str(pictures), tmp_path / "vectors.parquet", run=run)
    train(HEAD | {"data": str(tmp_path / "vectors.parquet")}, tmp_path / "head")
    whiten(run, str(pictures), dimension=9, power=0.1)
    assert "another checksum" in said(lambda: compose(tmp_path / "head"))


def test_what_cannot_be_composed(head_run: Path, image_run: Path, tmp_path: Path) -> None:
    assert "a model of images" in said(lambda: compose(image_run))
    random = np.random.default_rng(0)
    np.save(tmp_path / "own.npy", random.standard_normal((40, 6)).astype(np.float32))
    (tmp_path / "own.csv").write_text("\n".join(["label", *(f"c{n // 4}" for n in range(40))]))
    train(HEAD | {"data": str(tmp_path / "own.npy")}, tmp_path / "own")
    assert "does not say what made them" in said(lambda: compose(tmp_path / "own"))
    assert "exists already; choose another folder" in said(lambda: compose(head_run, tmp_path / "own"))
    head = load(head_run)
    assert isinstance(head, VectorEmbedder)
    for made_by in ({}, {"format": 2}, dict(head.made_by or {}) | {"weights": "of somebody"}):
        head.made_by = made_by
        save(head, tmp_path / "damaged")
        assert "is damaged, or of a later version" in said(lambda: compose(tmp_path / "damaged"))


def test_pretrained_weights_that_cannot_be_fetched(
    head_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = backbone_alone(ImageSettings(backbone="test_resnet", image_size=32), "none")
    made_by = of_backbone(bare, "pretrained")
    assert (made_by.weights, made_by.path, made_by.items, made_by.whitened) == ("pretrained", None, "images", False)
    head = load(head_run)
    assert isinstance(head, VectorEmbedder)
    head.made_by = made_by.model_dump()
    save(head, tmp_path / "model")

    def offline(backbone: str) -> None:
        raise not_fetched(backbone, "no network")

    monkeypatch.setattr("recallk.models.backbone.where_weights_are", offline)
    told = said(lambda: compose(tmp_path / "model"))
    assert "what made its vectors is not there (the weights of test_resnet could not be fetched (no network)" in told
    assert "put the pretrained weights of test_resnet back, or compose it yourself" in told
