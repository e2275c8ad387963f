"""The application: its commands, and how whatever goes wrong ends in one line."""

import os
import signal
import sys
from typing import Annotated

import typer

from recallk.cli.commands import Commands
from recallk.core.errors import RecallkError, is_out_of_memory
from recallk.core.files import why
from recallk.core.text import one_line, shown

MISTAKE, INTERRUPTED, BROKEN_PIPE, TERMINATED = 2, 130, 141, 143
app = typer.Typer(
    name="recallk",
    cls=Commands,
    help="Train embedding models for retrieval directly on recall@k.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
# click's, wherever this version of typer keeps it
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


@app.callback(invoke_without_command=True)
def _recallk(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and end")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="say on stderr what is read, computed and written, before the command")
    ] = False,
) -> None:
    if verbose:
        from recallk.cli.console import show_log

        show_log()
    if version:
        from recallk import __version__

        print(f"recallk {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        _leave_printing_to_the_first()
        code = typer.main.get_command(app)(standalone_mode=False, prog_name="recallk")
        sys.stdout.flush()
        if code == INTERRUPTED:  # some versions of typer say it so
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except RecallkError as error:
        _fail(_message_of(error))
    except _UsageError as error:
        message = error.format_message()  # type: ignore[attr-defined]
        if not message:  # a group of commands alone: its help has been printed
            sys.exit(MISTAKE)
        _fail(message)
    except (KeyboardInterrupt, typer.Abort):
        print("recallk: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code == TERMINATED:
            print("recallk: terminated", file=sys.stderr)
        raise
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _fail(f"{where}{why(error)}")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _fail(f"out of memory ({one_line(error)}); lower --chunk-size, or --image-size, or take a smaller network")
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave_printing_to_the_first() -> None:
    """Where torchrun or srun has started several of this command, have one of them print."""
    started_by = {"WORLD_SIZE": "RANK", "SLURM_STEP_ID": "SLURM_PROCID"}
    numbers = [os.environ.get(number, "0") for by, number in started_by.items() if by in os.environ]
    if numbers and numbers[0] != "0":
        from recallk.cli.console import console

        console.quiet = True


def _message_of(error: RecallkError) -> str | None:
    if "WORLD_SIZE" not in os.environ and "SLURM_STEP_ID" not in os.environ:
        return str(error)
    from recallk.core.group import message_of  # brings PyTorch, which a mistake need not wait for

    return message_of(error)


def _fail(message: str | None) -> None:
    if message is not None:
        print(f"recallk: {shown(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(MISTAKE)


def _terminate(*_: object) -> None:
    """End as Ctrl-C does, with everything closed and released."""
    raise SystemExit(TERMINATED)
