"""Options that were seen to go wrong; always among the first cases."""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recallk.core.lock import locked
from tests.fuzz.case import Case, FaultError, Place, Refusal, Refused
from tests.fuzz.hostile import Touch, pickled
from tests.fuzz.miniature import WORDS, save_images


def planned(*words: object, refusal: Refusal = "may", says: str = "") -> Case:
    """Return a dry run on the miniature; `says` must be among what is printed."""

    def act(place: Place) -> None:
        printed = place.command("train", "--data", place.shared / "images", *WORDS, *words, "--run", "run", "--dry-run")
        if says not in printed:
            raise FaultError(f"{says!r} is not among {printed!r}")

    return Case(f"train --dry-run {words!r:.80}", act, refusal)


def trained(*words: object, run: str = "run", refusal: Refusal = "must not") -> Case:
    """Return a whole run: its files are there, as anyone may read them, and the next commands are told rightly."""

    def act(place: Place) -> None:
        printed = place.train("--data", place.shared / "images", *WORDS, *words, run=run)
        folder = place.work / run
        model = ("model/embedder.json", "model/weights.safetensors")
        for name in ("config.yaml", "metrics.jsonl", *model, "report.html", "checkpoint/latest.ckpt"):
            if not (folder / name).is_file():
                raise FaultError(f"no {name} in the run")
            mode, umask = (folder / name).stat().st_mode & 0o777, os.umask(0)
            os.umask(umask)
            if mode != 0o666 & ~umask:
                raise FaultError(f"{name} has the mode {mode:o}")
        if run.isprintable() and f"{run}/report.html" not in printed:
            raise FaultError(f"{run!r} is not told as it is: {printed[-300:]!r}")

    return Case(f"train {words!r} --run {run[:20]!r}", act, refusal)


def with_file(what: str, write: Callable[[Path], object], *words: str, refusal: Refusal = "may") -> Case:
    """Return a command that is given a file "x.yaml" which `write` makes."""

    def act(place: Place) -> None:
        write(place.work / "x.yaml")
        place.command(*words, "--data", place.shared / "images", "--dry-run", *WORDS)

    return Case(f"{' '.join(words)}: {what}", act, refusal)


def printed(*words: str, says: str = "", refusal: Refusal = "must not") -> Case:
    def act(place: Place) -> None:
        out = place.command(*words)
        if says not in out:
            raise FaultError(f"{says!r} is not among {out!r:.300}")

    return Case(f"recallk {' '.join(words)}", act, refusal)


