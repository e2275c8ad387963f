"""`python -m tests.fuzz AREA FIRST [LAST]`: run cases alone; prints a line of JSON for each."""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.runner import AREAS, Runner


def main() -> int:
    """Run the cases that are asked for; return 1 where one is a fault."""
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in AREAS or not all(map(str.isdigit, sys.argv[2:])):
        print(f"python -m tests.fuzz AREA FIRST [LAST]   areas: {', '.join(AREAS)}", file=sys.stderr)
        return 2
    first, last = int(sys.argv[2]), int(sys.argv[-1])
    faults = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for verdict in Runner(sys.argv[1], Path(folder)).run(range(first, last + 1)):
            print(json.dumps(asdict(verdict)), flush=True)
            faults += verdict.kind == "fault"
    print(f"{faults} faults in {last + 1 - first} cases", file=sys.stderr)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
