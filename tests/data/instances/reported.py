"""What is said of a test set with one problem."""

from pathlib import Path

import pytest

from recallk import InputError
from recallk.data.findings import NOTES, Finding, Kind
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.data.instances.check import check_instances
from recallk.data.source import read_instances


def reported(name: str, root: Path, kind: Kind) -> Finding:
    """The one problem there is, as `check_instances` reports it; `read_instances` must say the same, in one line."""
    found = check_instances(INSTANCE_BENCHMARKS[name], root, 0).findings.listed
    problems = [problem for problem in found if problem.kind != "other counts"]
    assert [problem.kind for problem in problems] == [kind]
    if kind in NOTES:
        assert problems[0] in read_instances(name, str(root))[1]
    else:
        with pytest.raises(InputError) as caught:
            read_instances(name, str(root))
        assert str(caught.value) == str(problems[0])
    assert "\n" not in str(problems[0])
    return problems[0]
