"""`rs.Optimizer`: every sampler, asked and told by hand."""

from __future__ import annotations

import importlib.util
import pickle
from typing import Any

import numpy as np
import pytest

import raysweep as rs
from raysweep.core.samplers import Sampler, trial_seed
from raysweep.core.spec import SweepSpec
from raysweep.runtime import proposals
from raysweep.runtime.local import Step, simulate

SPACE = {"x": rs.uniform(-1, 1), "n": rs.randint(3)}
COUNTABLE = {"n": rs.randint(3), "c": rs.choice(["a", "b"])}

SAMPLERS = [rs.Random(seed=7), rs.Sobol(seed=7), rs.Bayesian(seed=7), rs.Optuna(seed=7)]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.kind)


def value(params: Any) -> float:  # noqa: ANN401  (params)
    """Something to make small."""
    return float(params["x"] ** 2 + params["n"])


def optimizer(sampler: Sampler | None = None, **options: Any) -> rs.Optimizer:  # noqa: ANN401  (of the optimizer)
    """One that minimizes y."""
    return rs.Optimizer(options.pop("space", SPACE), rs.minimize("y"), sampler, **options)


@every_sampler
def test_proposes_what_a_sweep_proposes(sampler: Sampler) -> None:
    """Asked and told in turn, the trials are those of a sweep on one slot."""
    spec = SweepSpec(
        name="t",
        space=rs.Space(SPACE),
        objective=rs.minimize("y"),
        sampler=sampler,
        seed=7,
        limits=rs.Limits(max_total_trials=15, max_concurrent_trials=1),
    )

    def trial(params: Any, seed: int, start: int) -> Any:  # noqa: ANN401  (a simulated trial)
        del seed, start
        yield Step(seconds=1.0, metrics={"y": value(params)})

    known: list[Any] = []
    opt = optimizer(sampler)
    for _ in range(15):
        asked = opt.ask()
        known.append((asked.params, asked.seed))
        opt.tell(asked, y=value(asked.params))
    if not sampler.learns:  # a sweep proposes one trial ahead of what is known
        trials = simulate(spec, trial, slots=1).state.trials
        assert [(each.params, trial_seed(7, each.number)) for each in trials] == known
    assert [(proposals.draw(spec, [], range(1))[0], trial_seed(7, 0))] == known[:1]


@every_sampler
def test_finds_something_good(sampler: Sampler) -> None:
    """The best is the one with the smallest value, by number, parameters and value."""
    opt = optimizer(sampler)
    values = []
    for _ in range(20):
        trial = opt.ask()
        values.append(value(trial.params))
        opt.tell(trial, y=values[-1])
    best = int(np.argmin(values))
    assert (best, values[best]) == (opt.best.number, opt.best.value)
    assert opt.best.params == opt.trials[best].params


@every_sampler
def test_several_may_be_asked_for_before_one_is_told(sampler: Sampler) -> None:
    """They differ, and may be told in any order."""
    opt = optimizer(sampler)
    trials = [*opt.ask(4), opt.ask()]
    assert [0, 1, 2, 3, 4] == [trial.number for trial in trials]
    assert 5 == len({trial.params["x"] for trial in trials})
    for trial in reversed(trials):
        opt.tell(trial, y=value(trial.params))
    assert 5 == opt.ask().number


def test_the_first_trials_are_the_initial_points() -> None:
    """In their order, of the types that a draw has."""
    opt = optimizer(initial=[{"x": 1, "n": 2}, {"x": 0.5, "n": 0}])
    assert [{"x": 1.0, "n": 2}, {"x": 0.5, "n": 0}] == [trial.params for trial in opt.ask(2)]


def test_parameters_may_be_numpy_s() -> None:
    """As a row of a table has them; what comes out is Python's own."""
    params = optimizer(initial=[{"x": np.float32(0.5), "n": np.int64(2)}]).ask().params
    assert ({"x": 0.5, "n": 2}, int) == (params, type(params["n"]))


