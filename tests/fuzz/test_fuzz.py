"""Generated cases over the whole library and command line: a right result, or one clear line.

300 of them, the issues' own first, and ten times as many with `-m slow`. A fault says how to run its case alone.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fuzz.runner import AREAS, Runner

FIRST = {"library": 92, "options": 65, "tables": 40, "vectors": 40, "images": 45, "runs": 60}
"""More than the fixed cases in every area."""

MORE = 600  # of each area, the first ones included


def check(area: str, numbers: Sequence[int], folder: Path) -> None:
    found = list(Runner(area, folder).run(numbers))
    assert [verdict.number for verdict in found] == list(numbers)
    faults = [verdict for verdict in found if verdict.kind == "fault"]
    shown = "\n\n".join(map(str, faults[:20]))
    assert not faults, f"{len(faults)} of {len(found)} cases of {area!r} are faults; the first:\n\n{shown}"
    # a suite in which everything is refused, or nothing, would test little
    kinds = [verdict.kind for verdict in found]
    assert min(kinds.count("right"), kinds.count("line")) > len(kinds) // 8


def test_the_fixed_cases_are_among_the_first() -> None:
    from importlib import import_module

    for area in AREAS:
        assert len(import_module(f"tests.fuzz.{area}").FIRST) < FIRST[area]
    assert sum(FIRST.values()) >= 300


@pytest.mark.parametrize("area", AREAS)
def test_a_right_result_or_one_line(area: str, tmp_path: Path) -> None:
    check(area, range(FIRST[area]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("area", AREAS)
def test_many_more(area: str, tmp_path: Path) -> None:
    check(area, range(FIRST[area], MORE), tmp_path)
