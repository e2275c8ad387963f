"""Area 3: CSV and Parquet tables, whole and damaged, and folders of classes: the right records, or one line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.case import Case, Place, Refusal, Rng, pick
from tests.fuzz.miniature import save_images
from tests.fuzz.table_files import HOSTILE, LABELS, as_file, check_records, check_sound, plan, rows, twice
from tests.fuzz.tables_seen import FIRST


def prepare(shared: Path) -> None:
    """Make the images that tables name, and import what the cases need."""
    save_images(shared / "images")
    import recallk.cli.terminal
    import recallk.training.trainer  # noqa: F401


def good(rng: Rng) -> Case:
    """Return a table with nothing wrong in it: its records are its rows."""
    names = tuple(dict.fromkeys(rng.choice(LABELS, 6).tolist()))
    split, suffix = bool(rng.random() < 0.5), pick(rng, (".csv", ".parquet", ".CSV", ".Parquet", ".tsv", ".jsonl"))
    encoding, line = pick(rng, ("utf-8", "utf-8-sig")), pick(rng, ("\n", "\r\n"))
    compression = pick(rng, ("snappy", "gzip", "none", "zstd"))
    extra, order, relative = bool(rng.random() < 0.3), rng.permutation(3).tolist(), rng.random() < 0.3
    with_plan, roles = rng.random() < 0.2 and len(names) > 3, bool(rng.random() < 0.3)

    def act(place: Place) -> None:
        columns = rows(place, split and len(names) > 1, names, roles)
        if relative:
            columns["path"] = [os.path.relpath(path, place.work) for path in columns["path"]]
        if extra:
            columns["note"] = [pick(rng, ("", "x,y", 'say "hi"', "two\nlines", "1.5")) for _ in columns["path"]]
        keys = list(columns)
        columns = {keys[n]: columns[keys[n]] for n in order if n < len(keys)} | columns
        path = place.work / f"table{suffix}"
        if suffix.lower() != ".parquet":
            columns = {k: [str(v).replace("\n", " ") for v in values] for k, values in columns.items()}
        path.write_bytes(as_file(columns, suffix, encoding=encoding, line=line, compression=compression))
        check_records(path, columns)
        if with_plan:
            plan(place, path)

    return Case(f"table{suffix} of labels {names}, split {split}", act, "must not")


def cut(rng: Rng, content: bytes) -> bytes:
    return content[: int(rng.integers(0, len(content)))]


def flipped(rng: Rng, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 12))):
        changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
    return bytes(changed)


def footer_flipped(rng: Rng, content: bytes) -> bytes:
    """Return a Parquet file with bytes changed where it describes itself."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        changed[-int(rng.integers(1, min(len(content), 900)))] = int(rng.integers(256))
    return bytes(changed)


def moved(rng: Rng, content: bytes) -> bytes:
    """Return a part of the file written once more, somewhere."""
    start, stop = sorted(rng.integers(0, len(content), 2).tolist())
    at = int(rng.integers(0, len(content)))
    return content[:at] + content[start:stop] + content[at:]


BYTES: tuple[Callable[[Rng, bytes], bytes], ...] = (cut, flipped, flipped, footer_flipped, footer_flipped, moved)


def damaged(rng: Rng) -> Case:
    """Return a table whose bytes are changed."""
    suffix, change = pick(rng, (".csv", ".parquet", ".parquet", ".tsv", ".jsonl")), pick(rng, BYTES)
    split, with_plan, roles = bool(rng.random() < 0.5), rng.random() < 0.15, bool(rng.random() < 0.5)

    def act(place: Place) -> None:
        path, columns = place.work / f"table{suffix}", rows(place, split, roles=roles)
        path.write_bytes(change(rng, as_file(columns, suffix)))
        plan(place, path) if with_plan else check_sound(path)

    return Case(f"table{suffix}, {change.__name__}", act)


CELLS: tuple[Any, ...] = (
    None,
    "",
    " ",
    "\x00",
    "x" * 100_000,
    "\x1b[31m",
    ".",
    "/",
    "http://x/y.png",
    "~nobody/x",
    "../..",
    "nowhere.png",
)
TYPES: dict[str, Callable[[int], Any]] = {
    "int": int,
    "float": lambda n: n + 0.5,
    "nan": lambda n: float("nan"),
    "bool": lambda n: n % 2 == 0,
    "bytes": lambda n: b"\xff%d" % n,
    "list": lambda n: [n, n],
    "table": lambda n: {"x": n},
    "None": lambda n: None,
    "time": lambda n: np.datetime64(n, "s"),
    "a type twice": lambda n: ["a"] * (n % 3),
}


def changed(rng: Rng) -> Case:
    """Return a table whose cells or columns are changed: dropped, doubled, renamed, of other types or encodings."""
    suffix = pick(rng, (".csv", ".parquet", ".jsonl"))
    what = pick(rng, ("cell", "cell", "type", "drop", "double", "rename", "encoding", "separator", "hostile", "swap"))
    column, row = pick(rng, ("path", "label", "split", "role")), int(rng.integers(0, 18))
    value, kind = pick(rng, CELLS), pick(rng, list(TYPES))
    name = pick(rng, ("Path", " path", "", "label ", "\x1b", "labels", "path\n"))
    encoding = pick(rng, ("latin-1", "utf-16", "utf-32", "cp1252", "utf-7"))
    separator = pick(rng, (";", "\t", "|", " "))

    def act(place: Place) -> None:
        columns = rows(place, True, HOSTILE if what == "hostile" else LABELS[:6], column == "role")
        options: dict[str, str] = {}
        if what == "cell":
            columns[column][row] = value
        elif what == "type":
            columns[column] = [TYPES[kind](n) for n in range(18)]
        elif what == "drop":
            del columns[column]
        elif what == "rename":
            columns = {name if key == column else key: cells for key, cells in columns.items()}
        elif what == "encoding":
            columns["label"], options = [f"é{label}" for label in columns["label"]], {"encoding": encoding}
        elif what == "separator":
            options = {"separator": separator}
        elif what == "swap":
            columns["path"], columns[column] = columns[column], columns["path"]
        content = as_file(columns, suffix, **options)
        if what == "double" and suffix != ".jsonl":
            content = twice(columns, column, suffix)
        path = place.work / f"table{suffix}"
        path.write_bytes(content)
        check_sound(path)
        plan(place, path)

    about = {"cell": f"{column} {value!r:.20}", "type": f"{column} as {kind}", "rename": f"{column} to {name!r}"}
    refusal: Refusal = "must" if what == "drop" and column in ("path", "label") else "may"
    return Case(f"table{suffix}, {what} {about.get(what, column)}", act, refusal)


def case(rng: Rng, number: int) -> Case:
    """Return case `number`: the fixed ones first."""
    return FIRST[number] if number < len(FIRST) else pick(rng, (good, damaged, damaged, changed))(rng)
