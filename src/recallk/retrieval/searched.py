"""What a search is given, as items: the queries, the gallery, and where in it a query stands itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recallk.data.findings import Finding


@dataclass(frozen=True)
class Searched:
    """Queries and the items of a gallery; `rows` are where each query stands in it, or -1."""

    queries: Sequence[Any]
    items: Sequence[Any]
    rows: Sequence[int]
    gallery: Path
    notes: Sequence[Finding] = ()
