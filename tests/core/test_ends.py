"""How samplers that learn begin, and what they do when a finite space ends."""

from __future__ import annotations

import json
from typing import cast

import numpy as np

from raysweep.core.samplers.ends import first, untried
from raysweep.core.space import Space, choice, qnormal, randint, uniform

SPACE = Space({"x": uniform(0, 1), "n": randint(9), "c": choice(["a", "b", {"y": uniform(2, 4)}])})


def test_the_first_trial_is_in_the_middle_of_all_numbers() -> None:
    """Options have no middle: they are drawn."""
    params = [first(SPACE, 0, seed) for seed in range(20)]
    assert {(0.5, 4)} == {(each["x"], each["n"]) for each in params}
    assert 3 == len({json.dumps(each["c"]) for each in params})


def test_later_trials_lie_denser_towards_the_middle_and_reach_everywhere() -> None:
    """Those beside the very first ones lie further out."""

    def x(trial: int, seed: int) -> float:
        return cast("float", first(SPACE, trial, seed)["x"])

    inner = [x(trial, seed) for trial in (1, 2, 3) for seed in range(100)]
    outer = [x(trial, 7) for trial in range(4, 304)]
    assert np.std(inner) < np.std(outer) < np.sqrt(1 / 12)
    assert min(outer) < 0.05
    assert max(outer) > 0.95


def test_what_is_left_is_what_has_not_been_tried() -> None:
    """In the order of the space; nothing where all was tried or nothing can be counted."""
    space = Space({"n": randint(3), "c": choice(["a", "b"])})
    points = [space.to_unit(space.at(number)).tobytes() for number in range(6)]
    assert {"n": 0, "c": "b"} == untried(space, {points[0], points[3]}, ())
    assert untried(space, set(points), ()) is None
    assert untried(SPACE, set(), ()) is None


def test_candidates_come_first_and_the_best_of_an_endless_space_again() -> None:
    """A finite space has what is left instead, whatever the candidates."""
    space = Space({"n": randint(3)})
    points = [space.to_unit({"n": n}) for n in range(3)]
    one = {points[1].tobytes()}
    assert {"n": 2} == untried(space, one, [points[1], points[2]])
    assert {"n": 0} == untried(space, one, [points[1]])
    endless = Space({"n": qnormal(0, 1, 1)})
    often = [endless.to_unit({"n": n}) for n in (0, 1)]
    assert {"n": 0} == untried(endless, {each.tobytes() for each in often}, often)
