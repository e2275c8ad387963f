"""What is installed: every file that the package reads, one program under two names, and files that one can read."""

import ast
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import recallk

LINES = 300
LONG: dict[str, str] = {}
"""Files of the package that have more lines, each with the reason."""
ROOT = Path(__file__).parents[1]


@pytest.mark.xdist_group("these")
def test_groups_of_tests_stay_together(request: pytest.FixtureRequest) -> None:
    """Where xdist is told to: torn apart, they would make twice what they share, and nothing would say so."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@these")


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    package = ROOT / "src" / "recallk"
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["recallk"]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there == packed


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["train", "--help"], ["recipes"], ["train", "--epochs", "0"]]
)
def test_the_module_and_the_console_script_are_one_program(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both in this process, which has imported everything; `test_the_version` starts one."""
    script = Path(sys.executable).with_name("recallk")
    module = ROOT / "src" / "recallk" / "__main__.py"
    ends = []
    programs: dict[Path, Callable[[], object]] = {
        script: lambda: runpy.run_path(str(script), run_name="__main__"),
        module: lambda: runpy.run_module("recallk", run_name="__main__", alter_sys=True),
    }
    for program, run in programs.items():
        monkeypatch.setattr(sys, "argv", [str(program), *words])
        with pytest.raises(SystemExit) as ended:
            run()
        ends.append((ended.value.code, capfd.readouterr()))
    assert ends[0] == ends[1]
    assert "".join(ends[0][1])


def test_the_version() -> None:
    for program in ([sys.executable, "-m", "recallk"], [Path(sys.executable).with_name("recallk")]):
        words = [*program, "--version"]
        assert subprocess.check_output(words, text=True).strip() == f"recallk {recallk.__version__}"


def test_the_base_install_imports_no_package_of_an_extra() -> None:
    """Here all are installed; `make wheel` and `make test-oldest` run the same where none is."""
    program = "from tests.installed_base import the_library; the_library()"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_no_file_is_long_without_a_reason() -> None:
    package = ROOT / "src" / "recallk"
    long = [path for path in package.rglob("*.py") if len(path.read_text().splitlines()) > LINES]
    assert {path.relative_to(package).as_posix() for path in long} == LONG.keys()
    assert all(LONG.values())


def test_every_name_of_the_package_is_there() -> None:
    for name in recallk.__all__:
        assert getattr(recallk, name) is not None
    assert set(recallk.__all__) < set(dir(recallk))
    rooms = {path.parent.name for path in (ROOT / "src" / "recallk").glob("*/__init__.py")} - {"cli"}
    assert rooms == set(dir(recallk)) - set(recallk.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = recallk.nothing


def test_the_table_of_names_is_that_of_the_types() -> None:
    """A type checker reads the imports, Python the table."""
    tree = ast.parse((ROOT / "src" / "recallk" / "__init__.py").read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    imports = {
        alias.name: node.module for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    public = {name: module for name, module in imports.items() if name in recallk.__all__}
    assert public == recallk._MODULES
    assert public.keys() == set(recallk.__all__)
    assert recallk._EXTRAS.keys() <= public.keys()


def test_the_oldest_versions_are_the_bounds_of_the_base_install() -> None:
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {requirement.split(">=")[0] for requirement in bounds} == pins.keys()
    for requirement in bounds:
        package, bound = requirement.split(">=")
        assert f"{pins[package]}.".startswith(f"{bound}."), package
