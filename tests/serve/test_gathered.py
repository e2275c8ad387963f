"""Searches that wait are computed together, and each gets its own answer or its own error."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import CapacityLimiter
from PIL import Image

from recallk import InputError
from recallk.catalogue.index import Index
from recallk.serve.app import Search, _answer
from recallk.serve.gathered import MOST_TOGETHER, Gathered, Waiting
from recallk.serve.requests import Asked
from tests.catalogue.place import draw_all, small_embedder


def test_what_waits_is_computed_in_one_go_and_each_gets_its_own() -> None:
    sizes, going_on = list[int](), threading.Event()

    def compute(waiting: Sequence[Waiting[int]]) -> None:
        sizes.append(len(waiting))
        if len(sizes) == 1:
            assert going_on.wait(10)
        for each in waiting:
            if each.search == 13:
                each.error = InputError("thirteen")
            else:
                each.answer = -each.search

    async def ask_all() -> list[Any]:
        searched = Gathered[int](compute, CapacityLimiter(1))
        answers: list[Any] = [None] * 50

        async def ask(number: int) -> None:
            try:
                answers[number] = await searched(number)
            except InputError as error:
                answers[number] = str(error)

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(ask, number)
            while not sizes:
                await anyio.sleep(0.01)
            await anyio.sleep(0.05)
            going_on.set()
        return answers

    assert anyio.run(ask_all) == [*range(0, -13, -1), "thirteen", *range(-14, -50, -1)]
    assert len(sizes) < 8
    assert max(sizes) == MOST_TOGETHER


def test_a_computation_that_fails_leaves_nobody_waiting() -> None:
    def compute(waiting: Sequence[Waiting[int]]) -> None:
        raise RuntimeError("broken")

    failed = list[int]()

    async def ask_all() -> None:
        searched = Gathered[int](compute, CapacityLimiter(1))

        async def ask(number: int) -> None:
            with pytest.raises(RuntimeError, match="broken"):
                await searched(number)
            failed.append(number)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(ask, number)

    anyio.run(ask_all)
    assert sorted(failed) == list(range(20))


def test_searches_of_all_kinds_together_find_what_each_finds_alone(tmp_path: Path) -> None:
    photos = draw_all(tmp_path / "photos", 12)
    index = Index.build(small_embedder(), photos, tmp_path / "catalogue", workers=0)
    with Image.open(photos / "a" / "0.png") as image:
        sent = image.convert("RGB")
    searches = [
        Search(Asked(k=3), ["a/0.png"]),
        Search(Asked(k=5, offset=2), [sent]),
        Search(Asked(k=4), ["a/0.png", "b/1.png"]),
        Search(Asked(k=4, where="label = 'a'"), ["b/1.png"]),
        Search(Asked(k=4, where="no such column = 1"), ["b/1.png"]),
        Search(Asked(k=4, where="label = 'a'"), ["c/2.png"]),
        Search(Asked(k=20), [sent, "c/2.png"]),
        Search(Asked(k=2), ["b/4.png"]),
        Search(Asked(k=12), [sent]),  # all there are, where an id has one less
        Search(Asked(ids=("gone",)), ["gone"]),
    ]
    together = [Waiting(search) for search in searches]
    _answer(index, together)
    for number, (search, found) in enumerate(zip(searches, together, strict=True)):
        alone = Waiting(search)
        _answer(index, [alone])
        assert str(found.error) == str(alone.error)
        assert (found.error is None) == (number not in (4, 9))
        if found.error is None:
            assert [each["id"] for each in found.answer["results"]] == [each["id"] for each in alone.answer["results"]]
            assert found.answer["more"] == alone.answer["more"]
    assert len(together[1].answer["results"]) == 5
    assert together[1].answer["more"]
    assert len(together[8].answer["results"]) == 12
    assert getattr(together[9].error, "status", None) == 404


def test_whoever_leaves_takes_no_answers_along() -> None:
    going_on, computed = threading.Event(), list[int]()

    def compute(waiting: Sequence[Waiting[int]]) -> None:
        computed.extend(each.search for each in waiting)
        assert going_on.wait(10)
        for each in waiting:
            each.answer = each.search

    async def ask_all() -> list[Any]:
        searched, answers = Gathered[int](compute, CapacityLimiter(1)), list[Any]()

        async def ask(number: int, leaves: bool) -> None:
            with anyio.move_on_after(0.2 if leaves else 20):
                answers.append(await searched(number))

        async with anyio.create_task_group() as tasks:
            for number, leaves in enumerate((True, True, False)):
                tasks.start_soon(ask, number, leaves)
                while not computed:
                    await anyio.sleep(0.01)
            await anyio.sleep(0.4)  # the one that computes has been told to leave, one that waits has left
            going_on.set()
        return answers

    assert anyio.run(ask_all)[-1] == 2
    assert computed == [0, 2]


def test_a_mistake_of_all_is_told_to_all() -> None:
    def compute(waiting: Sequence[Waiting[int]]) -> None:
        raise InputError("the catalogue is gone")

    async def ask_all() -> list[str]:
        searched, told = Gathered[int](compute, CapacityLimiter(1)), list[str]()

        async def ask(number: int) -> None:
            try:
                await searched(number)
            except InputError as error:
                told.append(str(error))

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(ask, number)
        return told

    assert anyio.run(ask_all) == ["the catalogue is gone"] * 5
