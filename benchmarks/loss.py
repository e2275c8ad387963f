"""`python -m benchmarks.loss`: forward and backward of the loss beside its alternatives, as table, CSV and picture."""

import csv
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.cases import FLOOR, GROWTH, Case, ours, plan
from benchmarks.measure import CHECKED_ITEMS, OK, MeasurementError, check, machine, measure, summary
from benchmarks.picture import draw

RESULTS = Path(__file__).parent / "results" / "loss_cpu.csv"
QUICK_RESULTS = Path(__file__).parents[1] / "build" / "benchmarks" / "loss_cpu.csv"
OWN_LIMIT = 600.0  # seconds for our own losses at the greatest batch

KEY = ("implementation", "mixup", "batch", "dimensions", "classes")
COLUMNS = (
    *KEY,
    "pairs",
    "outcome",
    "repeats",
    "median_s",
    "min_s",
    "max_s",
    "floor_median_s",
    "floor_min_s",
    "floor_max_s",
    "floor_ratio",
    "extra_mb",
    "checked_against",
    "loss_error",
    "gradient_error",
    "load",
    "cpu",
    "cores",
    "memory_gib",
    "threads",
    "torch",
    "python",
    "commit",
    "date",
)

Row = dict[str, Any]
console = Console(highlight=False)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Small batches only: under 2 minutes on two cores.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this implementation; may be given again.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Only this batch; may be given again.")] = None,
    authors: Annotated[Path | None, typer.Option(help="A checkout of RecallatK_surrogate, to measure too.")] = None,
    also: Annotated[
        list[str] | None, typer.Option(help="MODULE:FUNCTION of (embeddings, labels) that computes this loss.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each; 3 where one lasts over 5 s.")] = 9,
    limit: Annotated[float, typer.Option(help="Seconds that a call may last.")] = 60.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of PyTorch; its own choice by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV whose rows are replaced; the picture lies beside.")] = None,
    table: Annotated[bool, typer.Option("--table", help="Measure nothing: print the CSV as Markdown.")] = False,
) -> None:
    """Measure forward and backward of the recall@k loss beside three products of its shape and its alternatives."""
    out = out or (QUICK_RESULTS if quick else RESULTS)
    if table:
        print(markdown(read(out)))
        return
    if authors is not None and not authors.is_dir():
        raise typer.BadParameter(f"{authors} is not a folder", param_hint="--authors")
    if threads is not None:
        torch.set_num_threads(threads)
    if quick:
        repeats, limit = min(repeats, 5), min(limit, 10)
    cases = plan(quick, authors is not None, tuple(also or ()))
    cases = [c for c in cases if (not only or c.implementation in only) and (not batch or c.batch in batch)]
    rows = run(cases, repeats=repeats, limit=limit, authors=authors, checked_items=400 if quick else CHECKED_ITEMS)
    everything = write(out, rows)
    show(rows)
    draw(everything, out.with_suffix(".png"))
    show_bounds(everything)
    console.print(f"{out} and {out.with_suffix('.png').name}: {len(rows)} rows measured, {len(everything)} in all")


