"""`python -m benchmarks.precisions`: what recall@1 a run reaches in each precision, of several seeds.

The recipe `glyphs` with similarity mixup, on fewer classes and in smaller batches, so that all of it takes some
minutes; a run for each precision and seed, one after the other.
"""

import csv
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from recallk import train
from recallk.runs.recipes import find_recipe

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SMALLER: dict[str, Any] = {
    "mixup": True,
    "batch_size": 120,
    "chunk_size": 40,
    "learning_rate": 1e-2,
    "warmup_steps": 12,
}
RESULTS = Path(__file__).parent / "results/precisions.csv"


def main(
    seeds: Annotated[int, typer.Option(help="runs of each precision")] = 3,
    epochs: Annotated[int, typer.Option(help="of each run")] = 6,
    limit_classes: Annotated[int, typer.Option(help="to train and to test on, each")] = 300,
    accelerator: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    write: Annotated[bool, typer.Option(help=f"add rows to {RESULTS.name}")] = False,
) -> None:
    """Train, and print a Markdown table; the difference is that of the means, in points."""
    device = torch.cuda.get_device_name() if accelerator == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    own = SMALLER | {"epochs": epochs, "evaluate_every": epochs, "limit_classes": limit_classes}
    own |= {"accelerator": accelerator}
    reached: dict[str, list[float]] = {}
    print(f"| precision | recall@1, %, mean | of the seeds | difference | seconds a run |\n{'|---' * 5}|", flush=True)
    for precision in PRECISIONS:
        seconds = []
        for seed in range(1, seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                run = own | {"precision": precision, "seed": seed}
                summary = train(find_recipe("glyphs").values | run, Path(folder) / "run")
            reached.setdefault(precision, []).append(100 * summary.after.metrics["recall@1"])
            seconds.append(summary.training_seconds)
            if write:
                _add(
                    {
                        "date": time.strftime("%Y-%m-%d"),
                        "device": device,
                        "load": round(os.getloadavg()[0], 2),
                        "precision": precision,
                        "seed": seed,
                        "epochs": epochs,
                        "limit_classes": limit_classes,
                        "steps": len(summary.steps),
                        "recall@1": round(reached[precision][-1], 2),
                        "training_s": round(seconds[-1], 1),
                    }
                )
        mean, exact = statistics.mean(reached[precision]), statistics.mean(reached[PRECISIONS[0]])
        each = ", ".join(f"{value:.1f}" for value in reached[precision])
        middle = statistics.median(seconds)
        print(f"| {precision} | {mean:.1f} | {each} | {mean - exact:+.1f} | {middle:.0f} |", flush=True)


def _add(row: dict[str, object]) -> None:
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        rows = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            rows.writeheader()
        rows.writerow(row)


if __name__ == "__main__":
    typer.run(main)
