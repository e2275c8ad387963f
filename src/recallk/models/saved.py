"""A trained embedder as a folder that needs nothing beside it: its settings, and its weights."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from recallk.core.errors import InputError
from recallk.core.files import load as load_file
from recallk.core.files import make_folder, write_file, write_text
from recallk.core.text import brief, shown
from recallk.core.yaml_files import read_table
from recallk.models.embedder import Embedder
from recallk.models.files import EARLIER_WEIGHTS, FOLDER, SETTINGS, WEIGHTS
from recallk.models.image_embedder import build
from recallk.models.settings import EmbedderSettings, with_earlier_meaning
from recallk.models.weights import fill, read_weights

FORMAT = 1
_REMEDY = "it is damaged: copy the run's folder again"


def save(embedder: Embedder, folder: Path) -> None:
    """Write an embedder into a folder, each file as a whole. Raises InputError, one line, where that cannot be."""
    make_folder(folder)
    settings = {key: getattr(embedder.settings, key) for key in EmbedderSettings.model_fields}
    written = {"format": FORMAT, "items": "images", "settings": settings}
    write_text(folder / SETTINGS, json.dumps(written, indent=2) + "\n")
    write_weights(embedder, folder / WEIGHTS)


def load(run: str | os.PathLike[str]) -> Embedder:
    """Return the trained embedder of a run's folder, or of the folder `model` in it, ready to embed.

    It brings its preprocessing with it. Raises InputError, one line, where the folder holds no finished model, a
    damaged one, or one that a later version has written.
    """
    if not isinstance(run, str | os.PathLike):
        raise InputError(f"load: the path of a run's folder is needed, not {type(run).__name__}")
    given = Path(run)
    try:
        there = given.is_dir()
    except OSError:
        there = False
    if not there:
        raise InputError(f"{shown(given)}: no such run folder")
    folder = given if (given / SETTINGS).exists() else given / FOLDER
    if not folder.exists() and (given / EARLIER_WEIGHTS).exists():
        settings, weights = _earlier_settings(given / "config.yaml"), given / EARLIER_WEIGHTS
    else:
        if not (folder / WEIGHTS).exists():
            raise InputError(f"{given}: no {FOLDER}/{WEIGHTS} in this folder; is it the folder of a finished run?")
        settings, weights = load_file(folder / SETTINGS, _parse, "the settings of a model", _REMEDY), folder / WEIGHTS
    embedder = build(settings, "none")
    fill(embedder, read_weights(weights, _REMEDY), weights, settings.backbone, exact=True)
    return embedder.eval()


def write_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights as safetensors. Raises InputError, one line, where that cannot be."""
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_file(path, lambda unfinished: save_file(weights, unfinished))


def _parse(path: Path) -> EmbedderSettings:
    written = json.loads(path.read_bytes())
    if written["format"] != FORMAT or written["items"] != "images":
        raise InputError(f"{path}: written by another version of recallk (format {brief(written['format'])}): use that")
    return _settings(written["settings"])


def _earlier_settings(path: Path) -> EmbedderSettings:
    """Return what the `config.yaml` of a run says of its embedder, where that is all that does."""
    what = "the configuration of a run"
    values = with_earlier_meaning(read_table(path, what, _REMEDY))
    try:
        if missing := [key for key in EmbedderSettings.model_fields if key not in values]:
            raise ValueError(f"no {missing[0]}")
        return _settings({key: values[key] for key in EmbedderSettings.model_fields})
    except ValueError as error:
        raise InputError(f"{path}: not {what} ({error}); {_REMEDY}") from None


def _settings(values: dict[str, Any]) -> EmbedderSettings:
    """Check settings; keys that are not there have their defaults. Raises ValueError, one line."""
    try:
        return EmbedderSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{first['loc'][0]}={brief(first['input'])}: " if first["loc"] else ""
        raise ValueError(shown(where + first["msg"])) from None
