"""Optuna's samplers in a sweep: what they are told, and that they answer as they do alone."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from raysweep.core.samplers import Observation, Optuna
from raysweep.core.space import (
    Space,
    choice,
    lognormal,
    loguniform,
    qloguniform,
    quniform,
    randint,
    uniform,
)
from raysweep.core.spec import Earlier, Limits, SweepSpec, maximize, minimize
from raysweep.errors import SpecError
from raysweep.runtime import optuna_study
from raysweep.runtime.optuna_parameters import parameters_of
from raysweep.runtime.proposals import check, draw

Params = Mapping[str, Any]

SPACE = Space(
    {
        "lr": loguniform(1e-5, 1e-1),
        "layers": randint(5),
        "drop": quniform(0, 1, 0.25),
        "act": choice(["relu", None, 3]),
        "model": choice(["linear", {"depth": randint(3), "scale": uniform(0, 1)}]),
    }
)
LINE = Space({"x": uniform(0, 1)})
COUNTABLE = Space({"a": randint(3), "b": choice(["u", "v"])})


def spec(sampler: Optuna, space: Space = SPACE, **changes: Any) -> SweepSpec:  # noqa: ANN401  (fields)
    """A sweep with this sampler."""
    fields: dict[str, Any] = {
        "name": "t",
        "space": space,
        "objective": maximize("y"),
        "sampler": sampler,
        "seed": 7,
        "limits": Limits(max_total_trials=1000),
    }
    return SweepSpec(**fields | changes)


def score(params: Params) -> float:
    """Something to make large."""
    inside = params["model"]
    bonus = inside["scale"] if isinstance(inside, dict) else 0.2
    return float(bonus - abs(params["layers"] - 2) - 10 * params["lr"] + (params["act"] == "relu"))


def suggested(trial: optuna.Trial) -> dict[str, Any]:
    """The same space, as a user of Optuna writes it."""
    params = {
        "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
        "layers": trial.suggest_int("layers", 0, 4),
        "drop": trial.suggest_float("drop", 0, 1, step=0.25),
        "act": trial.suggest_categorical("act", ["relu", None, 3]),
    }
    if trial.suggest_categorical("model", [0, 1]) == 0:
        return {**params, "model": "linear"}
    depth = trial.suggest_int("model[1].depth", 0, 2)
    return {
        **params,
        "model": {"depth": depth, "scale": trial.suggest_float("model[1].scale", 0, 1)},
    }


def in_turn(sweep: SweepSpec, count: int, known: list[Observation] | None = None) -> list[Params]:
    """Trials proposed one after another, each with its result before the next."""
    known = [] if known is None else known
    for number in range(len(known), len(known) + count):
        for params in draw(sweep, known, range(number, number + 1)):
            known.append(Observation(trial=number, params=params, score=score(params)))
    return [each.params for each in known]


def told(sweep: SweepSpec) -> list[FrozenTrial]:
    """The trials of a sweep's study."""
    return optuna_study._studies[id(sweep)]._study.get_trials(deepcopy=False)


def states(sweep: SweepSpec) -> list[TrialState]:
    """Their states."""
    return [trial.state for trial in told(sweep)]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without Optuna's line for each study of a test."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize(
    ("name", "count"),
    [("TPESampler", 30), ("GPSampler", 13), ("RandomSampler", 10), ("NSGAIISampler", 60)],
)
def test_answers_as_optuna_alone(name: str, count: int) -> None:
    """One after another, a sampler of the same seed proposes what it proposes in a study of one's own."""
    sampler = getattr(optuna.samplers, name)(seed=7)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    expected = []
    for _ in range(count):
        trial = study.ask()
        expected.append(suggested(trial))
        study.tell(trial, score(expected[-1]))
    assert expected == in_turn(spec(Optuna(name)), count)


def test_a_smaller_value_is_better_where_it_is_minimized() -> None:
    """Scores come turned: the study maximizes them, and finds the smallest value."""
    sweep = spec(Optuna(), LINE, objective=minimize("y"))
    known: list[Observation] = []
    away = []
    for number in range(40):
        (params,) = draw(sweep, known, range(number, number + 1))
        away.append(abs(params["x"] - 0.3))
        known.append(Observation(trial=number, params=params, score=-away[-1]))
    assert sum(each < 0.1 for each in away[20:]) > 7


