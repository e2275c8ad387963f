"""A saved model is a folder of its own: it needs nothing beside it, and says what is wrong in one line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from recallk import InputError, load
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.saved import save
from recallk.models.settings import ImageSettings, VectorSettings
from recallk.models.vector_embedder import VectorEmbedder
from recallk.runs.folder import RunFolder
from tests.configs import image_config
from tests.embedders import TextEmbedder

SETTINGS: dict[str, Any] = {
    **{"backbone": "test_resnet", "pooling": "average", "head": "linear", "embedding_size": 8},
    **{"image_size": 32, "image_shape": "square", "resize": 40},
    **{"interpolation": "bicubic", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)},
}
PICTURES = list(np.random.default_rng(0).integers(0, 256, (3, 50, 60, 3), dtype=np.uint8))


def made(**changes: Any) -> ImageEmbedder:
    torch.manual_seed(0)
    return build(ImageSettings(**(SETTINGS | changes)), "none").eval()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run: the configuration, and the model beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    RunFolder(folder).write_config(image_config(SETTINGS, {"data": "x", "weights": "none"}))
    save(made(), folder / "model")
    return folder


@pytest.fixture
def expected() -> Tensor:
    return made().embed(PICTURES)


def written(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "model" / "embedder.json").read_text())
    return values


def write(run: Path, values: Any) -> None:
    (run / "model" / "embedder.json").write_text(json.dumps(values))


def line(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800
    return str(caught.value)


# what is saved, and where it is loaded from


def test_what_is_written(run: Path) -> None:
    assert sorted(path.name for path in (run / "model").iterdir()) == ["embedder.json", "weights.safetensors"]
    assert written(run) == {
        "format": 1,
        "items": "images",
        "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in SETTINGS.items()},
    }


def test_a_run_is_loaded_as_it_was_saved(run: Path, expected: Tensor) -> None:
    embedder = load(run)
    assert torch.equal(embedder.embed(PICTURES), expected)
    assert embedder.settings == ImageSettings(**SETTINGS)
    assert not any(part.training for part in embedder.modules())
    assert torch.equal(load(str(run)).embed(PICTURES), expected)


def test_of_a_configuration_the_embedders_keys_are_saved(run: Path, expected: Tensor) -> None:
    """The trainer builds an embedder of the whole configuration."""
    torch.manual_seed(0)
    embedder = build(image_config(SETTINGS, {"data": "x", "weights": "none", "epochs": 3}), "none")
    save(embedder, run / "model")
    assert written(run)["settings"].keys() == ImageSettings.model_fields.keys()
    assert torch.equal(load(run).embed(PICTURES), expected)


def test_the_model_alone_is_enough_wherever_it_is(run: Path, tmp_path: Path, expected: Tensor) -> None:
    shutil.copytree(run / "model", tmp_path / "elsewhere" / "mine")
    assert torch.equal(load(run / "model").embed(PICTURES), expected)
    shutil.rmtree(run)
    assert torch.equal(load(tmp_path / "elsewhere" / "mine").embed(PICTURES), expected)


def test_a_run_without_its_configuration_is_loaded(run: Path, expected: Tensor) -> None:
    (run / "config.yaml").unlink()
    assert torch.equal(load(run).embed(PICTURES), expected)


def test_a_configuration_edited_by_hand_does_not_change_the_model(run: Path, expected: Tensor) -> None:
    values = yaml.safe_load((run / "config.yaml").read_text())
    edited = {"mean": [0.1, 0.1, 0.1], "interpolation": "bilinear", "pooling": "gem", "resize": 64, "image_size": 64}
    (run / "config.yaml").write_text(yaml.safe_dump(values | edited))
    assert torch.equal(load(run).embed(PICTURES), expected)
    (run / "config.yaml").write_text("no: [configuration")
    assert torch.equal(load(run).embed(PICTURES), expected)


def test_saving_again_replaces_the_model(run: Path) -> None:
    other = made(backbone="test_vit", pooling="token", image_size=160, resize=160)
    save(other, run / "model")
    assert torch.equal(load(run).embed(PICTURES), other.embed(PICTURES))
    assert len(list((run / "model").iterdir())) == 2


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written") as caught:
        save(made(), tmp_path / "file" / "model")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_loading_a_model_imports_no_more_than_it_needs(run: Path, tmp_path: Path) -> None:
    """A service that embeds needs neither the trainer nor its configuration, nor timm where it embeds vectors."""
    save(VectorEmbedder(VectorSettings(input_size=4, embedding_size=2)), tmp_path / "head")
    program = f"""
