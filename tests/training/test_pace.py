"""About how long a run takes: by items that are tried, as if each took the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recallk.runs.folder import RunFolder
from recallk.training import pace
from recallk.training.trainer import Trainer
from tests.miniature_run import Miniature


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    mini = Miniature(tmp_path)
    return lambda **keys: Trainer(mini.plan(**keys), RunFolder(tmp_path / "run"))


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The items of each trial, which take a hundredth of a second to be called and a tenth each."""
    found, clock = list[int](), [0.0]

    def goes_through(_: Any, items: int) -> bool:
        found.append(items)
        clock[0] += 0.01 + 0.1 * items
        return True

    monkeypatch.setattr(pace, "goes_through", goes_through)
    monkeypatch.setattr("recallk.training.pace.time.perf_counter", lambda: clock[0])
    return found


def test_so_many_items_are_tried_as_take_half_a_second(trainer: Callable[..., Trainer], tried: list[int]) -> None:
    run = trainer(chunk_size=8, batch_size=8, epochs=3)
    plan = run.plan
    seconds = pace.seconds_on_cpu(run, 1.25)
    assert tried == [2, 2, 4, 8]  # the first one warms up
    assert seconds == pytest.approx(0.81 / 8 * plan.items_per_step * plan.steps * 1.25)


def test_no_more_than_a_chunk_is_tried(trainer: Callable[..., Trainer], tried: list[int]) -> None:
    pace.seconds_on_cpu(trainer(chunk_size=3, batch_size=8), 1)
    assert max(tried) == 3


def test_where_nobody_can_tell(
    trainer: Callable[..., Trainer], tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer()
    with monkeypatch.context() as patch:
        patch.setattr("recallk.training.pace.processes.is_alone", lambda: False)
        assert pace.seconds_on_cpu(run, 1) is None
    assert pace.seconds_on_cpu(trainer(compile=True), 1) is None
    assert tried == []
    monkeypatch.setattr(pace, "goes_through", lambda *_: False)  # memory has run out
    assert pace.seconds_on_cpu(run, 1) is None
