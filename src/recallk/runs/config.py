"""The whole configuration of a training run: a flat, validated set of keys for recipes and command line alike.

What the items are decides which keys there are: `TrainConfig` has those of all runs.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from recallk.core.bounds import mistake
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import brief
from recallk.core.yaml_files import read_table
from recallk.data.kind import holds_both, kind_of
from recallk.data.settings import columns_of
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.text_config import TextTrainConfig
from recallk.runs.train_config import TrainConfig
from recallk.runs.vector_config import VectorTrainConfig

_CONFIGS: Mapping[str, type[TrainConfig]] = {
    "images": ImageTrainConfig,
    "vectors": VectorTrainConfig,
    "texts": TextTrainConfig,
}
_FIRST = ImageTrainConfig.model_fields
KEYS: Mapping[str, FieldInfo] = {
    **_FIRST,
    **{key: field for config in _CONFIGS.values() for key, field in config.model_fields.items() if key not in _FIRST},
}
"""Every key, of runs on whatever items, as `recallk train --KEY VALUE` takes it."""


def fields_of(key: str) -> Mapping[str, FieldInfo]:
    """Return what a key is for each kind of items that has it: choices and defaults may differ."""
    return {kind: config.model_fields[key] for kind, config in _CONFIGS.items() if key in config.model_fields}


def given_keys(config: object) -> dict[str, Any]:
    """Return the keys that a Python program gives. Raises InputError where they are no table, and no configuration."""
    if isinstance(config, TrainConfig):
        return config.model_dump(exclude_unset=True)
    if not isinstance(config, Mapping):
        raise InputError(f"a table of keys is needed, such as {{'data': 'photos'}}, not {brief(config)}")
    return {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in config.items()}


def name_of(config: TrainConfig, recipe: str | None = None) -> str:
    """Return a name for what is run with a configuration: after the recipe, or the data."""
    return Path(recipe or config.recipe or config.data).stem or "run"


def with_whole_path(config: TrainConfig) -> TrainConfig:
    """Let the data be found from wherever the run is looked at later, the images of a table, a model's folder."""
    places = {"data": config.data} | ({} if config.root is None else {"root": config.root})
    if isinstance(config, TextTrainConfig):
        places["backbone"] = config.backbone
    there = {key: user_path(place).resolve() for key, place in places.items() if user_path(place).exists()}
    return config.model_copy(update={key: str(place) for key, place in there.items()})


def make_config(*layers: dict[str, Any]) -> TrainConfig:
    """Return the configuration made of several tables of keys; where two have a key, the later one counts.

    Raises InputError, one line naming the key, the value and what is allowed.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values |= layer
    for key in values:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(KEYS)}"
            raise InputError(f"unknown key {brief(key)}: {hint}")
    if "data" not in values:
        ways = "a folder with a folder per class, a table of images or texts, or a file of vectors"
        raise InputError(f"no data: give --data PATH ({ways})")
    kind = _kind(values)
    for key in values:
        if key not in _CONFIGS[kind].model_fields:
            other = " and ".join(name for name, config in _CONFIGS.items() if key in config.model_fields)
            both = kind == "vectors" and "items" not in values and holds_both(values["data"])
            instead = ", or give --items images" if both else ""
            raise InputError(f"{key} is for {other}, and the data are {kind}: leave it out{instead}")
    try:
        return _CONFIGS[kind](**values)
    except ValidationError as error:
        raise mistake(error) from None


def _kind(values: Mapping[str, Any]) -> str:
    """Return of which kind the items are. Raises InputError for one that there is not."""
    kind = values.get("items")
    if kind is None and isinstance(data := values["data"], str) and values.get("dataset", "own") == "own":
        kind = kind_of(data, called(values.get("columns")))
    kind = kind or "images"
    if not isinstance(kind, str) or kind not in _CONFIGS:
        raise InputError(f"items={brief(kind)}: choose {' or '.join(_CONFIGS)}")
    return kind


def called(columns: object) -> Mapping[str, str]:
    """Return what the key `columns` says; nothing where it is not as it should be, of which the check of keys tells."""
    try:
        return columns_of(columns) if isinstance(columns, str) else {}
    except ValueError:
        return {}


def read_config(path: Path) -> dict[str, Any]:
    """Return the keys of a YAML file as they stand. Raises InputError, one line, where it is no table of settings."""
    values = read_table(path, "YAML with a table of settings", "correct it, or write it again")
    for key in values:
        if not isinstance(key, str):
            raise InputError(f"{path}: the key {brief(key)} is not a text; the keys are those of recallk train --help")
    return values


def to_yaml(config: TrainConfig) -> str:
    """Return the configuration as YAML that `read_config` reads."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)
    return text
