"""The table of commands: its lines are what the commands say, and none is imported before it is called."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from recallk import cli
from recallk.cli.commands import COMMANDS, load_command
from tests.cli.test_cli import FLAGS, recallk


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label in "abcd":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (40, 40), 50 * number).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_is_the_first_of_what_the_command_says(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert command.help.splitlines()[0] == COMMANDS[name].help


def test_the_program_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("--help") == 0
    printed = " ".join(word for word in capsys.readouterr().out.split() if word != "│")
    for name, line in COMMANDS.items():
        assert f"{name} {line.help}" in printed


def test_every_module_of_a_command_is_in_the_table() -> None:
    support = {"__init__", "main", "commands", "options", "catalogues", "console", "terminal"}
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")} - support
    assert {line.place.partition(".")[0] for line in COMMANDS.values()} == modules


def test_help_answers_at_once_and_imports_no_command() -> None:
    probe = (
        "import sys; sys.argv = ['recallk', '--help']; from recallk import cli\n"
        "try: cli.main()\n"
        "finally: print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    heavy = {"torch", "timm", "faiss", "numpy", "matplotlib", "recallk.cli.options", "recallk.runs.config"}
    heavy |= {f"recallk.cli.{line.place.partition('.')[0]}" for line in COMMANDS.values()}
    assert not [name for name in heavy if f"'{name}'" in done.stderr]
    took = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "recallk", "--help"], check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    assert min(took) < 1


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_which_extra_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    missing = f"recallk: recallk {name} needs timm, which is not installed: "
    for words in ([name], [name, "--help"]):
        assert recallk(*words) == 2
        printed = capfd.readouterr()
        assert printed.out == ""
        assert printed.err == f"{missing}pip install 'recallk[{COMMANDS[name].extra}]'\n"


def test_a_loss_that_needs_another_extra(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    assert recallk("train", "--data", photos, *FLAGS, "--run", tmp_path / "run", "--loss", "triplet") == 2
    error = capfd.readouterr().err
    assert "the loss triplet needs pytorch-metric-learning" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_ends_without_a_page_where_it_cannot_be_made(photos: Path, tmp_path: Path) -> None:
    """In a process that has not imported jinja2 before."""
    run = tmp_path / "run"
    probe = "import sys; sys.modules['jinja2'] = None; from recallk import cli; cli.main()"
    words = [str(word) for word in ("train", "--data", photos, "--run", run, *FLAGS)]
    done = subprocess.run([sys.executable, "-c", probe, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "note      the report needs jinja2, which is not installed: pip install 'recallk[report]'\n" in done.stdout
    assert "look at" not in done.stdout
    assert f"recallk search {run}" in done.stdout
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--mixup", "true"], "--mixup true: a flag takes no value; type --mixup or --no-mixup alone"),
        (["train", "--data", "x", "--no-mixup", "Yes"], "--no-mixup Yes: a flag takes no value"),
        (["compare", "--mixup", "1"], "--mixup 1: a flag takes no value; type --mixup or --no-mixup alone"),
        (["demo", "--overwrite", "false"], "--overwrite false: a flag takes no value; type --overwrite alone"),
        (["train", "--mixup=true"], "Option '--mixup' does not take a value."),
        (["train", "--mixup", "--", "true"], "no recipe 'true'"),
        (["train", "--mixup", "truth"], "no recipe 'truth'"),
    ],
)
def test_a_flag_takes_no_value(words: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk(*words) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_command_like_another_is_suggested(capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk("trian") == 2
    assert "Did you mean 'train'?" in capfd.readouterr().err
