from __future__ import annotations

from bisect import bisect_left, bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.core import order
from raysweep.core.order import Order

FEW = st.integers(-4, 4).map(float)  # so that many are equal
CHANGES = st.lists(st.tuples(st.booleans(), FEW | st.floats(-1e9, 1e9)), max_size=80)


@given(start=st.lists(FEW, max_size=30), changes=CHANGES)
def test_an_order_answers_as_a_sorted_list_does(
    start: list[float], changes: list[tuple[bool, float]]
) -> None:
    """Whatever is added and taken out, with blocks so short that there are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_LONGEST", 4)
        patch.setattr(order, "_MANY", 2)
        kept, found = sorted(start), Order(start)
        for adds, value in changes:
            if adds:
                kept.insert(bisect_right(kept, value), value)
                found.add(value)
            elif value in kept:
                kept.remove(value)
                found.remove(value)
            assert (len(kept), kept) == (len(found), [found[place] for place in range(len(found))])
            assert (bisect_left(kept, value), bisect_right(kept, value)) == (
                found.below(value),
                found.up_to(value),
            )


def test_an_empty_order_has_nothing_below() -> None:
    """And nothing up to anything."""
    empty = Order()
    assert (0, 0, 0) == (len(empty), empty.below(1.0), empty.up_to(1.0))


def test_many_values_stay_in_order() -> None:
    """More than a block takes, added from the greatest down."""
    found = Order()
    for value in range(10_000, 0, -1):
        found.add(float(value))
    assert [1.0, 5_000.0, 10_000.0] == [found[0], found[4_999], found[9_999]]
    assert (4_999, 5_000) == (found.below(5_000.0), found.up_to(5_000.0))
