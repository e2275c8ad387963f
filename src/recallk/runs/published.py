"""Other methods' results beside a run's on an instance-level test set: only where all were measured alike."""

import os

from recallk.runs.folder import RunFolder
from recallk.runs.history import Start
from recallk.runs.recipes import differences, origin

ALL_DISTRACTORS = 1_001_001
"""Of revisited Oxford and Paris; what was measured among all of them is called "+1m"."""

_OF_THE_ROW = ("dataset", "backbone", "image_shape", "image_size")
"""Keys of a recipe that say what its rows are of: a run that has others is none of them."""


def published_rows(folder: RunFolder, benchmark: str, distractors: int) -> tuple[dict[str, dict[str, float]], str]:
    """Return the rows of the recipe that a run began from: percentages by the method, by the metric.

    And where they are from, and in what the run is not as the recipe; nothing and "" where there is no such row, and
    where the run was trained on other data, or with another network.
    """
    if not os.path.lexists(folder.config):  # a model without a run
        return {}, ""
    config = folder.read_config()
    recipe = origin(config)
    if recipe is None or distractors not in (0, ALL_DISTRACTORS):
        return {}, ""
    if any(recipe.values.get(key, getattr(config, key)) != getattr(config, key) for key in _OF_THE_ROW):
        return {}, ""
    place = f"{benchmark}+1m " if distractors else f"{benchmark} "
    rows = {
        method: {name.removeprefix(place): value for name, value in values.items() if name.startswith(place)}
        for method, values in recipe.rows.items()
    }
    rows = {method: values for method, values in rows.items() if values}
    if not rows:
        return {}, ""
    starts = [row for row in folder.history() if isinstance(row, Start)]
    told = [*differences(folder.read_config()), *(starts[-1].differences if starts else ())]
    itself = (
        f"This run is not as its recipe: {'; '.join(told)}." if told else f"This run is as its recipe, {recipe.name}."
    )
    return rows, f"Other methods: {recipe.source}. {itself}"
