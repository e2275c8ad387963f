"""Whether one contender is better than chance explains, and whether there are seeds enough to tell."""

import statistics
from collections.abc import Sequence

from recallk.comparison.outcomes import Outcome

ENOUGH_SEEDS = 3


def winner(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the outcome whose interval of recall lies above that of every other; None where there is none such."""
    measured = [outcome for outcome in outcomes if outcome.results]
    if len(measured) < 2 or len({outcome.metrics[0] for outcome in measured}) > 1:
        return None
    first = max(measured, key=lambda outcome: statistics.mean(outcome.recall))
    return first if _level_with(first, measured) == [first] else None


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """Return sentences: whether the best is better than chance explains, and whether the seeds are too few."""
    measured = [outcome for outcome in outcomes if outcome.results]
    seeds = min((len(outcome.results) for outcome in measured), default=ENOUGH_SEEDS)
    sentences = []
    if len(measured) > 1 and len({outcome.metrics[0] for outcome in measured}) > 1:
        sentences.append("no winner: they were evaluated at different k's (--evaluate-ks)")
    elif len(measured) > 1 and (best := winner(measured)) is not None:
        sentences.append(f"best: {best.name}; its interval of {best.metrics[0]} lies above all others")
    elif len(measured) > 1:
        first = max(measured, key=lambda outcome: statistics.mean(outcome.recall))
        others = [one for one in _level_with(first, measured) if one is not first]
        alone = any(len(one.results) == 1 for one in (first, *others))
        names = f"{first.name} and {others[0].name if len(others) == 1 else f'{len(others)} others'}"
        sentences.append(f"no winner: {'one seed has no interval' if alone else f'the intervals of {names} overlap'}")
    if seeds == 1:
        sentences.append(f"one seed tells nothing of chance: give --seeds {ENOUGH_SEEDS} or more")
    elif seeds < ENOUGH_SEEDS:
        sentences.append(f"two seeds tell little, and their intervals are wide: give --seeds {ENOUGH_SEEDS} or more")
    return sentences


def _level_with(first: Outcome, measured: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes that chance may have put below the first, itself among them."""
    metric = first.metrics[0]
    return [one for one in measured if one is first or one.percent(metric).high >= first.percent(metric).low]
