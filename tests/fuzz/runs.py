"""Area 5: the folder of a finished run, damaged; then loaded, evaluated, searched, resumed, or put into a table."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.fuzz.case import Case, FaultError, Place, Refused, Rng, pick
from tests.fuzz.hostile import Touch, as_checkpoint, pickled
from tests.fuzz.miniature import make_run
from tests.fuzz.runs_seen import FIRST
from tests.fuzz.using_runs import ACTIONS, check_same_recall

FILES = (
    *("config.yaml", "metrics.jsonl", "split.json", "checkpoint/latest.ckpt", "checkpoint/best"),
    *("model/embedder.json", "model/weights.safetensors"),
)


def prepare(shared: Path) -> None:
    """Train the run that is damaged."""
    make_run(shared)
    import sklearn.metrics  # noqa: F401


def run_of(path: Path) -> Path:
    """Return the folder of the run that a file is in."""
    return path.parents[path.parent.name in ("checkpoint", "model")]


def _cut(rng: Rng, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(0, len(content)))])


def _flipped(rng: Rng, path: Path) -> None:
    content = bytearray(path.read_bytes())
    reach = pick(rng, (len(content), min(len(content), 400)))
    for _ in range(int(rng.integers(1, 10))):
        content[int(rng.integers(reach))] = int(rng.integers(256))
    path.write_bytes(content)


def _replaced(content: bytes) -> Callable[[Rng, Path], None]:
    def change(rng: Rng, path: Path) -> None:
        path.write_bytes(content)

    return change


def _as(make: Callable[[Path], object]) -> Callable[[Rng, Path], None]:
    def change(rng: Rng, path: Path) -> None:
        path.unlink()
        make(path)

    return change


def _elsewhere(rng: Rng, path: Path) -> None:
    """Have a checkpoint stand in mid-epoch, or where no run can."""
    if path.suffix == ".ckpt":
        state = torch.load(path, weights_only=True)
        epoch = int(rng.integers(1, 5))
        best = pick(rng, (state["best"], None, (1, 0.5), (epoch, 0.5), (epoch - 1, 0.5)))
        torch.save(state | {"epoch": epoch, "batches": int(rng.integers(4)), "best": best}, path)
    else:
        _cut(rng, path)


def _nonsense(rng: Rng, path: Path) -> None:
    path.write_bytes(rng.bytes(int(rng.integers(1, 3000))))


def _hostile(rng: Rng, path: Path) -> None:
    marker = run_of(path).parents[1] / "marker"
    make = pick(rng, (pickled, as_checkpoint))
    path.write_bytes(make(Touch(marker)))


DAMAGE: dict[str, Callable[[Rng, Path], None]] = {
    "cut": _cut,
    "flipped": _flipped,
    "elsewhere": _elsewhere,
    "nonsense": _nonsense,
    "hostile": _hostile,
    "empty": _replaced(b""),
    "zeros": _replaced(bytes(5000)),
    "null": _replaced(b"null\n"),
    "a list": _replaced(b"[1, 2, 3]\n"),
    "deep": _replaced(b"[" * 20_000),
    "gone": _as(lambda path: None),
    "a folder": _as(Path.mkdir),
    "a pipe": _as(os.mkfifo),
    "a link to nowhere": _as(lambda path: path.symlink_to("nowhere")),
    "a link to itself": _as(lambda path: path.symlink_to(path.name)),
    "the endless device": _as(lambda path: path.symlink_to("/dev/zero")),
    "a link out": _as(lambda path: path.symlink_to(run_of(path).parents[1] / "before.txt")),
}

ODD: tuple[Any, ...] = (
    None,
    "",
    "x",
    -1,
    0,
    1.5,
    True,
    [],
    {},
    [1],
    {"a": 1},
    10**10,
    1e39,
    "\x1b[31m",
    float("nan"),
    "²",
)


def _other_values(rng: Rng, path: Path) -> None:
    """Change what a file says, and leave it readable."""
    if path.suffix == ".yaml":
        written = yaml.safe_load(path.read_text())
        _change(rng, written)
        path.write_text(yaml.safe_dump(written))
    elif path.suffix == ".json":
        written = json.loads(path.read_text())
        _change(rng, written)
        path.write_text(json.dumps(written))
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        what = int(rng.integers(6))
        if what == 0:
            del rows[int(rng.integers(len(rows)))]
        elif what == 1:
            rows.insert(int(rng.integers(len(rows))), pick(rng, ODD))
        elif what == 2:
            rows = rows[: int(rng.integers(len(rows)))]
        else:
            _change(rng, rows[int(rng.integers(len(rows)))])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".ckpt":
        state = torch.load(path, weights_only=True)
        _change(rng, state)
        torch.save(state, path)
    else:
        weights = load_file(path)
        name = pick(rng, sorted(weights))
        other = pick(rng, (None, torch.zeros(3), weights[name].half(), weights[name] * torch.nan, weights[name].long()))
        if other is None:
            del weights[name]
        else:
            weights[name] = other
        save_file(weights, path)


def _change(rng: Rng, table: dict[Any, Any]) -> None:
    key = pick(rng, sorted(table, key=str))
    if isinstance(table[key], dict) and table[key] and rng.random() < 0.6:
        _change(rng, table[key])
    elif rng.random() < 0.3:
        del table[key]
    elif rng.random() < 0.2:
        table["zzz"] = 1
    else:
        value = pick(rng, ODD)
        table[key] = 3 if key == "workers" and value == 10**10 else value  # no machine has room for so many


DAMAGE["other values"] = _other_values


def file_of(run: Path, name: str) -> Path:
    """Return a file of a run; of those that are kept in the checkpoint's folder, the model that was best."""
    if name == "checkpoint/best":
        return next(run.glob("checkpoint/best-*"))
    return run / name


def damaged(rng: Rng) -> Case:
    """Return a run with one file damaged, sometimes two, and something done with it."""
    names = rng.choice(FILES, pick(rng, (1, 1, 1, 2)), replace=False).tolist()
    kinds = [pick(rng, (*DAMAGE, "other values", "other values", "flipped", "cut", "cut")) for _ in names]
    action = pick(rng, list(ACTIONS))

    def act(place: Place) -> None:
        run = place.work / "run"
        shutil.copytree(place.shared / "run", run)
        for name, kind in zip(names, kinds, strict=True):
            path = file_of(run, name)
            if path.is_file():  # a version may have no such file
                DAMAGE[kind](rng, path)
        marker = place.root / "marker"
        inside = {path.name for path in run.rglob("*")}
        try:
            answer = ACTIONS[action](place)
        except Refused:
            gone = inside - {path.name for path in run.rglob("*")}
            if gone:
                raise FaultError(f"refused, but {sorted(gone)} was removed") from None
            raise
        finally:
            if marker.exists():
                raise FaultError("code of a file was run")
        if action == "evaluate" and set(names) <= {"metrics.jsonl", "checkpoint/latest.ckpt", "checkpoint/best"}:
            check_same_recall(place, answer)

    what = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
    return Case(f"run, {what}: {action}", act)


def case(rng: Rng, number: int) -> Case:
    """Return case `number`: the fixed ones first."""
    return FIRST[number] if number < len(FIRST) else damaged(rng)
