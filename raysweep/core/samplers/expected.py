"""What is to be expected of trials that were stopped early, or still run.

One rule: a trial that ended by itself counts with what it found. One that did not counts with what
it showed and with what those that went on gained from there: the median of their gains. Nothing is
expected to be better than the best that was really found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raysweep.core.samplers.sampler import Observation

MOST_WHOLE = 512  # trials that ended by themselves and are compared with, the latest


def expected_scores(known: Sequence[Observation]) -> npt.NDArray[np.float64]:
    """A score for each trial, greater is better; NaN for one that has shown nothing.

    >>> done = Observation(trial=0, params={}, score=0.9, curve=(0.5, 0.7, 0.9))
    >>> cut = Observation(trial=1, params={}, score=0.4, curve=(0.4,), stopped=True)
    >>> expected_scores([done, cut]).round(3).tolist()
    [0.9, 0.8]
    """
    scores = np.array([np.nan if each.score is None else each.score for each in known])
    short = [
        at
        for at, each in enumerate(known)
        if each.score is not None and (each.stopped or each.pending)
    ]
    whole = [
        each
        for each in known
        if each.score is not None and each.curve and not (each.stopped or each.pending)
    ]
    if not short or not whole:
        return scores
    top = max(each.score for each in whole if each.score is not None)
    bests = _bests(whole[-MOST_WHOLE:])
    ends = np.array([each.score for each in whole[-MOST_WHOLE:]])
    gains: dict[int, float] = {}  # by interval
    for at in short:
        reached = len(known[at].curve)
        if reached not in gains:
            gains[reached] = _gain(bests, ends, reached)
        scores[at] = max(scores[at], min(scores[at] + gains[reached], top))
    return scores


def _bests(whole: Sequence[Observation]) -> npt.NDArray[np.float64]:
    """The best up to each interval, shape (trials, intervals); NaN before the first and past the last."""
    longest = max(len(each.curve) for each in whole)
    table = np.full((len(whole), longest), np.nan)
    for row, each in zip(table, whole, strict=True):
        values = np.asarray(each.curve)
        row[: len(values)] = np.where(np.isfinite(values), values, -np.inf)
        row[: len(values)] = np.maximum.accumulate(row[: len(values)])
    table[np.isneginf(table)] = np.nan
    return table


def _gain(bests: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], interval: int) -> float:
    """The median of what trials gained from an interval to their end; 0 where nobody went on."""
    if not 1 <= interval <= bests.shape[1]:
        return 0.0
    gains = ends - bests[:, interval - 1]
    gains = gains[np.isfinite(gains)]
    return float(np.median(gains)) if len(gains) else 0.0
