"""The Python examples of the documents run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def examples(document: str) -> str:
    """All blocks of one document in one go: later ones build on earlier ones."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.S | re.M))


@pytest.mark.parametrize("document", ["README.md"])
def test_examples_run(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = examples(document)
    assert "large_batch_backward" in code
    scope: dict[str, object] = {}
    exec(compile(code, document, "exec"), scope)
    assert capsys.readouterr().out.strip()


def test_commands_of_the_readme_exist() -> None:
    """Every word after `recallk` is a command, and every option one of its own."""
    from typer.main import get_command

    from recallk.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^recallk (\w+)(.*)$", (ROOT / "README.md").read_text(), re.M)
    assert len(lines) >= 6
    for name, rest in lines:
        command = commands[name]
        below = getattr(command, "commands", {}).get(rest.split()[0] if rest.split() else "")
        known = {option for parameter in (below or command).params for option in parameter.opts}
        used = set(re.findall(r"(--[\w-]+)", rest.split("#")[0]))
        assert used <= known, (name, used - known)


def test_the_picture_is_there() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / picture).is_file()
