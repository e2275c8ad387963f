"""Judged pairs of query and document as TREC and BEIR write them: by query and document the grade."""

import math
from pathlib import Path

from recallk.core.files import read_file
from recallk.core.text import shown

Qrels = dict[str, dict[str, float]]


def read_qrels(path: Path) -> Qrels:
    """Return the grades by query and document.

    A line has query, iteration, document and grade between white space, as TREC writes them, or query, document and
    grade between tabs below a header, as BEIR does. Raises InputError, with the line, for anything else, and for a pair
    with two grades.
    """
    return read_file(path, _parse, "a list of judged pairs", "give a file of TREC's or BEIR's qrels")


def _parse(path: Path) -> Qrels:
    qrels, as_beir = Qrels(), False
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            fields = line.rstrip("\n").split("\t") if as_beir else line.split()
            if not qrels and not as_beir and len(fields) == 3 and not _is_number(fields[2]):
                as_beir = True  # the header
                continue
            if len(fields) != (3 if as_beir else 4):
                expected = "query, document and grade" if as_beir else "query, iteration, document and grade"
                raise ValueError(f"line {number} has {len(fields)} fields; {expected} are needed")
            query, document, grade = fields[0].strip(), fields[-2].strip(), fields[-1].strip()
            if not _is_number(grade):
                raise ValueError(f"line {number}: the grade is {shown(grade)}, and no number")
            if qrels.setdefault(query, {}).setdefault(document, float(grade)) != float(grade):
                raise ValueError(
                    f"line {number}: {shown(query)} and {shown(document)} are judged twice, with two grades"
                )
    if not qrels:
        raise ValueError("no pair is judged in it")
    return qrels


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
