"""Paths of very many files, in little more memory than their names have characters; and which files are not there."""

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import overload

from recallk.data.benchmarks.annotations import Place, names_in
from recallk.data.findings import Findings


class Paths(Sequence[Path]):
    """The files of a folder, by their names below it; a path is made when it is asked for.

    >>> Paths(Path("jpg"), ["a/1.jpg", "a/2.jpg"])[-1].as_posix()
    'jpg/a/2.jpg'
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = os.fspath(folder)
        self._text, self._ends = bytearray(), array("Q")
        for name in names:
            self._text += os.fsencode(name)
            self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> Path: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Path]: ...
    def __getitem__(self, number: int | slice) -> Path | Sequence[Path]:
        numbers = range(len(self))[number]  # raises IndexError, and counts from the end
        return self._path(numbers) if isinstance(numbers, int) else [self._path(number) for number in numbers]

    def _path(self, number: int) -> Path:
        start = self._ends[number - 1] if number else 0
        return Path(self._folder, os.fsdecode(bytes(self._text[start : self._ends[number]])))


def report_missing(findings: Findings, folder: Path, names: Sequence[str], place: Callable[[int], Place]) -> None:
    """Report the files that are not there; `place` tells where the one of that number is listed.

    Where none is there, one line says so: a reason to look at one place, not at thousands.
    """
    there: dict[str, frozenset[str]] = {}
    missing = []
    for number, name in enumerate(names):
        parent, _, file = name.rpartition("/")
        if parent not in there:
            there[parent] = names_in(str(folder / parent))
        if file not in there[parent]:
            missing.append(number)
    if missing and len(missing) == len(names):
        others = f", nor any other of the {len(names):,}" if len(names) > 1 else ""
        message = f"{folder / names[0]}: no such image{others}; unpack the images, or give the folder that holds them"
        findings.add("missing image", str(place(0)), message)
        return
    for number in missing:
        message = f"{folder / names[number]}: no such image; unpack the images again"
        findings.add("missing image", str(place(number)), message)
