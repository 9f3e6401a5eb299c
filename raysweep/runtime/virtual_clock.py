"""Time that passes only when there is nothing left to do at this moment.

One rule: what is to happen next is the earliest entry of a heap, and of those at one moment the one
that was asked for first; so the same causes give the same order, always.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualClock:
    """The time, in seconds from 0, and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Have something done at a time, or now if that is past."""
        heapq.heappush(self._heap, (max(time, self.now), next(self._order), act))

    def step(self) -> None:
        """Go on to what is next, and do it."""
        self.now, _, act = heapq.heappop(self._heap)
        act()
