"""Time that passes only when there is nothing left to do at this moment.

One rule: what is to happen next is the earliest entry of a heap, and of those at one moment the one
that was asked for first; so the same causes give the same order, always.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualClock:
    """Virtual time: what is to happen, the earliest first, in order of asking at one moment."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(time, self.now), next(self._order), act))

    def step(self) -> None:
        self.now, _, act = heapq.heappop(self._heap)
        act()
