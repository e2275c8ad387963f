"""A process that trains with another one, which has started it: `python -m recallk.training.member`."""

import json
import os
import signal
import sys
import threading

from recallk.core.errors import RecallkError, is_out_of_memory
from recallk.core.group import message_of
from recallk.core.text import one_line, shown


def main() -> None:
    """Do what the first process has written into the standard input: train a run, or go on with one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal: the first one decides
    told = sys.stdin.buffer.readline()
    if not told:  # the first process has ended before it could say
        sys.exit(2)
    task = json.loads(told)
    threading.Thread(target=_end_with_first, daemon=True).start()
    from recallk.training.train import resume, train

    try:
        if task["resumed"]:
            resume(task["run"], task["changes"])
        else:
            train(task["config"], task["run"])
    except RecallkError as error:
        if (message := message_of(error)) is not None:
            print(f"recallk: {shown(' '.join(message.split()))}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"recallk: process {os.environ['RANK']}: out of memory ({one_line(error)})", file=sys.stderr)
        sys.exit(2)


def _end_with_first() -> None:
    """End with the process that holds the other end of the standard input, however that ends."""
    while os.read(sys.stdin.fileno(), 1):  # not by the buffered file, which is locked at the end
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
