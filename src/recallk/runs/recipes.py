"""The recipes that come with recallk: configurations with the numbers that were published for them."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.losses.registry import describe
from recallk.runs.config import make_config, read_config
from recallk.runs.train_config import OPEN, TrainConfig

FOLDER = Path(__file__).parents[1] / "recipes"
WITHOUT_EFFECT = frozenset(
    {
        "recipe",
        "data",
        "root",
        "workers",
        "host_memory_gb",
        "chunk_size",
        "activation_memory_gb",
        "accelerator",
        "devices",
        "nodes",
        "checkpoint_minutes",
        "logger",
        "compile",
        "channels_last",
        "on_non_finite",
        "measure_before",
        "measure_after",
    }
)
"""Keys that change where and how fast a run goes and who is told, not what it measures.

Chunks count where batch norm sees them. A run that leaves steps out would otherwise have ended without a result.

The only such list: what may change in a run that is resumed, in a comparison, and beside a recipe follows from it.
"""
WHEN_RESUMED = WITHOUT_EFFECT - {"recipe"} | {"epochs"}
"""Keys that may change when a run is continued: how long it is, and where and how fast it goes."""


@dataclass(frozen=True)
class Recipe:
    """A configuration by name.

    `published` are percentages by the name of a metric, from `source`; empty where no number is known to us. `rows` are
    other methods' on instance-level test sets, by the method: percentages by test set and metric, such as "roxford5k
    medium map", or with the test set's distractors "roxford5k+1m medium map".
    """

    name: str
    title: str
    published: dict[str, float]
    rows: dict[str, dict[str, float]]
    source: str
    values: dict[str, Any]
    text: str


def shipped() -> list[Recipe]:
    """Return all recipes that come with recallk, by name."""
    return [_read(path) for path in sorted(FOLDER.glob("*.yaml"))]


def find_recipe(name: str, follow: bool = True) -> Recipe:
    """Return a shipped recipe by its name, or one in a YAML file. Raises InputError where there is none.

    And where the one that it began from is not there either; with `follow` off, that one is not looked for.
    """
    path = user_path(name)
    if path.suffix in (".yaml", ".yml"):
        return _read(path, follow)
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        if Path(name).exists():
            raise InputError(f"{name} is no recipe; if it is the data, give --data {name}")
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise InputError(f"no recipe {name!r}: give a YAML file, or one of {names}")
    return _read(path, follow)


def origin(config: TrainConfig) -> Recipe | None:
    """Return the recipe that a run began from; None without one, or where it is no longer there."""
    try:
        return find_recipe(config.recipe) if config.recipe else None
    except InputError:
        return None


def _read(path: Path, follow: bool = True) -> Recipe:
    values = read_config(path)
    about = values.pop("about", None) or {}
    published = _published(about)
    if published is None:
        raise InputError(f"{path}: about: is a table with title, source and published, a number for each metric")
    numbers, rows = published
    # the run keeps where it came from, so that its report finds the published numbers; a copy says it itself
    if path.parent == FOLDER:
        values["recipe"] = path.stem
    elif values.get("recipe") is not None:
        if follow:
            find_recipe(str(values["recipe"]), follow=False)
    elif numbers or rows:
        values["recipe"] = str(path.resolve())
    return Recipe(
        path.stem,
        str(about.get("title", path.stem)),
        numbers,
        rows,
        str(about.get("source", "")),
        values,
        path.read_text(encoding="utf-8-sig"),
    )


def _published(about: object) -> tuple[dict[str, float], dict[str, dict[str, float]]] | None:
    """Return the numbers published for a recipe, and other methods' rows; None where they are none."""
    published = about.get("published") or {} if isinstance(about, dict) else None
    if not isinstance(published, dict):
        return None
    rows = {name: value for name, value in published.items() if isinstance(value, dict)}
    numbers = {name: value for name, value in published.items() if name not in rows}
    return (numbers, rows) if all(map(_are_percentages, (numbers, *rows.values()))) else None


def differences(config: TrainConfig) -> list[str]:
    """Say in words where a run's configuration is not that of the recipe it began from."""
    began = origin(config)
    if began is None:
        return []
    recipe = make_config({"data": config.data}, began.values)
    return unlike(config, recipe, besides=[key for key in OPEN if getattr(recipe, key, None) is None])


def unlike(
    config: TrainConfig, other: TrainConfig, besides: Collection[str] = (), counting: Collection[str] = ()
) -> list[str]:
    """Say in words where a configuration would measure something else than another.

    `besides` are keys left out as well; `counting` are keys `WITHOUT_EFFECT` that count here.
    """
    ignored = WITHOUT_EFFECT.union(besides).difference(counting)
    if config.batch_norm_policy == "per-chunk" and "auto" not in (config.chunk_size, other.chunk_size):
        ignored -= {"chunk_size"}
    return [
        f"{key} {_plain(getattr(config, key))} instead of {_plain(getattr(other, key))}"
        for key in type(config).model_fields
        if key in type(other).model_fields and key not in ignored and getattr(config, key) != getattr(other, key)
    ]


def beside_published(recipe: Recipe, told: list[str]) -> str:
    """Say where the published numbers are from, and what in a run is not as published: its `differences`."""
    differs = f"This run differs: {'; '.join(told)}." if told else "This run differs in nothing that counts."
    return f"Published: {recipe.source}. {differs}"


def _plain(value: object) -> str:
    if isinstance(value, dict):  # a loss with settings, or transforms
        return describe(value) if "name" in value else ", ".join(f"{key} {value[key]}" for key in value) or "none"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _are_percentages(table: dict[str, Any]) -> bool:
    return all(isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n <= 100 for n in table.values())
