"""Policies of early termination: whether a trial goes on after a report.

One rule: a policy is frozen data that answers from a `History`. It keeps nothing, changes nothing
and judges only the trial that has just reported, so that its answer can be journaled and never has
to be asked for again. Asked right after `History.add`, it returns `GO_ON` or a stop with its reason
in numbers.

The rules are those of Azure Machine Learning's early termination policies
(https://learn.microsoft.com/azure/machine-learning/how-to-tune-hyperparameters), whose names the
parameters keep; where Azure is silent (a best of zero or below, values that are not finite) the
rule is in the class.

To add a policy:
1. Write a frozen, keyword-only dataclass with `kind`, `tracks` and `decide`; check its fields when
   it is made. In `decide` the guards come first and the comparison last.
2. Let `tracks` name the indexes that it asks the history for. If it needs one that is not there,
   write it beside the others in `history.py`, at a cost that does not grow with the trials.
3. Add it to `POLICIES`.
4. Write its rule, from its definition and not from its code, into
   `tests/contracts/transcription.py` and its parameters into `tests/contracts/test_policies.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from raysweep.core import checks
from raysweep.core.events import GO_ON, Decision
from raysweep.core.history import Goal, History, Track
from raysweep.errors import SpecError


class Policy(Protocol):
    """Decides on a report whether the trial goes on."""

    kind: ClassVar[str]

    @property
    def tracks(self) -> Track:
        """The indexes of the history that `decide` asks for."""
        ...

    def decide(self, history: History, trial: int, interval: int) -> Decision:
        """Judge the trial at the interval that it has just reported."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NoPolicy:
    """Every trial runs to its end."""

    kind: ClassVar[str] = "none"
    tracks: ClassVar[Track] = Track.NONE

    def decide(self, history: History, trial: int, interval: int) -> Decision:
        """Go on."""
        del history, trial, interval
        return GO_ON


@dataclass(frozen=True, kw_only=True, slots=True)
class Bandit:
    """Stops a trial whose best is outside the slack around the best of all.

    The best of all, B, is taken over the trials that reached the interval, of each one's best up to
    it. To maximize, the limit is `B - slack_amount`, or `B / (1 + slack_factor)` where B is at least
    zero and `B * (1 + slack_factor)` where it is below; to minimize, `B + slack_amount`, or the
    same two the other way round. So the limit is never better than B, and the leader never stops
    itself.
    """

    kind: ClassVar[str] = "bandit"
    tracks: ClassVar[Track] = Track.LEADERS

    slack_factor: float | None = None  # a ratio: 0.2 allows a fifth
    slack_amount: float | None = None  # in the primary metric's unit
    evaluation_interval: int = 1  # apply at its multiples; 0 means 1
    delay_evaluation: int = 0  # apply from this interval on

    def __post_init__(self) -> None:
        _check_schedule(self.evaluation_interval, self.delay_evaluation)
        if self.slack_factor is None and self.slack_amount is None:
            raise SpecError("bandit needs slack_factor or slack_amount, but got neither: give one")
        if self.slack_factor is not None and self.slack_amount is not None:
            raise SpecError(
                f"bandit takes slack_factor or slack_amount, but got both ({self.slack_factor} and"
                f" {self.slack_amount}): leave one out"
            )
        if self.slack_factor is not None:
            checks.number("slack_factor", self.slack_factor, at_least=0)
        if self.slack_amount is not None:
            checks.number("slack_amount", self.slack_amount, at_least=0)

    def decide(self, history: History, trial: int, interval: int) -> Decision:
        """Stop when the trial's best up to the interval is worse than the limit."""
        if not _applies(interval, self.evaluation_interval, self.delay_evaluation):
            return GO_ON
        leader = history.leader(interval)
        if leader is None:
            return GO_ON
        best = history.best(trial, interval)
        if best is None:
            return _stop(
                f"bandit: no finite value yet at interval {interval}"
                f" (best: {_shown(leader.value)}, trial {leader.trial})"
            )
        limit, slack = self._limit(leader.value, history.goal)
        if not history.goal.better(limit, best):
            return GO_ON
        digits = _digits_to_tell(best, limit)
        return _stop(
            f"bandit: best {_worse(best, limit, history.goal, digits)}"
            f" = {_shown(leader.value, digits)} {slack}"
            f" at interval {interval} (best: trial {leader.trial})"
        )

    def _limit(self, best: float, goal: Goal) -> tuple[float, str]:
        """The worst value within the slack, and how it comes from the best of all."""
        if self.slack_amount is not None:
            if goal is Goal.MAXIMIZE:
                return best - self.slack_amount, f"- {self.slack_amount:g}"
            return best + self.slack_amount, f"+ {self.slack_amount:g}"
        assert self.slack_factor is not None
        if (goal is Goal.MAXIMIZE) == (best >= 0):
            return best / (1 + self.slack_factor), f"/ (1 + {self.slack_factor:g})"
        return best * (1 + self.slack_factor), f"* (1 + {self.slack_factor:g})"


