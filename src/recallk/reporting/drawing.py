"""What the charts share: a canvas, names at the ends of curves, SVG that takes its colours from the page around it."""

import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from recallk.core.text import shown

Floats = NDArray[np.float64]

# matplotlib wants colours, the page wants variables that follow its light or dark scheme
INK, MUTED, GRID, ACCENT, ACCENT_SOFT, OTHER = (f"#fe00{n:02x}" for n in range(1, 7))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    ACCENT: "var(--right)",
    ACCENT_SOFT: "var(--soft)",
    OTHER: "var(--wrong)",
}
SIZE = (5.0, 3.5)  # 360 by 252 units, about the pixels it gets on a phone and in three columns alike
MARKERS = "os^Dvp*Xh"
_LONGEST_NAME = 28


@dataclass(frozen=True)
class Chart:
    """A chart, or the sentence that says why there is none (`svg` is empty)."""

    title: str
    description: str
    svg: str


def whole_numbers(axes: Axes, x: Floats) -> None:
    """Tick whole steps or epochs only, even where there is a single one."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if x.min() == x.max():
        axes.set_xlim(x[0] - 0.9, x[0] + 0.9)


def canvas(height: float = SIZE[1]) -> tuple[Figure, Axes]:
    """Return a figure, `height` inches high, and its axes, without what a reader does not need."""
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(colors=MUTED, length=0, labelsize=12, pad=5)
    axes.tick_params(axis="x", length=4)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def label(axes: Axes, x: str, y: str) -> None:
    """Say what the axes are."""
    axes.set_xlabel(x, color=MUTED, fontsize=12)
    axes.set_title(y, loc="left", color=MUTED, fontsize=12, x=0)  # level, where it is read without turning the head


def name_at_the_right(axes: Axes, names: list[str], ends: list[float], colours: Mapping[str, str]) -> None:
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
    figure = axes.get_figure(root=True)
    assert figure is not None
    # apart in inches: long names leave the axes little width
    for_marker, for_name = (axes.transAxes + ScaledTranslation(x, 0, figure.dpi_scale_trans) for x in (0.12, 0.21))
    for place, i in zip(places, order, strict=True):
        colour = colours.get(names[i], ACCENT)
        y = float((place - low) / (high - low))
        axes.plot([1], [y], MARKERS[i % len(MARKERS)], color=colour, markersize=5,
                  transform=for_marker, clip_on=False)  # fmt: skip
        axes.text(1, y, short(names[i]), transform=for_name, va="center", color=INK, fontsize=12,
                  parse_math=False)  # fmt: skip


def short(name: str) -> str:
    """Return a name as it may stand in a chart; of a long one both ends, for either may tell it from others."""
    name = shown(name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME // 2]}…{name[1 - _LONGEST_NAME // 2 :]}"


def svg(figure: Figure) -> str:
    """Return the drawing alone: no prologue, no metadata, no ids of groups (they would repeat within the page)."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # the page's typeface; ids that are the same for the same drawing
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the browser has it, or shows that it has not
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "recallk", "hatch.linewidth": 0.9}):
            figure.savefig(out, format="svg", metadata=nothing)
    drawn = out.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<svg[^>]*(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true">', drawn, count=1)
    drawn = re.sub(r'<g id="[^"]*">', "<g>", drawn)
    drawn = re.sub(r"\s*\n\s*", "\n", drawn)
    for colour, variable in _VARIABLES.items():
        drawn = drawn.replace(colour, variable)
    return drawn
