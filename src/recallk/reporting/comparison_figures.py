"""Charts of a comparison: a curve for each contender, and the intervals of all."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from recallk.comparison.outcomes import Estimate
from recallk.reporting.drawing import (
    ACCENT,
    GRID,
    INK,
    MARKERS,
    MUTED,
    SIZE,
    Chart,
    Floats,
    canvas,
    label,
    name_at_the_right,
    short,
    svg,
)


def comparison_chart(
    title: str, x: str, y: str, curves: Sequence[tuple[str, Floats, Floats]], best: str | None, description: str
) -> Chart:
    """Draw a curve `(name, x, y)` for each contender, the one named `best`, if there is one, in colour."""
    curves = [curve for curve in curves if len(curve[1])]
    if not curves:
        return Chart(title, "Nothing to draw yet.", "")
    figure, axes = canvas()
    colours = {name: ACCENT if name == best else MUTED for name, *_ in curves}
    for (name, xs, ys), marker in zip(curves, MARKERS * len(curves), strict=False):
        axes.plot(xs, ys, color=colours[name], marker=marker, markersize=4, linewidth=1.4)
    label(axes, x, y)
    names, ends = [name for name, *_ in curves], [float(ys[-1]) for *_, ys in curves]
    name_at_the_right(axes, names, ends, colours)
    return Chart(title, description, svg(figure))


def interval_chart(title: str, rows: Sequence[tuple[str, Sequence[float], Estimate]], best: str | None) -> Chart:
    """Draw for each contender `(name, a percentage for each seed, their estimate)`, the one named `best` in colour."""
    if not rows:
        return Chart(title, "Nothing has finished yet.", "")
    figure, axes = canvas(max(SIZE[1], 1 + 0.25 * len(rows)))
    for place, (name, values, estimate) in enumerate(rows):
        colour = ACCENT if name == best else MUTED
        axes.plot(values, [place] * len(values), "|", color=colour, markersize=9, markeredgewidth=1.2)
        if estimate.half is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.6)
        axes.plot([estimate.mean], [place], "o", color=colour, markersize=5.5)
    everything = np.concatenate([np.array(values, dtype=np.float64) for _, values, *_ in rows])
    room = max(1.0, 0.25 * float(np.ptp(everything)))  # a wide interval may run out of the picture, not set its scale
    low, high = max(0.0, float(everything.min()) - room), min(100.0, float(everything.max()) + room)
    margin = 0.02 * (high - low)  # a dot at the very end is seen whole
    axes.set_xlim(low - margin, high + margin)
    axes.set_yticks(range(len(rows)), [short(name) for name, *_ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    label(axes, "%", "")
    lines = "; lines: 95% interval" if any(estimate.half is not None for *_, estimate in rows) else ""
    return Chart(title, f"Dots: mean over the seeds; strokes: each seed{lines}.", svg(figure))
