"""Cases that break a rule each: the suite must see every one of them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recallk import InputError
from tests.fuzz.case import Case, FaultError, Place, Rng


def prepare(shared: Path) -> None:
    """Nothing is needed."""


def case(rng: Rng, number: int) -> Case:
    """Return the case of a number."""
    name, act = list(CASES.items())[number]
    refusal = "must not" if "well" in name else "must" if "mistake" in name else "may"
    return Case(name, act, refusal)  # type: ignore[arg-type]


def _raw(message: str) -> InputError:
    """Return an error with a message as it is, which the library's own no longer have."""
    error = InputError("")
    error.args = (message,)
    return error


def _raise(error: BaseException) -> None:
    raise error


def _as_command(place: Place, act: Callable[[], object], code: int = 2, run: str = "run") -> None:
    """Run `act` in the place of the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recallk.cli.main", lambda: (act(), sys.exit(code)))
        place.train(run=run)


def _print(text: str) -> str:
    print(text, file=sys.stderr)
    return text


def _write(path: str) -> int:
    Path(path).parent.mkdir(exist_ok=True)
    return Path(path).write_text("x")


CASES: dict[str, Callable[[Place], object]] = {
    "right": lambda place: None,
    "hangs": lambda place: time.sleep(60),
    "grows": lambda place: [b"x" * 50_000_000 for _ in range(30)],
    "dies": lambda place: os._exit(3),
    "raises": lambda place: _raise(KeyError("x")),
    "panics": lambda place: _raise(BaseException("x")),
    "wrong value": lambda place: _raise(FaultError("3 instead of 4")),
    "two lines": lambda place: _raise(_raw("one\ntwo")),
    "escapes": lambda place: _raise(_raw("\x1b[2J")),
    "a mistake passes": lambda place: None,
    "well, but refused": lambda place: _raise(InputError("no")),
    "refused": lambda place: _raise(InputError("no")),
    "command right": lambda place: _as_command(place, lambda: print("fine"), code=0),
    "command refuses": lambda place: _as_command(place, lambda: _print("recallk: no")),
    "command prints two lines": lambda place: _as_command(place, lambda: _print("recallk: no\nand more")),
    "command ends with 1": lambda place: _as_command(place, lambda: _print("recallk: no"), code=1),
    "command raises": lambda place: _as_command(place, lambda: _raise(OSError("full"))),
    "command prints escapes": lambda place: _as_command(place, lambda: print("\x1b[1m"), code=0),
    "command writes outside": lambda place: _as_command(place, lambda: _write("elsewhere.txt"), code=0),
    "command changes": lambda place: _as_command(place, lambda: _write("../before.txt"), code=0),
    "command removes": lambda place: _as_command(place, lambda: Path("../beside/config.yaml").unlink(), code=0),
    "command leaves half": lambda place: _as_command(place, lambda: _write("run/model.unfinished"), code=0),
    "command leaves a lock": lambda place: _as_command(place, lambda: _write("run/.lock"), code=0),
    "command refuses, folder stays": lambda place: _as_command(
        place, lambda: (_write("run/config.yaml"), _print("recallk: no"))
    ),
    "right again": lambda place: None,
}
GOOD = {"right", "refused", "command right", "command refuses", "right again"}
