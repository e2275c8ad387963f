"""What an evaluation found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recallk.data.findings import Finding


@dataclass(frozen=True)
class Evaluation:
    """What was measured: shares from 0 to 1 by their names, on `items` such as "1,200 images of 300 classes".

    `spread` has the standard deviation of each over the draws of re-identification. `notes` say how the data is not
    as it was. `conditions` say how it was measured, where that is not as in training, by scales or a whitening; on
    instance-level test sets always. `published` are other methods' rows under the same conditions: percentages by the
    method, by the names of `metrics`; `source` says where they are from, and in what the run is not as its recipe.
    """

    items: str
    metrics: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[Finding] = ()
    conditions: Sequence[str] = ()
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    source: str = ""