class TestTold:
    """What a study holds after a proposal."""

    def test_a_trial_that_runs_runs(self) -> None:
        """With the values that it has reported, those that are no numbers left out."""
        sweep = spec(Optuna(), LINE)
        (params,) = draw(sweep, [], range(1))
        curve = (0.5, float("nan"), 0.7)
        draw(sweep, [Observation(trial=0, params=params, pending=True, curve=curve)], range(1, 2))
        assert [TrialState.RUNNING] * 2 == states(sweep)
        assert {1: 0.5, 3: 0.7} == told(sweep)[0].intermediate_values

    def test_those_that_are_asked_for_at_once_run(self) -> None:
        """Each knows of those before it."""
        sweep = spec(Optuna(), LINE)
        draw(sweep, [], range(4))
        assert [TrialState.RUNNING] * 4 == states(sweep)

    def test_ends_are_told_by_what_they_were(self) -> None:
        """Completed with the best value, pruned with the curve, failed."""
        sweep = spec(Optuna(), LINE)
        one, two, three = draw(sweep, [], range(3))
        known = [
            Observation(trial=0, params=one, score=0.9, curve=(0.9, 0.8)),
            Observation(trial=1, params=two, score=0.3, stopped=True, curve=(0.3, 0.2)),
            Observation(trial=2, params=three),
        ]
        draw(sweep, known, range(3, 4))
        assert [
            (TrialState.COMPLETE, 0.9, {1: 0.9, 2: 0.8}),
            (TrialState.PRUNED, 0.2, {1: 0.3, 2: 0.2}),
            (TrialState.FAIL, None, {}),
        ] == [(each.state, each.value, each.intermediate_values) for each in told(sweep)[:3]]

    def test_only_what_is_new_is_told(self) -> None:
        """The same study is told the rest of a curve, and the end."""
        sweep = spec(Optuna(), LINE)
        (params,) = draw(sweep, [], range(1))
        study = optuna_study._studies[id(sweep)]._study
        first = Observation(trial=0, params=params, pending=True, score=0.5, curve=(0.5,))
        second = Observation(trial=0, params=params, score=0.6, curve=(0.5, 0.6))
        (other,) = draw(sweep, [first], range(1, 2))
        draw(sweep, [second, Observation(trial=1, params=other, pending=True)], range(2, 3))
        assert study is optuna_study._studies[id(sweep)]._study
        assert [TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING] == states(sweep)

    def test_a_number_that_is_asked_for_again_runs_once(self) -> None:
        """The proposal before, which nobody used, does not run for ever."""
        sweep = spec(Optuna(), LINE)
        (params,) = draw(sweep, [], range(1))
        known = [Observation(trial=0, params=params, pending=True)]
        draw(sweep, known, range(1, 3))
        draw(sweep, known, range(1, 2))
        expected = [TrialState.RUNNING, TrialState.FAIL, TrialState.FAIL, TrialState.RUNNING]
        assert expected == states(sweep)

    def test_a_trial_that_went_back_is_told_anew(self) -> None:
        """Another attempt began before the last values: the study knows the shorter curve only."""
        sweep = spec(Optuna(), LINE)
        (params,) = draw(sweep, [], range(1))
        for curve in ((0.5, 0.9), (0.5,)):
            draw(
                sweep, [Observation(trial=0, params=params, pending=True, curve=curve)], range(1, 2)
            )
        running = [each for each in told(sweep) if each.state == TrialState.RUNNING]
        assert [{1: 0.5}, {}] == [each.intermediate_values for each in running]

    def test_another_end_than_was_told_makes_the_study_anew(self) -> None:
        """Nothing of what is no longer known is left."""
        sweep = spec(Optuna(), LINE)
        (params,) = draw(sweep, [], range(1))
        draw(sweep, [Observation(trial=0, params=params, score=0.5)], range(1, 2))
        draw(sweep, [Observation(trial=0, params=params, score=0.4)], range(1, 2))
        assert [0.4, None] == [each.value for each in told(sweep)]

    def test_results_of_an_earlier_sweep_are_completed_trials(self) -> None:
        """They come first, with their values turned."""
        earlier = (Earlier(params={"x": 0.25}, value=2.0), Earlier(params={"x": 0.5}, value=1.0))
        sweep = spec(Optuna(), LINE, earlier=earlier, objective=minimize("y"))
        draw(sweep, [], range(1))
        expected = [({"x": 0.25}, -2.0), ({"x": 0.5}, -1.0)]
        assert expected == [(each.params, each.value) for each in told(sweep)[:2]]


