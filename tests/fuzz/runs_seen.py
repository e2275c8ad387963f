"""Damage to a run that was seen to go wrong; always among the first cases."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from recallk.core.lock import locked
from tests.fuzz.case import Case, FaultError, Place, Refusal
from tests.fuzz.hostile import Touch, as_checkpoint, pickled
from tests.fuzz.miniature import save_images
from tests.fuzz.using_runs import ACTIONS, check_same_recall, resume

Change = Callable[[Path], object]
MODEL = ("embedder.json", "weights.safetensors")


def after(what: str, change: Change, action: str, refusal: Refusal = "may") -> Case:
    """Return a copy of the run that is changed before something is done with it."""

    def act(place: Place) -> None:
        run = place.work / "run"
        shutil.copytree(place.shared / "run", run)
        change(run)
        printed = ACTIONS[action](place)
        if action == "evaluate" and refusal == "must not":
            check_same_recall(place, printed)

    return Case(f"run, {what}: {action}", act, refusal)


def _add(text: str) -> Change:
    def change(run: Path) -> None:
        with (run / "metrics.jsonl").open("a") as file:
            file.write(text)

    return change


def _cut_line(run: Path) -> None:
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text[:-20])


def _garbage_inside(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:2], "", "{garbage", *lines[2:], ""]))


def _no_checkpoint(run: Path) -> None:
    """As a kill before the first checkpoint leaves it."""
    for name in ("checkpoint", "model"):
        shutil.rmtree(run / name)
    (run / "report.html").unlink()
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().splitlines()[0] + "\n")


def _weights_gone(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["weights"] = str(run / "no-longer-there.safetensors")
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def _hostile_checkpoint(make: Callable[[object], bytes]) -> Change:
    return lambda run: (run / "checkpoint" / "latest.ckpt").write_bytes(make(Touch(run.parents[1] / "marker")))


def _hostile_model(run: Path) -> None:
    (run / "model" / "weights.safetensors").write_bytes(pickled(Touch(run.parents[1] / "marker")))


def _set(**values: object) -> Change:
    def change(run: Path) -> None:
        config = yaml.safe_load((run / "config.yaml").read_text()) | values
        (run / "config.yaml").write_text(yaml.safe_dump(config))

    return change


def _set_model(**values: object) -> Change:
    def change(run: Path) -> None:
        path = run / "model" / "embedder.json"
        written = json.loads(path.read_text())
        path.write_text(json.dumps(written | {"settings": written["settings"] | values}))

    return change


def _at(**position: object) -> Change:
    """Have the checkpoint say that it stands elsewhere."""

    def change(run: Path) -> None:
        path = run / "checkpoint" / "latest.ckpt"
        torch.save(torch.load(path, weights_only=True) | position, path)

    return change


def _link(run: Path) -> None:
    """A file that is about to be written is a link to another's."""
    for name in ("metrics.jsonl", "model/weights.safetensors", "checkpoint/latest.ckpt"):
        (run / f"{name}.unfinished").symlink_to(run.parents[1] / "before.txt")


def _followed(place: Place) -> None:
    run = place.work / "run"
    shutil.copytree(place.shared / "run", run)
    _link(run)
    resume(place)


def _lengthened(place: Place) -> None:
    run = place.work / "run"
    shutil.copytree(place.shared / "run", run)
    resume(place, "--epochs", "3")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if max(row["epoch"] for row in rows if row["kind"] == "step") != 3:
        raise FaultError("no third epoch")


def _twice_at_once(place: Place) -> None:
    run = place.work / "run"
    shutil.copytree(place.shared / "run", run)
    with locked(run):
        resume(place)


def _resumed_twice(place: Place) -> None:
    """A finished run that is resumed is what it was."""
    shutil.copytree(place.shared / "run", place.work / "run")
    model = place.work / "run" / "model"
    before = [(model / name).read_bytes() for name in MODEL]
    resume(place)
    if [(model / name).read_bytes() for name in MODEL] != before:
        raise FaultError("another model")
    check_same_recall(place, ACTIONS["evaluate"](place))


