"""What the documents say is so: examples run, commands exist, tables are those of the committed numbers."""

import csv
import re
from collections import defaultdict
from pathlib import Path

import pytest

from recallk.comparison.outcomes import interval

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("catalogue", "comparisons", "data", "instance-level", "scaling", "text", "vectors")
    ),
]


def examples(document: str) -> str:
    """All blocks of one document in one go: later ones build on earlier ones."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.S | re.M))


@pytest.mark.parametrize("document", ["README.md"])
def test_examples_run(
    document: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = examples(document)
    monkeypatch.chdir(tmp_path)
    assert "large_batch_backward" in code
    scope: dict[str, object] = {}
    exec(compile(code, document, "exec"), scope)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document: str) -> None:
    """Every word after `recallk` is a command, and every option one of its own."""
    from recallk.cli.commands import load_command

    lines = re.findall(r"^recallk (\w+)(.*)$", (ROOT / document).read_text(), re.M)
    assert lines
    for name, rest in lines:
        command = load_command(name)
        below = getattr(command, "commands", {}).get(rest.split()[0] if rest.split() else "")
        if name == "index" and below is None:
            below = command.commands["build"]
        known = {option for parameter in (below or command).params for option in parameter.opts}
        used = set(re.findall(r"(--[\w-]+)", rest.split("#")[0]))
        assert used <= known, (name, used - known)


@pytest.mark.parametrize("document", [*DOCUMENTS, "docs/integrations/sentence-transformers.md"])
def test_pictures_and_linked_files_are_there(document: str) -> None:
    links = re.findall(r"\]\((?!http)(.*?)\)", (ROOT / document).read_text())
    assert links
    for link in links:
        assert ((ROOT / document).parent / link).is_file(), link


def test_tables_of_comparisons_are_made_from_their_runs() -> None:
    text = (ROOT / "docs" / "comparisons.md").read_text()
    tables = re.findall(r"\]\((comparisons/[\w-]+\.csv)\).*?\n(\|.*?)\n\n", text, re.S)
    assert sorted(file for file, _ in tables) == sorted(
        str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs" / "comparisons").glob("*.csv")
    )
    for file, table in tables:
        runs = defaultdict(list)
        with (ROOT / "docs" / file).open() as lines:
            for line in csv.DictReader(lines):
                runs[line["contender"]].append(line)
        header, _, *rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
        assert [row[0] for row in rows] == list(runs), file
        for name, *cells in rows:
            for metric, cell in zip(header[1:], cells, strict=True):
                if metric in runs[name][0] and metric != "minutes":
                    mean, half = interval([100 * float(run[metric]) for run in runs[name]])
                    expected = f"{mean:.1f}" if half is None else f"{mean:.1f} ± {half:.1f}"  # of a single run
                    assert cell.strip("*") == expected, (file, name, metric)
