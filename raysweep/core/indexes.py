"""The indexes of a history: what a policy's question needs, kept from report to report.

One rule: an index follows from the curves and the finished trials. What `kept` gives is what it would
be slow to work out again; `restore` takes it back, with the curves, and leaves the index as it was.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from raysweep.core.curves import BEST, MEAN, VALUE, Best, Curve, Curves, Goal, Leader
from raysweep.core.order import Order

_SMALLEST = 1074
"""Every finite float is a whole multiple of 2**-1074, the smallest float above zero."""


class Index:
    """What is kept up to date with the curves; each method does nothing unless overridden."""

    def add(self, trial: int, curve: Curve) -> None:
        """The trial's curve has one more interval."""

    def cut(self, trial: int, curve: Curve, interval: int) -> None:
        """The trial's curve, still whole, is about to lose what follows the interval."""

    def finish(self, trial: int, curve: Curve) -> None:
        """The trial is finished."""

    def kept(self) -> list[Any]:
        """What a snapshot keeps of the index, as plain lists."""
        return []

    def restore(self, kept: list[Any], curves: Curves, finished: Collection[int]) -> None:
        """Be as the index was that gave `kept`; nothing was added here before."""


class BestTrial(Index):
    """The best trial; looked for among all when it was lost to a restart and is asked for."""

    def __init__(self, goal: Goal, curves: Curves) -> None:
        self._goal = goal
        self._curves = curves
        self._held: Best | None = None
        self._is_lost = False

    def add(self, trial: int, curve: Curve) -> None:
        """The trial's curve has one more interval."""
        value = curve.last(VALUE)
        if math.isfinite(value):
            self._offer(trial, len(curve), value)

    def add_all(self, trial: int, curve: Curve, values: Sequence[float]) -> None:
        """The trial's curve has these values more."""
        if finite := [value for value in values if math.isfinite(value)]:
            best = self._goal.best(finite)
            self._offer(trial, len(curve) - len(values) + values.index(best) + 1, best)

    def cut(self, trial: int, curve: Curve, interval: int) -> None:
        """The trial's curve is about to lose what follows the interval."""
        del curve
        if self._held is not None and self._held.trial == trial and self._held.interval > interval:
            self._held, self._is_lost = None, True

    def kept(self) -> list[Any]:
        """What a snapshot keeps."""
        held = self._held
        return [held and [held.trial, held.interval, held.value], self._is_lost]

    def restore(self, kept: list[Any], curves: Curves, finished: Collection[int]) -> None:
        """Be as the index was that gave `kept`."""
        del curves, finished
        held, self._is_lost = kept
        if held is not None:
            trial, interval, value = held
            self._held = Best(trial=trial, interval=interval, value=value)

    def now(self) -> Best | None:
        """The best trial; None without a finite value."""
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
            value = curve.last(BEST)
            if not math.isnan(value):
                self._offer(trial, curve.column(VALUE).index(value) + 1, value)
        self._is_lost = False


class Leaders(Index):
    """The leader of each interval; looked for among all when lost to a restart and asked for."""

    def __init__(self, goal: Goal, curves: Curves) -> None:
        self._goal = goal
        self._curves = curves
        self._held: dict[int, Leader] = {}  # by interval
        self._lost: set[int] = set()  # intervals whose leader has to be looked for

    def add(self, trial: int, curve: Curve) -> None:
        """The trial's curve has one more interval."""
        self._offer(trial, len(curve), curve.last(BEST))

    def cut(self, trial: int, curve: Curve, interval: int) -> None:
        """The trial's curve is about to lose what follows the interval."""
        for gone in range(interval + 1, len(curve) + 1):
            held = self._held.get(gone)
            if held is not None and held.trial == trial:
                del self._held[gone]
                self._lost.add(gone)

    def kept(self) -> list[Any]:
        """What a snapshot keeps."""
        held = [[interval, *leader] for interval, leader in self._held.items()]
        return [held, sorted(self._lost)]

    def restore(self, kept: list[Any], curves: Curves, finished: Collection[int]) -> None:
        """Be as the index was that gave `kept`."""
        del curves, finished
        held, lost = kept
        self._held = {interval: Leader(value, trial) for interval, value, trial in held}
        self._lost = set(lost)

    def at(self, interval: int) -> Leader | None:
        """The leader of an interval, if it has one."""
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
            if len(curve) >= interval:
                self._offer(trial, interval, curve.at(interval, BEST))
        self._lost.remove(interval)


