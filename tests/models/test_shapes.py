"""What an image is scaled to where it keeps its shape, and which shapes a network takes."""

import doctest
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recallk.data.headers import Size
from recallk.models import shapes
from recallk.models.shapes import Shapes, find_shapes

SIDES = st.integers(1, 100_000)
MULTIPLES = st.sampled_from([1, 2, 4, 7, 14, 16, 32])


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(shapes).attempted == 2
    assert doctest.testmod(shapes).failed == 0


@given(width=SIDES, height=SIDES, size=st.integers(32, 4096), multiple=MULTIPLES, doublings=st.integers(0, 3))
def test_an_image_is_shrunk_and_keeps_its_shape(
    width: int, height: int, size: int, multiple: int, doublings: int
) -> None:
    least = min(multiple << doublings, size // multiple * multiple)
    found = Shapes(size, multiple, least)
    seen = found.of((width, height))
    assert found.takes(seen)
    assert max(seen) <= found.largest
    shrunk = min(1, size / max(width, height))
    for side, own in zip(seen, (width, height), strict=True):
        assert side <= max(own, least), "enlarged"
        assert abs(side - own * shrunk) < multiple or side == least > own * shrunk
    assert found.of((height, width)) == seen[::-1]


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), size=st.integers(8, 4096))
def test_the_longer_side_is_exact_where_any_side_can_be(width: int, height: int, size: int) -> None:
    seen = Shapes(size).of((width, height))
    assert max(seen) == min(size, max(width, height))
    if max(width, height) <= size:
        assert seen == (width, height)


@given(width=st.integers(2, 5000), height=st.integers(2, 5000), data=st.data())
def test_a_part_has_the_scale_of_the_whole(width: int, height: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    seen = Shapes(1024).of(part, (width, height))
    # METHOD: its longer side becomes 1024 * max(crop) / max(image), and is never enlarged
    longer = min(max(part), 1024 * max(part) / max(width, height))
    assert abs(max(seen) - max(longer, 1)) <= 0.5 + 1e-9
    assert Shapes(1024).of((width, height), (width, height)) == Shapes(1024).of((width, height))


def takes(multiple: int, least: int = 1) -> tuple[Callable[[Size], None], list[Size]]:
    tried: list[Size] = []

    def network(size: Size) -> None:
        tried.append(size)
        if any(side % multiple or side < least for side in size):
            raise ValueError(f"{size} cannot be")

    return network, tried


@pytest.mark.parametrize("size", [64, 70, 224, 225, 518, 1024])
@pytest.mark.parametrize("multiple", [1, 2, 4, 7, 8, 14, 16, 28, 32])
def test_the_smallest_multiple_that_works_is_found(size: int, multiple: int) -> None:
    network, tried = takes(multiple)
    assert find_shapes(size, network) == Shapes(size, multiple, multiple)
    assert len(tried) <= 30
    assert max(map(max, tried)) <= size


@pytest.mark.parametrize(("least", "found"), [(1, 1), (4, 4), (29, 32), (32, 32), (33, 64)])
def test_the_least_side_is_found(least: int, found: int) -> None:
    assert find_shapes(224, takes(1, least)[0]) == Shapes(224, 1, found)


def test_a_network_of_one_shape_is_told_by_its_own_error() -> None:
    def only(size: Size) -> None:
        if size != (224, 224):
            raise ValueError(f"{size} cannot be")

    with pytest.raises(ValueError, match="cannot be"):
        find_shapes(224, only)
    with pytest.raises(ValueError, match="cannot be"):
        find_shapes(8, takes(16)[0])
    with pytest.raises(ValueError, match="cannot be"):
        find_shapes(64, takes(1, 65)[0])
