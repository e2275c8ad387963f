"""The suite itself: it sees every rule that is broken, and goes on after it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.fuzz.case import Verdict
from tests.fuzz.misbehaving import CASES, GOOD
from tests.fuzz.runner import Runner


def test_one_process_runs_all_cases_that_leave_it_well(tmp_path: Path) -> None:
    begun: list[Sequence[int]] = []

    class Told(Runner):
        def _run_until_trouble(self, numbers: Sequence[int]) -> Iterator[Verdict]:
            begun.append(list(numbers))
            return super()._run_until_trouble(numbers)

    well = [list(CASES).index(name) for name in sorted(GOOD)]
    assert [verdict.number for verdict in Told("misbehaving", tmp_path).run(well)] == well
    assert begun == [well]


@pytest.mark.slow
def test_every_broken_rule_is_seen(tmp_path: Path) -> None:
    found = list(Runner("misbehaving", tmp_path, seconds=2, megabytes=1400).run(range(len(CASES))))
    assert [verdict.number for verdict in found] == list(range(len(CASES)))
    assert {name for name, verdict in zip(CASES, found, strict=True) if verdict.kind != "fault"} == GOOD
    detail = {name: verdict.detail for name, verdict in zip(CASES, found, strict=True)}
    assert detail["hangs"] == "no answer within 2 s"
    assert "MB" in detail["grows"]
    assert "exit code 3" in detail["dies"]
    assert "outside the run's folder: '/here/elsewhere.txt'" in detail["command writes outside"]
    assert "changed" in detail["command changes"]
    assert "removed" in detail["command removes"]
    assert "python -m tests.fuzz misbehaving 4" in str(found[4])
