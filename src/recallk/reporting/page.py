"""One HTML file that shows a finished run; it needs nothing beside it, no network and no script."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from recallk.core.files import write_text
from recallk.core.text import shown
from recallk.reporting.figures import loss_chart, reached_chart, recall_chart, similarity_chart
from recallk.reporting.pictures import Retrieval
from recallk.runs.history import Row

_THUMBNAIL = 160  # pixels of the longest side: sharp on a dense screen, and a few kB
SKIPPED_SHOWN = 100
_TINY = 64  # up to here the very pixels are kept, and the browser enlarges them without blur


@dataclass(frozen=True)
class ReportData:
    """What the page shows of a run."""

    title: str
    summary: list[tuple[str, str, str, str]]  # in percent: ("recall@1", before "41.2", after "78.9", published or "")
    published: str | None  # where the published numbers are from and how the run differs, if there are any
    facts: list[tuple[str, str]]  # ("train", "1,200 items of 300 classes")
    history: Sequence[Row]
    same_class: NDArray[np.float32]  # similarities of a sample of pairs of one class
    other_class: NDArray[np.float32]  # and of pairs of two classes
    worst: list[Retrieval]
    best: list[Retrieval]
    config: str  # YAML
    skipped: Sequence[tuple[str, str]] = ()  # files that were left out, with the reasons
    warnings: Sequence[str] = ()  # sentences that a reader must not miss


def write_report(data: ReportData, path: Path) -> None:
    """Write the page, all of it or nothing."""
    charts = [recall_chart(data.history), loss_chart(data.history), similarity_chart(data.same_class, data.other_class)]
    if (reached := reached_chart(data.history)) is not None:
        charts.insert(2, reached)
    groups = [
        ("Answered worst", "The right item comes last here, or not at all. Look for wrong labels first.", data.worst),
        ("Answered best", "Right items come first here, with the widest gap to the first wrong one.", data.best),
    ]
    render("page.html", path, data=data, charts=charts, groups=groups, shown=SKIPPED_SHOWN)


def has_queries(path: Path) -> bool:
    """Whether a page is there already, and shows queries."""
    return path.is_file() and '<section class="query"' in path.read_text(encoding="utf-8", errors="replace")


def render(template: str, path: Path, **values: object) -> None:
    """Write a page from a template, all of it or nothing."""
    environment = Environment(
        loader=PackageLoader("recallk.reporting", ""),
        autoescape=True,
        finalize=_as_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thumbnail"] = _thumbnail
    environment.filters["tiny"] = _is_tiny
    environment.filters["lines"] = _lines
    page = environment.get_template(template).render(**values)
    write_text(path, page)


def _as_shown(value: object) -> object:
    """Return what a template prints: of a string only what is valid in a page, in one line; HTML as it is."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """Let a text keep its lines."""
    return Markup("\n").join(escape(shown(line)) for line in text.split("\n"))


def _is_tiny(image: Image.Image) -> bool:
    return max(image.size) <= _TINY


def _thumbnail(image: Image.Image) -> str:
    """Return an image as a data URI: PNG of its own size where it is tiny, else a small JPEG."""
    out = io.BytesIO()
    image = image.convert("RGB")
    if _is_tiny(image):
        image.save(out, format="PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
        image.save(out, format="JPEG", quality=82, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
