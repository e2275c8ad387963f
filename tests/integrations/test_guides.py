"""The pages of the integrations: their examples run as they stand, and learn what they say."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("integrations")
PAGES = Path(__file__).parents[2] / "docs" / "integrations"
MARGIN = 0.30
"""What recall@1 on classes never seen has to rise by; stated before anything was trained."""


def code(page: str) -> str:
    """Return all blocks of a page in one go: later ones build on earlier ones."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text(), re.S | re.M))


@pytest.mark.parametrize(
    ("page", "count"), [("hugging-face.md", 1), ("lightning.md", 2), ("pytorch-metric-learning.md", 2)]
)
def test_an_example_learns(
    page: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code(page), page, "exec"), {"__name__": "example"})
    found = re.findall(r"never seen: (\S+) before, (\S+) after", capsys.readouterr().out)
    assert len(found) == count
    for before, after in found:
        assert float(after) >= float(before) + MARGIN
