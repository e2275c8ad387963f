"""A catalogue as it is typed: a folder, or a collection that one was pushed into."""

from pathlib import Path
from typing import TYPE_CHECKING

from recallk.catalogue.qdrant import SCHEME
from recallk.core.errors import InputError
from recallk.core.files import user_path

if TYPE_CHECKING:
    from recallk.catalogue.index import Index
    from recallk.catalogue.remote import Remote

CATALOGUE = "folder of a catalogue (recallk index), or qdrant://HOST/COLLECTION"
MODEL = "of a collection: the run or catalogue whose model embeds queries"


def is_remote(catalogue: str) -> bool:
    """Whether a collection of Qdrant was typed."""
    return catalogue.startswith(SCHEME)


def opened(catalogue: str, model: Path | None) -> "Index | Remote":
    """Open a catalogue. Raises InputError, one line."""
    from recallk.catalogue.index import Index

    if is_remote(catalogue):
        from recallk.catalogue.qdrant import Collection
        from recallk.catalogue.remote import Remote

        return Remote(Collection(catalogue), model)
    if model is not None:
        raise InputError(f"--model is for a collection of Qdrant: {catalogue} has its own")
    return Index.open(user_path(catalogue))