class TestMadeAnew:
    """A study in another process, or for another sweep."""

    @pytest.mark.parametrize("name", ["TPESampler", "NSGAIISampler", "RandomSampler"])
    def test_goes_on_elsewhere(self, name: str) -> None:
        """After a restart the trials are not those that came first, and all that is known is told."""
        known: list[Observation] = []
        in_turn(spec(Optuna(name)), 6, known)
        later = spec(Optuna(name))
        trials = in_turn(later, 6, [*known])
        assert len({json.dumps(params) for params in trials}) == 12
        assert [score(params) for params in trials[:-1]] == [t.value for t in told(later)[:-1]]

    def test_goes_on_with_its_sequence(self) -> None:
        """Quasi-random points after a restart are those that would have come."""
        sampler = Optuna("QMCSampler", options={"scramble": True})
        known: list[Observation] = []
        expected = in_turn(spec(sampler, LINE_AND_LAYERS), 12)
        in_turn(spec(sampler, LINE_AND_LAYERS), 6, known)
        assert expected == in_turn(spec(sampler, LINE_AND_LAYERS), 6, known)

    def test_two_sweeps_of_a_process_have_a_study_each(self) -> None:
        """Asked in turn, each answers as it does alone."""
        alone = in_turn(spec(Optuna()), 12)
        one, other = spec(Optuna()), spec(Optuna(), seed=8)
        known: list[Observation] = []
        for count in range(1, 13):
            in_turn(one, 1, known)
            in_turn(other, count)
        assert alone == [each.params for each in known]

    def test_a_look_ahead_changes_nothing(self) -> None:
        """Trials that were only shown are forgotten when the sweep begins."""
        sweep = spec(Optuna())
        draw(sweep, [], range(5))
        assert in_turn(spec(Optuna()), 12) == in_turn(sweep, 12)

    def test_a_study_goes_with_its_spec(self) -> None:
        """Nothing of a sweep that is gone is kept."""
        sweep = spec(Optuna())
        draw(sweep, [], range(1))
        gc.collect()
        there = len(optuna_study._studies)
        del sweep
        gc.collect()
        assert there - 1 == len(optuna_study._studies)


LINE_AND_LAYERS = Space(
    {
        "lr": loguniform(1e-5, 1e-1),
        "layers": randint(5),
        "act": choice(["relu"]),
        "model": choice(["linear"]),
    }
)


class TestTheEnd:
    """Samplers that go through a space."""

    @pytest.mark.parametrize(
        "sampler",
        [
            Optuna("BruteForceSampler"),
            Optuna("BruteForceSampler", options={"avoid_premature_stop": True}),
            Optuna("GridSampler", options={"search_space": {"a": [0, 1, 2], "b": ["u", "v"]}}),
        ],
        ids=["brute force", "strict brute force", "grid"],
    )
    @pytest.mark.parametrize("pending", [True, False])
    @pytest.mark.parametrize("restarted", [True, False])
    def test_every_combination_comes_once(
        self, sampler: Optuna, pending: bool, restarted: bool
    ) -> None:
        """Then there is none, whatever still runs, also after a restart."""
        sweep = spec(sampler, COUNTABLE)
        known: list[Observation] = []
        for number in range(9):
            if restarted and number == 3:
                sweep = spec(sampler, COUNTABLE)
            for params in draw(sweep, known, range(number, number + 1)):
                value = None if pending else 0.5
                known.append(Observation(trial=number, params=params, score=value, pending=pending))
        assert [COUNTABLE.at(index) for index in range(6)] == sorted(
            (dict(each.params) for each in known), key=lambda params: (params["a"], params["b"])
        )

    def test_a_number_that_is_asked_for_again_is_the_same(self) -> None:
        """A combination that was not used is not lost."""
        sweep = spec(Optuna("BruteForceSampler"), COUNTABLE)
        (first,) = draw(sweep, [], range(1))
        known = [Observation(trial=0, params=first, pending=True)]
        assert draw(sweep, known, range(1, 2)) == draw(sweep, known, range(1, 2))