@contextmanager
def disk_full(after: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def full(after: int) -> Case:
    def act(place: Place) -> None:
        with disk_full(after):
            place.train("--data", place.shared / "images", *WORDS)

    return Case(f"train, the disk full after {after:,} bytes", act, "must")


def _run_config(place: Place) -> None:
    place.command("train", place.shared / "run" / "config.yaml", "--dry-run", "--run", "again")


def _mixup_flag(place: Place) -> None:
    place.command("train", *WORDS, "--mixup", "--data", place.shared / "images", "--dry-run")


def _demo_overwrites(place: Place) -> None:
    (place.work / "mine").mkdir()
    (place.work / "mine" / "config.yaml").write_text("mine: true\n")
    (place.work / "mine" / "thesis.txt").write_text("years of work\n")
    try:
        place.command("demo", "--overwrite", "--run", "mine", writable=[])
    finally:
        if not (place.work / "mine" / "thesis.txt").exists():
            raise FaultError("a folder that is no run of the demo was removed")


def _run_is_a_file(place: Place) -> None:
    (place.work / "run").write_text("mine\n")
    place.command("train", "--data", place.shared / "images", *WORDS, "--run", "run")


def ablation(contender: str, refusal: Refusal = "may") -> Case:
    """Return a comparison of a contender with a name of somebody's choice."""

    def act(place: Place) -> None:
        (place.work / "x.yaml").write_text(json.dumps({contender: {"rank_temperature": 0.1}, "other": {}}))
        for name in ("plan", "timing", "seed-1", "comparison.html", "other"):
            (place.work / name).mkdir()
            (place.work / name / "mine.txt").write_text("mine\n")
        words = ["--ablation", "x.yaml", "--seeds", "1", "--rates", "1", "--run", "comparison", *WORDS]
        place.command("compare", "--data", place.shared / "images", *words, writable=[place.work / "comparison"])
        if not (place.work / "comparison" / "comparison.html").is_file():
            raise FaultError("no page")

    return Case(f"compare, a contender {contender!r:.30}", act, refusal)


def intervals(values: dict[str, list[float]]) -> Case:
    """Return a finished comparison: no interval may leave 0 to 100."""

    def act(place: Place) -> None:
        for name, recalls in values.items():
            for seed, recall in enumerate(recalls, 1):
                run = place.work / "comparison" / name / f"seed-{seed}"
                run.mkdir(parents=True)
                shutil.copy(place.shared / "run" / "config.yaml", run)
                shutil.copytree(place.shared / "run" / "model", run / "model")
                rows = [json.loads(line) for line in (place.shared / "run" / "metrics.jsonl").read_text().splitlines()]
                changed = [row | ({"recall@1": recall} if row["kind"] == "result" else {}) for row in rows]
                (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
        folder = place.work / "comparison"
        out = place.command("compare", "--from", "comparison", writable=[folder])
        texts = {"the table": out, "the page": (folder / "comparison.html").read_text()}
        for where, text in texts.items():
            for mean, half in re.findall(r"(\d+\.\d+) ± (\d+\.\d+)", text):
                if float(mean) - float(half) < -0.051 or float(mean) + float(half) > 100.051:
                    raise FaultError(f"{where}: {mean} ± {half}")
        single = [recalls[0] for recalls in values.values() if len(recalls) == 1]
        if any(f"{100 * recall:.1f}" not in out for recall in single):
            raise FaultError(f"the recall is not in the table: {out}")

    return Case(f"compare --from, recalls {values}", act, "must not")


def _weights(place: Place, path: str) -> None:
    place.command("train", "--data", place.shared / "images", *WORDS, "--weights", path, "--run", "run", "--dry-run")


def _hostile_weights(place: Place) -> None:
    (place.work / "weights.pth").write_bytes(pickled(Touch(place.root / "marker")))
    _weights(place, "weights.pth")


def _pipe_weights(place: Place) -> None:
    os.mkfifo(place.work / "weights.pth")
    _weights(place, "weights.pth")


def _no_network(place: Place) -> None:
    words = ["--data", place.shared / "images", *WORDS, "--weights", "pretrained", "--backbone", "resnet18.a1_in1k"]
    place.command("train", *words, "--run", "run", "--dry-run")


def _names(*names: str | bytes) -> Case:
    """Return a run on class folders of these names: nothing of them acts on a page or a terminal."""
    not_text = any(isinstance(name, bytes) for name in names)

    def act(place: Place) -> None:
        images = save_images(place.work / "data", classes=4)
        for number, name in enumerate(names):
            target = os.path.join(os.fsencode(images), name if isinstance(name, bytes) else name.encode())  # noqa: PTH118
            shutil.copytree(images / f"class{number % 4}", os.fsdecode(target))
        if not_text:  # found before a training, and not after it
            place.command("train", "--data", images, *WORDS, "--dry-run")
            return
        place.train("--data", images, *WORDS)
        if "<script>alert" in (place.work / "run" / "report.html").read_text():
            raise FaultError("a class's name acts on the page")

    return Case(f"train on classes {names!r:.60}", act, "must" if not_text else "must not")


def _deep(path: Path) -> None:
    path.write_text("[" * 50_000)


def _laughs(path: Path) -> None:
    """Nine to the power of twelve values of one key, in a few hundred bytes."""
    lists = ["&a0 [x,x,x,x,x,x,x,x,x]", *(f"&a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    path.write_text(f"ks: [{', '.join(lists)}]\n")


def _diverging(place: Place) -> None:
    """What is wrong is the learning rate, wherever it is met."""
    words = ["--learning-rate", "1e30", "--epochs", "3", "--optimizer", "adamw"]
    try:
        place.train("--data", place.shared / "images", *WORDS, *words)
    except Refused as refused:
        if "learning rate" not in str(refused).replace("_", " "):
            raise FaultError(f"nothing is said of the learning rate: {refused}") from None
        raise


def _in_use(place: Place) -> None:
    words = ["--losses", "contrastive", "--seeds", "1", "--rates", "1", "--run", "comparison", *WORDS]
    with locked(place.work / "comparison"):
        place.command("compare", "--data", place.shared / "images", *words, writable=[place.work / "comparison"])


def _reader_killed(place: Place) -> None:
    """A process that reads images is killed, as where memory runs out."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.001):
            for child in multiprocessing.active_children():
                if child.pid is not None and "Process-" in child.name:
                    with suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        place.train("--data", place.shared / "images", *WORDS, "--workers", "2")
    finally:
        ended.set()
        killer.join()


YAML = ("train", "x.yaml")
FIRST = [
    trained("--precision", "bf16-mixed"),
    trained("--precision", "16-mixed"),
    trained("--devices", "2", "--chunk-size", "2", "--checkpoint-minutes", "1e-9"),
    trained("--nodes", "2", refusal="must"),
    trained("--checkpoint-minutes", "0", refusal="must"),
    Case("train RUN/config.yaml", _run_config, "must not"),
    Case("train --mixup --data", _mixup_flag, "must not"),
    printed("--version"),
    printed("--help", says="train"),
    *(trained(run=name) for name in ("a::b", "httpish", "http:b", "z[/red]", "z[red]x", "$\\foo$", "\x1b[31mred")),
    trained(run="x" * 300, refusal="must"),
    trained(run="../before.txt/run", refusal="must"),
    trained(run="/proc/nowhere/run", refusal="must"),
    Case("train that diverges", _diverging, "must"),
    Case("compare in a folder that is in use", _in_use, "must"),
    Case("train, a reading process killed", _reader_killed, "must"),
    Case("train --run FILE", _run_is_a_file, "must"),
    Case("demo --overwrite of another folder", _demo_overwrites, "must"),
    *map(ablation, ("..", ".", "a/../../other", "$\\foo$", "z[/red]", "x" * 300, "", "\x1b[31m")),
    intervals({"a": [0.01, 0.9], "b": [0.5, 0.6]}),
    intervals({"a": [0.95, 0.99, 1.0], "b": [0.0, 0.0, 0.1]}),
    intervals({"a": [0.25]}),
    planned("--epochs", "10000000"),
    *(
        planned(*words, refusal="must")
        for words in (
            ("--ks", "²"),
            ("--data", "~nobody/x"),
            ("--accelerator", "tpu"),
            ("--learning-rate", "1e39"),
            ("--host-memory-gb", "inf"),
            ("--embedding-size", "10000000000"),
            ("--weights", "~nobody/x"),
        )
    ),
    planned("--batch-size", "100000", says="100,000"),
    planned("--batch-size", "100000", "--limit-classes", "3", says="100,000"),
    planned("--rank-temperature", "1e-40"),
    full(0),
    full(300),
    full(300_000),
    full(2_000_000),
    Case("hostile weights", _hostile_weights, "must"),
    Case("weights from a pipe", _pipe_weights, "must"),
    Case("weights without a network", _no_network, "must"),
    _names("z[/red]", "<script>alert(1)</script>", "$\\foo$", "\x1b[31mred", "a\nb", "x" * 200, "مرحبا", "🐈"),
    _names(b"caf\xe9", b"\xff\xfe"),
    with_file("50,000 brackets", _deep, *YAML, refusal="must"),
    with_file("a billion laughs", _laughs, *YAML, refusal="must"),
    with_file("a pipe", os.mkfifo, *YAML, refusal="must"),
    with_file("a folder", Path.mkdir, *YAML, refusal="must"),
    with_file("binary", lambda path: path.write_bytes(bytes(range(256))), *YAML, refusal="must"),
    with_file("a key twice", lambda path: path.write_text("seed: 1\nseed: 2\n"), *YAML, refusal="must"),
    with_file("no published numbers", lambda path: path.write_text("about: {published: {}}\n"), *YAML),
    printed("evaluate", "nowhere", "--ks", "²", refusal="must"),
]
