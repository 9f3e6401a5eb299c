"""Curves: what each trial reported at each interval, and which of two values is better.

One rule: a value that is not finite is an interval like any other, and never a best. Intervals count
from 1.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, islice
from typing import NamedTuple, Self


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

    @property
    def best(self) -> Callable[..., float]:
        """The function that takes the best of finite values: `max` or `min`."""
        return max if self is Goal.MAXIMIZE else min


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


VALUE, BEST, MEAN = 0, 1, 2  # the columns of a curve; the last only where a policy asks for it


@dataclass(slots=True)
class Curve:
    """One trial's intervals: its value, the best up to it, the mean up to it; NaN where there is none.

    All are one array, row by row: an array of its own for each column would take more than what is
    in it, in a sweep of many short trials.
    """

    width: int  # how many columns are kept
    rows: array[float] = field(default_factory=lambda: array("d"))

    @classmethod
    def of(cls, width: int, columns: Sequence[array[float]]) -> Self:
        """The curve with these columns, the first ones."""
        curve = cls(width, array("d", [math.nan]) * (width * len(columns[0])))
        for number, column in enumerate(columns):
            curve.fill(number, column)
        return curve

    def __len__(self) -> int:
        return len(self.rows) // self.width

    def at(self, interval: int, column: int) -> float:
        """What a column holds at an interval."""
        return self.rows[(interval - 1) * self.width + column]

    def last(self, column: int) -> float:
        """What a column holds at the last interval."""
        return self.rows[column - self.width]

    def column(self, column: int) -> array[float]:
        """A column, from the first interval to the last."""
        return self.rows[column :: self.width]

    def fill(self, column: int, values: array[float]) -> None:
        """Put values into a column, one for each interval."""
        self.rows[column :: self.width] = values

    def append(self, value: float, goal: Goal) -> int:
        """Add a value, finite or not; returns its interval."""
        rows, width = self.rows, self.width
        held = rows[BEST - width] if rows else math.nan
        gains = math.isfinite(value) and (math.isnan(held) or goal.better(value, held))
        rows.append(value)
        rows.append(value if gains else held)
        if width > MEAN:
            rows.append(math.nan)  # until it is known
        return len(rows) // width

    def extend(self, values: Sequence[float], goal: Goal) -> None:
        """Add values as `append` adds each."""
        if not math.isfinite(sum(values)):  # one is not, or all are huge
            for value in values:
                self.append(value, goal)
            return
        held = self.rows[BEST - self.width] if self.rows else math.nan
        first = values[0] if math.isnan(held) else held
        best = islice(accumulate(values, goal.best, initial=first), 1, None)
        more = Curve.of(self.width, [array("d", values), array("d", best)])
        self.rows.extend(more.rows)

    def note_mean(self, mean: float) -> None:
        """Note the mean up to the last interval."""
        self.rows[MEAN - self.width] = mean

    def cut(self, interval: int) -> None:
        """Take out what follows the interval."""
        del self.rows[interval * self.width :]

    def settle(self) -> None:
        """Nothing follows: give back the room that was there for more."""
        self.rows = self.rows[:]


Curves = dict[int, Curve]  # by trial
