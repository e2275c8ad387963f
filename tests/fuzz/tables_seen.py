"""Tables and folders of classes that were seen to go wrong; always among the first cases."""

import os
from collections.abc import Callable
from pathlib import Path

from recallk.data.sides import split_classes
from recallk.data.source import read_own
from tests.fuzz.case import Case, FaultError, Place, Refusal
from tests.fuzz.miniature import WORDS, save_images
from tests.fuzz.table_files import HOSTILE, Columns, as_csv, as_parquet, check_sound, plan, rows, twice


def of_bytes(what: str, make: Callable[[Columns], bytes], suffix: str = ".csv", refusal: Refusal = "must") -> Case:
    def act(place: Place) -> None:
        path = place.work / f"table{suffix}"
        path.write_bytes(make(rows(place, True)))
        check_sound(path)
        plan(place, path)

    return Case(f"table{suffix}, {what}", act, refusal)


def in_its_place(what: str, make: Callable[[Path], object], suffix: str = ".csv") -> Case:
    def act(place: Place) -> None:
        make(place.work / f"table{suffix}")
        plan(place, place.work / f"table{suffix}")

    return Case(f"table{suffix}, {what} in its place", act, "must")


def two_spellings(link: bool, suffix: str) -> Case:
    """Return a table in which a file is both trained and tested on, under another name."""

    def act(place: Place) -> None:
        images = save_images(place.work / "data")
        columns = rows(place, True)
        first = columns["split"].index("train")
        columns["path"] = [path.replace(str(place.shared / "images"), str(images)) for path in columns["path"]]
        other = columns["split"].index("test")
        same = Path(columns["path"][first])
        if link:
            (images / "link.png").symlink_to(same)
        columns["path"][other] = (
            str(images / "link.png") if link else f"{same.parent}/../{same.parent.name}/{same.name}"
        )
        path = place.work / f"table{suffix}"
        path.write_bytes(as_csv(columns) if suffix == ".csv" else as_parquet(columns))
        plan(place, path)

    return Case(
        f"table{suffix}, a file {'and a link to it' if link else 'under two spellings'} in train and test", act, "must"
    )


def grown_split(place: Place) -> None:
    """One more class moves no other from training to testing."""
    for name in ("000", "class3x", "zzz"):
        images = save_images(place.work / name, classes=30, images=1)
        before = {r.label: r.split for r in split_classes(read_own(str(images))[0], 0.5, 0)}
        save_images(images / name, classes=1, images=1)
        after = {r.label: r.split for r in split_classes(read_own(str(images))[0], 0.5, 0)}
        moved = [label for label in before if before[label] != after[label]]
        if moved:
            raise FaultError(f"with one class more, {len(moved)} of {len(before)} changed sides")


def hostile_labels(suffix: str) -> Case:
    def act(place: Place) -> None:
        columns = rows(place, True, HOSTILE[:4] + HOSTILE[6:7])
        path = place.work / f"table{suffix}"
        path.write_bytes(as_csv(columns) if suffix == ".csv" else as_parquet(columns))
        plan(place, path)
        place.train("--data", path, *WORDS)

    return Case(f"table{suffix}, labels that act on a terminal", act)


def doubled(name: str, suffix: str) -> Case:
    return of_bytes(f"column {name} twice", lambda columns: twice(columns, name, suffix), suffix)


FIRST = [
    *(doubled(name, suffix) for suffix in (".csv", ".parquet") for name in ("path", "label")),
    *(two_spellings(link, suffix) for suffix in (".csv", ".parquet") for link in (False, True)),
    Case("one class more", grown_split, "must not"),
    in_its_place("a pipe", os.mkfifo),
    in_its_place("a pipe", os.mkfifo, ".parquet"),
    in_its_place("a folder", Path.mkdir),
    in_its_place("a link to nowhere", lambda path: path.symlink_to("nowhere.csv")),
    in_its_place("a link to itself", lambda path: path.symlink_to(path.name)),
    in_its_place("the endless device", lambda path: path.symlink_to("/dev/zero")),
    of_bytes("empty", lambda c: b""),
    of_bytes("empty", lambda c: b"", ".parquet"),
    of_bytes("only a header", lambda c: b"path,label\n"),
    of_bytes("an unfinished quote", lambda c: as_csv(c)[:-2], refusal="may"),
    of_bytes("null bytes", lambda c: b"\0" * 1000),
    of_bytes("UTF-16", lambda c: as_csv(c, "utf-16")),
    of_bytes("Latin-1", lambda c: as_csv(c | {"label": [f"é{x}" for x in c["label"]]}, "latin-1")),
    of_bytes("a CSV named Parquet", as_csv, ".parquet"),
    of_bytes("a Parquet named CSV", as_parquet),
    of_bytes("lists as labels", lambda c: as_parquet(c | {"label": [[x] for x in c["label"]]}), ".parquet", "may"),
    hostile_labels(".csv"),
    hostile_labels(".parquet"),
]
