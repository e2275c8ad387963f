"""A person's own images: one folder per class, folders within folders too."""

import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recallk.core.errors import InputError
from recallk.core.files import why
from recallk.core.text import shown
from recallk.data.findings import Finding
from recallk.data.formats import SUFFIXES
from recallk.data.given_split import Given, given_by, given_by_folders
from recallk.data.identity import Identities
from recallk.data.item import Record

_NAMED = 5  # suffixes of what was passed over


@dataclass
class FoundImages:
    """The image files below a folder, each once, and what was passed over, by suffix or kind."""

    root: Path
    images: list[Path] = field(default_factory=list)
    again: list[tuple[Path, Path]] = field(default_factory=list)  # another name of an image, and that image
    skipped: Counter[str] = field(default_factory=Counter)
    linked: int = 0  # folders that are there under another name

    @property
    def notes(self) -> list[Finding]:
        """Say in words what was passed over."""
        told = []
        if count := self.skipped.total():
            kinds = self.skipped.most_common()
            named = ", ".join(f"{n:,} {shown(kind)}" for kind, n in kinds[:_NAMED])
            more = f" and {sum(n for _, n in kinds[_NAMED:]):,} others" if len(kinds) > _NAMED else ""
            files = _counted(count, "file that is no image", "files that are no images")
            told.append(f"passed over {files}: {named}{more}")
        if self.again:
            names = _counted(len(self.again), "image", "images")
            told.append(f"passed over {names} that stand here under another name: the first is {self.again[0][0]}")
        if self.linked:
            told.append(f"passed over {_counted(self.linked, 'link', 'links')} to folders that are read already")
        return [Finding("skipped files", shown(self.root), shown(message)) for message in told]


def folder(root: Path, *, classes_needed: bool = True) -> tuple[list[Record], list[Finding]]:
    """Return a record for every image below `root`, and what was passed over.

    An image's class is the path of the folder that holds it. Where the folders at the top are those of a split (`train`
    and `test`, perhaps `val`) or of roles (`query` and `gallery`), with folders of classes in them, it is the path
    below these (`given_by_folders`). Unless `classes_needed`, the label of all is "" where an image is outside any
    class folder.

    Raises InputError where there is no folder, no image, images outside any class folder, one image in two classes, or
    a class whose name is no UTF-8.
    """
    found = find_images(root)
    if not classes_needed and any(path.parent == root for path in found.images):
        told = "images outside any class: taken as a folder without classes"
        return [Record(path, "") for path in found.images], [*found.notes, Finding("other counts", shown(root), told)]
    records = []
    top = _top(root, found.images)
    labels = _labels(top, found.images)
    said = given_by_folders(set(labels.values()))
    classes = set(labels.values())
    odd = _not_taken(root, said, classes) or ([] if said else _in_several_places(root, classes))
    notes = [*found.notes, *odd]
    if top != root:
        notes.append(Finding("other counts", shown(root), f"the classes are the folders below {shown(top)}"))
    for path in found.images:
        label = labels[path.parent]
        if said:
            given, below = said[label]
            records.append(Record(path, below, given.split, given.role))
        else:
            records.append(Record(path, label))
    for path, first in found.again:
        if path.parent != first.parent:
            raise InputError(
                f"{path}: the same file as {first}, so that one image is in two classes; remove one of the two"
            )
    return records, notes


def gallery(root: Path) -> tuple[list[Path], list[Finding]]:
    """Return the image files below `root`, whatever their classes, and what was passed over.

    Where folders say which are queries and which the gallery (`given_by_folders`), the gallery alone. Raises InputError
    as `find_images`.
    """
    found = find_images(root)
    names = {parent: parent.relative_to(root).as_posix() for parent in {path.parent for path in found.images}}
    said = given_by_folders(set(names.values())) or {}
    inside = {parent for parent, name in names.items() if name in said and said[name][0].role == "gallery"}
    if not inside:
        return found.images, found.notes
    images = [path for path in found.images if path.parent in inside]
    told = f"{_counted(len(found.images) - len(images), 'image', 'images')} outside its gallery left out"
    return images, [*found.notes, Finding("other counts", shown(root), told)]


def find_images(root: Path) -> FoundImages:
    """Find the image files below `root`, in the order of their folders' and own names.

    Hidden files and folders are passed over, and what is no regular file. Links are followed; every file and folder
    counts once, by its own name rather than a link's. Raises InputError where there is no folder, one that cannot be
    read, or no image in it.
    """
    found = FoundImages(root)
    candidates = sorted(_walk(found), key=lambda entry: entry.order)
    identities = Identities()
    for number, entry in enumerate(candidates):
        if entry.inode is not None:
            identities.add(number, entry.device, entry.inode)
    dropped = set()
    for group in identities.repeated():
        best = min(group, key=lambda number: (candidates[number].link, number))
        for number in group:
            if number == best:
                continue
            path, first = Path(candidates[number].path), Path(candidates[best].path)
            if path.samefile(first):  # on a file system made of several, a folder's list may give one number twice
                dropped.add(number)
                found.again.append((path, first))
    found.images = [Path(entry.path) for number, entry in enumerate(candidates) if number not in dropped]
    if not found.images:
        seen = f"; {found.notes[0].message}" if found.skipped else ""
        raise InputError(f"{root}: no images below this folder (looked for {', '.join(sorted(SUFFIXES))}){seen}")
    return found