def test_an_initial_point_needs_every_parameter() -> None:
    """The error says which point lacks which."""
    with pytest.raises(rs.SpecError, match=r"initial\[1\]: params must have a value for 'n'"):
        optimizer(initial=[{"x": 1, "n": 2}, {"x": 0.5}])


@pytest.mark.parametrize("given", [None, 5, {"x": 1, "n": 2}])
def test_initial_points_are_a_list(given: Any) -> None:  # noqa: ANN401  (anything)
    """One point alone, or none, is refused by what was given."""
    with pytest.raises(rs.SpecError, match=r"initial must be a list, but got"):
        optimizer(initial=given)


@every_sampler
def test_its_trials_are_its_own(sampler: Sampler) -> None:
    """Whoever asked may take the values apart: what the sampler knows and the best stay whole."""
    opt, twin = optimizer(sampler), optimizer(sampler)
    for _ in range(8):
        trial, other = opt.ask(), twin.ask()
        opt.tell(trial, y=trial.params.pop("x"))
        twin.tell(other, y=other.params["x"])
        opt.trials[-1].params.clear()
    opt.best.params.clear()
    assert (twin.best, twin.trials, twin.ask()) == (opt.best, opt.trials, opt.ask())


def test_begins_with_results_that_are_given() -> None:
    """A sampler that learns goes where they were good; those outside of the space are left out."""
    results = [({"x": x / 10, "n": 0}, (x / 10 - 0.5) ** 2) for x in range(-20, 10)]
    opt = optimizer(rs.Bayesian(seed=1), warm_start=results)
    assert abs(opt.ask().params["x"] - 0.5) < 0.3
    assert "begins with 20 of the 30 results" in opt.notices[0]


class TestTold:
    """What a trial is told."""

    def test_a_value_on_the_way_counts_and_does_not_end_it(self) -> None:
        """A trial counts with the best of its values."""
        opt = optimizer()
        trial = opt.ask()
        for y, done in ((0.5, False), (0.25, False), (0.75, True)):
            opt.tell(trial, y=y, done=done)
        assert 0.25 == opt.best.value

    def test_by_number_and_with_other_metrics(self) -> None:
        """A number will do for a trial, and metrics may come as a mapping."""
        opt = rs.Optimizer(SPACE, rs.maximize("val/acc"))
        opt.tell(opt.ask().number, {"val/acc": np.float32(0.5)}, loss=2)
        assert 0.5 == opt.best.value

    @pytest.mark.parametrize("told", [{"failed": True}, {"y": float("nan")}])
    def test_a_trial_may_end_without_a_value(self, told: dict[str, Any]) -> None:
        """It failed, or came to no number: it is never the best."""
        opt = optimizer(rs.Bayesian(seed=1))
        opt.tell(opt.ask(), **told)
        assert not opt._observations()[0].pending
        with pytest.raises(rs.NoTrialCompletedError, match="no finite value of 'y'"):
            _ = opt.best

    def test_no_value_where_it_failed(self) -> None:
        """Whether it counted, nobody could tell; it is told on the way, or not."""
        opt = optimizer()
        trial = opt.ask()
        with pytest.raises(
            rs.MetricError, match="trial 0 cannot both fail and have a value of 'y'"
        ):
            opt.tell(trial, y=-100.0, failed=True)
        opt.tell(trial, y=float("nan"), failed=True)

    def test_only_what_was_asked_of_it(self) -> None:
        """Another optimizer's trial has other parameters; a mapping is none at all."""
        opt, other = optimizer(rs.Random(seed=1)), optimizer(rs.Random(seed=2))
        opt.ask()
        theirs = other.ask()
        with pytest.raises(rs.UserError, match="trial 0 was asked of another optimizer"):
            opt.tell(theirs, y=1.0)
        with pytest.raises(
            rs.UserError, match=r"must be what ask\(\) gave, or its number, but got"
        ):
            opt.tell(theirs.params, y=1.0)

    def test_nothing_once_it_has_ended(self) -> None:
        """Told twice is a mistake, whatever it is told."""
        opt = optimizer()
        trial = opt.ask()
        opt.tell(trial, y=1.0)
        with pytest.raises(rs.UserError, match="trial 0 has ended already"):
            opt.tell(trial, failed=True)

    def test_not_before_it_is_asked_for(self) -> None:
        """The error says which trials there are."""
        opt = optimizer()
        with pytest.raises(rs.UserError, match="but got 0 before any was"):
            opt.tell(0, y=1.0)
        opt.ask(2)
        with pytest.raises(rs.UserError, match="0 to 1, but got 2"):
            opt.tell(2, y=1.0)

    @pytest.mark.parametrize("given", [0.5, 0.0, "good"])
    def test_by_name_alone(self, given: Any) -> None:  # noqa: ANN401  (anything)
        """A bare value is refused with how it is told."""
        opt = optimizer()
        with pytest.raises(rs.MetricError, match=r"by name.* but got .*; tell\(trial, \{'y': "):
            opt.tell(opt.ask(), given)

    def test_the_objective_is_needed(self) -> None:
        """Without it the error names what was told."""
        opt = optimizer()
        trial = opt.ask()
        with pytest.raises(rs.MetricError, match=r"trial 0 must be told 'y', but got \['z'\]"):
            opt.tell(trial, z=1.0)
        opt.tell(trial, y=1.0)


