"""Charts of a run, as SVG that takes its colours and typeface from the page around it."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from recallk.reporting.drawing import (
    ACCENT,
    ACCENT_SOFT,
    INK,
    MARKERS,
    OTHER,
    Chart,
    Floats,
    canvas,
    label,
    name_at_the_right,
    svg,
    whole_numbers,
)
from recallk.runs.history import Measurement, MeasurementKind, Row, columns

_ON_TEST = "Recall on the test classes"
_MOST_POINTS = 500


def loss_chart(history: Sequence[Row]) -> Chart:
    """Draw the loss of every step, and its running mean where there are many."""
    steps, losses = _finite(history, "step", "step", "loss")
    if not len(steps):
        return Chart("Loss", "No training step yet.", "")
    figure, axes = canvas()
    if len(steps) < 30:
        axes.plot(steps, losses, color=ACCENT, marker="o", markersize=4)
        drawn = ""
    else:
        window = max(5, len(losses) // 25)
        axes.plot(*_thinned(steps, losses), color=ACCENT_SOFT, linewidth=1)
        axes.plot(*_thinned(steps, _running_mean(losses, window)), color=ACCENT, linewidth=2)
        drawn = f" Thin: each step; bold: mean of {window} steps."
    label(axes, "step", "loss")
    whole_numbers(axes, steps)
    first = f"{losses[0]:.3f} at step {int(steps[0]):,}"
    last = f"{losses[-1]:.3f} at step {int(steps[-1]):,}"
    description = f"From {first} to {last}." if len(steps) > 1 else f"One step: {first}."
    return Chart("Loss", description + drawn, svg(figure))


def recall_chart(history: Sequence[Row]) -> Chart:
    """Draw every recall@k, and MAP@R, over the epochs: of the validation classes where there are any."""
    measured = [row for row in history if isinstance(row, Measurement)]
    validated = any(row.kind == "validation" for row in measured)
    kind: MeasurementKind = "validation" if validated else "evaluation"
    title = "Recall on the validation classes" if validated else _ON_TEST
    names = {name for row in measured if row.kind == kind for name in row.metrics}
    names = {name for name in names if re.fullmatch(r"recall@\d+|map@r", name)}
    ordered = sorted(names, key=lambda name: (name == "map@r", int(name[7:]) if name[7:] else 0))
    curves = [(name, *_finite(history, kind, "epoch", name)) for name in ordered]
    curves = [curve for curve in curves if len(curve[1])]
    if not curves:
        return Chart(title, "No evaluation yet.", "")
    figure, axes = canvas()
    ends = []
    for (name, epochs, values), marker in zip(curves, MARKERS * len(curves), strict=False):
        other = name == "map@r"
        axes.plot(
            epochs, 100 * values, color=OTHER if other else ACCENT, linestyle="--" if other else "-",
            linewidth=1.6, marker=marker, markersize=4.5, markevery=-(-len(epochs) // 16),
        )  # fmt: skip
        ends.append(100 * values[-1])
    percents = 100 * np.concatenate([values for *_, values in curves])
    room = 0.08 * max(5.0, float(np.ptp(percents)))
    axes.set_ylim(
        max(0.0, float(percents.min()) - room), min(100 + 0.2 * room, float(percents.max()) + room)
    )  # a dot is seen whole
    label(axes, "epoch (0: before training)", "%")
    whole_numbers(axes, np.concatenate([epochs for _, epochs, _ in curves]))
    name_at_the_right(axes, [name for name, *_ in curves], ends, {"map@r": OTHER})
    name, epochs, values = curves[0]
    if len(epochs) == 1:
        description = f"One evaluation, at epoch {int(epochs[0])}: {name} {100 * values[0]:.1f} %."
    else:
        best = int(np.argmax(values))
        description = (
            f"{name} from {100 * values[0]:.1f} % to {100 * values[-1]:.1f} %; "
            f"highest {100 * values[best]:.1f} % after epoch {int(epochs[best])}."
        )
    return Chart(title, description, svg(figure))


def reached_chart(history: Sequence[Row]) -> Chart | None:
    """Draw the share of queries that the loss reaches over the epochs; None where it was not measured."""
    epochs, shares = _finite(history, "step", "epoch", "reached")
    if not len(epochs):
        return None
    figure, axes = canvas()
    axes.plot(epochs, 100 * shares, color=ACCENT, marker="o", markersize=4)
    axes.set_ylim(0, 105)
    label(axes, "epoch, at its first step", "%")
    whole_numbers(axes, epochs)
    told = f"From {100 * shares[0]:.0f} % to {100 * shares[-1]:.0f} %. " if len(shares) > 1 else ""
    others = "The others' first right item is ranked far beyond every k: larger k's would reach them."
    return Chart(
        "Queries that the loss reaches",
        told + (others if shares.min() < 1 else "Every query is within reach of the k's."),
        svg(figure),
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
    figure, axes = canvas()
    if len(same):
        density = np.histogram(same, edges, density=True)[0]
        axes.stairs(density, edges, fill=True, facecolor=ACCENT, alpha=0.55, label="same class")
    if len(other):
        density = np.histogram(other, edges, density=True)[0]
        axes.stairs(
            density, edges, fill=True, facecolor="none", hatch="////", edgecolor=OTHER, linewidth=1.3,
            label="other classes",
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    label(axes, "cosine similarity", "density")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.02, 0.99), ncols=2, frameon=False, labelcolor=INK, fontsize=12,
        handlelength=1.6, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip
    parts = [
        f"{np.median(values):.2f} for pairs of {name} ({len(values):,} drawn at random)"
        for values, name in ((same, "one class"), (other, "two classes"))
        if len(values)
    ]
    return Chart(title, f"Median {', '.join(parts)}. The less overlap, the better.", svg(figure))


def _finite(history: Iterable[Row], kind: MeasurementKind | Literal["step"], x: str, y: str) -> tuple[Floats, Floats]:
    """Return two columns of the rows of one kind that have a number in both."""
    table = np.array(columns(history, kind, x, y), dtype=np.float64).reshape(2, -1)
    table = table[:, np.isfinite(table).all(0)]
    return table[0], table[1]


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
    chosen = np.unique([s[extreme(y[s])] for s in stretches for extreme in (np.argmin, np.argmax)])
    return x[chosen], y[chosen]
