"""From what a person types after --data to records."""

import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.data import columns, table
from recallk.data.beir import Beir
from recallk.data.benchmarks.catalogue import benchmark_named
from recallk.data.findings import Finding, Findings, Kind
from recallk.data.folder import find_images, folder, gallery
from recallk.data.glyphs import glyphs
from recallk.data.instances.catalogue import OWN, instance_benchmark_named
from recallk.data.instances.check import other_counts
from recallk.data.instances.instance import Classes, InstanceSet
from recallk.data.item import Item, Record, Role
from recallk.data.kind import ARRAYS, VECTOR_FILES, ItemKind, is_beir, kind_of
from recallk.data.layout import USUAL, Layout
from recallk.data.places.places import places
from recallk.data.records import labelled, of_split, splits_of
from recallk.data.text_table import text_table
from recallk.data.vector_files import read_vectors

DRAWN: Mapping[str, Callable[[], list[Record]]] = {"glyphs": glyphs, "places": places}
"""Data that needs no files, by name."""
_OF_IMAGES: frozenset[Kind] = frozenset({"missing image"})
"""What is wrong with images, and not with the lists that name them."""


def read_own(
    data: str, items: ItemKind | None = None, layout: Layout = USUAL
) -> tuple[Sequence[Record], list[Finding]]:
    """Return the records of "glyphs" or "places", of a folder with a folder per class, of a table, or of vectors.

    `items` says what to take of a table that holds images and vectors, or images and texts; `layout` what its columns
    are called and where its paths start.

    And what is worth knowing about them, such as how many files were passed over. Raises InputError, one line, for
    whatever cannot be read, and for a file that is there twice.
    """
    if not layout.usual and user_path(data).suffix.lower() not in columns.SUFFIXES | VECTOR_FILES:
        told = "not a table (.csv, .tsv, .jsonl, .parquet), and --columns and --root are for tables"
        raise InputError(f"{data}: {told}")
    if data in DRAWN:
        return DRAWN[data](), []
    path, suffix = user_path(data), user_path(data).suffix.lower()
    kind = items or kind_of(data, layout.columns)
    if kind == "vectors":
        if suffix not in VECTOR_FILES:
            raise InputError(f"{path}: no file of vectors; give a .parquet, .npy or .safetensors file")
        return read_vectors(path, layout)
    if kind == "texts":
        return read_texts(data, layout), []
    if suffix in columns.SUFFIXES:
        return table.table(path, layout), []
    try:
        other = not stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        other = False  # `folder` says what is wrong
    if other:
        raise InputError(
            f"{path}: neither a folder nor a table (.csv, .tsv, .jsonl, .parquet), and no .npy or .safetensors file"
        )
    return folder(path)


def read_texts(data: str, layout: Layout = USUAL, *, labels_needed: bool = True) -> list[Record]:
    """Return the records of a table of texts. Raises InputError as `text_table`, and for what is no table."""
    path = user_path(data)
    if is_beir(path):
        return Beir(path).records()
    if path.suffix.lower() not in columns.SUFFIXES:
        raise InputError(f"{path}: no table of texts; give a .csv, .tsv, .jsonl or .parquet file")
    return text_table(path, layout, labels_needed=labels_needed)


def root_of(data: str, layout: Layout = USUAL) -> Path:
    """Return the folder that names in a split start from: the data's own, a table's, or where its paths start."""
    path = user_path(data)
    if layout.root is not None:
        return layout.root
    return path.parent if path.suffix.lower() in columns.SUFFIXES | ARRAYS else path


def read_gallery(root: str | os.PathLike[str]) -> tuple[list[Path], list[Finding]]:
    """Return the files of a folder and its subfolders that are searched, whatever their classes: `folder.gallery`."""
    return gallery(user_path(root))


def read_items(data: str, layout: Layout = USUAL) -> tuple[Sequence[Item], list[Finding]]:
    """Return the items of data whose classes do not matter: as `read_to_fit` takes it, or a folder without any.

    And what is worth knowing about them. Raises as the two.
    """
    if data not in DRAWN and os.path.isdir(user_path(data)):  # noqa: PTH112 (pathlib's raises where a name is too long)
        found = find_images(user_path(data))
        return found.images, found.notes
    records, notes = read_to_fit(data, layout)
    return labelled(records).items, notes