def _gone_images(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] = str(run / "nowhere")
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def _grown(place: Place) -> None:
    """With classes that are new since, a run is evaluated on those that it was tested on."""
    images, run = place.work / "images", place.work / "run"
    shutil.copytree(place.shared / "images", images)
    shutil.copytree(place.shared / "run", run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"data": str(images)}))
    for name in ("0", "class2b", "zzz"):
        shutil.copytree(images / "class0", images / name)
    check_same_recall(place, ACTIONS["evaluate"](place))


def _search_names(place: Place) -> None:
    """File names that would act on a terminal are shown, not obeyed."""
    gallery = save_images(place.work / "gallery", classes=1)
    for name in ("\x1b[31mred", "a\nb", "[_red]"):
        shutil.copytree(gallery / "class0", gallery / name)
    words = ["search", place.shared / "run", gallery / "a\nb" / "0.png", "--gallery", gallery]
    place.command(*words, "--picture", "found.png", writable=[place.work / "found.png"])


def _pipe(name: str) -> Change:
    def change(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return change


FIRST = [
    after("untouched", lambda run: None, "evaluate", "must not"),
    after("untouched", lambda run: None, "load", "must not"),
    after("untouched", lambda run: None, "search", "must not"),
    after("untouched", lambda run: None, "table", "must not"),
    Case("run, finished: resume", _resumed_twice, "must not"),
    Case("run, finished: resume with more epochs", _lengthened, "must not"),
    Case("run, classes more: evaluate", _grown, "must not"),
    Case("search among names that act on a terminal", _search_names, "must not"),
    after("a cut last line", _cut_line, "resume", "must not"),
    after("a blank line", _add("\n\n"), "resume", "must not"),
    after("garbage at the end", _add('{"kind": "st'), "resume", "must not"),
    after("garbage inside", _garbage_inside, "resume", "must not"),
    after("garbage inside", _garbage_inside, "table"),
    after("killed before its first checkpoint", _no_checkpoint, "resume", "must not"),
    after("killed before its first checkpoint", _no_checkpoint, "evaluate", "must"),
    after("killed before its first checkpoint", _no_checkpoint, "table"),
    after("initial weights gone", _weights_gone, "resume", "must not"),
    *(after("a hostile checkpoint", _hostile_checkpoint(make), "resume", "must") for make in (pickled, as_checkpoint)),
    after("a checkpoint in mid-epoch", _at(epoch=2, batches=1, best=(1, 0.5)), "resume", "must not"),
    *(after(f"a checkpoint at {position}", _at(**position), "resume", "must") for position in (
        {"epoch": 2, "batches": 99}, {"batches": 10**10}, {"epoch": 10**10}, {"best": None}, {"best": (99, 0.5)},
    )),
    after("a hostile model", _hostile_model, "load", "must"),
    after("a hostile model", _hostile_model, "evaluate", "must"),
    Case("run, links where files are written: resume", _followed),
    Case("run, in use: resume", _twice_at_once, "must"),
    *(after(f"{key} {value!r} in embedder.json", _set_model(**{key: value}), action, "must") for key, value in (
        ("embedding_size", 10_000_000_000), ("image_size", 10**9), ("backbone", "../x"),
    ) for action in ("load", "evaluate")),
    *(after(f"{key} {value!r} in config.yaml", _set(**{key: value}), "evaluate", "must") for key, value in (
        ("embedding_size", 10_000_000_000), ("image_size", 10**9),
    )),
    *(after("another embedder in config.yaml", _set(embedding_size=9, image_size=16, backbone="../x"), action,
            "must not") for action in ("load", "evaluate")),
    after("loss {'name': []} in config.yaml", _set(loss={"name": []}), "evaluate", "must"),
    after("an unknown key in embedder.json", _set_model(zzz=1), "load", "must"),
    after("an unknown key", _set(zzz=1), "evaluate"),
    after("data gone", _gone_images, "evaluate", "must"),
    after("data gone", _gone_images, "resume", "must"),
    after("data gone", _gone_images, "load", "must not"),
    *(after(f"a pipe as {name}", _pipe(name), action)
      for name in ("config.yaml", "metrics.jsonl", "checkpoint/latest.ckpt", *(f"model/{name}" for name in MODEL))
      for action in ("evaluate", "resume")),
]  # fmt: skip
