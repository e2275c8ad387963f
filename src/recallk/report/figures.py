"""Charts of a run, as SVG that takes its colours and typeface from the page around it."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Row = dict[str, object]
Floats = NDArray[np.float64]

# matplotlib wants colours, the page wants variables that follow its light or dark scheme
_INK, _MUTED, _GRID, _ACCENT, _ACCENT_SOFT, _OTHER = (f"#fe00{n:02x}" for n in range(1, 7))
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--line)",
    _ACCENT: "var(--right)",
    _ACCENT_SOFT: "var(--soft)",
    _OTHER: "var(--wrong)",
}
_ON_TEST = "Recall on the test classes"
_SIZE = (5.0, 3.5)  # 360 by 252 units, about the pixels it gets on a phone and in three columns alike
_MOST_POINTS = 500
_MARKERS = "os^Dvp*Xh"


@dataclass(frozen=True)
class Chart:
    """A chart, or the sentence that says why there is none (`svg` is empty)."""

    title: str
    description: str
    svg: str


def loss_chart(history: Sequence[Row]) -> Chart:
    """Draw the loss of every step, and its running mean where there are many."""
    steps, losses = _finite(history, "step", "step", "loss")
    if not len(steps):
        return Chart("Loss", "No training step yet.", "")
    figure, axes = _canvas()
    if len(steps) < 30:
        axes.plot(steps, losses, color=_ACCENT, marker="o", markersize=4)
        drawn = ""
    else:
        window = max(5, len(losses) // 25)
        axes.plot(*_thinned(steps, losses), color=_ACCENT_SOFT, linewidth=1)
        axes.plot(*_thinned(steps, _running_mean(losses, window)), color=_ACCENT, linewidth=2)
        drawn = f" Thin: each step; bold: mean of {window} steps."
    _label(axes, "step", "loss")
    _whole_numbers(axes, steps)
    first = f"{losses[0]:.3f} at step {int(steps[0]):,}"
    last = f"{losses[-1]:.3f} at step {int(steps[-1]):,}"
    description = f"From {first} to {last}." if len(steps) > 1 else f"One step: {first}."
    return Chart("Loss", description + drawn, _svg(figure))


def recall_chart(history: Sequence[Row]) -> Chart:
    """Draw every recall@k, and MAP@R, over the epochs: of the validation classes where there are any."""
    validated = any(row.get("kind") == "validation" for row in history)
    kind, title = ("validation", "Recall on the validation classes") if validated else ("evaluation", _ON_TEST)
    names = {name for row in history if row.get("kind") == kind for name in row}
    names = {name for name in names if re.fullmatch(r"recall@\d+|map@r", name)}
    ordered = sorted(names, key=lambda name: (name == "map@r", int(name[7:]) if name[7:] else 0))
    curves = [(name, *_finite(history, kind, "epoch", name)) for name in ordered]
    curves = [curve for curve in curves if len(curve[1])]
    if not curves:
        return Chart(title, "No evaluation yet.", "")
    figure, axes = _canvas()
    ends = []
    for (name, epochs, values), marker in zip(curves, _MARKERS * len(curves), strict=False):
        other = name == "map@r"
        axes.plot(
            epochs, 100 * values, color=_OTHER if other else _ACCENT, linestyle="--" if other else "-",
            linewidth=1.6, marker=marker, markersize=4.5, markevery=-(-len(epochs) // 16),
        )  # fmt: skip
        ends.append(100 * values[-1])
    percents = 100 * np.concatenate([values for *_, values in curves])
    room = 0.08 * max(5.0, float(np.ptp(percents)))
    axes.set_ylim(max(0.0, float(percents.min()) - room), min(100.0, float(percents.max()) + room))
    _label(axes, "epoch (0: before training)", "%")
    _whole_numbers(axes, np.concatenate([epochs for _, epochs, _ in curves]))
    _name_at_the_right(axes, [name for name, *_ in curves], ends, {"map@r": _OTHER})
    name, epochs, values = curves[0]
    if len(epochs) == 1:
        description = f"One evaluation, at epoch {int(epochs[0])}: {name} {100 * values[0]:.1f} %."
    else:
        best = int(np.argmax(values))
        description = (
            f"{name} from {100 * values[0]:.1f} % to {100 * values[-1]:.1f} %; "
            f"highest {100 * values[best]:.1f} % after epoch {int(epochs[best])}."
        )
    return Chart(title, description, _svg(figure))


def comparison_chart(
    title: str, x: str, y: str, curves: Sequence[tuple[str, Floats, Floats]], best: str, description: str
) -> Chart:
    """Draw a curve `(name, x, y)` for each contender, the one named `best` in colour."""
    curves = [curve for curve in curves if len(curve[1])]
    if not curves:
        return Chart(title, "Nothing to draw yet.", "")
    figure, axes = _canvas()
    colours = {name: _ACCENT if name == best else _MUTED for name, *_ in curves}
    for (name, xs, ys), marker in zip(curves, _MARKERS * len(curves), strict=False):
        axes.plot(xs, ys, color=colours[name], marker=marker, markersize=4, linewidth=1.4)
    _label(axes, x, y)
    names, ends = [name for name, *_ in curves], [float(ys[-1]) for *_, ys in curves]
    _name_at_the_right(axes, names, ends, colours)
    return Chart(title, description, _svg(figure))


def interval_chart(title: str, rows: Sequence[tuple[str, Sequence[float], float, float | None]]) -> Chart:
    """Draw for each contender `(name, a value for each seed, mean, half width of the interval)`, the best on top."""
    if not rows:
        return Chart(title, "Nothing has finished yet.", "")
    figure, axes = _canvas()
    for place, (_, values, mean, half) in enumerate(rows):
        colour = _ACCENT if place == 0 else _MUTED
        axes.plot(values, [place] * len(values), "|", color=colour, markersize=9, markeredgewidth=1.2)
        if half is not None:
            axes.plot([mean - half, mean + half], [place, place], color=colour, linewidth=1.6)
        axes.plot([mean], [place], "o", color=colour, markersize=5.5)
    everything = np.concatenate([np.array(values, dtype=np.float64) for _, values, *_ in rows])
    room = max(1.0, 0.25 * float(np.ptp(everything)))  # a wide interval may run out of the picture, not set its scale
    axes.set_xlim(float(everything.min()) - room, float(everything.max()) + room)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", labelcolor=_INK)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=_GRID, linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    _label(axes, "%", "")
    return Chart(title, "Dots: mean over the seeds; strokes: each seed; lines: 95% interval.", _svg(figure))


def usable_chart(history: Sequence[Row]) -> Chart | None:
    """Draw the share of queries with a usable gradient over the epochs; None where it was not measured."""
    epochs, shares = _finite(history, "step", "epoch", "usable")
    if not len(epochs):
        return None
    figure, axes = _canvas()
    axes.plot(epochs, 100 * shares, color=_ACCENT, marker="o", markersize=4)
    axes.set_ylim(0, 105)
    _label(axes, "epoch, at its first step", "%")
    _whole_numbers(axes, epochs)
    told = f"From {100 * shares[0]:.0f} % to {100 * shares[-1]:.0f} %. " if len(shares) > 1 else ""
    return Chart(
        "Queries with a usable gradient",
        f"{told}The others' first right item is ranked far beyond every k: larger k's would reach them.",
        _svg(figure),
    )


def similarity_chart(same_class: NDArray[np.float32], other_class: NDArray[np.float32]) -> Chart:
    """Draw how similar pairs of one class are, and pairs of two: filled, and hatched with an outline."""
    same, other = (values[np.isfinite(values)].astype(np.float64) for values in (same_class, other_class))
    title = "Similarity of test pairs"
    if not len(same) and not len(other):
        return Chart(title, "No pairs to compare.", "")
    both = np.concatenate([same, other])
    low, high = float(both.min()), float(both.max())
    if high - low < 0.02:  # a model that says the same of everything
        low, high = low - 0.01, high + 0.01
    edges = np.linspace(low, high, 61)
    figure, axes = _canvas()
    if len(same):
        density = np.histogram(same, edges, density=True)[0]
        axes.stairs(density, edges, fill=True, facecolor=_ACCENT, alpha=0.55, label="same class")
    if len(other):
        density = np.histogram(other, edges, density=True)[0]
        axes.stairs(
            density, edges, fill=True, facecolor="none", hatch="////", edgecolor=_OTHER, linewidth=1.3,
            label="other classes",
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    _label(axes, "cosine similarity", "density")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.02, 0.99), ncols=2, frameon=False, labelcolor=_INK, fontsize=12,
        handlelength=1.6, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip
    parts = [
        f"{np.median(values):.2f} for {len(values):,} pairs of {name}"
        for values, name in ((same, "one class"), (other, "two classes"))
        if len(values)
    ]
    return Chart(title, f"Median {', '.join(parts)}. The less overlap, the better.", _svg(figure))


def _finite(history: Iterable[Row], kind: str, x: str, y: str) -> tuple[Floats, Floats]:
    """Return two columns of the rows of one kind that have a number in both."""
    points = [(row.get(x), row.get(y)) for row in history if row.get("kind") == kind]
    numbers = [(float(a), float(b)) for a, b in points if isinstance(a, int | float) and isinstance(b, int | float)]
    table = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1]


def _running_mean(values: Floats, window: int) -> Floats:
    """Average each value with its neighbours, with fewer of them at the ends."""
    ones = np.ones(window)
    mean: Floats = np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
    return mean


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Keep the lowest and highest of every stretch, so that a long run stays a small file and keeps its spikes."""
    if len(x) <= _MOST_POINTS:
        return x, y
    stretches = np.array_split(np.arange(len(y)), _MOST_POINTS // 2)
    kept = np.unique([s[extreme(y[s])] for s in stretches for extreme in (np.argmin, np.argmax)])
    return x[kept], y[kept]


def _whole_numbers(axes: Axes, x: Floats) -> None:
    """Tick whole steps or epochs only, even where there is a single one."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if x.min() == x.max():
        axes.set_xlim(x[0] - 0.9, x[0] + 0.9)


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.grid(axis="y", color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    axes.tick_params(colors=_MUTED, length=0, labelsize=12, pad=5)
    axes.tick_params(axis="x", length=4)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_MUTED, fontsize=12)
    axes.set_title(y, loc="left", color=_MUTED, fontsize=12, x=0)  # level, where it is read without turning the head


def _name_at_the_right(axes: Axes, names: list[str], ends: list[float], colours: Mapping[str, str]) -> None:
    """Write each curve's name at its end, with the marker, moved apart where curves end close together."""
    low, high = axes.get_ylim()
    apart = 0.075 * (high - low)
    order = np.argsort(ends)
    places = np.array(ends)[order]
    for _ in range(100):  # push neighbours apart, a little at a time
        for i in range(len(places) - 1):
            lack = apart - (places[i + 1] - places[i])
            if lack > 1e-9:
                places[i] -= lack / 2
                places[i + 1] += lack / 2
    places = places - max(0.0, float(places[-1]) - high)
    for place, i in zip(places, order, strict=True):
        colour = colours.get(names[i], _ACCENT)
        y = float((place - low) / (high - low))
        axes.plot([1.035], [y], _MARKERS[i % len(_MARKERS)], color=colour, markersize=5,
                  transform=axes.transAxes, clip_on=False)  # fmt: skip
        axes.text(1.065, y, names[i], transform=axes.transAxes, va="center", color=_INK, fontsize=12)


def _svg(figure: Figure) -> str:
    """Return the drawing alone: no prologue, no metadata, no ids of groups (they would repeat within the page)."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # the page's typeface; ids that are the same for the same drawing
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "recallk", "hatch.linewidth": 0.9}):
        figure.savefig(out, format="svg", metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<svg[^>]*(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true">', svg, count=1)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
