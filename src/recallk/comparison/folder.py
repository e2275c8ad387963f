"""The folder of a comparison: `comparison.*` of its own, and `CONTENDER/{plan, timing, rate-..., seed-...}`."""

import re
from dataclasses import dataclass
from pathlib import Path

from recallk.core.errors import InputError
from recallk.runs.folder import RunFolder

OWN_FILES = "comparison."
"""What the names of a comparison's own files begin with; a contender's folder lies beside them."""
PLAN = "plan"  # holds why a contender's batches cannot be laid out, and nothing else
TIMING = "timing"  # the run of one epoch that tells how many are possible in some minutes
_SEARCH, _SEED = r"rate-(.*)-\d+", r"seed-\d+"
_NUMBER = r"\d[\d.]*(?:e[+-]?\d+)?"


@dataclass(frozen=True)
class ComparisonFolder:
    """Where a comparison's files are; nothing needs to be there yet."""

    path: Path

    @property
    def settings(self) -> Path:
        """What is common to all contenders."""
        return self.path / f"{OWN_FILES}yaml"

    @property
    def page(self) -> Path:
        """The page that shows the comparison."""
        return self.path / f"{OWN_FILES}html"

    @property
    def table(self) -> Path:
        """A line for each run that counts."""
        return self.path / f"{OWN_FILES}csv"

    def contenders(self) -> list[Path]:
        """Return the folders of the contenders, by name: those that hold a run."""
        names = "|".join((PLAN, TIMING, _SEARCH, _SEED))
        runs = sorted(path for path in self.path.glob("*/*") if re.fullmatch(names, path.name))
        return list(dict.fromkeys(run.parent for run in runs))

    def run(self, contender: str, name: str) -> RunFolder:
        """Return the folder of a run. Raises InputError where it is a link: nothing is written through one."""
        for path, whose in (
            (self.path / contender, "a contender's folder"),
            (self.path / contender / name, "a run's folder"),
        ):
            if path.is_symlink():
                raise InputError(f"{path}: a link in the place of {whose}; remove it, or choose another folder (--run)")
        return RunFolder(self.path / contender / name)


def search_name(rate: float, search: int) -> str:
    """Return the name of a run that tries a learning rate.

    >>> search_name(0.001, 1)
    'rate-0.001-1'
    """
    return f"rate-{rate:g}-{search}"


def seed_name(seed: int) -> str:
    """Return the name of a run that counts.

    >>> seed_name(3)
    'seed-3'
    """
    return f"seed-{seed}"


def counts(run: RunFolder) -> bool:
    """Whether a run counts, which those of the search do not."""
    return re.fullmatch(_SEED, run.path.name) is not None


def rate_of(run: RunFolder) -> float | None:
    """Return the learning rate that a run of the search tried; None for other runs.

    >>> rate_of(RunFolder(Path("contrastive/rate-0.001-1")))
    0.001
    >>> rate_of(RunFolder(Path("contrastive/seed-1")))
    """
    found = re.fullmatch(_SEARCH, run.path.name)
    try:
        return float(found[1]) if found and re.fullmatch(_NUMBER, found[1]) else None
    except ValueError:
        return None
