"""A comparison on places, measured as a landmark test set: mAP of easy, medium and hard, for every run that counts.

    recallk compare places --losses recall@k,... --seeds 5 --run runs/compared
    python -m benchmarks.places runs/compared docs/comparisons/places.csv

takes `comparison.csv` of the folder, evaluates each of its runs on the benchmark `places`, and writes the rows with
three more columns; the table is printed as Markdown, the best hard mAP first.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

from recallk import evaluate
from recallk.comparison.outcomes import interval

METRICS = ("easy map", "medium map", "hard map")
SHOWN = (*METRICS, "recall@1", "map@r")


def measured(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a comparison's table, each with what its run reaches on the benchmark."""
    with (folder / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        found = evaluate(folder / row["contender"] / row["run"], benchmark="places").metrics
        row |= {name: f"{found[name]:.6f}" for name in METRICS}
        print(row["contender"], row["run"], *(row[name] for name in METRICS), file=sys.stderr)
    return rows


def as_markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of means and 95% intervals, in percent."""
    by_contender = defaultdict(list)
    for row in rows:
        by_contender[row["contender"]].append(row)

    def hard(name: str) -> float:
        return sum(float(row["hard map"]) for row in by_contender[name]) / len(by_contender[name])

    lines = [f"| | {' | '.join(SHOWN)} | rate |", f"|{'---|' * (len(SHOWN) + 2)}"]
    for name in sorted(by_contender, key=hard, reverse=True):
        runs, cells = by_contender[name], []
        for metric in SHOWN:
            mean, half = interval([100 * float(run[metric]) for run in runs])
            cells.append(f"{mean:.1f}" if half is None else f"{mean:.1f} ± {half:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {float(runs[0]['learning_rate']):g} |")
    return "\n".join(lines)


def main(folder: Path, output: Path) -> None:
    """Measure a comparison, write the rows, print the table."""
    rows = measured(folder)
    order = [line.split(" | ")[0].removeprefix("| ") for line in as_markdown(rows).splitlines()[2:]]
    rows.sort(key=lambda row: (order.index(row["contender"]), row["run"]))
    with output.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(as_markdown(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