def read_to_embed(
    data: str, items: ItemKind, dataset: str = "own", layout: Layout = USUAL
) -> tuple[Sequence[Record], list[Finding]]:
    """Return the records of all of `read_own`, or of a benchmark, each item once, and what is worth knowing.

    Those of a folder without classes, and of texts without labels, have "" as their label; of a benchmark, what is not
    in `train` is in `test`, with a role where it is in `query` or `gallery`. Raises as the two.
    """
    if dataset == "own":
        if items == "texts":
            return read_texts(data, layout, labels_needed=False), []
        if layout.usual and items == "images" and data not in DRAWN and os.path.isdir(user_path(data)):  # noqa: PTH112 (as above)
            return folder(user_path(data), classes_needed=False)
        return read_own(data, items, layout)
    records, notes = read_benchmark(dataset, data)
    tested = sorted({record.split for record in records if record.split not in (None, "train", "test")})
    roles: Mapping[str | None, Role] = {"query": "query", "gallery": "gallery"}
    if tested and set(tested) != roles.keys():
        told = f"{' and '.join(tested)} become test, in which all search each other"
        notes, roles = [*notes, Finding("other counts", data, told)], {}
    once = dict[str | int, Record]()
    for record in records:
        role = roles.get(record.split)
        own = record if record.split not in tested else Record(record.item, record.label, "test", role)
        once.setdefault(id(record) if record.file is None else record.file, own)
    return list(once.values()), notes


def read_to_fit(data: str, layout: Layout = USUAL) -> tuple[Sequence[Record], list[Finding]]:
    """Return the records of `read_own` to fit something to: of data that is split, those to train on alone."""
    records, notes = read_own(data, layout=layout)
    return _on_side(records, "train", data, notes)


def _on_side(
    records: Sequence[Record], side: str, data: str, notes: list[Finding]
) -> tuple[Sequence[Record], list[Finding]]:
    """Return the records on one side, where the data is split, and a note of how many are on the other."""
    if not splits_of(records) - {None, side}:
        return records, notes
    chosen = of_split(records, side)
    told = f"{len(records) - len(chosen):,} items that are not to {side} on are left out"
    return chosen, [*notes, Finding("other counts", data, told)]


def read_benchmark(name: str, root: str) -> tuple[list[Record], list[Finding]]:
    """Return the records of a benchmark below `root`, and what is worth knowing about them.

    Raises InputError for a name that there is not, and with the first error in its lists.
    """
    benchmark = benchmark_named(name)
    findings = Findings()
    records = benchmark.read(user_path(root), findings)
    _raise_first(findings, name, root)
    if not records:
        raise InputError(f"{root}: the lists of {benchmark.title} name no images; get them again")
    return records, findings.notes


def require_data(name: str, root: str | None) -> None:
    """Raise InputError where an instance-level test set of that name is read from the disk, and nobody says where."""
    if root is None and name == OWN:
        raise InputError("own images are read from the disk: say where with --data")
    if root is None and instance_benchmark_named(name).needs_data:
        raise InputError(f"{name} is read from the disk: say where with --data (recallk data list: where to get it)")


def read_instances(name: str, root: str | None = None, *, images: bool = True) -> tuple[InstanceSet, list[Finding]]:
    """Return an instance-level test set below `root`, and what is worth knowing about it, such as other counts.

    Without `images` the lists alone are needed. Named `OWN`, own images as `read_own` takes them are a test set.

    Raises InputError for a name that there is not, without the root that it needs, and with the first error in it.
    """
    require_data(name, root)
    if name == OWN and root is not None:
        records, notes = read_own(root)
        records, notes = _on_side(records, "test", root, notes)
        own = labelled(records)
        if own.roles is not None:
            raise InputError(f"{root}: has queries and a gallery of its own: measure it without --benchmark {OWN}")
        if not own.records or np.bincount(own.labels).max() < 2:
            raise InputError(f"{root}: no class has two items to test on: no query would have anything to find")
        return InstanceSet(own.items, own.items, Classes(own.labels)), notes
    benchmark = instance_benchmark_named(name)
    findings = Findings()
    instances = benchmark.read(user_path(root or "."), findings)
    _raise_first(findings, name, root, but=frozenset() if images else _OF_IMAGES)
    if instances is None or not instances.queries or not instances.gallery:
        raise InputError(f"{root}: {benchmark.title} has no queries there, or nothing to search; get it again")
    return instances, [*findings.notes, *other_counts(benchmark, instances)]


def _raise_first(findings: Findings, name: str, root: str | None, but: Collection[Kind] = frozenset()) -> None:
    errors = [finding for finding in findings.errors if finding.kind not in but]
    if errors:
        others = findings.error_count - sum(findings.met[kind] for kind in but) - 1
        more = f" (and {others:,} more: recallk data check {name} --data {root} shows them)" if others else ""
        raise InputError(f"{errors[0]}{more}")


def is_there(data: str) -> bool:
    """Whether own data is drawn, or anything is at its path."""
    return data in DRAWN or os.path.lexists(user_path(data))


def are_looked_for(data: str) -> bool:
    """Whether reading the data has looked for each file, as in a folder and in a benchmark; a table only names them."""
    return user_path(data).suffix.lower() not in columns.SUFFIXES
