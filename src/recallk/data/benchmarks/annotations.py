"""What reading any benchmark needs: finding the root, reading lists, and what can be wrong with them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from recallk.core.errors import InputError
from recallk.core.files import require_file, why
from recallk.data.benchmarks.benchmark import ALL_AGAINST_ALL, TestSet
from recallk.data.findings import Findings, Kind
from recallk.data.item import Record

_SUFFIXES = (".jpg", ".jpeg")  # what every one of the lists names
_SHOWN = 5  # entries of a folder
_NAMED = 3  # of the places where lists may be
_DIGITS = 18


class Place(NamedTuple):
    """Where something stands; .mat files have annotations instead of lines."""

    file: Path
    number: int
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


def find_home(root: Path, tops: Sequence[str], lists: Sequence[str], unpacked: str, findings: Findings) -> Path | None:
    """Return the folder that has one of the `lists`: `root`, or one of `tops` in it.

    Where there is none, report what was looked for and what was found instead; `unpacked` says in words which folder
    to give.
    """
    try:
        for home in (root, *(root / top for top in tops)):
            if any((home / name).exists() for name in lists):
                return home
        instead = _instead(root)
    except OSError as error:
        instead = f"cannot be read ({error.strerror})"
    inside = " or ".join(f"{top}/" for top in tops[:_NAMED])
    wanted = f"looked for {' or '.join(lists[:_NAMED])} here and in {inside}"
    findings.add("wrong root folder", root, f"{instead}; {wanted}; give {unpacked}")
    return None


def _instead(root: Path) -> str:
    if root.is_file():
        return "this is a file, not a folder"
    if root.is_dir():
        return f"the data set is not here, but {_entries(root)}"
    above = next((folder for folder in root.absolute().parents if folder.is_dir()), Path("/"))
    return f"no such folder; in {above} there is {_entries(above)}"


def _entries(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"nothing that can be read ({error.strerror})"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing") + more


def first_folder(*candidates: Path) -> Path:
    """Return the first folder that exists; without any, the first, for the images to be missed there."""
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


class Reading:
    """One reading of a benchmark's lists: gathers the images, reports what is wrong, and goes on.

    Training classes must not be in the test sets `tests`, nor an image in two splits; only test sets that are all
    against all may have images in common, of the same class in each.
    """

    def __init__(self, findings: Findings, tests: Sequence[TestSet] = ALL_AGAINST_ALL) -> None:
        self._findings, self._tests = findings, tests
        self._common = {test.queries for test in tests if test.gallery is None}
        self._records, self._places = list[Record](), list[Place]()
        self._folders: dict[str, dict[str, int]] = {}  # by the folder, by the file's name: the number of its record
        self._others: dict[str, list[int]] = {}  # by the file: of its further ones, in other test sets
        self._by_class: dict[str, int] = {}
        self._in_both: set[str] = set()

    def report(self, kind: Kind, place: Place | Path, message: str) -> None:
        """Add a finding."""
        self._findings.add(kind, str(place), message)

    def lines(self, path: Path) -> Iterator[tuple[Place, str]]:
        """Yield the lines of a list that are not blank."""
        try:
            if path.exists():
                require_file(path)
            data = path.read_bytes()
        except (InputError, OSError) as error:
            reason = why(error) if isinstance(error, OSError) else str(error).removeprefix(f"{path}: ")
            there = f"in {path.parent} there is {_entries(path.parent)}"
            self.report("missing file", path, f"cannot be read ({reason}); {there}; unpack the data set again")
            return
        if b"\r\n" in data:
            self.report("Windows line ends", path, "has Windows line ends; read all the same, nothing to be done")
        blank = True
        for number, line in enumerate(data.decode("utf-8-sig", "replace").split("\n"), 1):
            if text := line.strip():
                blank = False
                yield Place(path, number), text
        if blank:
            self.report("missing file", path, "is empty; unpack the data set again")

    def fields(self, place: Place, line: str, names: Sequence[str]) -> list[str] | None:
        """Return as many fields as there are names, or None for a truncated line; "path" is that of an image."""
        fields = line.split(maxsplit=len(names) - 1)
        if len(fields) < len(names):
            self.truncated(place, line, f"{len(fields)} of {len(names)} fields ({', '.join(names)})")
        elif "path" in names and not fields[names.index("path")].lower().endswith(_SUFFIXES):
            self.truncated(place, line, "no path of a .jpg file")
        else:
            return fields
        return None

    def truncated(self, place: Place, line: str, why: str) -> None:
        """Report a line that ends too early, or reads as if it did."""
        self.report("truncated line", place, f"{why} in {_short(line)}; get {place.file.name} again")

    def number(self, place: Place, what: str, text: str, lowest: int = 0, highest: int | None = None) -> int | None:
        """Return the number that `text` is, or None, reported, where it is none or out of range."""
        if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
            self.report(
                "label is no number", place, f"{what} is {_short(text)}, no number; get {place.file.name} again"
            )
            return None
        number = int(text)
        if number < lowest or (highest is not None and number > highest):
            wanted = f"from {lowest} to {highest}" if highest is not None else f"{lowest} or more"
            self.report("label is no number", place, f"{what} is {number}, not {wanted}; get {place.file.name} again")
            return None
        return number

    def image(self, place: Place, folder: str, path: str, label: str, split: str | None) -> None:
        """Take an image, `path` below `folder`, into a split, unless it is there, or in another one, already."""
        name, number = path, len(self._records)
        if "/" in path:
            folder, name = _parted(folder, path)
        names = self._folders.get(folder)
        if names is None:
            names = self._folders[folder] = {}
        file = f"{folder}/{name}" if folder != "." else name
        first = names.setdefault(name, number)
        if first != number:
            others = self._others.setdefault(file, [])
            if not self._again(place, path, label, split, [first, *others]):
                return
            others.append(number)
        self._records.append(Record.of_file(file, label, split))
        self._places.append(place)
        first = self._by_class.setdefault(label, number)
        if first == number:
            return
        other = self._records[first].split
        if (other == "train") != (split == "train") and label not in self._in_both:
            self._in_both.add(label)
            where = f"{split}, and in {other} ({self._places[first]})"
            why = "test classes must be unseen in training, get the lists again"
            self.report("class in two splits", place, f"class {label} is in {where}; {why}")

    def _again(self, place: Place, path: str, label: str, split: str | None, earlier: Sequence[int]) -> bool:
        """Whether an image may be listed once more: in another test set, of the same class; report it otherwise."""
        for number in earlier:
            other, there = self._records[number], self._places[number]
            if other.split == split:
                self.report("duplicate path", place, f"{path} is listed already ({there}); remove one of the two")
                return False
            if not {split, other.split} <= self._common:
                where = f"{split}, and in {other.split} ({there})"
                self.report("image in two splits", place, f"{path} is in {where}; remove it from one of the two")
                return False
            if other.label != label:
                where = f"class {label} in {split}, and {other.label} in {other.split} ({there})"
                self.report("image in two splits", place, f"{path} is of {where}; get {place.file.name} again")
                return False
        return True

    def records(self) -> list[Record]:
        """Return a record for every image that exists, and report the missing ones and the classes of one image."""
        missing = self._missing()
        if missing and len(missing) == len(self._records):  # a reason to look at one place, not at thousands
            others = f", nor any other of the {len(missing):,}" if len(missing) > 1 else ""
            remedy = "unpack the images, or give the folder that holds them"
            self._report_missing(0, f"no such image{others}; {remedy}")
            return []
        for number in missing:
            self._report_missing(number, "no such image; unpack the images again, or remove the line")
        if missing:
            gone = frozenset(missing)
            found = [number for number in range(len(self._records)) if number not in gone]
            self._records = [self._records[number] for number in found]
            self._places = [self._places[number] for number in found]
        self._report_lonely()
        return self._records

    def _missing(self) -> list[int]:
        """Return the numbers of the records whose file is not there, folder by folder: that asks the system least."""
        missing = list[int]()
        for folder, numbers in self._folders.items():
            for name in numbers.keys() - names_in(folder):
                number = numbers[name]
                missing += [number, *self._others.get(str(self._records[number].file), [])]
        return sorted(missing)

    def _report_missing(self, number: int, message: str) -> None:
        self.report("missing image", self._places[number], f"{self._records[number].file}: {message}")

    def _report_lonely(self) -> None:
        """Note the classes that cannot be drawn in training, or have nothing to be found in a test."""
        keys = [(record.split, record.label) for record in self._records]
        counts = Counter(keys)
        first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        messages: dict[str | None, str] = dict.fromkeys(("train", None), "training never draws it, nothing to be done")
        galleries = {test.queries: test.gallery for test in self._tests if test.gallery is not None}
        messages |= {test.queries: "as a query it has nothing to find" for test in self._tests if test.gallery is None}
        for split, label in counts:
            gallery = galleries.get(split or "")
            if label in self._in_both:
                continue
            if split in messages and counts[split, label] == 1:
                where = f" in {split}" if split else ""
                message = f"class {label} has one image{where}: {messages[split]}"
            elif gallery and not counts[gallery, label]:
                message = f"class {label} is not in {gallery}: its queries have nothing to find"
            else:
                continue
            self.report("class with one image", self._places[first[split, label]], message)


def _parted(folder: str, path: str) -> tuple[str, str]:
    """Return the folder and the name of a file as `Path` writes them, which takes too long for a million."""
    if path[0] in "./" or "//" in path or "/./" in path:
        path = "/".join(part for part in path.split("/") if part not in ("", "."))
    below, _, name = path.rpartition("/")
    if below:
        folder = below if folder == "." else f"{folder}/{below}"
    return folder, name


def names_in(folder: str) -> frozenset[str]:
    """Return the files in a folder, by one reading of it instead of asking for each; a pipe is none."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):  # the latter for a zero byte in its name
        return frozenset()


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
