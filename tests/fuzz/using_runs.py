"""What is done with a run: each is a function of the place, where the run is `work/run`."""

import json
import re
import shutil
from collections.abc import Callable

import recallk
from tests.fuzz.case import FaultError, Place


def load(place: Place) -> str:
    """Load the run in a program, and embed with it."""
    with place.watched():
        found = recallk.load(place.work / "run").embed([place.shared / "images" / "class0" / "0.png"])
    if found.shape[0] != 1 or not abs(float(found.norm()) - 1) < 1e-3:
        raise FaultError(f"an embedding of shape {tuple(found.shape)} and length {float(found.norm())}")
    return ""


def evaluate(place: Place) -> str:
    """Return what is printed."""
    return place.command("evaluate", "run")


def search(place: Place) -> str:
    """Return what is printed."""
    images = place.shared / "images"
    words = ("search", "run", images / "class0" / "0.png", "--gallery", images, "--picture", "found.png")
    return place.command(*words, writable=[place.work / "found.png"])


def resume(place: Place, *words: str) -> str:
    """Return what is printed."""
    return place.command("train", "--resume", "run", *words, writable=[place.work / "run"])


def table(place: Place) -> str:
    """Put the run into a comparison beside a whole one; return what is printed."""
    folder = place.work / "comparison"
    folder.mkdir()
    shutil.copytree(place.shared / "run", folder / "whole" / "seed-1")
    (folder / "other").mkdir()
    (place.work / "run").rename(folder / "other" / "seed-1")
    (place.work / "run").mkdir()  # it is asked for what is still there
    try:
        return place.command("compare", "--from", "comparison", writable=[folder])
    finally:
        (place.work / "run").rmdir()
        (folder / "other" / "seed-1").rename(place.work / "run")


ACTIONS: dict[str, Callable[[Place], str]] = {
    "load": load,
    "evaluate": evaluate,
    "search": search,
    "resume": resume,
    "table": table,
}


def recall_of(place: Place) -> float:
    """Return the recall@1, in percent, that the whole run ended with."""
    rows = [json.loads(line) for line in (place.shared / "run" / "metrics.jsonl").read_text().splitlines()]
    return 100 * next(float(row["recall@1"]) for row in rows if row["kind"] == "result")


def check_same_recall(place: Place, printed: str) -> None:
    """Raise FaultError where an evaluation prints another recall@1 than the training's end."""
    found = re.search(r"recall@1\D+?(\d+\.\d+)", printed)
    if found is None or abs(float(found[1]) - recall_of(place)) > 0.051:
        raise FaultError(f"recall@1 {found and found[1]} instead of {recall_of(place):.1f}")
