"""What a comparison sets side by side: losses, the values of a setting, or an ablation that comes with recallk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recallk.errors import InputError
from recallk.training.config import TrainConfig, read_config

FOLDER = Path(__file__).parents[1] / "ablations"


@dataclass(frozen=True)
class Contender:
    """What differs from the common configuration, under a name."""

    name: str
    changes: dict[str, Any]


def losses_as_contenders(names: Sequence[str]) -> list[Contender]:
    """Return a contender for each loss by name; "recall@k+mixup" is ours with similarity mixup."""
    return [
        Contender(name, {"loss": name.removesuffix(MIXUP)} | ({"mixup": True} if name.endswith(MIXUP) else {}))
        for name in map(str.strip, names)
    ]


MIXUP = "+mixup"


def sweep_as_contenders(sweep: str) -> list[Contender]:
    """Return a contender for each value of KEY=VALUE,VALUE,... Raises InputError for a key that does not exist."""
    key, separator, values = sweep.partition("=")
    key = key.strip().replace("-", "_")
    if not separator or not values:
        raise InputError(f"--sweep {sweep}: KEY=VALUE,VALUE,... is needed, such as batch_size=64,256,1024")
    if key not in TrainConfig.model_fields:
        raise InputError(f"--sweep {sweep}: no key {key!r}; recallk train --help lists them")
    return [Contender(f"{key}={value}", {key: yaml.safe_load(value)}) for value in _split(values)]


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
