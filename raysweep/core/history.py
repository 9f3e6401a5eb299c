"""The curves of a sweep: what every trial reported at each interval, and what policies ask of it.

One rule: neither adding a value nor answering a policy looks at all trials, so that a report costs
the same with ten trials as with a million. What a question needs is kept as an index from report to
report, and only if a policy tracks it. One exception: after a restart took the leader's
intervals away, the next question looks through the trials once to find the new leader.

A value that is not finite is an interval like any other; it is never a best, in no mean, in no
order. Intervals count from 1.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import Flag, StrEnum, auto
from typing import NamedTuple

from sortedcontainers import SortedList

from raysweep.errors import InvalidTransitionError

_SMALLEST = 1074
"""Every finite float is a whole multiple of 2**-1074, the smallest float above zero."""


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


class Track(Flag):
    """What a history keeps for every interval, because a policy asks for it."""

    NONE = 0
    LEADERS = auto()  # the leader: `leader`
    MEANS = auto()  # running means, in order: `mean`, `mean_count`, `median_of_means`
    VALUES = auto()  # values, in order: `reached`, `strictly_better`
    UNFINISHED_VALUES = auto()  # the same without the finished trials; outranks VALUES


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
class _Curve:
    """One trial's values, and the best of them up to each interval: NaN before the first finite."""

    values: array[float] = field(default_factory=lambda: array("d"))
    best: array[float] = field(default_factory=lambda: array("d"))

    def append(self, value: float, goal: Goal) -> int:
        held = self.best[-1] if self.best else math.nan
        gains = math.isfinite(value) and (math.isnan(held) or goal.better(value, held))
        self.values.append(value)
        self.best.append(value if gains else held)
        return len(self.values)

    def cut(self, interval: int) -> None:
        del self.values[interval:]
        del self.best[interval:]


_Curves = dict[int, _Curve]


class History:
    """Every trial's curve, with the indexes that the policy of the sweep tracks.

    A value takes 16 bytes, 56 where an order is kept. Questions about an index that is not
    tracked fail an assertion.
    """

    def __init__(self, goal: Goal, tracks: Track) -> None:
        self.goal = goal
        self.tracks = tracks
        self._curves: _Curves = {}
        self._finished: set[int] = set()
        self._best = _BestTrial(goal, self._curves)
        self._leaders = _Leaders(goal, self._curves) if Track.LEADERS in tracks else None
        self._means = _Means() if Track.MEANS in tracks else None
        self._values: _Values | None = None
        if tracks & (Track.VALUES | Track.UNFINISHED_VALUES):
            self._values = _Values(goal, unfinished_only=Track.UNFINISHED_VALUES in tracks)
        kept = (self._best, self._leaders, self._means, self._values)
        self._indexes: tuple[_Index, ...] = tuple(index for index in kept if index is not None)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same curves, bit by bit, and the same finished trials."""
        if not isinstance(other, History):
            return NotImplemented
        ours, theirs = self._curves, other._curves
        return (
            self.goal is other.goal
            and self._finished == other._finished
            and ours.keys() == theirs.keys()
            and all(ours[t].values.tobytes() == theirs[t].values.tobytes() for t in ours)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes, and is compared by content

    def add(self, trial: int, value: float) -> int:
        """Append a value, finite or not, to the trial's curve and return its interval.

        Raises:
            InvalidTransitionError: The trial is finished.
        """
        self._refuse_finished(trial, "report")
        value = float(value)
        curve = self._curves.get(trial)
        if curve is None:
            curve = self._curves[trial] = _Curve()
        interval = curve.append(value, self.goal)
        for index in self._indexes:
            index.add(trial, curve)
        return interval

    def restart(self, trial: int, interval: int) -> None:
        """Take out what the trial reported after this interval: an attempt starts there.

        Raises:
            InvalidTransitionError: The trial is finished.
        """
        self._refuse_finished(trial, "start again")
        curve = self._curves.get(trial)
        if curve is None or len(curve.values) <= interval:
            return
        for index in self._indexes:
            index.cut(trial, curve, interval)
        curve.cut(interval)
        if not curve.values:
            del self._curves[trial]

    def finish(self, trial: int) -> None:
        """Note that the trial is in a terminal state; its curve stays. A second time is nothing."""
        if trial in self._finished:
            return
        self._finished.add(trial)
        curve = self._curves.get(trial)
        if curve is None:
            return
        for index in self._indexes:
            index.finish(trial, curve)

    def intervals(self, trial: int) -> int:
        """How many intervals the trial has."""
        curve = self._curves.get(trial)
        return 0 if curve is None else len(curve.values)

    def value(self, trial: int, interval: int) -> float:
        """The trial's value at an interval that it has reached."""
        return self._curves[trial].values[interval - 1]

    def best(self, trial: int, interval: int | None = None) -> float | None:
        """The trial's best finite value up to an interval (the last one), if it has any yet."""
        reached = self.intervals(trial)
        upto = reached if interval is None else min(interval, reached)
        if upto < 1:
            return None
        best = self._curves[trial].best[upto - 1]
        return None if math.isnan(best) else best

    def best_trial(self) -> Best | None:
        """The best finite value; ties go to the lower trial, then to the earlier interval."""
        return self._best.now()

    def leader(self, interval: int) -> Leader | None:
        """The best over the trials that reached the interval of each one's best up to it.

        Ties go to the lower trial. None while no such trial has a finite value up to it.
        """
        assert self._leaders is not None, "the history tracks no LEADERS"
        return self._leaders.at(interval)

    def mean(self, trial: int, interval: int) -> float | None:
        """The mean of the trial's finite values up to an interval that it has reached."""
        assert self._means is not None, "the history tracks no MEANS"
        return self._means.of(trial, interval)

    def mean_count(self, interval: int) -> int:
        """How many trials that reached the interval have a running mean there."""
        assert self._means is not None, "the history tracks no MEANS"
        return self._means.count(interval)

    def median_of_means(self, interval: int) -> float | None:
        """The median of the running means at an interval; of an even count, the middle two's mean."""
        assert self._means is not None, "the history tracks no MEANS"
        return self._means.median(interval)

    def reached(self, interval: int) -> int:
        """How many trials have a value at the interval, finite or not.

        Under `Track.UNFINISHED_VALUES` the finished ones are left out.
        """
        assert self._values is not None, "the history tracks no VALUES"
        return self._values.reached(interval)

    def strictly_better(self, value: float, interval: int) -> int:
        """How many of the `reached` trials have a finite value there that is better than this."""
        assert self._values is not None, "the history tracks no VALUES"
        return self._values.better_than(value, interval)

    def _refuse_finished(self, trial: int, verb: str) -> None:
        if trial in self._finished:
            raise InvalidTransitionError(
                f"trial {trial} is finished after interval {self.intervals(trial)}: "
                f"it cannot {verb}"
            )


