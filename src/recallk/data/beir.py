"""A folder as BEIR lays it out: texts of a corpus, texts that search it, and judged pairs for each split."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recallk.core.errors import InputError
from recallk.core.files import read_file
from recallk.core.text import shown
from recallk.data.item import Record
from recallk.data.kind import CORPUS, QUERIES
from recallk.data.label_sets import SEPARATOR
from recallk.data.qrels import Qrels, read_qrels
from recallk.data.records import VALIDATION
from recallk.data.texts import Text

QRELS = "qrels"
SPLITS: Mapping[str, str] = {"train": "train", VALIDATION: "dev", "test": "test"}
"""What a split of ours is called there."""
TITLE = "title"


@dataclass(frozen=True)
class Beir:
    """The folder; texts are read when they are asked for. Reading raises InputError, one line, for what is broken."""

    path: Path

    @cached_property
    def documents(self) -> dict[str, Text]:
        """The texts of the corpus by their ids, each after its title."""
        return _texts(self.path / CORPUS)

    @cached_property
    def queries(self) -> dict[str, Text]:
        """The texts that search, by their ids."""
        return _texts(self.path / QUERIES)

    def judged(self, split: str) -> Path | None:
        """Return the file of the pairs that are judged for a split; None where there is none."""
        file = self.path / QRELS / f"{SPLITS[split]}.tsv"
        return file if file.is_file() else None

    def qrels(self, file: Path) -> Qrels:
        """Return the judged pairs of a file. Raises InputError for queries and documents that are not there."""
        qrels = read_qrels(file)
        for query, grades in qrels.items():
            if query not in self.queries:
                raise InputError(f"{file}: query {shown(query)} is not in {self.path / QUERIES}")
            if missing := next((name for name in grades if name not in self.documents), None):
                raise InputError(f"{file}: document {shown(missing)} is not in {self.path / CORPUS}")
        return qrels

    def records(self) -> list[Record]:
        """Return what is trained and tested on: queries and documents, whose labels are the queries that they answer.

        In `test` all documents are searched, in the other splits those that are judged there. A document that answers
        no query of its split has no label: nothing finds it, and it is ranked all the same.
        """
        found = [record for split in SPLITS for record in self._of_split(split)]
        if not found:
            raise InputError(f"{self.path / QRELS}: no train.tsv, dev.tsv or test.tsv with judged pairs")
        return found

    def _of_split(self, split: str) -> Iterable[Record]:
        if (file := self.judged(split)) is None:
            return
        qrels = self.qrels(file)
        answered: dict[str, list[str]] = {name: [] for name in self.documents} if split == "test" else {}
        for query, grades in qrels.items():
            if SEPARATOR in query:
                raise InputError(f"{file}: query {shown(query)}: an id without {SEPARATOR} is needed")
            for document, grade in grades.items():
                answered.setdefault(document, []).extend([query] if grade > 0 else [])
        yield from (Record(self.queries[name], name, split, "query") for name in qrels)
        for name, queries in answered.items():
            yield Record(self.documents[name], SEPARATOR.join(queries), split, "gallery")


def _texts(path: Path) -> dict[str, Text]:
    def parse(path: Path) -> dict[str, Text]:
        found: dict[str, Text] = {}
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                name, text = _entry(line, number)
                if name in found:
                    raise ValueError(f"line {number}: the _id {shown(name)} is there twice")
                found[name] = Text(text, len(found), name)
        if not found:
            raise ValueError("no text is in it")
        return found

    return read_file(
        path, parse, "texts as BEIR writes them", 'write {"_id": ..., "title": ..., "text": ...} in each line'
    )


def _entry(line: str, number: int) -> tuple[str, str]:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"line {number} is no JSON") from None
    if not isinstance(entry, dict) or not {"_id", "text"} <= entry.keys():
        raise ValueError(f"line {number}: no object with _id and text")
    name, title, text = entry["_id"], entry.get(TITLE) or "", entry["text"]
    if not isinstance(name, str | int) or not isinstance(title, str) or not isinstance(text, str):
        raise ValueError(f"line {number}: _id, title and text are to be texts")
    whole = f"{title} {text}".strip()
    if not str(name) or not whole:
        raise ValueError(f"line {number}: empty {'text' if str(name) else '_id'}")
    return str(name), whole
