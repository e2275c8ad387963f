"""What a reading meets is listed up to a number of each kind, and counted beyond it."""

from pathlib import Path
from typing import get_args

import pytest

from recallk.data.findings import MOST_LISTED, NOTES, Finding, Findings, Kind


def test_errors_and_notes_are_told_apart() -> None:
    findings = Findings()
    for kind in get_args(Kind):
        findings.add(kind, Path("list.txt"), f"of the kind {kind}")
    assert {finding.kind for finding in findings.notes} == NOTES
    assert {finding.kind for finding in findings.errors} == set(get_args(Kind)) - NOTES
    assert [finding.kind for finding in findings.listed] == list(get_args(Kind)), "in the order in which they were met"
    assert findings.error_count == len(get_args(Kind)) - len(NOTES)


def test_nothing_is_met() -> None:
    findings = Findings()
    assert (findings.listed, findings.errors, findings.notes, findings.error_count) == ([], [], [], 0)


@pytest.mark.parametrize("count", [1, MOST_LISTED, MOST_LISTED + 1, MOST_LISTED + 2, 5_000])
def test_many_of_a_kind_are_counted_and_some_listed(count: int) -> None:
    findings = Findings()
    for number in range(count):
        findings.add("missing image", f"list.txt, line {number + 1}", f"{number}.jpg: no such image")
        findings.add("other counts", "SOP", f"note {number}")
    listed = [finding for finding in findings.listed if finding.kind == "missing image"]
    assert findings.met["missing image"] == findings.met["other counts"] == count
    assert findings.error_count == count
    assert len(listed) == len(findings.notes) == min(count, MOST_LISTED + 1)
    whole = MOST_LISTED if count > MOST_LISTED + 1 else count  # one more takes no more room than a line that says so
    for number, finding in enumerate(listed[:whole]):
        assert finding == Finding("missing image", f"list.txt, line {number + 1}", f"{number}.jpg: no such image")
    if count > MOST_LISTED + 1:
        rest = Finding(
            "missing image",
            f"list.txt, line {MOST_LISTED + 1}",
            f"from here on {count - MOST_LISTED:,} more of this kind",
        )
        assert listed[MOST_LISTED:] == [rest]


def test_a_finding_is_one_line_whatever_the_data_says() -> None:
    findings = Findings()
    findings.add("broken image", Path("a\nb\x1b[31m.jpg"), "message\r\nof two lines")
    (finding,) = findings.listed
    assert str(finding) == r"a\nb\x1b[31m.jpg: message\r\nof two lines"
    assert str(finding).isprintable()
