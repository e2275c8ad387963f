"""`python -m benchmarks.defaults PROBLEM [--icons FOLDER --weights FILE]`: are the defaults of `recallk train` good?

On one problem: the defaults, twenty settings drawn at random from what people try, and the settings of
pytorch-metric-learning's examples with its multi-similarity loss; all see as many images as the defaults do, with two
seeds each. In a folder that goes on where it was interrupted; the table of all runs is its `comparison.csv`. What the
defaults reach and the best of the twenty stand in one line, all problems' in `benchmarks/results/defaults.csv`.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.measure import machine
from recallk.comparison.compare import Progress, compare
from recallk.comparison.contenders import Contender
from recallk.reporting.comparison import save_table

RESULTS = Path(__file__).parent / "results" / "defaults.csv"
SETTINGS, SEEDS = 20, 2
LITE0 = {"backbone": "tf_efficientnet_lite0", "image_size": 64, "resize": 64, "workers": 0}
BYOB = {"backbone": "test_byobnet", "weights": "none", "workers": 0}


@dataclass(frozen=True)
class Problem:
    """What is trained on, and with what: all that a user would have to say."""

    keys: dict[str, Any]
    icons: bool = False  # whose drawings and weights are elsewhere


_FEW, _SOME, _ALL = {"limit_classes": 60}, {"limit_classes": 300}, {"limit_classes": 1_000}
PROBLEMS = {
    "glyphs-60": Problem({"data": "glyphs", **BYOB, "image_size": 32, "resize": 32} | _FEW),
    "glyphs-1279": Problem({"data": "glyphs", **BYOB, "image_size": 32, "resize": 32}),
    "icons-60": Problem({"dataset": "icons", **LITE0} | _FEW, icons=True),
    "icons-300": Problem({"dataset": "icons", **LITE0} | _SOME, icons=True),
    "icons-1000": Problem({"dataset": "icons", **LITE0} | _ALL, icons=True),
}
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
}
RATES = {True: (1e-5, 1e-3), False: (3e-4, 3e-2)}
"""From and to, by whether there are pretrained weights."""
EXAMPLE = {"loss": "multi-similarity", "batch_size": 32, "items_per_class": 4, "crop_scale": (0.16, 1)} | {
    "optimizer": "adam",
    "weight_decay": 1e-4,
    "schedule": "milestones",
    "warmup_steps": 0,
}
"""As in pytorch-metric-learning's notebooks, whose rates are 1e-5 for the network and 1e-4 for its head."""


def contenders(pretrained: bool) -> list[Contender]:
    """Return the defaults, the settings drawn, the same in all problems of a kind, and the examples'."""
    random = np.random.default_rng(0)
    low, high = np.log(RATES[pretrained])
    drawn = []
    for number in range(1, SETTINGS + 1):
        values = {key: options[random.integers(len(options))] for key, options in TRIED.items()}
        rate = float(f"{np.exp(random.uniform(low, high)):.1e}")
        if values["loss"] != "recall@k":
            values["mixup"] = False
        drawn.append(Contender(f"setting {number:02}", values | {"learning_rate": rate}))
    examples = [Contender(f"example, rate {rate:g}", EXAMPLE | {"learning_rate": rate}) for rate in (1e-5, 1e-4)]
    return [Contender("defaults", {}), *drawn, *examples]


def main(
    problem: Annotated[str, typer.Argument(help=", ".join(PROBLEMS))],
    icons: Annotated[Path | None, typer.Option(help="folder of the npm package")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="of EfficientNet-Lite0, see benchmarks/efficientnet_lite.py")
    ] = None,
    run: Annotated[Path, typer.Option(help="folder of all comparisons")] = Path("runs/defaults"),
    at_once: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Run what is missing of a problem, and write its line."""
    chosen = PROBLEMS[problem]
    keys = chosen.keys | ({"data": str(icons), "weights": str(weights)} if chosen.icons else {})

    def tell(progress: Progress) -> None:
        if progress.job is not None:
            print(
                f"{progress.seconds / 60:5.1f} min  {progress.job.contender.name}  {progress.job.folder.path.name}",
                flush=True,
            )

    found = compare(
        keys,
        run / problem,
        contenders=contenders(keys["weights"] != "none"),
        rates=(1,),
        seeds=SEEDS,
        at_once=at_once,
        progress=tell,
    )
    save_table(found, run / problem / "comparison.csv")
    reached = {o.name: float(np.mean([r["recall@1"] for r in o.results])) for o in found if o.results}
    settings = {name: recall for name, recall in reached.items() if name.startswith("setting")}
    best = max(settings, key=lambda name: settings[name])
    example = max(recall for name, recall in reached.items() if name.startswith("example"))
    items = next(o.items[0] for o in found if o.name == "defaults")
    row = {
        "problem": problem,
        "images seen": items,
        "defaults": f"{100 * reached['defaults']:.1f}",
        "best of twenty": f"{100 * settings[best]:.1f}",
        "which": best,
        "median of twenty": f"{100 * float(np.median(list(settings.values()))):.1f}",
        "example": f"{100 * example:.1f}",
    } | machine()
    print(row)
    before = list(csv.DictReader(RESULTS.open())) if RESULTS.is_file() else []
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*(line for line in before if line["problem"] != problem), row])


if __name__ == "__main__":
    typer.run(main)
