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
from bisect import bisect_left
from collections.abc import Sequence
from enum import Flag, auto
from typing import Any, Self

from raysweep.core.curves import BEST, MEAN, VALUE, Best, Curve, Curves, Goal, Leader
from raysweep.core.indexes import BestTrial, Index, Leaders, Means, Values
from raysweep.errors import InvalidTransitionError

FEW = 4  # values that are added one by one as fast

__all__ = ["Best", "Goal", "History", "Leader", "Track"]


class Track(Flag):
    """What a history keeps for every interval, because a policy asks for it."""

    NONE = 0
    LEADERS = auto()  # the leader: `leader`
    MEANS = auto()  # running means, in order: `mean`, `mean_count`, `median_of_means`
    VALUES = auto()  # values, in order: `reached`, `strictly_better`
    UNFINISHED_VALUES = auto()  # the same without the finished trials; outranks VALUES


class History:
    """Every trial's curve, with the indexes that the policy of the sweep tracks.

    A value takes 16 bytes, in an order 8 more to 24 more. Questions about an index that is not
    tracked fail an assertion.
    """

    def __init__(self, goal: Goal, tracks: Track) -> None:
        self.goal = goal
        self.tracks = tracks
        self._curves: Curves = {}
        self._width = MEAN + 1 if Track.MEANS in tracks else BEST + 1  # of every curve
        self._finished = (
            bytearray()
        )  # by trial, up to the last finished one: 1 where it is finished
        self._best = BestTrial(goal, self._curves)
        self._leaders = Leaders(goal, self._curves) if Track.LEADERS in tracks else None
        self._means = Means(self._curves) if Track.MEANS in tracks else None
        self._values: Values | None = None
        if tracks & (Track.VALUES | Track.UNFINISHED_VALUES):
            self._values = Values(goal, unfinished_only=Track.UNFINISHED_VALUES in tracks)
        kept = (self._best, self._leaders, self._means, self._values)
        self._indexes: tuple[Index, ...] = tuple(index for index in kept if index is not None)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same curves, bit by bit, and the same finished trials."""
        if not isinstance(other, History):
            return NotImplemented
        ours, theirs = self._curves, other._curves
        return (
            self.goal is other.goal
            and self._finished == other._finished
            and ours.keys() == theirs.keys()
            and all(
                ours[t].column(VALUE).tobytes() == theirs[t].column(VALUE).tobytes() for t in ours
            )
        )

    __hash__ = None  # type: ignore[assignment]  # it changes, and is compared by content

    def kept(self) -> list[Any]:
        """All that a snapshot keeps, as plain lists, numbers and bytes: `History.restored` reads it."""
        curves = [
            [trial, curve.column(VALUE).tobytes(), curve.column(BEST).tobytes()]
            for trial, curve in self._curves.items()
        ]
        finished = [trial for trial, is_so in enumerate(self._finished) if is_so]
        return [curves, finished, [index.kept() for index in self._indexes]]

    @classmethod
    def restored(cls, goal: Goal, tracks: Track, kept: list[Any]) -> Self:
        """The history that gave `kept`, which answers every question as that one would."""
        history = cls(goal, tracks)
        curves, finished, indexes = kept
        for trial, values, best in curves:
            columns = [array("d", values), array("d", best)]
            history._curves[trial] = Curve.of(history._width, columns)
        for trial in finished:
            history._note_finished(trial)
        for index, told in zip(history._indexes, indexes, strict=True):
            index.restore(told, history._curves, frozenset(finished))
        return history

    def add(self, trial: int, value: float) -> int:
        """Append a value, finite or not, to the trial's curve and return its interval.

        Raises:
            InvalidTransitionError: The trial is finished.
        """
        curve = self._growing(trial)
        interval = curve.append(float(value), self.goal)
        for index in self._indexes:
            index.add(trial, curve)
        return interval

    def add_all(self, trial: int, values: Sequence[float]) -> None:
        """Append values as `add` does each, all at once where no policy tracks anything.

        Raises:
            InvalidTransitionError: The trial is finished.
        """
        if self.tracks or len(values) < FEW:
            for value in values:
                self.add(trial, value)
            return
        curve = self._growing(trial)
        curve.extend(values, self.goal)
        self._best.add_all(trial, curve, values)

    def _growing(self, trial: int) -> Curve:
        """The curve of a trial that reports, which may be its first time."""
        self._refuse_finished(trial, "report")
        curve = self._curves.get(trial)
        if curve is None:
            curve = self._curves[trial] = Curve(self._width)
        return curve

    def restart(self, trial: int, interval: int) -> None:
        """Take out what the trial reported after this interval: an attempt starts there.

        Raises:
            InvalidTransitionError: The trial is finished.
        """
        self._refuse_finished(trial, "start again")
        curve = self._curves.get(trial)
        if curve is None or len(curve) <= interval:
            return
        for index in self._indexes:
            index.cut(trial, curve, interval)
        curve.cut(interval)
        if not curve.rows:
            del self._curves[trial]

    def finish(self, trial: int) -> None:
        """Note that the trial is in a terminal state; its curve stays. A second time is nothing."""
        if self._is_finished(trial):
            return
        self._note_finished(trial)
        curve = self._curves.get(trial)
        if curve is None:
            return
        for index in self._indexes:
            index.finish(trial, curve)
        curve.settle()

    def intervals(self, trial: int) -> int:
        """How many intervals the trial has."""
        curve = self._curves.get(trial)
        return 0 if curve is None else len(curve)

    def curve(self, trial: int) -> Sequence[float]:
        """The trial's value at each interval."""
        curve = self._curves.get(trial)
        return () if curve is None else curve.column(VALUE)

    def value(self, trial: int, interval: int) -> float:
        """The trial's value at an interval that it has reached."""
        return self._curves[trial].at(interval, VALUE)

    def best(self, trial: int, interval: int | None = None) -> float | None:
        """The trial's best finite value up to an interval (the last one), if it has any yet."""
        reached = self.intervals(trial)
        upto = reached if interval is None else min(interval, reached)
        if upto < 1:
            return None
        best = self._curves[trial].at(upto, BEST)
        return None if math.isnan(best) else best

    def best_interval(self, trial: int, interval: int) -> int:
        """The interval at which the trial's best up to this one was first reported; 0 without one."""
        best = self.best(trial, interval)
        if best is None:
            return 0
        curve, upto = self._curves[trial], range(1, min(interval, self.intervals(trial)) + 1)
        return upto[bisect_left(upto, True, key=lambda k: curve.at(k, BEST) == best)]

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

    def _is_finished(self, trial: int) -> bool:
        return trial < len(self._finished) and bool(self._finished[trial])

    def _note_finished(self, trial: int) -> None:
        self._finished.extend(bytes(max(0, trial + 1 - len(self._finished))))
        self._finished[trial] = True

    def _refuse_finished(self, trial: int, verb: str) -> None:
        if self._is_finished(trial):
            raise InvalidTransitionError(
                f"trial {trial} is finished after interval {self.intervals(trial)}: "
                f"it cannot {verb}"
            )
