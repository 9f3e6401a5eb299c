"""The design's "Policies, exactly", transcribed sentence by sentence: slow, plain, obviously right.

One rule: it shares nothing with the implementation. All that a sweep was told is a `Seen`; every
question is answered from there, from scratch, by looking at all of it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What counts of a sweep so far."""

    goal: str  # "maximize" or "minimize"
    curves: Mapping[int, Sequence[float]]  # curves[t][i - 1] is v(t, i)
    finished: Collection[int] = ()  # the trials in a terminal state

    def at(self, k: int) -> dict[int, list[float]]:
        """Intervals 1..k of the trials that have reached interval k."""
        return {t: list(curve[:k]) for t, curve in self.curves.items() if len(curve) >= k}

    def worse(self, a: float, b: float) -> bool:
        """Whether a is worse than b; equal is not worse."""
        return a < b if self.goal == "maximize" else a > b

    def best(self, values: Sequence[float]) -> float | None:
        """The best of the finite values, if there is one."""
        numbers = finite(values)
        if not numbers:
            return None
        return max(numbers) if self.goal == "maximize" else min(numbers)


def stops(kind: str, parameters: Mapping[str, Any], seen: Seen, trial: int) -> bool:
    """Whether the policy stops the trial at its last interval."""
    k = len(seen.curves[trial])
    if kind == "none" or not applies(k, parameters):
        return False
    if kind == "bandit":
        return bandit_stops(parameters, seen, trial, k)
    if kind == "median_stopping":
        return median_stops(seen, trial, k)
    if kind == "truncation_selection":
        return truncation_stops(parameters, seen, trial, k)
    raise AssertionError(f"the transcription knows no policy {kind!r}")


def applies(k: int, parameters: Mapping[str, Any]) -> bool:
    """From `delay_evaluation` on, at the multiples of `evaluation_interval` (0, absent: 1)."""
    every: int = parameters.get("evaluation_interval", 0)
    delay: int = parameters.get("delay_evaluation", 0)
    if every == 0:
        every = 1
    return k >= delay and k % every == 0


def bandit_stops(parameters: Mapping[str, Any], seen: Seen, trial: int, k: int) -> bool:
    """Stop when its own best up to k is outside the slack around B."""
    those = seen.at(k)
    bests = [seen.best(curve) for curve in those.values()]
    b = seen.best([best for best in bests if best is not None])
    own = seen.best(those[trial])
    if b is None:
        return False
    if own is None:
        return True
    return seen.worse(own, threshold(parameters, seen.goal, b))


def threshold(parameters: Mapping[str, Any], goal: str, b: float) -> float:
    """What is worse than this is outside the slack."""
    if parameters.get("slack_amount") is not None:
        a: float = parameters["slack_amount"]
        return b - a if goal == "maximize" else b + a
    f: float = parameters["slack_factor"]
    if b == 0:
        return 0.0
    if goal == "maximize":
        return b / (1 + f) if b > 0 else b * (1 + f)
    return b * (1 + f) if b > 0 else b / (1 + f)


def median_stops(seen: Seen, trial: int, k: int) -> bool:
    """Stop when its best up to k is worse than the median of the running means of 1..k."""
    those = seen.at(k)
    means = sorted(statistics.mean(finite(curve)) for curve in those.values() if finite(curve))
    if not means:
        return False
    half = len(means) // 2
    middle = [means[half]] if len(means) % 2 == 1 else [means[half - 1], means[half]]
    own = seen.best(those[trial])
    if own is None:
        return True
    return seen.worse(own, statistics.mean(middle))


def truncation_stops(parameters: Mapping[str, Any], seen: Seen, trial: int, k: int) -> bool:
    """Stop when m >= 1 and at least n - m trials are strictly better at k, or its value is none."""
    those = seen.at(k)
    if parameters.get("exclude_finished_jobs", False):
        those = {t: curve for t, curve in those.items() if t == trial or t not in seen.finished}
    n = len(those)
    m: int = n * parameters["truncation_percentage"] // 100
    own = those[trial][k - 1]
    if m < 1:
        return False
    if not math.isfinite(own):
        return True
    values = finite([curve[k - 1] for curve in those.values()])
    return len([value for value in values if seen.worse(own, value)]) >= n - m


def best_trial(seen: Seen) -> tuple[int, int, float] | None:
    """The trial, interval and value of the best; ties: the lower trial, then the earlier."""
    best = seen.best([value for curve in seen.curves.values() for value in curve])
    if best is None:
        return None
    where = [
        (t, i)
        for t, curve in seen.curves.items()
        for i, value in enumerate(curve, start=1)
        if value == best
    ]
    return (*min(where), best)


def finite(values: Sequence[float]) -> list[float]:
    """Those values that are numbers."""
    return [value for value in values if math.isfinite(value)]
