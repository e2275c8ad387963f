"""The integrations with the newest releases of the programs, fetched for this test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["pytorch-lightning", "pytorch-metric-learning", "sentence-transformers", "transformers"]
TESTS = "tests/integrations"


@pytest.mark.slow
def test_they_work_with_the_newest_releases(tmp_path: Path) -> None:
    """Beside what is installed, PyTorch above all, which would take gigabytes."""
    fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), *PACKAGES]
    fetched = subprocess.run(fetch, capture_output=True, text=True, check=False)
    if fetched.returncode and "No matching distribution" in fetched.stderr:
        pytest.skip(f"the index of packages cannot be reached: {fetched.stderr.strip().splitlines()[-1]}")
    assert fetched.returncode == 0, fetched.stderr
    found = {path.name.split("-")[0].replace("_", "-") for path in tmp_path.glob("*.dist-info")}
    assert found == set(PACKAGES)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    names = [package.replace("-", "_") for package in PACKAGES]
    where = f"import {', '.join(names)}; print(*({', '.join(f'{name}.__file__' for name in names)}), sep='\\n')"
    for program in (["-c", where], ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", TESTS]):
        ended = subprocess.run(
            [sys.executable, *program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
        if program[0] == "-c":
            assert all(Path(line).is_relative_to(tmp_path) for line in ended.stdout.splitlines()[-len(PACKAGES) :])
