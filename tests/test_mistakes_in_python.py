"""What the public functions say to values of a wrong kind: one line, of an error that can be caught."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recallk

public: Any = recallk  # whose types forbid most of what is given here

WRONG: dict[str, Callable[[], Any]] = {
    "a table of keys is needed, such as {'data': 'photos'}, not 'sop": lambda: public.train("sop"),
    "a table of keys is needed, such as {'data': 'photos'}, not None": lambda: public.train(None),
    "a path is needed, not 5": lambda: public.train({"data": "glyphs"}, 5),
    "unknown key 'epochz': did you mean epochs": lambda: public.train({"data": "glyphs", "epochz": 3}),
    "a path is needed, not 6": lambda: public.report(6),
    "a path is needed, not 7": lambda: public.resume(7),
    "the path of a run's folder is needed, not int": lambda: public.evaluate(8),
    "the path of a run's folder is needed, not float": lambda: public.load(0.5),
    "losses: a list is needed, such as [": lambda: public.compare({"data": "glyphs"}, "x", losses="recall@k"),
    "rates: a list is needed, such as (": lambda: public.compare({"data": "glyphs"}, "x", losses=["a"], rates=1),
    "a table of keys is needed, such as {'data': 'photos'}, not 3": lambda: public.compare(3, "x", losses=["recall@k"]),
    "what to compare: give losses, a sweep, an ablation or contenders": lambda: public.compare({}, "x"),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_value_of_a_wrong_kind_is_one_line(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(recallk.InputError) as caught:
        WRONG[line]()
    assert line in str(caught.value)
    assert not list(tmp_path.iterdir())
