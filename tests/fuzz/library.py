"""Area 1: the public functions, each against a reference in float64 or a rule that its inputs break."""

from pathlib import Path

from tests.fuzz import embedding, evaluation, large_batch, losses, losses_seen
from tests.fuzz.case import Case, Rng, pick

FIRST = [*losses_seen.FIRST, *large_batch.FIRST, *evaluation.FIRST, *embedding.FIRST]
"""What was seen to go wrong, always among the first."""

MAKERS = (
    *(losses.plain, losses.plain, losses.odd, losses.mixup),
    *(large_batch.plain, evaluation.plain, evaluation.odd, embedding.plain),
)


def prepare(shared: Path) -> None:
    """Import what the cases need, so that no case is slow for it."""
    import sklearn.metrics  # noqa: F401


def case(rng: Rng, number: int) -> Case:
    """Return case `number`: the fixed ones first."""
    return FIRST[number] if number < len(FIRST) else pick(rng, MAKERS)(rng)