@dataclass(frozen=True, kw_only=True, slots=True)
class MedianStopping:
    """Stops a trial whose best is worse than the median of the running means.

    The median is taken over the trials that reached the interval, of the mean of each one's finite
    values up to it; a trial without a finite value has no mean.
    """

    kind: ClassVar[str] = "median_stopping"
    tracks: ClassVar[Track] = Track.MEANS

    evaluation_interval: int = 1  # apply at its multiples; 0 means 1
    delay_evaluation: int = 0  # apply from this interval on

    def __post_init__(self) -> None:
        _check_schedule(self.evaluation_interval, self.delay_evaluation)

    def decide(self, history: History, trial: int, interval: int) -> Decision:
        """Stop when the trial's best up to the interval is worse than the median."""
        if not _applies(interval, self.evaluation_interval, self.delay_evaluation):
            return GO_ON
        median = history.median_of_means(interval)
        if median is None:
            return GO_ON
        means = _counted(history.mean_count(interval), "running mean")
        best = history.best(trial, interval)
        if best is None:
            return _stop(
                f"median_stopping: no finite value yet at interval {interval}"
                f" (median of {means}: {_shown(median)})"
            )
        if not history.goal.better(median, best):
            return GO_ON
        digits = _digits_to_tell(best, median)
        return _stop(
            f"median_stopping: best {_worse(best, median, history.goal, digits)}"
            f" = median of {means} at interval {interval}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TruncationSelection:
    """Stops the worst percentage of the trials that have a value at the interval.

    With n such trials, `m = n * truncation_percentage // 100` of them are the worst: those that at
    least n - m others beat, and, where m is at least 1, one whose value is not finite.
    """

    kind: ClassVar[str] = "truncation_selection"

    truncation_percentage: int  # whole, 1 to 99
    evaluation_interval: int = 1  # apply at its multiples; 0 means 1
    delay_evaluation: int = 0  # apply from this interval on
    exclude_finished_jobs: bool = False  # leave trials in a terminal state out of n

    def __post_init__(self) -> None:
        checks.whole("truncation_percentage", self.truncation_percentage, at_least=1, at_most=99)
        _check_schedule(self.evaluation_interval, self.delay_evaluation)
        checks.truth("exclude_finished_jobs", self.exclude_finished_jobs)

    @property
    def tracks(self) -> Track:
        """Values in order, with or without those of the finished trials."""
        return Track.UNFINISHED_VALUES if self.exclude_finished_jobs else Track.VALUES

    def decide(self, history: History, trial: int, interval: int) -> Decision:
        """Stop when the trial's value at the interval is among the worst."""
        if not _applies(interval, self.evaluation_interval, self.delay_evaluation):
            return GO_ON
        count = history.reached(interval)
        worst = count * self.truncation_percentage // 100
        if worst < 1:
            return GO_ON
        value = history.value(trial, interval)
        if not math.isfinite(value):
            return self._stop(f"{value} is not finite", interval)
        better = history.strictly_better(value, interval)
        if better < count - worst:
            return GO_ON
        return self._stop(f"{better} of {count} trials are better than {_shown(value)}", interval)

    def _stop(self, why: str, interval: int) -> Decision:
        return _stop(
            f"truncation_selection: {why} at interval {interval};"
            f" the worst {self.truncation_percentage} % are stopped"
        )


_ALL: tuple[type[Policy], ...] = (NoPolicy, Bandit, MedianStopping, TruncationSelection)

POLICIES: Mapping[str, type[Policy]] = {policy.kind: policy for policy in _ALL}
"""Every policy by its kind."""


def _check_schedule(evaluation_interval: int, delay_evaluation: int) -> None:
    checks.whole("evaluation_interval", evaluation_interval, at_least=0)
    checks.whole("delay_evaluation", delay_evaluation, at_least=0)


def _applies(interval: int, evaluation_interval: int, delay_evaluation: int) -> bool:
    return interval >= delay_evaluation and interval % max(1, evaluation_interval) == 0


def _stop(reason: str) -> Decision:
    return Decision(stop=True, reason=reason)


def _worse(value: float, limit: float, goal: Goal, digits: int) -> str:
    sign = "<" if goal is Goal.MAXIMIZE else ">"
    return f"{_shown(value, digits)} {sign} {_shown(limit, digits)}"


def _digits_to_tell(a: float, b: float) -> int:
    """How many digits more than usual two different numbers need, not to be shown as equal."""
    digits = 0
    while float(_shown(a, digits)) == float(_shown(b, digits)):
        digits += 1
    return digits


def _shown(value: float, more: int = 0) -> str:
    """A number as a reason shows it: 3 significant digits below 1, at least 4 from there on.

    Up to a million the digits before the point stay. Rounding so keeps the order of two numbers.

    >>> _shown(2 / 3), _shown(4 / 3), _shown(12345.6), _shown(1234567.8), _shown(2 / 3, more=2)
    ('0.667', '1.333', '12346', '1.235e+06', '0.66667')
    """
    size = abs(value)
    digits = 3 if size < 1 else 4
    if size < 1e6:  # noqa: PLR2004  (the docstring's million)
        digits = max(digits, len(str(int(size))))
    return f"{value:.{digits + more}g}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
