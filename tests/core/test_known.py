"""Where known trials lie: placed once, the same from every thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np
import pytest

from raysweep.core.samplers import Observation, Random, known
from raysweep.core.samplers.known import units
from raysweep.core.space import Space, choice, uniform
from raysweep.errors import SpecError

SPACE = Space({"x": uniform(0, 1), "head": choice([None, {"rate": uniform(0, 2)}])})


def _observations(count: int) -> list[Observation]:
    drawn = [Random().propose(SPACE, (), trial, 3) for trial in range(count)]
    return [Observation(trial=trial, params=params) for trial, params in enumerate(drawn)]


def test_a_row_is_where_the_space_places_a_trial() -> None:
    """Each row is `to_unit`'s, NaN where inactive, in the order of the trials."""
    shown = _observations(40)
    expected = np.array([SPACE.to_unit(each.params) for each in shown])
    for order in (shown, shown[::-1]):
        assert np.array_equal(expected, units(SPACE, order), equal_nan=True)
        expected = expected[::-1]


def test_no_trials_are_no_rows() -> None:
    """The shape is there without any."""
    assert units(SPACE, []).shape == (0, 3)


def test_a_trial_is_placed_once() -> None:
    """Shown again, with others, and in a new observation, a trial is not placed again."""
    shown = _observations(10)
    units(SPACE, shown)
    again = [Observation(trial=each.trial, params=each.params, score=1.0) for each in shown]
    with patch.object(Space, "to_unit", side_effect=AssertionError):
        assert units(SPACE, again[3:]).shape == (7, 3)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep after sweep over one space, no more than the last few trials are held."""
    monkeypatch.setattr(known, "MOST_KEPT", 50)
    for _ in range(10):
        units(SPACE, _observations(30))
    assert len(known._places(SPACE)._kept) <= 90


def test_threads_get_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads that place and forget at once get what one gets."""
    shown = _observations(200)
    expected = np.array([SPACE.to_unit(each.params) for each in shown])
    monkeypatch.setattr(known, "MOST_KEPT", 20)
    with ThreadPoolExecutor(8) as askers:
        found = list(askers.map(lambda end: units(SPACE, shown[:end]), range(1, 201)))
    for rows in found:
        assert np.array_equal(expected[: len(rows)], rows, equal_nan=True)


def test_foreign_parameters_are_refused() -> None:
    """What the space does not draw has no place in it."""
    with pytest.raises(SpecError, match="params must have a value for 'head'"):
        units(SPACE, [Observation(trial=0, params={"x": 0.5})])
