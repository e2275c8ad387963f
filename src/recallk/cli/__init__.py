"""The command line: words typed by a person -> calls of the rooms below. Heavy imports happen inside the commands."""

from recallk.cli.main import app as app
from recallk.cli.main import main as main
