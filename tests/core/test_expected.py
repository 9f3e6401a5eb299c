from __future__ import annotations

import numpy as np

from raysweep.core.samplers import Observation
from raysweep.core.samplers.expected import expected_scores


def seen(*curve: float, stopped: bool = False, pending: bool = False) -> Observation:
    """A trial with this curve."""
    best = max((value for value in curve if np.isfinite(value)), default=None)
    return Observation(
        trial=0, params={}, score=best, curve=curve, stopped=stopped, pending=pending
    )


def test_a_trial_that_ended_by_itself_counts_with_what_it_found() -> None:
    """And one that showed nothing has no score."""
    scores = expected_scores([seen(0.1, 0.5, 0.3), seen(), seen(np.nan)])
    assert 0.5 == scores[0]
    assert np.isnan(scores[1:]).all()


def test_a_stopped_trial_gains_what_others_gained_from_there() -> None:
    """The median over those that went on, of their best up to that interval."""
    whole = [seen(0.5, 0.4, 0.6), seen(0.2, 0.3, 0.5), seen(0.1, 0.6, 0.9)]
    scores = expected_scores([*whole, seen(0.3, 0.2, stopped=True)])
    assert 0.3 + 0.2 == scores[3]  # gains 0.1, 0.2, 0.3


def test_a_running_trial_counts_alike() -> None:
    """It has not shown all that is in it."""
    scores = expected_scores([seen(0.2, 0.6), seen(0.1, pending=True)])
    assert 0.1 + (0.6 - 0.2) == scores[1]


def test_nothing_is_expected_to_beat_the_best_that_was_found() -> None:
    """A promise is no result."""
    scores = expected_scores([seen(0.1, 0.9), seen(0.8, stopped=True)])
    assert 0.9 == scores[1]


def test_what_a_trial_has_found_is_not_taken_from_it() -> None:
    """A running trial may be better than all that ended."""
    scores = expected_scores([seen(0.1, 0.5), seen(0.8, pending=True)])
    assert 0.8 == scores[1]


def test_where_nobody_went_further_nothing_is_gained() -> None:
    """A trial that is longer than all others counts with what it showed."""
    scores = expected_scores([seen(0.1, 0.5), seen(0.1, 0.1, 0.2, stopped=True)])
    assert 0.2 == scores[1]


def test_values_that_are_not_finite_are_no_gain() -> None:
    """Neither of those that are compared with nor of the trial itself."""
    whole = [seen(np.nan, 0.5), seen(-np.inf, 0.2, 0.4), seen(0.1, np.inf, 0.3)]
    scores = expected_scores([*whole, seen(0.1, stopped=True), seen(np.nan, 0.1, stopped=True)])
    assert 0.1 + (0.3 - 0.1) == scores[3]
    assert np.isfinite(scores).all()
