"""Floats in order: where a value stands among a million others, and which value stands at a place.

One rule: the floats lie in blocks of bounded length, 8 bytes each, so that adding one moves little
and no float is an object of its own. What is added is put in order only once somebody asks.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from itertools import accumulate, chain

_LONGEST = 2_048  # values of a block; one that gets longer becomes two
_MANY = 64  # where one in so many values is new, to sort them all is faster than one by one


class Order:
    """Finite floats, the least first; equal ones as often as they were added.

    >>> order = Order([0.5, 0.1])
    >>> order.add(0.3)
    >>> order[0], order[1], len(order), order.below(0.3), order.up_to(0.3)
    (0.1, 0.3, 3, 1, 2)
    """

    __slots__ = ("_blocks", "_bounds", "_counts", "_new", "_size")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._new = array("d", values)  # in no order yet
        self._lay_out(array("d"))

    def __len__(self) -> int:
        return self._size + len(self._new)

    def __getitem__(self, place: int) -> float:
        """The value at a place, counted from 0; there must be one."""
        self._put_in_order()
        number, rest = self._find(place)
        return self._blocks[number][rest]

    def add(self, value: float) -> None:
        """Take a value in."""
        self._new.append(value)

    def remove(self, value: float) -> None:
        """Take one of these values out; there must be one."""
        number, rest = self._find(self.below(value))
        assert self._blocks[number][rest] == value, "only what was added is taken out"
        del self._blocks[number][rest]
        self._size -= 1
        self._count(number, -1)

    def below(self, value: float) -> int:
        """How many values are less than this one."""
        self._put_in_order()
        number = bisect_left(self._bounds, value)
        return self._before(number) + bisect_left(self._blocks[number], value)

    def up_to(self, value: float) -> int:
        """How many values are less than this one, or equal to it."""
        self._put_in_order()
        number = bisect_right(self._bounds, value)
        return self._before(number) + bisect_right(self._blocks[number], value)

    # --- putting in order -------------------------------------------------------------------------

    def _put_in_order(self) -> None:
        if len(self._new) * _MANY > self._size + _LONGEST:
            self._lay_out(array("d", sorted(chain(*self._blocks, self._new))))
            self._new = array("d")
        while self._new:
            self._insert(self._new.pop())

    def _lay_out(self, values: array[float]) -> None:
        """Make blocks of values that are in order."""
        half = _LONGEST // 2
        self._size = len(values)
        self._blocks = [values[at : at + half] for at in range(0, max(1, len(values)), half)]
        # What no value of a block exceeds, and none of the next is less than; the last needs none.
        self._bounds = array("d", [block[-1] for block in self._blocks[:-1]])
        self._tally()

    def _insert(self, value: float) -> None:
        number = bisect_left(self._bounds, value)
        block = self._blocks[number]
        insort(block, value)
        self._size += 1
        self._count(number, 1)
        if len(block) > _LONGEST:
            self._split(number, len(block) // 2)

    def _split(self, number: int, at: int) -> None:
        """Make two blocks of one."""
        block = self._blocks[number]
        self._blocks[number : number + 1] = [block[:at], block[at:]]
        self._bounds.insert(number, block[at - 1])
        self._tally()

    # --- which block ------------------------------------------------------------------------------

    def _tally(self) -> None:
        """Count the blocks' values anew.

        A Fenwick tree: entry n counts the values of the last `n & -n` blocks up to the n-th, so that
        to find a place, or to count one more, touches as many entries as the blocks' number has bits.
        """
        upto = [0, *accumulate(map(len, self._blocks))]
        self._counts = array("q", [total - upto[n & (n - 1)] for n, total in enumerate(upto)])

    def _count(self, number: int, more: int) -> None:
        """Note that a block has so many more values."""
        counts, entry = self._counts, number + 1
        while entry < len(counts):
            counts[entry] += more
            entry += entry & -entry

    def _before(self, number: int) -> int:
        """How many values lie in the blocks before this one."""
        counts, found = self._counts, 0
        while number:
            found += counts[number]
            number &= number - 1
        return found

    def _find(self, place: int) -> tuple[int, int]:
        """The block that holds a place, and where in it that is."""
        counts, number = self._counts, 0
        step = 1 << (len(self._blocks).bit_length() - 1)
        while step:
            entry = number + step
            if entry < len(counts) and counts[entry] <= place:
                number, place = entry, place - counts[entry]
            step >>= 1
        return number, place
