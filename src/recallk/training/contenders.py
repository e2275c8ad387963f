"""What a comparison sets side by side: losses, the values of a setting, or an ablation that comes with recallk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recallk.core.errors import InputError
from recallk.training.config import TrainConfig, read_config

FOLDER = Path(__file__).parents[1] / "ablations"
MIXUP = "+mixup"
SET_BY_COMPARISONS = {"epochs": "--budget", "seed": "--seeds", "select": "the comparison"}
"""Keys that no contender may change, and who sets them."""


@dataclass(frozen=True)
class Contender:
    """What differs from the common configuration, under a name."""

    name: str
    changes: dict[str, Any]

    @property
    def folder(self) -> str:
        """The name as one of a folder."""
        return self.name.replace("/", "_")


def losses_as_contenders(names: Sequence[str]) -> list[Contender]:
    """Return a contender for each loss by name; "recall@k+mixup" is ours with similarity mixup."""
    return [
        Contender(name, {"loss": name.removesuffix(MIXUP)} | ({"mixup": True} if name.endswith(MIXUP) else {}))
        for name in map(str.strip, names)
    ]


def sweep_as_contenders(sweep: str) -> list[Contender]:
    """Return a contender for each value of KEY=VALUE,VALUE,... Raises InputError for a key that does not exist."""
    key, separator, values = sweep.partition("=")
    key = key.strip().replace("-", "_")
    if not separator or not values:
        raise InputError(f"--sweep {sweep}: KEY=VALUE,VALUE,... is needed, such as batch_size=64,256,1024")
    if key not in TrainConfig.model_fields:
        raise InputError(f"--sweep {sweep}: no key {key!r}; recallk train --help lists them")
    contenders = []
    for value in _split(values):
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--sweep {sweep}: {value!r} is no value; lists stand in brackets, as in [1,2]") from None
        if not value:
            raise InputError(f"--sweep {sweep}: a value is missing between two commas, or after the last")
        contenders.append(Contender(f"{key}={value}", {key: read}))
    return contenders


def _split(values: str) -> list[str]:
    """Split at commas, but not within brackets: ks=[1],[1,2,4] has two values."""
    parts, depth = [""], 0
    for character in values:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def ablations() -> list[str]:
    """Return the names of the ablations that come with recallk."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def ablation_as_contenders(name: str) -> list[Contender]:
    """Return the contenders of an ablation by name, or of a YAML file: a table of names, each with its settings."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            raise InputError(f"no ablation {name!r}: give a YAML file, or one of {', '.join(ablations())}")
    table = read_config(path)
    if not table or not all(isinstance(changes, dict) for changes in table.values()):
        raise InputError(
            f"{path}: a table of contenders is needed, each with its settings, such as 'large: {{batch_size: 4000}}'"
        )
    return [Contender(str(contender), changes) for contender, changes in table.items()]
