"""A trained embedder as a folder that needs nothing beside it: its settings, and its weights."""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from recallk.core.errors import InputError
from recallk.core.files import UNFINISHED, make_folder, read_file, user_path, write_file, write_text, writing
from recallk.core.text import brief, shown
from recallk.core.yaml_files import read_table
from recallk.models.build import build
from recallk.models.composed import ComposedEmbedder
from recallk.models.embedder import Embedder
from recallk.models.files import EARLIER_WEIGHTS, FIRST, FOLDER, HEAD, SETTINGS, STOCK, WEIGHTS, WHITENING
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.saved_whitening import read_whitening, write_whitening
from recallk.models.sentence_model import load_folder, save_model
from recallk.models.settings import EmbedderSettings, ImageSettings, TextSettings, with_earlier_meaning
from recallk.models.text_embedder import TextEmbedder
from recallk.models.vector_embedder import VectorEmbedder
from recallk.models.weights import fill, read_weights

FORMAT = 1
_DAMAGED = "it is damaged: copy the run's folder again"
_CONFIGURATION = "config.yaml"
_SETTINGS = {kind.noun: kind.settings_type for kind in (ImageEmbedder, VectorEmbedder, TextEmbedder)}


def save(embedder: Embedder, folder: Path) -> None:
    """Write an embedder into a folder, each file as a whole, with its whitening where it has one.

    A composed embedder is two such folders in one: that of what comes first, and that of its head. Raises InputError,
    one line, where that cannot be.
    """
    _save_network(embedder, folder)
    save_whitening(embedder, folder)


def save_new(embedder: Embedder, folder: Path) -> None:
    """Write an embedder into a folder that is not there yet, as a whole or not at all. Raises InputError as `save`."""
    unfinished = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        save(embedder, unfinished)
        with writing(folder):
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _save_network(embedder: Embedder, folder: Path) -> None:
    make_folder(folder)
    remove_whitening(folder)  # first: it was fitted to the weights that are about to go
    written: dict[str, Any] = {"format": FORMAT, "items": embedder.noun}
    if isinstance(embedder, ComposedEmbedder):
        save(embedder.first, folder / FIRST)
        _save_network(embedder.head, folder / HEAD)  # its whitening is that of the whole
        written["parts"] = [FIRST, HEAD]
        _write_settings(written, folder)
        return
    written["settings"] = {key: getattr(embedder.settings, key) for key in embedder.settings_type.model_fields}
    if isinstance(embedder, VectorEmbedder) and embedder.made_by is not None:
        written["made_by"] = embedder.made_by
    if isinstance(embedder, TextEmbedder):  # what sentence-transformers writes, and loads by itself
        save_model(embedder.model, folder)
        _write_settings(written, folder)
        return
    _write_settings(written, folder)
    write_weights(embedder, folder / WEIGHTS)


def _write_settings(written: dict[str, Any], folder: Path) -> None:
    write_text(folder / SETTINGS, json.dumps(written, indent=2) + "\n")


def save_whitening(embedder: Embedder, folder: Path) -> None:
    """Write an embedder's whitening, where it has one, beside its weights; an earlier one is replaced in one step."""
    if embedder.whitening is not None:
        write_whitening(embedder.whitening, folder / WHITENING)


def remove_whitening(folder: Path) -> None:
    """Remove the whitening of a saved model, where it has one."""
    with writing(folder / WHITENING):
        (folder / WHITENING).unlink(missing_ok=True)


def load(run: str | os.PathLike[str]) -> Embedder:
    """Return the trained embedder of a run's folder, of the folder `model` in it, or of `recallk compose`.

    It brings its preprocessing with it, and its whitening, where one was fitted after training (`recallk.whiten`).
    Raises InputError, one line, where the folder holds no finished model, a damaged one, or one that a later version
    has written.

    >>> load("runs/letters").embed(["query.png", "catalogue/a.png"]).shape
    torch.Size([2, 16])

    """
    embedder, folder = _loaded(run)
    if os.path.lexists(folder / WHITENING):
        embedder.whitening = read_whitening(folder / WHITENING, embedder.settings.embedding_size)
    return embedder


def load_network(run: str | os.PathLike[str]) -> Embedder:
    """Return the trained embedder as `load`, without a whitening that was fitted after training."""
    return _loaded(run)[0]