class _Index:
    """What is kept up to date with the curves; each method does nothing unless overridden."""

    def add(self, trial: int, curve: _Curve) -> None:
        """The trial's curve has one more interval."""

    def cut(self, trial: int, curve: _Curve, interval: int) -> None:
        """The trial's curve, still whole, is about to lose what follows the interval."""

    def finish(self, trial: int, curve: _Curve) -> None:
        """The trial is finished."""


class _BestTrial(_Index):
    """The best trial; looked for among all when it was lost to a restart and is asked for."""

    def __init__(self, goal: Goal, curves: _Curves) -> None:
        self._goal = goal
        self._curves = curves
        self._held: Best | None = None
        self._is_lost = False

    def add(self, trial: int, curve: _Curve) -> None:
        value = curve.values[-1]
        if math.isfinite(value):
            self._offer(trial, len(curve.values), value)

    def cut(self, trial: int, curve: _Curve, interval: int) -> None:
        del curve
        if self._held is not None and self._held.trial == trial and self._held.interval > interval:
            self._held, self._is_lost = None, True

    def now(self) -> Best | None:
        if self._is_lost:
            self._look_through()
        return self._held

    def _offer(self, trial: int, interval: int, value: float) -> None:
        held = self._held
        if held is None or _ahead(self._goal, value, trial, held):
            self._held = Best(trial=trial, interval=interval, value=value)

    def _look_through(self) -> None:
        self._held = None  # an offer made meanwhile may have an equal at an earlier interval
        for trial, curve in self._curves.items():
            value = curve.best[-1]
            if not math.isnan(value):
                self._offer(trial, curve.values.index(value) + 1, value)
        self._is_lost = False


class _Leaders(_Index):
    """The leader of each interval; looked for among all when lost to a restart and asked for."""

    def __init__(self, goal: Goal, curves: _Curves) -> None:
        self._goal = goal
        self._curves = curves
        self._held: dict[int, Leader] = {}  # by interval
        self._lost: set[int] = set()  # intervals whose leader has to be looked for

    def add(self, trial: int, curve: _Curve) -> None:
        self._offer(trial, len(curve.values), curve.best[-1])

    def cut(self, trial: int, curve: _Curve, interval: int) -> None:
        for gone in range(interval + 1, len(curve.values) + 1):
            held = self._held.get(gone)
            if held is not None and held.trial == trial:
                del self._held[gone]
                self._lost.add(gone)

    def at(self, interval: int) -> Leader | None:
        if interval in self._lost:
            self._look_through(interval)
        return self._held.get(interval)

    def _offer(self, trial: int, interval: int, best: float) -> None:
        if math.isnan(best):
            return
        held = self._held.get(interval)
        if held is None or _ahead(self._goal, best, trial, held):
            self._held[interval] = Leader(best, trial)

    def _look_through(self, interval: int) -> None:
        for trial, curve in self._curves.items():
            if len(curve.best) >= interval:
                self._offer(trial, interval, curve.best[interval - 1])
        self._lost.remove(interval)