_Folder = tuple[Path, tuple[str, ...]]  # a folder, and its path from the root


@dataclass(slots=True)
class _Candidate:
    path: str
    order: tuple[tuple[str, ...], str]
    link: bool
    device: int
    inode: int | None  # None for a link to nothing


def _walk(found: FoundImages) -> Iterator[_Candidate]:
    """Yield the image files of every folder that is reached, each folder once; links wait until the others are done."""
    folders, links = deque[_Folder]([(found.root, ())]), deque[_Folder]()
    visited = set[tuple[int, int]]()
    while folders or links:
        linked = not folders
        path, parts = (links if linked else folders).popleft()
        try:
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in visited:
                found.linked += linked
                continue
            visited.add(identity)
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is(entry.is_dir):
                        (links if entry.is_symlink() else folders).append((Path(entry.path), (*parts, entry.name)))
                    elif (candidate := _candidate(entry, parts, status.st_dev, found.skipped)) is not None:
                        yield candidate
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError) and not parts
            told = "no such folder" if missing else f"cannot be read as a folder ({why(error)})"
            if isinstance(error, NotADirectoryError) and not parts and path.exists():
                told = "a file, and a folder is needed"
            raise InputError(f"{path}: {told}") from None


def _candidate(
    entry: os.DirEntry[str], parts: tuple[str, ...], device: int, skipped: Counter[str]
) -> _Candidate | None:
    _, dot, ending = entry.name.rpartition(".")
    suffix = f"{dot}{ending.lower()}" if dot else ""
    link = entry.is_symlink()
    if suffix not in SUFFIXES:
        skipped[suffix or "without a suffix"] += 1
    elif not link and _is(entry.is_file):
        return _Candidate(entry.path, (parts, entry.name), False, device, entry.inode())
    elif link and _is(entry.is_file):
        status = entry.stat()
        return _Candidate(entry.path, (parts, entry.name), True, status.st_dev, status.st_ino)
    elif link and not Path(entry.path).exists():  # an image is missing: it will be said which
        return _Candidate(entry.path, (parts, entry.name), True, device, None)
    else:
        skipped["that are pipes or devices"] += 1
    return None


def _is(question: Callable[[], bool]) -> bool:
    """Ask what an entry is; a link to itself is nothing."""
    try:
        return question()
    except OSError:
        return False


def _labels(root: Path, images: Sequence[Path]) -> dict[Path, str]:
    """Return the label of each folder that holds images."""
    labels = dict[Path, str]()
    for path in images:
        if path.parent not in labels:
            labels[path.parent] = _label(root, path.parent, path)
    return labels


def _not_taken(root: Path, said: Mapping[str, tuple[Given, str]] | None, labels: Collection[str]) -> list[Finding]:
    """Tell where folders have names of a split or of roles, and are classes all the same."""
    classes = labels if said is None else [below for given, below in said.values() if given.split != "train"]
    parts = [given_by(part) for part in {part for label in classes for part in _first_two(label)}]
    named = {given for given in parts if given is not None}
    roles = {given.role for given in named} >= {"query", "gallery"}
    if not roles and (said is not None or len(named) < 2 or Given("train") not in named):
        return []
    what, names = ("roles", "query, gallery") if roles else ("a split", "train, test")
    told = (
        f"folders have the names of {what} ({names}), and are taken as classes: for {what}, let there be no other "
        "folders beside them, and in each a folder for each class"
    )
    return [Finding("other counts", shown(root), told)]


def _top(root: Path, images: Sequence[Path]) -> Path:
    """Return the folder that the classes are in: below `root` where that holds nothing but one folder, and so on."""
    folders = {path.parent for path in images}
    return Path(os.path.commonpath(folders)) if len(folders) > 1 and root not in folders else root


def _in_several_places(root: Path, labels: Collection[str]) -> list[Finding]:
    """Tell where folders of one name are different classes, as "2023/owl" and "2024/owl"."""
    places: dict[str, list[str]] = {}
    for label in sorted(labels):
        places.setdefault(label.rpartition("/")[2], []).append(label)
    several = [found for found in places.values() if len(found) > 1]
    if not several:
        return []
    count = _counted(len(several), "name of a folder is", "names of folders are")
    told = f"{count} there in several places, as {' and '.join(several[0][:2])}: they are counted as different classes"
    return [Finding("other counts", shown(root), shown(told))]


def _first_two(label: str) -> list[str]:
    """Return the first part of a label, and the second where the first is a side of a split."""
    first, _, rest = label.partition("/")
    side = given_by(first)
    return [first, rest.partition("/")[0]] if side is not None and side.role is None else [first]


def _label(root: Path, parent: Path, path: Path) -> str:
    label = parent.relative_to(root).as_posix()
    if label == ".":
        raise InputError(f"{path}: an image outside any class; put each class in a folder of its own")
    try:
        label.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{shown(parent)}: the name of this folder is no UTF-8, and cannot be written into a run; rename it"
        ) from None
    return label


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