class TestRefused:
    """What Optuna would refuse in the middle of a sweep is refused before it."""

    @pytest.mark.parametrize(
        ("sampler", "message"),
        [
            (lambda: Optuna("TPEsampler"), "optuna has no sampler 'TPEsampler'; did you mean 'TPESampler'"),
            (lambda: Optuna("PartialFixedSampler"), "optuna has no sampler 'PartialFixedSampler'"),
            (lambda: Optuna(options={"n_startup": 3}), "has no key 'n_startup'; did you mean 'n_startup_trials'"),
            (lambda: Optuna(options={"n_startup_trials": "x"}), "{'n_startup_trials': 'x'} for this space: TypeError"),
            (lambda: Optuna(options={"n_ei_candidates": 0}), "{'n_ei_candidates': 0} for this space: "),
            (lambda: Optuna(options={"gamma": "x"}), "gamma is an object of Python's"),
            (lambda: Optuna("BruteForceSampler"), "needs values to count, but 'x' has no steps"),
            (lambda: Optuna("GridSampler"), "search_space, but 'x' is not there; rs.Grid() needs no list"),
            (
                lambda: Optuna("GridSampler", options={"search_space": 3}),
                "search_space must have a list of values for each parameter, but got 3 (int)",
            ),
            (
                lambda: Optuna("GridSampler", options={"search_space": {"x": [2]}}),
                "GridSampler leaves the search space: x: uniform value must be from 0 to 1, but got 2",
            ),
        ],
    )  # fmt: skip
    def test_by_name(self, sampler: Callable[[], Optuna], message: str) -> None:
        """The error says what was wrong and what there is."""
        with pytest.raises(SpecError) as caught:
            check(spec(sampler(), LINE))
        assert message in str(caught.value)

    def test_a_sampler_whose_package_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is named, with the way to have it."""
        monkeypatch.setitem(optuna_study.NEEDS, "CmaEsSampler", "no_such_package")
        with pytest.raises(SpecError, match="pip install no_such_package"):
            check(spec(Optuna("CmaEsSampler"), LINE))

    def test_a_python_without_optuna(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before anything starts, with the line that installs it."""
        import raysweep.runtime

        monkeypatch.setitem(sys.modules, "optuna", None)
        monkeypatch.delitem(sys.modules, "raysweep.runtime.optuna_study")
        monkeypatch.delattr(raysweep.runtime, "optuna_study")
        with pytest.raises(SpecError, match=r"pip install 'raysweep\[optuna\]'"):
            check(spec(Optuna(), LINE))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (uniform(0, 2), "FloatDistribution(high=2.0, log=False, low=0.0, step=None)"),
        (loguniform(1, 2), "FloatDistribution(high=2.0, log=True, low=1.0, step=None)"),
        (randint(3), "IntDistribution(high=2, log=False, low=0, step=1)"),
        (quniform(1, 8, 2), "IntDistribution(high=8, log=False, low=2, step=2)"),
        (quniform(0, 1, 0.1), "FloatDistribution(high=1.0, log=False, low=0.0, step=0.1)"),
        (quniform(0, 1, 1 / 7), "IntDistribution(high=7, log=False, low=0, step=1)"),
        (qloguniform(1, 100, 1), "IntDistribution(high=100, log=True, low=1, step=1)"),
        (qloguniform(8, 64, 8), "FloatDistribution(high=1.0, log=False, low=0.0, step=None)"),
        (lognormal(0, 1), "FloatDistribution(high=1.0, log=False, low=0.0, step=None)"),
        (choice([True, "a"]), "CategoricalDistribution(choices=(True, 'a'))"),
        (choice([True, 1]), "CategoricalDistribution(choices=(0, 1))"),
        (choice([[1], "a"]), "CategoricalDistribution(choices=(0, 1))"),
    ],
)  # fmt: skip
def test_an_expression_is_what_comes_nearest_to_it(space: Any, expected: str) -> None:  # noqa: ANN401  (an expression)
    """Steps where floats can say them, the unit interval where Optuna has no such distribution."""
    (parameter,) = parameters_of(Space({"x": space}))
    assert expected == str(parameter.distribution)


def test_two_parameters_never_share_a_name() -> None:
    """A parameter called like one inside of a choice is another."""
    space = Space({"a": choice([{"b": uniform(0, 1)}]), "a[0].b": uniform(0, 1)})
    names = [parameter.name for parameter in parameters_of(space)]
    assert ["a", "a[0].b", "a[0].b#2"] == names
