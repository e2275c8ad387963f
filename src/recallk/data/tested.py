"""The items that are tested on, and who searches what among them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recallk.data.findings import Finding
from recallk.data.records import LabelledItems
from recallk.data.searches import Search


@dataclass(frozen=True)
class TestItems:
    """The items of all test sets, each once, and who searches what among them; none with `test_fraction=0`."""

    __test__ = False

    labelled: LabelledItems
    searches: Sequence[Search]

    @property
    def none(self) -> bool:
        """Whether there is nothing to measure on."""
        return not self.searches

    def remarks(self, data: str) -> list[Finding]:
        """Return a note where whatever is found is right."""
        if self.none or len(np.unique(self.labelled.labels)) > 1:
            return []
        told = "one class is tested on, so that whatever is found is right: the numbers say nothing; give more classes"
        return [Finding("other counts", data, told)]
