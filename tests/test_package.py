"""What is installed: every file that the package reads, and one program under two names."""

import subprocess
import sys
import tomllib
from pathlib import Path

import recallk

ROOT = Path(__file__).parents[1]


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    package = ROOT / "src" / "recallk"
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["recallk"]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there == packed


def test_the_module_and_the_console_script_are_one_program() -> None:
    script = Path(sys.executable).with_name("recallk")
    for words in (["--version"], ["--help"], ["train", "--help"], ["recipes"], ["train", "--epochs", "0"]):
        by_name, as_module = (
            subprocess.run([*program, *words], capture_output=True, text=True)
            for program in ([script], [sys.executable, "-m", "recallk"])
        )
        assert (by_name.stdout, by_name.stderr, by_name.returncode) == (
            as_module.stdout,
            as_module.stderr,
            as_module.returncode,
        )
        assert by_name.stdout or by_name.stderr


def test_the_version() -> None:
    words = [sys.executable, "-m", "recallk", "--version"]
    assert subprocess.check_output(words, text=True).strip() == f"recallk {recallk.__version__}"
