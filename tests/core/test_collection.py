import gc

import pytest

from recallk.core.collection import no_cycle_search


@pytest.mark.parametrize("before", [True, False])
def test_the_search_is_as_before_afterwards_whatever_happens(before: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with no_cycle_search():
            assert not gc.isenabled()
        assert gc.isenabled() is before
        with pytest.raises(ValueError, match="raised inside"), no_cycle_search():
            raise ValueError("raised inside")
        assert gc.isenabled() is before
    finally:
        (gc.enable if was else gc.disable)()
