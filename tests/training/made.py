"""Folders of comparisons that nobody trained: what is read from folders alone needs no more."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recallk.runs.config import make_config, to_yaml

ROWS: list[dict[str, Any]] = [
    {"kind": "evaluation", "epoch": 0, "step": 0, "recall@1": 0.3, "recall@2": 0.4, "map@r": 0.2},
    {"kind": "validation", "epoch": 0, "step": 0, "recall@1": 0.3, "recall@2": 0.4, "map@r": 0.2},
    {"kind": "step", "epoch": 1, "step": 1, "items": 40, "seconds": 6.0, "loss": 0.5, "reached": 0.9},
    {"kind": "step", "epoch": 1, "step": 2, "items": 40, "seconds": 6.0, "loss": 0.4},
    {"kind": "validation", "epoch": 1, "step": 2, "recall@1": 0.5, "recall@2": 0.6, "map@r": 0.4},
]


def made_run(folder: Path, recall: float) -> Path:
    """Write the folder of a finished run that reached a recall@1."""
    folder.mkdir(parents=True)
    result = {"kind": "result", "epoch": 1, "step": 2, "recall@1": recall, "recall@2": recall, "map@r": recall / 2}
    lines = [json.dumps(row) for row in [*ROWS, result]]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    values = {"data": "nowhere", "evaluate_ks": (1, 2), "learning_rate": 1e-3}
    (folder / "config.yaml").write_text(to_yaml(make_config(values)))
    (folder / "cost.json").write_text('{"peak_bytes": 2000000000}')
    return folder


def made_comparison(folder: Path, **recalls: Sequence[float]) -> Path:
    """Write a comparison: a recall@1 for each seed of each contender."""
    for name, of_seeds in recalls.items():
        for seed, recall in enumerate(of_seeds, 1):
            made_run(folder / name / f"seed-{seed}", recall)
    return folder
