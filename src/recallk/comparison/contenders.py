"""What a comparison sets side by side: losses, the values of a setting, or an ablation that comes with recallk."""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recallk.comparison.folder import OWN_FILES
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import shown
from recallk.core.yaml_files import read_table, read_values
from recallk.runs.config import KEYS

FOLDER = Path(__file__).parents[1] / "ablations"
MIXUP = "+mixup"
SET_BY_COMPARISONS = {"epochs": "--budget", "seed": "--seeds", "select": "the comparison"}
"""Keys that no contender may change, and who sets them."""
LONGEST_FOLDER = 100  # bytes: far below what file systems take, with room for what is written beside a name


@dataclass(frozen=True)
class Contender:
    """What differs from the common configuration, under a name.

    >>> Contender("8,000 items", {"batch_size": 8000}).folder
    '8,000 items'
    """

    name: str
    changes: dict[str, Any]

    @property
    def folder(self) -> str:
        """The name as one of a folder inside the comparison's, whatever it is. Raises InputError for an empty one.

        Separators, and whatever a terminal would act on, become "_"; a name that is too long ends in its checksum.
        """
        name = unicodedata.normalize("NFC", " ".join(self.name.split()))
        if not name:
            raise InputError("a contender without a name: give it one, for it names a folder and a row of the table")
        safe = "".join("_" if c in "/\\" or shown(c) != c else c for c in name)
        if safe.startswith((".", OWN_FILES)):  # ".", "..", hidden ones, and the comparison's own files
            safe = f"_{safe}"
        if len(safe.encode()) > LONGEST_FOLDER:
            checksum = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:8]
            safe = f"{safe.encode()[: LONGEST_FOLDER - 9].decode('utf-8', 'ignore')}-{checksum}"
        return safe


def losses_as_contenders(names: Sequence[str]) -> list[Contender]:
    """Return a contender for each loss by name; "recall@k+mixup" is recall@k with similarity mixup.

    >>> losses_as_contenders(["contrastive", "recall@k+mixup"])[1]
    Contender(name='recall@k+mixup', changes={'loss': 'recall@k', 'mixup': True})
    """
    return [
        Contender(name, {"loss": name.removesuffix(MIXUP), "mixup": name.endswith(MIXUP)})
        for name in map(str.strip, names)
    ]


def sweep_as_contenders(sweep: str) -> list[Contender]:
    """Return a contender for each value of KEY=VALUE,VALUE,...; values are YAML, and lists stand in brackets.

    Raises InputError for a key that does not exist, and for what is no value.

    >>> sweep_as_contenders("batch-size=64,256")[1]
    Contender(name='batch_size=256', changes={'batch_size': 256})
    >>> [contender.changes for contender in sweep_as_contenders("ks=[1],[1,2,4]")]
    [{'ks': [1]}, {'ks': [1, 2, 4]}]
    """
    key, separator, values = sweep.partition("=")
    key = key.strip().replace("-", "_")
    if not separator or not values.strip():
        raise InputError(f"--sweep {sweep}: KEY=VALUE,VALUE,... is needed, such as batch_size=64,256,1024")
    if key not in KEYS:
        raise InputError(f"--sweep {sweep}: no key {key!r}; recallk train --help lists them")
    try:
        read = read_values(values)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError(
            f"--sweep {sweep}: values with commas between, none left out, and lists in brackets, as in ks=[1],[1,2]"
        ) from None
    return [Contender(f"{key}={text}", {key: value}) for text, value in read]


def ablations() -> list[str]:
    """Return the names of the ablations that come with recallk."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def ablation_as_contenders(name: str) -> list[Contender]:
    """Return the contenders of an ablation by name, or of a YAML file: a table of names, each with its settings.

    Raises InputError where there is no such ablation, and for a file that is no such table.

    >>> [contender.name for contender in ablation_as_contenders("query")]
    ['query counted (paper)', 'query left out']
    """
    path = user_path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in ablations():
            raise InputError(f"no ablation {name!r}: give a YAML file, or one of {', '.join(ablations())}")
        path = FOLDER / f"{name}.yaml"
    table = read_table(path, "YAML with a table of contenders", "correct it, or write it again")
    if not table or not all(_is_settings(changes) for changes in table.values()):
        raise InputError(
            f"{path}: a table of contenders is needed, each with its settings, such as 'large: {{batch_size: 4000}}'"
        )
    return [Contender(_as_name(contender, path), changes) for contender, changes in table.items()]


def _is_settings(changes: object) -> bool:
    return isinstance(changes, dict) and all(isinstance(key, str) for key in changes)


def _as_name(key: object, path: Path) -> str:
    """Return a key of YAML as a contender's name, in one line. Raises InputError for what YAML takes for no text."""
    if isinstance(key, bool) or not isinstance(key, str | int | float):  # YAML reads off, no and ~ so
        raise InputError(f"{path}: {shown(key)!r} as a contender's name: put the name in quotes")
    return " ".join(str(key).split())
