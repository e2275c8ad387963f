"""The picture of the results: time and memory against the batch, both axes logarithmic, every line named."""

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from benchmarks.cases import FLOOR, ours
from benchmarks.measure import OK

_OURS, _INK, _MUTED, _RULE = "#0063a6", "#1c2127", "#68717c", "#e6e8eb"
_OTHERS = {
    "authors": "#d35400",
    "SmoothAPLoss": "#8e44ad",
    "FastAPLoss": "#b0457b",
    "all triples": "#a0741a",
    "definition": "#3d8168",
}
_NAMES = {
    "authors": "authors' code",
    "all triples": "all B³ triples",
    FLOOR: "three products",
    "SmoothAPLoss": "SmoothAPLoss",
    "FastAPLoss": "FastAPLoss",
}
Line = tuple[str, str, str, list[tuple[int, float]]]  # label, colour, style, points


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw rows with classes of 4 and write a PNG."""
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 10, "text.color": _INK}):
        figure = Figure(figsize=(11, 5.4), dpi=150, facecolor="white")
        left, right = figure.subplots(1, 2)
        _panel(
            left,
            _lines(rows, "median_s"),
            "Forward and backward",
            {1e-3: "1 ms", 0.01: "10 ms", 0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min"},
        )
        _panel(
            right,
            _lines(rows, "extra_mb"),
            "Peak memory beyond inputs and gradient",
            {1: "1 MB", 10: "10 MB", 100: "100 MB", 1e3: "1 GB", 1e4: "10 GB"},
        )
        if rows:
            about = rows[-1]
            figure.text(
                0.012,
                0.015,
                f"{about['dimensions']} dimensions, 4 items a class, float32. "
                f"{about['cpu']}, {about['threads']} threads, "
                f"{about['memory_gib']} GiB, torch {about['torch']}, {about['date']}. {_ends(rows)}",
                color=_MUTED,
                fontsize=7.5,
            )
        figure.subplots_adjust(left=0.055, right=0.9, top=0.9, bottom=0.135, wspace=0.42)
        figure.savefig(path)


def _ends(rows: list[dict[str, Any]]) -> str:
    reasons = sorted({row["outcome"] for row in rows if row["outcome"] != OK})
    return f"Alternatives end where the next batch was {' or '.join(reasons)}." if reasons else ""


def _lines(rows: list[dict[str, Any]], column: str) -> list[Line]:
    series: dict[tuple[str, bool], list[tuple[int, float]]] = {}
    for row in rows:
        if row["classes"] == "4" and row["outcome"] == OK:
            points = series.setdefault((row["implementation"], row["mixup"] == "yes"), [])
            points.append((int(row["batch"]), max(float(row[column]), 1e-4)))
    lines = []
    for (name, mixup), points in series.items():
        label = _NAMES.get(name, name) + (" + mixup" if mixup else "")
        if name in ours():
            lines.append((f"{label}", _OURS, "--" if mixup else "-", sorted(points)))
        elif name == FLOOR:
            lines.append((label, _INK, ":", sorted(points)))
        else:
            lines.append((label, _OTHERS.get(name, _MUTED), "-", sorted(points)))
    return lines


def _panel(axes: Axes, lines: list[Line], title: str, ticks: dict[float, str]) -> None:
    axes.set(xscale="log", yscale="log")
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=10)
    batches = sorted({batch for *_, points in lines for batch, _ in points})
    for _, colour, style, points in lines:
        own = colour == _OURS
        axes.plot(
            *zip(*points, strict=True),
            style,
            color=colour,
            lw=2.4 if own else 1.6,
            marker="o",
            ms=5 if own else 3.5,
            zorder=3 if own else 2,
        )
    axes.set_xticks(batches, [f"{b:,}" for b in batches])
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.tick_params(length=0, colors=_MUTED, labelsize=8.5)
    axes.grid(color=_RULE, lw=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("items in the batch", color=_MUTED, fontsize=9)
    if lines:
        _name(axes, lines)


def _name(axes: Axes, lines: list[Line]) -> None:
    """Write each line's name at its end: to the right where the panel ends too, elsewhere above the last point."""
    axes.set_ylim(top=2.2 * axes.get_ylim()[1])
    low, high = axes.get_ylim()
    height = 0.046 * math.log10(high / low)
    last = max(batch for *_, points in lines for batch, _ in points)
    taken: list[tuple[float, float]] = []  # the heights of names, by where their lines end
    for label, colour, _, points in sorted(lines, key=lambda line: line[3][-1][1]):
        batch, value = points[-1]
        right = batch == last
        y = math.log10(value) + (0 if right else 0.7 * height)
        for other in sorted(place for end, place in taken if end == batch):
            if abs(other - y) < height:
                y = other + height
        taken.append((batch, y))
        axes.annotate(
            label,
            (batch, 10**y),
            xytext=(8 if right else 0, 0),
            textcoords="offset points",
            ha="left" if right else "center",
            va="center",
            color=colour,
            fontsize=8.5,
            fontweight="bold" if colour == _OURS else "normal",
            annotation_clip=False,
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=4,
        )