import sys
import recallk
recallk.load({str(tmp_path / "head")!r})
assert "timm" not in sys.modules and "torchvision" not in sys.modules
recallk.load({str(run)!r})
for name in ("recallk.runs", "recallk.training", "recallk.losses", "recallk.cli"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# what embedder.json says


def test_a_model_of_before_there_were_heads_is_loaded(run: Path, expected: Tensor) -> None:
    values = written(run)
    del values["settings"]["head"]
    write(run, values)
    assert torch.equal(load(run).embed(PICTURES), expected)


@pytest.mark.parametrize("key", ["resize", "mean", "std", "interpolation"])
def test_a_key_that_is_missing_has_its_default(run: Path, key: str) -> None:
    values = written(run)
    del values["settings"][key]
    write(run, values)
    default = ImageSettings(**{name: value for name, value in SETTINGS.items() if name != key})
    assert load(run).settings == default
    assert default != ImageSettings(**SETTINGS)


def test_a_key_that_is_not_known_says_what_to_do(run: Path) -> None:
    values = written(run)
    values["settings"]["whitening\n"] = True
    write(run, values)
    told = r"unknown key 'whitening\n', written by a later version of recallk; use that one"
    assert line(run).endswith(f"model/embedder.json: {told}")


@pytest.mark.parametrize("number", [2, 0, "1", None, [1], "\x1b[2J"])
def test_another_format_says_what_to_do(run: Path, number: Any) -> None:
    """Whatever a later one holds beside its number."""
    for values in (written(run) | {"format": number}, {"format": number}):
        write(run, values)
        assert "embedder.json: written by another version of recallk (format " in line(run)
        assert line(run).endswith("); use that one")


@pytest.mark.parametrize("noun", ["sounds", None, 3])
def test_a_model_of_other_items_is_told(run: Path, noun: Any) -> None:
    write(run, written(run) | {"items": noun})
    assert line(run).endswith(f"embedder.json: a model of {noun!r}; models of images, vectors, texts can be loaded")


def test_a_model_of_other_items_is_saved_as_one(tmp_path: Path) -> None:
    embedder = TextEmbedder()
    embedder.noun = "sounds"
    save(embedder, tmp_path)
    assert json.loads((tmp_path / "embedder.json").read_text())["items"] == "sounds"
    assert "a model of 'sounds'; models of images, vectors, texts can be loaded" in line(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pooling": "median"}, "pooling='median': "),
        ({"embedding_size": 0}, "embedding_size=0: "),
        ({"embedding_size": "eight"}, "embedding_size='eight': "),
        ({"image_size": None}, "image_size=None: "),
        ({"mean": [0.5, float("nan"), 0.5]}, "mean=nan: "),
        ({"image_size": 64}, "resize=40 is smaller than image_size=64"),
        ({"backbone": "resnet5"}, "backbone=resnet5: timm has no model of this name"),
        ({"backbone": "test_vit"}, "weights of another architecture than test_vit"),
        ({"embedding_size": 9}, "have other shapes, first head."),
    ],
)
def test_settings_that_cannot_be(run: Path, change: dict[str, Any], told: str) -> None:
    values = written(run)
    values["settings"] |= change
    write(run, values)
    assert told in line(run)


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "a number": b"3",
    "cut": b'{"format": 1, "items": "images", "settings": {"backb',
    "no settings": b'{"format": 1, "items": "images"}',
    "settings a list": b'{"format": 1, "items": "images", "settings": [1]}',
    "binary": bytes(range(256)),
    "not UTF-8": '{"format": 1, "items": "é"}'.encode("latin-1"),
    "nested": b"[" * 100_000,
    "zeros": bytes(5_000),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_settings(run: Path, name: str) -> None:
    (run / "model" / "embedder.json").write_bytes(DAMAGED[name])
    told = line(run)
    assert "model/embedder.json: not the settings of a model (" in told
    assert told.endswith("); it is damaged: copy the run's folder again")