@pytest.mark.parametrize("sampler", [rs.Grid(), rs.Bayesian(seed=1)], ids=["grid", "bayesian"])
def test_says_when_there_is_none_left(sampler: Sampler) -> None:
    """What is left comes out, then asking is an error."""
    opt = optimizer(sampler, space=COUNTABLE)
    assert 6 == len(opt.ask(10))
    with pytest.raises(rs.ExhaustedError, match="no trial left to propose: all 6 were asked for"):
        opt.ask()


def test_travels() -> None:
    """Pickled and unpickled, it goes on."""
    opt = optimizer(rs.Bayesian(seed=1))
    for _ in range(8):
        trial = opt.ask()
        opt.tell(trial, y=value(trial.params))
    again = pickle.loads(pickle.dumps(opt))
    assert opt.ask() == again.ask()


def test_a_name_is_no_sampler() -> None:
    """The error says what is."""
    with pytest.raises(rs.SpecError, match=r"sampler must be one of .* but got 'bayesian'"):
        optimizer("bayesian")  # type: ignore[arg-type]


def test_refuses_what_the_sampler_cannot_do() -> None:
    """Optuna's mistakes are told when it is made."""
    with pytest.raises(rs.SpecError, match="did you mean 'TPESampler'"):
        optimizer(rs.Optuna("TPEsampler"))
    if importlib.util.find_spec("cmaes") is None:
        with pytest.raises(rs.SpecError, match="pip install cmaes"):
            optimizer(rs.Optuna("CmaEsSampler"))


def test_auto_says_what_it_chose() -> None:
    """By the space, as nobody knows how many trials will be asked for."""
    opt = rs.Optimizer({"x": rs.uniform(0, 1)}, rs.minimize("y"), rs.Auto(seed=3))
    assert rs.Bayesian(seed=3) == opt.spec.sampler
    assert opt.notices[0].startswith("sampler auto is bayesian: ")


@pytest.mark.parametrize("sampler", [rs.Bayesian(seed=1), rs.Optuna(seed=1)])
def test_parameters_are_the_caller_s_own(sampler: Any) -> None:  # noqa: ANN401  (any sampler)
    """Who takes some out of them changes nothing of what is known."""
    spoilt, opt = optimizer(sampler), optimizer(sampler)
    for _ in range(6):
        one, other = spoilt.ask(), opt.ask()
        assert one == other
        spoilt.tell(one, y=value(one.params))
        opt.tell(other, y=value(other.params))
        one.params.clear()
    assert opt.best == spoilt.best
