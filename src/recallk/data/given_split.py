"""What data say of their own split and roles: in the names of the folders at the top, or in columns of a table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recallk.core.errors import InputError
from recallk.data.columns import Columns, cell
from recallk.data.item import Role
from recallk.data.records import VALIDATION

_ROLES: Mapping[str, Role] = {"query": "query", "queries": "query", "gallery": "gallery", "catalogue": "gallery"}
_SIDES = {"train": "train", "training": "train", "test": "test", "testing": "test"} | {
    **dict.fromkeys(("val", "valid", VALIDATION), VALIDATION)
}
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
COLUMNS = ("split", "role", "is_query", "is_gallery")
"""The columns of a table that say it; `is_query` and `is_gallery` are those of open-metric-learning."""


@dataclass(frozen=True)
class Given:
    """What is said of an item: its split, and its role where it is measured; each None where nothing is said."""

    split: str | None = None
    role: Role | None = None


def given_by(name: str | None) -> Given | None:
    """Return what a name stands for, in any letter case; None where it stands for nothing.

    Queries and a gallery beside training items are those of the test.

    >>> given_by("Val"), given_by("query"), given_by("dev")
    (Given(split='validation', role=None), Given(split='test', role='query'), None)

    """
    folded = (name or "").casefold()
    if folded in _ROLES:
        return Given("test", _ROLES[folded])
    return Given(_SIDES[folded]) if folded in _SIDES else None


def given_by_folders(folders: Collection[str]) -> Mapping[str, tuple[Given, str]] | None:
    """Return what paths of folders say, such as "train/cat" or "test/query/cat", and the class that is left of each.

    Those at the top must all be sides of a split, train and another among them, or `query` and `gallery` alone, which
    then may be on any side. Below `val` and `test` there may be `query` and `gallery` again. None where they are not.

    >>> given_by_folders(["train/cat", "test/dog"])["test/dog"]
    (Given(split='test', role=None), 'dog')
    >>> given_by_folders(["query/cat", "gallery/cat"])["query/cat"]
    (Given(split=None, role='query'), 'cat')

    """
    parts = {folder: folder.partition("/") for folder in folders}
    found = {top: given_by(top) for top in {top for top, _, _ in parts.values()}}
    sides = {top: given for top, given in found.items() if given is not None}
    if len(sides) < len(found) or len(set(sides.values())) < len(sides) or len(sides) < 2:
        return None
    if not all(below for _, _, below in parts.values()):
        if not any(below for _, _, below in parts.values()):
            tops = " and ".join(sorted(sides))
            raise InputError(f"{tops} hold images, and no folders of classes: put each class in a folder of its own")
        return None
    apart = {given.role for given in sides.values() if given.split == "test"}
    if {"query", "gallery"} == apart and len(sides) == 2:
        return {folder: (Given(None, sides[top].role), below) for folder, (top, _, below) in parts.items()}
    if Given("train") not in sides.values() or apart not in (set(), {None}, {"query", "gallery"}):
        return None
    divided = {
        top for top, given in sides.items() if given.role is None and given.split != "train" and _by_role(top, parts)
    }
    return {
        folder: _below(sides[top], below) if top in divided else (sides[top], below)
        for folder, (top, _, below) in parts.items()
    }


def _by_role(top: str, parts: Mapping[str, tuple[str, str, str]]) -> bool:
    """Whether all that is below a folder is below `query` and `gallery`."""
    names = [below.partition("/") for own, _, below in parts.values() if own == top]
    return {_ROLES.get(name.casefold()) for name, _, _ in names} == {"query", "gallery"} and all(n[2] for n in names)


def _below(given: Given, below: str) -> tuple[Given, str]:
    name, _, label = below.partition("/")
    return Given(given.split, _ROLES[name.casefold()]), label


def given_by_columns(columns: Columns, rows: int) -> tuple[Sequence[Given], NDArray[np.int64]]:
    """Return what the columns of a table say: what there is, and for each row the number `(rows,)` of what it says.

    Items that are trained on need no role, and keep theirs where all have one, of both kinds. Raises InputError, "row
    N: ..." counted from 1, for a split or a role that there is not, for a row that is measured and has no role while
    others have one, and for queries without a gallery.
    """
    if "role" in columns and (both := [name for name in ("is_query", "is_gallery") if name in columns]):
        raise InputError(f"columns 'role' and {both[0]!r} say the same; remove one of the two")
    there, written = _written(columns, rows)
    number = {cells: n for n, cells in enumerate(dict.fromkeys(written))}
    found = []
    for cells in number:
        try:
            found.append(_given(dict(zip(there, cells, strict=True))))
        except ValueError as error:
            raise InputError(f"row {written.index(cells) + 1}: {error}") from None
    numbers = np.fromiter(map(number.__getitem__, written), np.int64, rows)
    _check_roles(found, numbers)
    trained = {given.role for given in found if given.split == "train"}
    if trained != {"query", "gallery"}:  # then those set aside to choose by could lack one of the two
        found = [Given("train") if given.split == "train" else given for given in found]
    return found, numbers


def gallery_rows(columns: Columns, rows: int) -> NDArray[np.int64] | None:
    """Return the rows of a table that say they are the gallery, whatever the others say; None where none does."""
    there, written = _written(columns, rows)
    inside = {cells for cells in set(written) if _is_gallery(dict(zip(there, cells, strict=True)))}
    found = np.fromiter((cells in inside for cells in written), np.bool_, rows) if inside else None
    return None if found is None else np.flatnonzero(found)


def _is_gallery(cells: Mapping[str, str | None]) -> bool:
    try:
        return _given(cells).role == "gallery"
    except ValueError:
        return False


def _written(columns: Columns, rows: int) -> tuple[list[str], list[tuple[str | None, ...]]]:
    """Return the columns that are there, and what each row has in them."""
    there = [name for name in COLUMNS if name in columns]
    return there, list(zip(*(columns[name] for name in there), strict=True)) if there else [()] * rows


def _given(cells: Mapping[str, str | None]) -> Given:
    """Return what the cells of a row say. Raises ValueError where they say nothing that there is."""
    given = given_by(cells["split"]) if "split" in cells else Given()
    if given is None:
        raise ValueError(f"split is {cell(repr(cells['split']))}; write train, val or test, or leave the column out")
    role = given.role
    if written := (cells.get("role") or "").strip():
        if written.casefold() not in _ROLES:
            raise ValueError(f"role is {cell(repr(written))}; write query or gallery")
        role = _ROLES[written.casefold()]
    flags = {own: _flag(cells, f"is_{own}") for own in ("query", "gallery")}
    if flags["query"] != flags["gallery"]:
        role = "query" if flags["query"] else "gallery"
    return Given(given.split, role)


def _flag(cells: Mapping[str, str | None], name: str) -> bool:
    written = cells.get(name) or "false"
    if (truth := _TRUTHS.get(written.casefold().removesuffix(".0"))) is None:
        raise ValueError(f"{name} is {cell(repr(written))}; write true or false")
    return truth


def _check_roles(found: Sequence[Given], numbers: NDArray[np.int64]) -> None:
    """Raise InputError where some of what is measured have a role and others have none, or all have the same."""
    for side in sorted({given.split or "" for given in found} - {"train"}):
        of_side = [number for number, given in enumerate(found) if (given.split or "") == side]
        roles = {found[number].role for number in of_side}
        if None in roles and len(roles) > 1:
            without = [number for number in of_side if found[number].role is None]
            row = int(np.flatnonzero(np.isin(numbers, without))[0]) + 1
            raise InputError(f"row {row}: query and gallery both, or neither, while others are one of the two")
        if len(roles) == 1 and None not in roles:
            alone, missing = ("queries", "a gallery") if roles == {"query"} else ("a gallery", "queries")
            of = f"the {side} rows are" if side else "all rows are"
            raise InputError(f"{of} {alone}: let there be {missing} too, or say no roles")
