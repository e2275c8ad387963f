"""A winner is one beyond what chance explains."""

from pathlib import Path

import pytest

from recallk.comparison.outcomes import outcomes
from recallk.reporting.comparison import table_of
from tests.training.made import made_comparison

CLEAR = {"good": (0.60, 0.61, 0.605), "bad": (0.40, 0.41, 0.405), "between": (0.50, 0.51, 0.505)}


def test_intervals_apart_have_a_winner(tmp_path: Path) -> None:
    from recallk.comparison.verdict import verdict, winner

    found = outcomes([made_comparison(tmp_path, **CLEAR)])
    best = winner(found)
    assert best is not None
    assert best.name == "good"
    assert [row.best for row in table_of(found)[1]] == [True, False, False]
    assert verdict(found) == ["best: good; its interval of recall@1 lies above all others"]


def test_intervals_that_overlap_have_none(tmp_path: Path) -> None:
    from recallk.comparison.verdict import verdict, winner

    found = outcomes([made_comparison(tmp_path, **CLEAR | {"good": (0.40, 0.61, 0.85)})])
    assert winner(found) is None
    assert not any(row.best for row in table_of(found)[1])
    assert verdict(found) == ["no winner: the intervals of good and 2 others overlap"]


def test_those_that_overlap_are_named(tmp_path: Path) -> None:
    from recallk.comparison.verdict import verdict

    found = outcomes([made_comparison(tmp_path, **CLEAR | {"like it": (0.60, 0.615, 0.602)})])
    assert verdict(found) == ["no winner: the intervals of like it and good overlap"]


@pytest.mark.parametrize(("seeds", "word"), [(1, "one seed tells nothing of chance"), (2, "two seeds tell little")])
def test_few_seeds_are_told(tmp_path: Path, seeds: int, word: str) -> None:
    from recallk.comparison.verdict import verdict, winner

    found = outcomes([made_comparison(tmp_path, a=(0.9, 0.5)[:seeds], b=(0.2, 0.5)[:seeds])])
    assert winner(found) is None
    assert verdict(found)[0].startswith("no winner: ")
    assert verdict(found)[1].startswith(word)
    assert len(verdict(found)) == 2


def test_one_contender_with_a_single_seed_leaves_it_open(tmp_path: Path) -> None:
    from recallk.comparison.verdict import winner

    assert winner(outcomes([made_comparison(tmp_path, **CLEAR | {"bad": (0.1,)})])) is None


def test_one_alone_wins_nothing(tmp_path: Path) -> None:
    from recallk.comparison.verdict import verdict, winner

    found = outcomes([made_comparison(tmp_path, good=CLEAR["good"])])
    assert winner(found) is None
    assert verdict(found) == []


def test_other_ks_are_not_compared(tmp_path: Path) -> None:
    from recallk.comparison.verdict import verdict, winner

    made_comparison(tmp_path, **CLEAR)
    for run in (tmp_path / "bad").iterdir():
        for file in (run / "metrics.jsonl", run / "config.yaml"):
            content = (
                file.read_text().replace("recall@1", "recall@4").replace("evaluate_ks: [1, 2]", "evaluate_ks: [4]")
            )
            file.write_text(content)
    found = outcomes([tmp_path])
    assert winner(found) is None
    assert "different k's" in verdict(found)[0]