def run(
    cases: list[Case], *, repeats: int, limit: float, authors: Path | None = None, checked_items: int = CHECKED_ITEMS
) -> list[Row]:
    """Measure the cases in order; a series ends where a batch is too much for it, or at once if it is wrong."""
    about = machine()
    rows: list[Row] = []
    checks: dict[tuple[str, bool, str], dict[str, Any]] = {}
    ended: set[tuple[str, bool, str]] = set()
    columns = (SpinnerColumn(), "{task.description}", TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        for case in cases:
            if case.series in ended:
                continue
            description = f"{case.name}, {case.batch:,} items, classes of {case.classes}"
            progress.update(task, description=description)
            try:
                if case.series not in checks:
                    checks[case.series] = _checked(case, checked_items, authors)
                allowed = OWN_LIMIT if case.implementation in ours() and case.batch == GROWTH else limit
                progress.print(
                    f"{time.strftime('%H:%M:%S')}  {case.name}, {case.batch:,} items, classes of {case.classes}"
                )
                load = os.getloadavg()[0]
                measured = measure(case, repeats=repeats, limit=allowed, authors=authors)
            except MeasurementError as error:
                print(f"no row: {error}", file=sys.stderr)
                ended.add(case.series)
                continue
            row = {**_row(case, measured, checks[case.series]), "load": f"{load:.2f}", **about}
            rows.append(row)
            progress.print(
                f"          {row['outcome']}  {row['median_s']} s  x{row['floor_ratio']}  {row['extra_mb']} MB"
            )
            if row["outcome"] != OK:
                ended.add(case.series)
    return rows


def _checked(case: Case, items: int, authors: Path | None) -> dict[str, Any]:
    if case.implementation == FLOOR:
        return {}
    result = check(case, items, authors)
    if not result.get("passed"):
        raise MeasurementError(
            f"{case.name} fails its accuracy check at {items} items: relative error of the loss "
            f"{result.get('loss_error')}, of the gradient {result.get('gradient_error')} ({result['outcome']})"
        )
    return result


def _row(case: Case, measured: dict[str, Any], checked: dict[str, Any]) -> Row:
    row: Row = dict.fromkeys(COLUMNS, "")
    row.update(
        implementation=case.implementation,
        mixup="yes" if case.mixup else "no",
        batch=case.batch,
        dimensions=case.dimensions,
        classes=case.classes,
        outcome=measured["outcome"],
    )
    if checked:
        row["checked_against"] = case.checked_against
    if checked.get("loss_error") is not None:
        row["loss_error"] = f"{checked['loss_error']:.1e}"
        row["gradient_error"] = f"{checked['gradient_error']:.1e}"
    if measured["outcome"] != OK:
        return row
    median, least, most = summary(measured["times"])
    floor, floor_least, floor_most = summary(measured["floor_times"])
    row.update(
        pairs=measured["pairs"],
        repeats=len(measured["times"]),
        median_s=f"{median:.5g}",
        min_s=f"{least:.5g}",
        max_s=f"{most:.5g}",
        floor_median_s=f"{floor:.5g}",
        floor_min_s=f"{floor_least:.5g}",
        floor_max_s=f"{floor_most:.5g}",
        floor_ratio=f"{median / floor:.3f}",
        extra_mb=f"{measured['extra_bytes'] / 1e6:.1f}",
    )
    return row


def read(path: Path) -> list[Row]:
    """Return the rows of a CSV, numbers as text."""
    if not path.is_file():
        raise typer.BadParameter(f"{path} is not there: measure first")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> list[Row]:
    """Put the rows in place of those of the same cases, and return all that the file now holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    by_case = {tuple(str(r[k]) for k in KEY): r for r in (read(path) if path.is_file() else [])}
    by_case.update({tuple(str(r[k]) for k in KEY): {name: str(r[name]) for name in COLUMNS} for r in rows})
    order = [FLOOR, *ours()]

    def place(row: Row) -> tuple[Any, ...]:
        name = row["implementation"]
        first = order.index(name) if name in order else len(order)
        return first, name, row["mixup"], row["classes"] != "4", row["classes"], int(row["batch"])

    everything = sorted(by_case.values(), key=place)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(everything)
    return everything


def name_of(row: Row) -> str:
    return str(row["implementation"]) + (" with mixup" if row["mixup"] == "yes" else "")


def seconds(text: str) -> str:
    value = float(text)
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def megabytes(text: str) -> str:
    value = float(text)
    return f"{value:,.0f} MB" if value < 999.5 else f"{value / 1000:.1f} GB"


def show(rows: list[Row]) -> None:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("implementation")
    names = ("batch", "classes", "median s", "min to max s", "x floor", "extra", "load")
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [name_of(row), f"{int(row['batch']):,}", row["classes"]]
        if row["outcome"] == OK:
            cells += [seconds(row["median_s"]), f"{seconds(row['min_s'])} to {seconds(row['max_s'])}"]
            cells += [f"{float(row['floor_ratio']):.2f}", megabytes(row["extra_mb"]), row["load"]]
        else:
            cells += [row["outcome"], "", "", "", row["load"]]
        shown.add_row(*map(str, cells))
    console.print(shown)


BOUNDS = (
    ("4,000 items, times the three products", "at most 1.15"),
    ("with mixup at 4,000, times plain", "at most 6"),
    ("extra memory at 4,000", "at most 64 MB"),
    ("extra memory at 4,000 with mixup", "at most 192 MB"),
    ("60,000 items, extra memory", "at most 512 MB"),
    ("from 4,000 to 16,000, times as long", "at most 17"),
    ("Zipf classes, times equal ones with as many pairs", "at most 1.5"),
    ("the authors' code at 4,000, times ours", "at least 100"),
    ("the authors' memory at 4,000, times ours", "at least 100"),
)


def bounds(rows: list[Row], implementation: str) -> list[float | None]:
    """Return what `BOUNDS` are about, in their order; None where a measurement is missing."""
    found = {
        (r["implementation"], r["mixup"] == "yes", int(r["batch"]), r["classes"]): r for r in rows if r["outcome"] == OK
    }

    def value(column: str, batch: int, mixup: bool = False, classes: str = "4", name: str = implementation) -> float:
        row = found.get((name, mixup, batch, classes))
        return float("nan") if row is None else float(row[column])

    # each row is timed beside the floor: through it rows are compared, so that the machine's drift cancels
    time, memory, floors = "median_s", "extra_mb", "floor_ratio"
    plain, plain_memory = value(floors, 4_000), value(memory, 4_000)
    values = [
        plain,
        value(floors, 4_000, mixup=True) / plain,
        plain_memory,
        value(memory, 4_000, mixup=True),
        value(memory, GROWTH),
        value(time, 16_000) / value(time, 4_000),
        value(floors, 4_000, classes="zipf") / value(floors, 4_000, classes="25"),
        value(floors, 4_000, name="authors") / plain,
        value(memory, 4_000, name="authors") / plain_memory,
    ]
    return [None if v != v else v for v in values]


def show_bounds(rows: list[Row]) -> None:
    for implementation in ours():
        values = bounds(rows, implementation)
        for (what, bound), value in zip(BOUNDS, values, strict=True):
            if value is not None:
                wanted = float(bound.split()[2])
                held = value <= wanted if bound.startswith("at most") else value >= wanted
                style = "green" if held else "bold red"
                console.print(
                    f"[{style}]{'held' if held else 'MISSED':<7}[/] {implementation}: {what} {value:.2f}, {bound}"
                )


def markdown(rows: list[Row]) -> str:
    """Return the README's table: one line for each implementation, one column for each batch."""
    equal = [r for r in rows if r["classes"] == "4"]
    batches = sorted({int(r["batch"]) for r in equal})
    cells = {(name_of(r), int(r["batch"])): _cell(r) for r in equal}
    lines = [
        "| items in a batch | " + " | ".join(f"{b:,}" for b in batches) + " |",
        "|---" * (len(batches) + 1) + "|",
    ]
    for name in dict.fromkeys(name_of(r) for r in equal):
        lines.append(f"| {name} | " + " | ".join(cells.get((name, b), "") for b in batches) + " |")
    about = rows[-1]
    commits = ", ".join(sorted({r["commit"] for r in rows}))
    lines += [
        "",
        f"Seconds (median of forward and backward) and peak memory beyond inputs and gradient; {about['dimensions']} "
        f"dimensions, 4 items a class, float32. {about['cpu']}, {about['threads']} of {about['cores']} cores, "
        f"{about['memory_gib']} GiB; torch {about['torch']}; commit {commits}; {about['date']}; "
        f"`python -m benchmarks.loss`.",
    ]
    return "\n".join(lines)


def _cell(row: Row) -> str:
    if row["outcome"] != OK:
        return str(row["outcome"])
    return f"{seconds(row['median_s'])}, {megabytes(row['extra_mb'])}"


if __name__ == "__main__":
    app()