def _loaded(run: str | os.PathLike[str]) -> tuple[Embedder, Path]:
    """Return the network of a run, and the folder of the model."""
    if not isinstance(run, str | os.PathLike):
        raise InputError(f"load: the path of a run's folder is needed, not {type(run).__name__}")
    given = user_path(run)
    try:
        there = given.is_dir()
    except OSError:
        there = False
    if not there:
        raise InputError(f"{shown(given)}: no such run folder")
    folder = given if (given / SETTINGS).exists() else given / FOLDER
    if (folder / SETTINGS).exists() and "parts" in (about := _table(folder / SETTINGS)):
        if about["parts"] != [FIRST, HEAD]:
            told = "parts that this version does not know, written by a later version of recallk; use that one"
            raise InputError(f"{folder / SETTINGS}: {told}")
        return ComposedEmbedder(load(folder / FIRST), _loaded(folder / HEAD)[0]).eval(), folder
    written, weights, read_settings = folder / SETTINGS, folder / WEIGHTS, _settings_of_model
    if not folder.exists() and (given / EARLIER_WEIGHTS).exists():
        written, weights, read_settings = given / _CONFIGURATION, given / EARLIER_WEIGHTS, _settings_of_earlier_run
    of_texts = (folder / STOCK).exists()
    for path in (written,) if of_texts else (weights, written):
        if not path.exists():
            missing = path.relative_to(given)
            raise InputError(f"{given}: no {missing} in this folder; is it the folder of a finished run?")
    settings = read_settings(written)
    if isinstance(settings, TextSettings):
        return _texts(settings, folder), folder
    embedder = build(settings, "none")
    fill(embedder, read_weights(weights, _DAMAGED), weights, embedder.name, exact=True)
    if isinstance(embedder, VectorEmbedder):
        embedder.made_by = _table(written).get("made_by")
    return embedder.eval(), folder


def _texts(settings: TextSettings, folder: Path) -> TextEmbedder:
    """Return the embedder of texts in a folder. Raises InputError where it is damaged."""
    model = load_folder(folder, str(folder))
    if (size := model.get_embedding_dimension()) != settings.embedding_size:
        told = f"embeddings of {size} dimensions, and {SETTINGS} says {settings.embedding_size}"
        raise InputError(f"{folder}: {told}; {_DAMAGED}")
    if broken := [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]:
        raise InputError(f"{folder}: NaN or infinity in {broken[0]}; {_DAMAGED}")
    return TextEmbedder(settings, model).eval()


def write_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights as safetensors. Raises InputError, one line, where that cannot be."""
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_file(path, lambda unfinished: save_file(weights, unfinished))


def _settings_of_model(path: Path) -> EmbedderSettings:
    """Read `embedder.json`; keys that are not there have their defaults."""
    return read_file(path, _parse, "the settings of a model", _DAMAGED)


def _table(path: Path) -> dict[str, Any]:
    """Read `embedder.json`, whatever it is of."""
    return read_file(path, _parse_table, "the settings of a model", _DAMAGED)


def _parse_table(path: Path) -> dict[str, Any]:
    written = json.loads(path.read_bytes())
    if not isinstance(written, dict):
        raise ValueError("no table of keys and values")
    if (number := written.get("format")) != FORMAT:
        raise InputError(f"{path}: written by another version of recallk (format {brief(number)}); use that one")
    return written


def _parse(path: Path) -> EmbedderSettings:
    written = _parse_table(path)
    if not isinstance(noun := written.get("items"), str) or noun not in _SETTINGS:
        raise InputError(f"{path}: a model of {brief(noun)}; models of {', '.join(_SETTINGS)} can be loaded")
    if not isinstance(settings := written.get("settings"), dict):
        raise ValueError("no table of settings")
    if unknown := settings.keys() - _SETTINGS[noun].model_fields.keys():
        what = f"unknown key {brief(min(unknown))}"
        raise InputError(f"{path}: {what}, written by a later version of recallk; use that one")
    return _checked(_SETTINGS[noun], settings)


def _settings_of_earlier_run(path: Path) -> EmbedderSettings:
    """Read `config.yaml`, which alone says what the embedder of an earlier run is: every key must be there."""
    what = "the configuration of a run"
    values = with_earlier_meaning(read_table(path, what, _DAMAGED))
    try:
        if missing := [key for key in ImageSettings.model_fields if key not in values]:
            raise ValueError(f"no {missing[0]}")
        return _checked(ImageSettings, {key: values[key] for key in ImageSettings.model_fields})
    except ValueError as error:
        raise InputError(f"{path}: not {what} ({error}); {_DAMAGED}") from None


def _checked(kind: type[EmbedderSettings], values: dict[str, Any]) -> EmbedderSettings:
    """Return the settings. Raises ValueError, one line, where a value is not allowed."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{first['loc'][0]}={brief(first['input'])}: " if first["loc"] else ""
        raise ValueError(shown(where + first["msg"])) from None