class _Means(_Index):
    """The running mean of each trial's finite values, and their order at each interval.

    Means are exact and rounded once. Added up in floats, the mean of 0.1, 0.1, 0.1 exceeds 0.1,
    and a constant curve would be stopped for being worse than itself.
    """

    def __init__(self) -> None:
        self._columns: defaultdict[int, array[float]] = defaultdict(lambda: array("d"))  # by trial
        self._orders: defaultdict[int, SortedList] = defaultdict(SortedList)  # by interval
        self._sums: dict[int, tuple[int, int]] = {}  # by running trial: as `_exact_sum` gives it

    def add(self, trial: int, curve: _Curve) -> None:
        column = self._columns[trial]
        total, count = self._sums.get(trial) or _exact_sum(curve.values[:-1])
        value = curve.values[-1]
        if math.isfinite(value):
            total, count = total + _exact(value), count + 1
        self._sums[trial] = total, count
        mean = _exact_mean(total, count) if count else math.nan
        column.append(mean)
        if count:
            self._orders[len(column)].add(mean)

    def cut(self, trial: int, curve: _Curve, interval: int) -> None:
        column = self._columns[trial]
        for gone in range(interval + 1, len(curve.values) + 1):
            if not math.isnan(column[gone - 1]):
                self._orders[gone].remove(column[gone - 1])
        del column[interval:]
        self._sums.pop(trial, None)  # added up again from what is left

    def finish(self, trial: int, curve: _Curve) -> None:
        del curve
        self._sums.pop(trial, None)

    def of(self, trial: int, interval: int) -> float | None:
        mean = self._columns[trial][interval - 1]
        return None if math.isnan(mean) else mean

    def count(self, interval: int) -> int:
        return len(self._orders[interval])

    def median(self, interval: int) -> float | None:
        order = self._orders[interval]
        if not order:
            return None
        lower, upper = order[(len(order) - 1) // 2], order[len(order) // 2]
        return _exact_mean(_exact(lower) + _exact(upper), 2)


class _Values(_Index):
    """The order of the finite values at each interval, and how many trials reached it."""

    def __init__(self, goal: Goal, *, unfinished_only: bool) -> None:
        self._goal = goal
        self._unfinished_only = unfinished_only
        self._orders: defaultdict[int, SortedList] = defaultdict(SortedList)  # by interval
        self._reached: Counter[int] = Counter()  # by interval

    def add(self, trial: int, curve: _Curve) -> None:
        del trial
        value, interval = curve.values[-1], len(curve.values)
        self._reached[interval] += 1
        if math.isfinite(value):
            self._orders[interval].add(value)

    def cut(self, trial: int, curve: _Curve, interval: int) -> None:
        del trial
        for gone in range(interval + 1, len(curve.values) + 1):
            self._reached[gone] -= 1
            if math.isfinite(curve.values[gone - 1]):
                self._orders[gone].remove(curve.values[gone - 1])

    def finish(self, trial: int, curve: _Curve) -> None:
        if self._unfinished_only:
            self.cut(trial, curve, 0)

    def reached(self, interval: int) -> int:
        return self._reached[interval]

    def better_than(self, value: float, interval: int) -> int:
        order = self._orders[interval]
        if self._goal is Goal.MAXIMIZE:
            return len(order) - int(order.bisect_right(value))
        return int(order.bisect_left(value))


def _ahead(goal: Goal, value: float, trial: int, held: Leader | Best) -> bool:
    """Whether a trial takes the lead: by its value, or by its number where they are equal."""
    return goal.better(value, held.value) or (value == held.value and trial < held.trial)


def _exact(value: float) -> int:
    """A finite float as a multiple of the smallest one."""
    numerator, denominator = value.as_integer_ratio()  # the denominator is a power of two
    return numerator << (_SMALLEST + 1 - denominator.bit_length())


def _exact_sum(values: array[float]) -> tuple[int, int]:
    """The exact sum of the finite values, as a multiple of the smallest float, and their count."""
    finite = [_exact(value) for value in values if math.isfinite(value)]
    return sum(finite), len(finite)


def _exact_mean(total: int, count: int) -> float:
    """An exact sum over a count, rounded to the nearest float (dividing ints rounds once)."""
    return total / (count << _SMALLEST)