class Means(Index):
    """The running mean of each trial's finite values, and their order at each interval.

    Means are exact and rounded once. Added up in floats, the mean of 0.1, 0.1, 0.1 exceeds 0.1,
    and a constant curve would be stopped for being worse than itself.
    """

    def __init__(self, curves: Curves) -> None:
        self._curves = curves
        self._orders: defaultdict[int, Order] = defaultdict(Order)  # by interval
        self._sums: dict[int, tuple[int, int]] = {}  # by running trial: as `_exact_sum` gives it

    def add(self, trial: int, curve: Curve) -> None:
        """The trial's curve has one more interval."""
        total, count = self._sums.get(trial) or _exact_sum(curve.column(VALUE)[:-1])
        value = curve.last(VALUE)
        if math.isfinite(value):
            total, count = total + _exact(value), count + 1
        self._sums[trial] = total, count
        mean = _exact_mean(total, count) if count else math.nan
        curve.note_mean(mean)
        if count:
            self._orders[len(curve)].add(mean)

    def cut(self, trial: int, curve: Curve, interval: int) -> None:
        """The trial's curve is about to lose what follows the interval."""
        for gone, mean in enumerate(curve.column(MEAN)[interval:], interval + 1):
            if not math.isnan(mean):
                self._orders[gone].remove(mean)
        self._sums.pop(trial, None)  # added up again from what is left

    def finish(self, trial: int, curve: Curve) -> None:
        """The trial is finished."""
        del curve
        self._sums.pop(trial, None)

    def kept(self) -> list[Any]:
        """What a snapshot keeps."""
        return [[trial, curve.column(MEAN).tobytes()] for trial, curve in self._curves.items()]

    def restore(self, kept: list[Any], curves: Curves, finished: Collection[int]) -> None:
        """Be as the index was that gave `kept`."""
        del finished  # the sums are added up again when they are needed
        columns = {trial: array("d", column) for trial, column in kept if column}
        for trial, column in columns.items():
            curves[trial].fill(MEAN, column)
        self._orders.update(_orders(columns.values()))

    def of(self, trial: int, interval: int) -> float | None:
        """The trial's running mean at an interval, if it has a finite value by then."""
        mean = self._curves[trial].at(interval, MEAN)
        return None if math.isnan(mean) else mean

    def count(self, interval: int) -> int:
        """How many trials have a running mean at an interval."""
        return len(self._orders[interval])

    def median(self, interval: int) -> float | None:
        """The median of the running means at an interval."""
        order = self._orders[interval]
        if not order:
            return None
        upper = order[len(order) // 2]
        if len(order) % 2:
            return upper
        lower = order[len(order) // 2 - 1]
        return _exact_mean(_exact(lower) + _exact(upper), 2)


class Values(Index):
    """The order of the finite values at each interval, and how many trials reached it."""

    def __init__(self, goal: Goal, *, unfinished_only: bool) -> None:
        self._goal = goal
        self._unfinished_only = unfinished_only
        self._orders: defaultdict[int, Order] = defaultdict(Order)  # by interval
        self._reached: Counter[int] = Counter()  # by interval

    def add(self, trial: int, curve: Curve) -> None:
        """The trial's curve has one more interval."""
        del trial
        value, interval = curve.last(VALUE), len(curve)
        self._reached[interval] += 1
        if math.isfinite(value):
            self._orders[interval].add(value)

    def cut(self, trial: int, curve: Curve, interval: int) -> None:
        """The trial's curve is about to lose what follows the interval."""
        del trial
        for gone, value in enumerate(curve.column(VALUE)[interval:], interval + 1):
            self._reached[gone] -= 1
            if math.isfinite(value):
                self._orders[gone].remove(value)

    def finish(self, trial: int, curve: Curve) -> None:
        """The trial is finished."""
        if self._unfinished_only:
            self.cut(trial, curve, 0)

    def restore(self, kept: list[Any], curves: Curves, finished: Collection[int]) -> None:
        """Be as the index was that gave `kept`."""
        del kept
        left_out = finished if self._unfinished_only else ()
        columns = [c.column(VALUE) for trial, c in curves.items() if trial not in left_out]
        lengths = Counter(map(len, columns))
        reached = 0
        for interval in range(max(lengths, default=0), 0, -1):
            reached += lengths[interval]
            self._reached[interval] = reached
        self._orders.update(_orders(columns))

    def reached(self, interval: int) -> int:
        """How many trials have a value at the interval."""
        return self._reached[interval]

    def better_than(self, value: float, interval: int) -> int:
        """How many finite values at the interval are better than this one."""
        order = self._orders[interval]
        if self._goal is Goal.MAXIMIZE:
            return len(order) - order.up_to(value)
        return order.below(value)


def _orders(columns: Collection[array[float]]) -> Iterator[tuple[int, Order]]:
    """The order of the finite values at each interval, each sorted once."""
    longest = sorted(columns, key=len, reverse=True)
    for interval in range(len(longest[0]) if longest else 0):
        while len(longest[-1]) <= interval:
            longest.pop()
        found = [column[interval] for column in longest]
        yield interval + 1, Order(filter(math.isfinite, found))


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
