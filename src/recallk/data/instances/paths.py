"""Paths of very many files, in little more memory than their names have characters; and which files are not there."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import overload

from recallk.data.benchmarks.annotations import Place, names_in
from recallk.data.findings import Findings
from recallk.data.names import Names


class Paths(Sequence[Path]):
    """The files of a folder, by their names below it; a path is made when it is asked for.

    >>> Paths(Path("jpg"), ["a/1.jpg", "a/2.jpg"])[-1].as_posix()
    'jpg/a/2.jpg'
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        self._names = Names()
        for name in names:
            self._names.append(name)

    def name(self, number: int) -> str:
        """Return the name of a file, below the folder."""
        return self._names[number]

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, number: int) -> Path: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Path]: ...
    def __getitem__(self, number: int | slice) -> Path | Sequence[Path]:
        numbers = range(len(self))[number]  # raises IndexError, and counts from the end
        if isinstance(numbers, int):
            return self.folder / self.name(numbers)
        return [self.folder / self.name(number) for number in numbers]


def report_missing(findings: Findings, paths: Paths, place: Callable[[int], Place]) -> None:
    """Report the files that are not there; `place` tells where the one of that number is listed."""
    there: dict[str, frozenset[str]] = {}
    missing = []
    for number in range(len(paths)):
        parent, _, file = paths.name(number).rpartition("/")
        if parent not in there:
            there[parent] = names_in(str(paths.folder / parent))
        if file not in there[parent]:
            missing.append(number)
    report_these_missing(findings, paths, missing, place)


def report_these_missing(
    findings: Findings, paths: Sequence[Path], missing: Sequence[int], place: Callable[[int], Place]
) -> None:
    """Report those files; where none is there, in one line: a reason to look at one place, not at thousands."""
    if missing and len(missing) == len(paths):
        others = f", nor any other of the {len(paths):,}" if len(paths) > 1 else ""
        message = f"{paths[0]}: no such image{others}; unpack the images, or give the folder that holds them"
        findings.add("missing image", str(place(0)), message)
        return
    for number in missing:
        message = f"{paths[number]}: no such image; unpack the images again"
        findings.add("missing image", str(place(number)), message)
