"""Curves: what each trial reported at each interval, and which of two values is better.

One rule: a value that is not finite is an interval like any other, and never a best. Intervals count
from 1.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Goal(StrEnum):
    """Which way the primary metric gets better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"

    def better(self, a: float, b: float) -> bool:
        """Whether a is strictly better than b; false where either is NaN.

        >>> Goal.MINIMIZE.better(0.1, 0.2), Goal.MINIMIZE.better(0.2, 0.2)
        (True, False)
        """
        return a > b if self is Goal.MAXIMIZE else a < b


class Leader(NamedTuple):
    """The best of all trials that reached an interval, each by its best up to it."""

    value: float
    trial: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best finite value of a sweep and where it was reported."""

    trial: int
    interval: int
    value: float


@dataclass(slots=True)
class Curve:
    """One trial's values, and the best of them up to each interval: NaN before the first finite."""

    values: array[float] = field(default_factory=lambda: array("d"))
    best: array[float] = field(default_factory=lambda: array("d"))

    def append(self, value: float, goal: Goal) -> int:
        """Add a value, finite or not; returns its interval."""
        held = self.best[-1] if self.best else math.nan
        gains = math.isfinite(value) and (math.isnan(held) or goal.better(value, held))
        self.values.append(value)
        self.best.append(value if gains else held)
        return len(self.values)

    def cut(self, interval: int) -> None:
        """Take out what follows the interval."""
        del self.values[interval:]
        del self.best[interval:]


Curves = dict[int, Curve]  # by trial
