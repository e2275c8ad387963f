"""The benchmark of the places data set: what it tests, and views of places that are no landmarks."""

from pathlib import Path

import numpy as np

from recallk.data.findings import Findings
from recallk.data.instances.instance import InstanceBenchmark, InstanceSet, Revisited
from recallk.data.places.places import Landmark, distractors, landmarks
from recallk.data.places.views import Grade

_GRADES: tuple[Grade, ...] = ("easy", "hard", "junk")


def read_places(root: Path, findings: Findings) -> InstanceSet:
    """Draw the test set, the same wherever it is called; nothing is read below `root`.

    Raises InputError where a package came without its photographs.
    """
    del root, findings
    found = landmarks()
    gallery = [view.pixels for landmark in found for view in landmark.views]
    starts = np.cumsum([0, *(len(landmark.views) for landmark in found)])
    answers = [_answers(landmark, start) for landmark, start in zip(found, starts.tolist(), strict=False)]
    return InstanceSet([landmark.query for landmark in found], [*gallery, *distractors()], Revisited(answers))


def _answers(landmark: Landmark, start: int) -> dict[str, list[int]]:
    return {
        grade: [number for number, view in enumerate(landmark.views, start) if view.grade == grade] for grade in _GRADES
    }


PLACES = InstanceBenchmark(
    name="places",
    title="Places",
    what="parts of photographs inside packages, seen in many views; what --data places is tested on, with distractors",
    size="none",
    home="recallk",
    terms="those of scikit-image, scikit-learn and matplotlib, which ship the photographs",
    queries=104,
    gallery=1_312,
    read=read_places,
    needs_data=False,
)
