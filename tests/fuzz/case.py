"""What a case is, where it runs, and the rules that it must not break."""

import hashlib
import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from recallk import InputError
from recallk.core.files import UNFINISHED

Refusal = Literal["may", "must", "must not"]
Kind = Literal["right", "line", "fault"]
Rng = np.random.Generator
T = TypeVar("T")


class FaultError(Exception):
    """A rule is broken: a wrong value, more than one line, something outside the run folder touched, ..."""


class Refused(InputError):  # noqa: N818 (an outcome, and no error of ours)
    """A command refused, as it should: exit code 2 and one line, which is the message."""


@dataclass(frozen=True)
class Case:
    """One try: `act` works in a place of its own and raises FaultError, or InputError where it was refused.

    `refusal` says whether the input is one that may, must or must not be refused; `also` names other exceptions
    that count as a refusal.
    """

    what: str
    act: Callable[["Place"], object]
    refusal: Refusal = "may"
    also: tuple[type[Exception], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How a case went. `kind`: "right", "line" (refused in one line) or "fault"."""

    area: str
    number: int
    what: str
    kind: Kind
    detail: str = ""
    seconds: float = 0.0
    peak_mb: int = 0

    def __str__(self) -> str:
        again = f"python -m tests.fuzz {self.area} {self.number}"
        return f"{self.kind}: {self.what}: {self.detail}\n    alone: {again}"


@dataclass
class Place:
    """A folder of its own for a case: `work` is the current folder, and what lies around it must stay as it is."""

    root: Path
    shared: Path = field(default_factory=Path)  # of all cases of an area, such as a run that is copied

    @property
    def work(self) -> Path:
        """The current folder of the case."""
        return self.root / "here"

    def prepare(self) -> None:
        """Make the folder, and beside it what nobody may touch."""
        self.work.mkdir(parents=True)
        for name in (
            "before.txt",
            "beside/config.yaml",
            "beside/model/weights.safetensors",
            "home/notes.txt",
            "tmp/other",
        ):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"somebody's {name}\n")

    @contextmanager
    def watched(self, *writable: Path) -> Iterator[None]:
        """Raise FaultError where anything but `writable` changes inside, or something half-written is left anywhere."""
        before = snapshot(self.root)
        try:
            yield
        finally:
            check_untouched(self.root, before, snapshot(self.root), writable)

    def command(self, *words: object, writable: Sequence[Path] = (), told: bool = False) -> str:
        """Run the command line in this process; return what it printed.

        Raises Refused for exit code 2 with one line, FaultError for anything else than that or exit code 0. `told`:
        a finding that is printed, and exit code 2, are an answer too.
        """
        with self.watched(*writable):
            code, out, err = run_command([str(word) for word in words])
        if "\x1b" in out + err:
            raise FaultError(f"terminal escapes are printed: {(out + err)!r:.300}")
        if code == 0 or (told and code == 2 and out.strip() and not err.strip()):
            return out
        lines = err.rstrip("\n").split("\n")
        if code != 2 or len(lines) != 1 or not lines[0].startswith("recallk: "):
            raise FaultError(f"exit code {code}, {len(lines)} lines, the last: {lines[-1]!r:.400}\n{err[-3000:]}")
        raise Refused(lines[0].removeprefix("recallk: "))

    def train(self, *words: object, run: str | Path = "run") -> str:
        """Train into a new run's folder; where that is refused, nothing of the run may be left."""
        folder = self.work / run
        top = self.work / Path(run).parts[0]  # the folders above it are made too
        try:
            return self.command("train", *words, "--run", run, writable=[folder if ".." in Path(run).parts else top])
        except Refused:
            if os.path.isdir(folder) and not (folder / "checkpoint" / "latest.ckpt").exists():  # noqa: PTH112 (any name)
                raise FaultError(f"refused, but the folder stays: {sorted(p.name for p in folder.iterdir())}") from None
            raise


def snapshot(root: Path) -> dict[str, str]:
    """Return what is below `root`: for each name its kind and a checksum of its content."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)  # noqa: PTH118 (bytes: names need not be text)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                with open(path, "rb") as file:  # noqa: PTH123
                    content = hashlib.blake2b(file.read(), digest_size=16).hexdigest()
            else:
                content = os.fsdecode(os.readlink(path)) if stat.S_ISLNK(mode) else ""  # noqa: PTH115
            found[os.fsdecode(path)] = f"{stat.S_IFMT(mode):o} {content}"
    return found


def check_untouched(root: Path, before: dict[str, str], after: dict[str, str], writable: Sequence[Path]) -> None:
    """Raise FaultError for what was made, changed or removed, but at or below `writable`, or left half-written."""
    free = [str(path.absolute()) for path in writable]
    for path in sorted(before.keys() | after.keys()):
        allowed = any(path == place or path.startswith(f"{place}/") for place in free)
        allowed = allowed or "wandb-" in Path(path).name  # wandb makes them when timm imports it, where it is installed
        if before.get(path) != after.get(path) and not allowed:
            what = "removed" if path not in after else "changed" if path in before else "made"
            raise FaultError(f"{what} outside the run's folder: {path.removeprefix(str(root))!r}")
    left = [path for path in after.keys() - before.keys() if path.endswith((UNFINISHED, "/.lock"))]
    if left:
        raise FaultError(f"half-written: {left[0].removeprefix(str(root))!r}")


def run_command(words: Sequence[str]) -> tuple[int, str, str]:
    """Run `recallk WORDS` in this process; return exit code, and all that this process and its children printed."""
    from recallk import cli

    out, err = _Captured(1), _Captured(2)
    typed, sys.argv = sys.argv, ["recallk", *words]
    code: object = "no SystemExit"
    # as in a process of its own: each warning is shown once
    with out, err, warnings.catch_warnings():
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code or 0
        except Exception as error:
            import traceback

            code = 1
            traceback.print_exception(error)
        finally:
            sys.argv = typed
    return code if isinstance(code, int) else 1, out.text, err.text


class _Captured:
    """Everything that is written to a file descriptor meanwhile; through a pipe, for no disk may be needed."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.text = descriptor, ""
        self.parts: list[bytes] = []
        self.stream = sys.stdout if descriptor == 1 else sys.stderr

    def __enter__(self) -> None:
        self.stream.flush()
        self.kept = os.dup(self.descriptor)
        self.read_end, write_end = os.pipe()
        os.dup2(write_end, self.descriptor)
        os.close(write_end)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with open(self.read_end, "rb", buffering=0) as pipe:  # noqa: PTH123
            while part := pipe.read(65536):
                self.parts.append(part)

    def __exit__(self, *_: object) -> None:
        self.stream.flush()
        os.dup2(self.kept, self.descriptor)
        os.close(self.kept)
        self.reader.join(timeout=1)  # it ends by itself, unless a child that stays has the other end
        self.text = b"".join(self.parts).decode("utf-8", "backslashreplace")


def check_line(message: str) -> None:
    """Raise FaultError where a refusal is not one line that can be shown."""
    if not message.strip() or len(message.splitlines()) != 1 or "Traceback" in message:
        raise FaultError(f"not one line: {message!r:.500}")
    if any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in message):
        raise FaultError(f"control characters in the line: {message!r:.500}")


def rng_of(area: str, number: int) -> Rng:
    """Return the randomness of case `number`: the same on every machine."""
    return np.random.default_rng([number, *area.encode()])


def pick(rng: Rng, choices: Sequence[T]) -> T:
    """Return one of the choices."""
    return choices[int(rng.integers(len(choices)))]