@pytest.mark.parametrize("content", [b"", b"damaged", bytes(100)])
def test_damaged_weights(run: Path, content: bytes) -> None:
    (run / "model" / "weights.safetensors").write_bytes(content)
    assert "model/weights.safetensors: not a file of weights" in line(run)


@pytest.mark.parametrize("name", ["embedder.json", "weights.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing", "no link"])
def test_what_is_no_file(run: Path, name: str, kind: str) -> None:
    path = run / "model" / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "no link":
        path.symlink_to(run / "nowhere")
    told = line(run)
    if kind in ("folder", "pipe"):
        assert told.endswith(f"{name}: {'a folder' if kind == 'folder' else 'a pipe or a device'}, not a file")
    else:
        assert told == f"{run}: no model/{name} in this folder; is it the folder of a finished run?"


def test_a_run_that_is_not_finished(run: Path) -> None:
    shutil.rmtree(run / "model")
    finished = "in this folder; is it the folder of a finished run?"
    assert line(run) == f"{run}: no model/weights.safetensors {finished}"
    (run / "model").mkdir()
    assert line(run) == f"{run}: no model/weights.safetensors {finished}"


# runs of before a model had a folder: model.safetensors, and the settings in config.yaml


@pytest.fixture
def earlier(run: Path) -> Path:
    """A folder as runs had it."""
    shutil.rmtree(run / "model")
    save_file(made().state_dict(), run / "model.safetensors")
    return run


def test_an_earlier_run_embeds_as_it_did(earlier: Path, expected: Tensor) -> None:
    assert torch.equal(load(earlier).embed(PICTURES), expected)


def test_a_run_of_before_there_was_a_mean_embeds_as_it_did(earlier: Path) -> None:
    """All such runs normalised as for ImageNet, and scaled bilinearly."""
    values = yaml.safe_load((earlier / "config.yaml").read_text())
    old = {key: value for key, value in values.items() if key not in ("mean", "std", "interpolation")}
    (earlier / "config.yaml").write_text(yaml.safe_dump(old))
    as_then = made(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bilinear")
    assert torch.equal(load(earlier).embed(PICTURES), as_then.embed(PICTURES))
    assert not torch.equal(as_then.embed(PICTURES), made().embed(PICTURES))


@pytest.mark.parametrize("key", ["head", "image_shape"])
def test_a_run_of_before_there_was_a_key_embeds_as_it_did(key: str, earlier: Path, expected: Tensor) -> None:
    values = yaml.safe_load((earlier / "config.yaml").read_text())
    del values[key]
    (earlier / "config.yaml").write_text(yaml.safe_dump(values))
    assert torch.equal(load(earlier).embed(PICTURES), expected)


def test_the_folder_of_a_model_goes_before_what_an_earlier_version_left(earlier: Path, expected: Tensor) -> None:
    """As where such a run was resumed."""
    save(made(), earlier / "model")
    save_file({"head.bias": torch.zeros(1)}, earlier / "model.safetensors")
    assert torch.equal(load(earlier).embed(PICTURES), expected)


CONFIGURATIONS: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "damaged": lambda path: path.write_text("a: 1"),
    "no table": lambda path: path.write_text("[1, 2]"),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_the_weights_of_an_earlier_run_alone_are_not_enough(earlier: Path, kind: str) -> None:
    CONFIGURATIONS[kind](earlier / "config.yaml")
    told = line(earlier)
    if kind == "gone":
        assert told == f"{earlier}: no config.yaml in this folder; is it the folder of a finished run?"
    else:
        assert "config.yaml: not the configuration of a run (" in told
