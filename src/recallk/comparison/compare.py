"""`compare`: from settings and contenders to what each of them reached, in one call."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recallk.comparison.contenders import (
    Contender,
    ablation_as_contenders,
    losses_as_contenders,
    sweep_as_contenders,
)
from recallk.comparison.experiment import Comparison
from recallk.comparison.jobs import Job
from recallk.comparison.outcomes import Outcome, outcomes
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.text import brief
from recallk.runs.config import given_keys, make_config, name_of, with_whole_path
from recallk.runs.train_config import TrainConfig

MOST_MINUTES = 366 * 24 * 60


@dataclass(frozen=True)
class Progress:
    """How far a comparison is: all settings have been checked (`number` 0), or a run is about to start."""

    contenders: int
    most_runs: int  # fewer where some are finished already, or fail
    number: int = 0  # of the run that is about to start
    job: Job | None = None  # that run
    how_chosen: str = ""  # the epoch whose model a run is measured by; known from the first run on
    refused: Sequence[str] = ()  # "contender: why its batches cannot be laid out", complete from the first run on
    seconds: float = 0.0  # since the call


def compare(
    config: TrainConfig | Mapping[str, Any],
    folder: str | os.PathLike[str] | None = None,
    *,
    losses: Sequence[str] | None = None,
    sweep: str | None = None,
    ablation: str | None = None,
    contenders: Sequence[Contender] | None = None,
    rates: Sequence[float] = (0.3, 1, 3),
    seeds: int = 3,
    searches: int = 1,
    budget: str = "items",
    at_once: int = 1,
    progress: Callable[[Progress], object] | None = None,
) -> list[Outcome]:
    """Train contenders under one budget, each with the learning rate that suits it; return what they reached.

    All is in the folder: called again with the same settings, it runs only what is missing. `report_comparison` of
    `recallk.reporting.comparison` makes a page and a table of it. Each run is a process of its own that imports the
    calling script anew, so a script calls this under `if __name__ == "__main__":`.

    With three rates and two seeds, for example, two losses have 2 x (3 + 2) runs, and each outcome has two results.

    Args:
        config: the settings that all contenders share, by the keys of `TrainConfig`; `data` is needed.
        folder: where the runs go, `FOLDER/CONTENDER/RUN`; by default `default_folder`.
        losses: names of losses as contenders; "recall@k+mixup" is recall@k with similarity mixup.
        sweep: or values of one setting: "batch_size=64,256,1024".
        ablation: or the name of an ablation that comes with recallk, or a YAML file of contenders.
        contenders: or the contenders themselves.
        rates: multiples of the learning rate that are tried for each contender, on validation classes.
        seeds: runs of each contender that count.
        searches: runs of each contender at each of these rates.
        budget: the same for each: "items" (as many as in the epochs of `config`), or minutes of training: "5min".
        at_once: runs at a time; they share the processor's cores.
        progress: is called once when all settings have been checked, and before each run.

    Returns:
        What each contender reached, the best recall first. One that failed is among them, and says why.

    Raises:
        InputError: a setting or a contender is wrong, the data cannot be used, or the folder holds another comparison
            or is in use. What fails within a run is no error here.

    >>> small = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "embedding_size": 16}
    >>> config = {"data": "photos", **small, "epochs": 1, "workers": 0}
    >>> reached = compare(config, "runs/compared", losses=["recall@k", "contrastive"], rates=(1,), seeds=1)
    >>> sorted(outcome.name for outcome in reached)
    ['contrastive', 'recall@k']

    """
    started = time.perf_counter()
    _require_list("rates", rates, "(0.3, 1, 3)")
    chosen = _contenders(losses, sweep, ablation, contenders)
    given = given_keys(config)
    whole = with_whole_path(make_config(given))
    common = given | {"data": whole.data} | ({} if whole.root is None else {"root": whole.root})
    folder = default_folder(make_config(given), losses, sweep, ablation) if folder is None else user_path(folder)
    comparison = Comparison(
        folder, common, chosen, rates, seeds, searches=searches, minutes=minutes_of(budget), at_once=at_once
    )
    tell = progress or (lambda _: None)
    size = len(chosen), comparison.most_runs
    tell(Progress(*size))
    for number, job in enumerate(comparison.run(), 1):
        seconds = time.perf_counter() - started
        tell(Progress(*size, number, job, comparison.how_chosen, tuple(comparison.refused), seconds))
    return outcomes([folder])


def default_folder(
    config: TrainConfig,
    losses: Sequence[str] | None = None,
    sweep: str | None = None,
    ablation: str | None = None,
    recipe: str | None = None,
) -> Path:
    """Return the folder of a comparison that was not given one: after the recipe or the data, and what is compared.

    >>> default_folder(make_config({"data": "photos"}), sweep="batch-size=64,256").as_posix()
    'runs/compare-photos-batch_size'

    """
    key = sweep.partition("=")[0].strip().replace("-", "_") if sweep else "contenders"
    what = "losses" if losses is not None else Path(ablation).stem if ablation else key
    return Path("runs") / f"compare-{name_of(config, recipe)}-{what}"


def _contenders(
    losses: Sequence[str] | None, sweep: str | None, ablation: str | None, contenders: Sequence[Contender] | None
) -> Sequence[Contender]:
    if sum(choice is not None for choice in (losses, sweep, ablation, contenders)) != 1:
        raise InputError("what to compare: give losses, a sweep, an ablation or contenders, one of them")
    if losses is not None:
        _require_list("losses", losses, "['recall@k', 'contrastive']")
        return losses_as_contenders(losses)
    if sweep is not None:
        return sweep_as_contenders(sweep)
    return ablation_as_contenders(ablation) if ablation is not None else contenders or []


def _require_list(name: str, given: object, example: str) -> None:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"{name}: a list is needed, such as {example}, not {brief(given)}")


def minutes_of(budget: str) -> float | None:
    """Return the minutes of "5min"; None for "items". Raises InputError for anything else.

    >>> minutes_of("5min"), minutes_of("items")
    (5.0, None)
    """
    if budget == "items":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:m|min|minutes?)", budget.strip())
    if found is None or not 0 < float(found[1]) <= MOST_MINUTES:
        raise InputError(f"--budget {budget}: items (as many for each), or minutes of training such as 5min")
    return float(found[1])
