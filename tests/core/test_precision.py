"""Full precision is a setting of the process: it must come back whoever uses it, and stay while anybody does."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from recallk.core.precision import SETTINGS, full_precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fast_products() -> Iterator[None]:
    before = [place.fp32_precision for place in SETTINGS]
    for place in SETTINGS:
        place.fp32_precision = "tf32"
    yield
    for place, precision in zip(SETTINGS, before, strict=True):
        place.fp32_precision = precision


def settings() -> set[str]:
    return {place.fp32_precision for place in SETTINGS}


def test_one_inside_another_ends_with_the_outer() -> None:
    with full_precision(CPU):
        with full_precision(CPU):
            assert settings() == {"ieee"}
        assert settings() == {"ieee"}
    assert settings() == {"tf32"}


def test_the_first_to_come_may_be_the_first_to_go() -> None:
    """Two threads overlap: the first leaves while the second computes, and the second leaves last."""
    first_inside, second_inside, first_gone = (threading.Event() for _ in range(3))
    seen = []

    def first() -> None:
        with full_precision(CPU):
            first_inside.set()
            assert second_inside.wait(10)
        first_gone.set()

    def second() -> None:
        assert first_inside.wait(10)
        with full_precision(CPU):
            second_inside.set()
            assert first_gone.wait(10)
            seen.append(settings())

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result(20)
    assert seen == [{"ieee"}]
    assert settings() == {"tf32"}


def test_eight_threads_leave_it_as_it_was() -> None:
    def work(_: int) -> None:
        for _ in range(300):
            with full_precision(CPU):
                assert settings() == {"ieee"}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert settings() == {"tf32"}


def test_it_comes_back_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="inside"), full_precision(CPU):
        raise RuntimeError("inside")
    assert settings() == {"tf32"}
