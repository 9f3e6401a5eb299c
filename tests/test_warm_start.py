"""A sweep that begins with the results of an earlier one, or with points of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raysweep as rs
from raysweep.core.samplers import Sampler
from raysweep.core.spec import SweepSpec
from raysweep.errors import SweepNotFoundError
from raysweep.result import Result
from raysweep.runtime.local import Step, simulate
from raysweep.storage.folder import find_sweep

SPACE = {"x": rs.uniform(0, 1), "n": rs.randint(4)}


def train(trial: Any) -> None:  # noqa: ANN401  (a trial)
    """Nothing: these sweeps are not run on Ray."""


def sweep(storage: Path, **changes: Any) -> rs.Sweep:  # noqa: ANN401  (of the sweep)
    """A sweep of six trials, maximizing `score`."""
    fields: dict[str, Any] = {
        "space": SPACE,
        "objective": rs.maximize("score"),
        "sampler": rs.Bayesian(seed=3),
        "limits": rs.Limits(max_total_trials=6, max_concurrent_trials=1),
        "name": "later",
        "storage": str(storage),
    }
    return rs.Sweep(train, **fields | changes)


def ended(made: rs.Sweep) -> Result:
    """The sweep, run on a virtual clock; its last trial comes to no number."""

    def trial(params: Any, seed: int, start: int) -> Iterator[Step]:  # noqa: ANN401  (params)
        del seed, start
        score = float("nan") if params["n"] == 3 else params["x"]
        yield Step(seconds=1.0, metrics={made.spec.objective.metric: score})

    folder = made.create()
    simulate(made.spec, trial, slots=1, journal=folder.path / "journal")
    return Result(folder)


@pytest.fixture
def earlier(tmp_path: Path) -> Result:
    """A sweep that was run before."""
    points = [{"x": x / 8, "n": n} for x, n in ((1, 0), (2, 1), (3, 3), (4, 2), (5, 0), (6, 1))]
    return ended(sweep(tmp_path, name="earlier", sampler=rs.Random(seed=1), try_first=points))


EXPECTED = [
    ({"x": x / 8, "n": n}, x / 8) for x, n in ((1, 0), (2, 1), (4, 2), (5, 0), (6, 1))
]  # fmt: skip


def pairs(spec: SweepSpec) -> list[tuple[Any, float]]:
    """What a sweep begins with."""
    return [(each.params, each.value) for each in spec.earlier]


def test_takes_every_finite_best_in_order(earlier: Result, tmp_path: Path) -> None:
    """By result, by name in its own storage, or with the storage before the name."""
    for source in (earlier, "earlier", f"{tmp_path}/earlier"):
        assert EXPECTED == pairs(sweep(tmp_path, warm_start=source).spec)
    elsewhere = sweep(tmp_path / "other", warm_start=f"{tmp_path}/earlier/")
    assert EXPECTED == pairs(elsewhere.spec)


def test_says_how_many(earlier: Result, tmp_path: Path) -> None:
    """A line for people before it runs."""
    made = sweep(tmp_path, warm_start=earlier)
    assert ("warm start: begins with the 5 results of sweep 'earlier'",) == made.notices


def test_auto_chooses_one_that_learns(tmp_path: Path) -> None:
    """Where it would go through the few combinations that there are; what holds is said, once."""
    made = sweep(tmp_path, space={"n": rs.randint(6)}, sampler=rs.Auto(seed=1))
    assert "grid" == made.spec.sampler.kind
    for n in range(2):
        made.warm_start([({"n": n}, 0.5)])
        assert rs.Bayesian(seed=1) == made.spec.sampler
        chosen, begins = made.notices
        assert chosen.startswith("sampler auto is bayesian")
        assert begins.startswith("warm start: begins with the 1 results")


def test_what_lies_outside_of_the_space_is_left_out(earlier: Result, tmp_path: Path) -> None:
    """And the line says how many of how many, and why."""
    made = sweep(tmp_path, warm_start=earlier, space={"x": rs.uniform(0.4, 1), "n": rs.randint(4)})
    assert EXPECTED[2:] == pairs(made.spec)
    expected = (
        "warm start: begins with 3 of the 5 results of sweep 'earlier'; the others lie outside of"
        " this search space (the first: x: uniform value must be from 0.4 to 1, but got 0.125)"
    )
    assert (expected,) == made.notices


def test_is_kept_with_the_sweep(earlier: Result, tmp_path: Path) -> None:
    """The earlier sweep is not needed again."""
    made = sweep(tmp_path, warm_start=earlier, try_first=[{"x": 1, "n": 0}])
    made.create()
    spec = find_sweep(tmp_path, "later").read_spec()
    assert (EXPECTED, ({"x": 1.0, "n": 0},)) == (pairs(spec), spec.try_first)
    assert made.spec == spec


def test_the_first_trials_are_the_points_to_try(tmp_path: Path) -> None:
    """Those that the sampler proposes come after them."""
    points = [{"x": 0.5, "n": 3}, {"n": 1, "x": 0.25}]
    result = ended(sweep(tmp_path, try_first=points))
    trials = [trial.params for trial in result.trials]
    assert (6, points) == (len(trials), trials[:2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": rs.Sobol()}, "the sobol sampler does not learn; use bayesian, tpe, auto or optuna"),
        (
            {"objective": rs.minimize("score")},
            "sweep 'earlier' was to maximize 'score', and this one is to minimize 'score'",
        ),
        ({"objective": rs.maximize("loss")}, "this one is to maximize 'loss'"),
        (
            {"space": {"y": rs.uniform(0, 1)}},
            "none of the 5 results of sweep 'earlier' lies in this search space; of the first: params",
        ),
    ],
)  # fmt: skip
def test_what_would_be_of_no_use_is_refused(
    earlier: Result, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """With what to do."""
    with pytest.raises(rs.SpecError) as caught:
        sweep(tmp_path, warm_start=earlier, **changes)
    assert message in str(caught.value)


def test_a_name_that_is_not_there_is_refused(earlier: Result, tmp_path: Path) -> None:
    """With the nearest that is."""
    del earlier
    with pytest.raises(SweepNotFoundError, match="earlier"):
        sweep(tmp_path, warm_start="earlie")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "warm_start must be a sweep's name, a Result or a list of (params, value), but got 7"),
        ([({"x": 1, "n": 0},)], "warm_start[0] must be (params, value)"),
        ([({"x": 1, "n": 0}, "good")], "warm_start[0] value must be a number, but got 'good'"),
        ([({"x": 1, "n": 0}, float("inf"))], "the list given has no finite value of 'score'"),
        ([({"x": 1, "n": 0}, 10**400)], "warm_start[0] value must be a number, but got a whole"),
        ([({"x": 1, "n": 0}, True)], "warm_start[0] value must be a number, but got True"),
        ("", "warm_start must not be empty"),
        ("/", "warm_start must be NAME or STORAGE/NAME, but got '/'"),
    ],
)
def test_results_that_are_none_are_refused(tmp_path: Path, given: Any, message: str) -> None:  # noqa: ANN401  (anything)
    """By name and value."""
    with pytest.raises(rs.SpecError) as caught:
        sweep(tmp_path, warm_start=given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "sampler", [rs.Bayesian(), rs.Tpe(), rs.Auto(), rs.Optuna("BruteForceSampler")]
)
def test_a_space_that_has_been_gone_through_is_refused(tmp_path: Path, sampler: Sampler) -> None:
    """A sweep without a trial would be all that comes of it; two of three leave one to try."""
    results = [({"n": n}, 0.5) for n in (0, 1, 1, 2)]
    space = {"n": rs.randint(3)}
    with pytest.raises(rs.SpecError, match="all 3 combinations of this search space have a result"):
        sweep(tmp_path, sampler=sampler, space=space, warm_start=results)
    with pytest.raises(rs.SpecError, match="all 3 combinations of this search space have a result"):
        rs.Optimizer(space, rs.maximize("score"), sampler, warm_start=results)
    left = rs.Optimizer(space, rs.maximize("score"), sampler, warm_start=results[:3])
    assert {"n": 2} == left.ask().params


def test_more_points_than_trials_are_told(tmp_path: Path) -> None:
    """The sweep may be given more trials later; what is left out is said."""
    points = [{"x": x / 8, "n": 0} for x in range(8)]
    made = sweep(tmp_path, try_first=points)
    assert ("try_first has 8 points for 6 trials: the last 2 are not tried",) == made.notices
    assert () == sweep(tmp_path, try_first=points[:6]).notices


def test_values_may_be_numbers_of_any_library(tmp_path: Path) -> None:
    """As those that are reported."""
    point, numpys = {"x": 0.5, "n": 0}, {"x": np.float64(0.5), "n": np.int64(0)}
    made = sweep(tmp_path, warm_start=[(point, np.float32(0.5)), (numpys, np.array([2]))])
    assert [0.5, 2.0] == [each.value for each in made.spec.earlier]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (7, "try_first must be a list, but got 7"),
        ({"x": 0.5, "n": 0}, "try_first must be a list, but got {"),
        ([{"x": 0.5}], "try_first[0]: params must have a value for 'n', but got ['x']"),
        ([{"x": 0.5, "n": 0, "m": 1}], "try_first[0]: params has no key 'm'"),
        ([{"x": 2, "n": 0}], "try_first[0]: x: uniform value must be from 0 to 1, but got 2"),
        ([{"x": 1, "n": 0}, {"n": 0, "x": 1.0}], "try_first[1] is the same as try_first[0]"),
        (["x"], "try_first[0]: params must be a mapping"),
    ],
)
def test_points_that_cannot_be_tried_are_refused(tmp_path: Path, points: Any, message: str) -> None:  # noqa: ANN401  (anything)
    """By their place, before anything starts."""
    with pytest.raises(rs.SpecError) as caught:
        sweep(tmp_path, try_first=points)
    assert message in str(caught.value)
