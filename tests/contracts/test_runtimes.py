"""What every runtime promises: the same spec, seed and objective come to the same sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import raysweep as rs
from raysweep.core.events import Params
from raysweep.core.history import History
from raysweep.core.policies import NoPolicy, Policy
from raysweep.core.samplers import Sampler
from raysweep.core.space import Expression
from raysweep.core.state import Phase, SweepState
from raysweep.runtime.local import SimulatedTrial, Step, simulate

Objective = Callable[[Params], Iterator[float]]  # what a trial reports, one value after another


def climb(params: Params) -> Iterator[float]:
    """x, 2x, 3x, 4x."""
    yield from (params["x"] * k for k in range(1, 5))


def fail_below_a_half(params: Params) -> Iterator[float]:
    """The same, but a small x fails after its second report."""
    yield from islice(climb(params), 2)
    if params["x"] < 0.5:
        raise ValueError(f"x must be at least 0.5, but got {params['x']}")
    yield from islice(climb(params), 2, None)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A sweep that every runtime runs."""

    objective: Objective
    sampler: Sampler
    x: Expression
    trials: int
    slots: int
    policy: Policy


PLAIN = Case(
    objective=climb, sampler=rs.Random(seed=5), x=rs.uniform(0, 1), trials=6, slots=2,
    policy=NoPolicy(),
)  # fmt: skip
FAILING = Case(
    objective=fail_below_a_half, sampler=rs.Grid(), x=rs.choice([0.9, 0.1, 0.8, 0.2]), trials=4,
    slots=2, policy=NoPolicy(),
)  # fmt: skip
STOPPING = Case(
    objective=climb, sampler=rs.Grid(), x=rs.choice([0.4, 0.1, 0.5, 0.42, 0.41, 0.3]), trials=6,
    slots=1, policy=rs.Bandit(slack_factor=0.2, delay_evaluation=2),
)  # fmt: skip
LEARNING = Case(
    objective=climb, sampler=rs.Bayesian(seed=5), x=rs.uniform(0, 1), trials=9, slots=2,
    policy=NoPolicy(),
)  # fmt: skip

Runtime = Callable[[Case], SweepState]  # runs a case, the same one only once


@pytest.fixture(
    scope="module", params=["virtual clock", pytest.param("ray", marks=pytest.mark.ray)]
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """Each runtime in turn."""
    storage = tmp_path_factory.mktemp("storage")
    if request.param == "ray":
        request.getfixturevalue("local_ray")
        return cache(lambda case: _sweep(case, storage).run(screen="none").state)
    return cache(lambda case: _simulated(case, storage))


def _sweep(case: Case, storage: Path) -> rs.Sweep:
    """The case as a user would write it; decisions are awaited, so that their moment is sure."""
    return rs.Sweep(
        _training(case.objective),
        space={"x": case.x},
        objective=rs.maximize("score"),
        sampler=case.sampler,
        policy=case.policy,
        limits=rs.Limits(max_total_trials=case.trials, max_concurrent_trials=case.slots),
        storage=str(storage),
        isolation="none",
        sync_decisions=True,
    )


def _simulated(case: Case, storage: Path) -> SweepState:
    """The same on the virtual clock; nothing is stored."""
    spec = _sweep(case, storage).spec
    return simulate(spec, _trial(case.objective), slots=case.slots).state


def _training(objective: Objective) -> Callable[[Any], None]:
    """The objective as a training function."""

    def train(trial: Any) -> None:  # noqa: ANN401  (a raysweep Trial)
        for value in objective(trial.params):
            trial.report(score=value)

    return train


def _trial(objective: Objective) -> SimulatedTrial:
    """The objective as a simulated trial."""

    def trial(params: Params, seed: int, start: int) -> Iterator[Step]:
        del seed
        values = islice(objective(params), start, None)
        return (Step(seconds=1, metrics={"score": value}) for value in values)

    return trial


def _curves(state: SweepState) -> list[list[float]]:
    history = state.history
    return [
        [history.value(trial.number, k + 1) for k in range(history.intervals(trial.number))]
        for trial in state.trials
    ]


# Every trial runs to its end.


def test_runs_the_trials_that_the_seed_gives(run: Runtime) -> None:
    """What is tried follows from spec and seed."""
    spec = _sweep(PLAIN, Path()).spec
    expected = [spec.sampler.propose(spec.space, (), n, spec.seed) for n in range(PLAIN.trials)]
    assert expected == [trial.params for trial in run(PLAIN).trials]


def test_counts_every_report_once(run: Runtime) -> None:
    """Curves hold what was reported, in order, and nothing else."""
    state = run(PLAIN)
    assert [list(climb(trial.params)) for trial in state.trials] == _curves(state)
    assert 4 * PLAIN.trials == state.reports


def test_completes_every_trial(run: Runtime) -> None:
    """One attempt each, and the sweep is completed."""
    state = run(PLAIN)
    assert (Phase.COMPLETED, "") == (state.phase, state.reason)
    assert ["completed"] * PLAIN.trials == [trial.state for trial in state.trials]
    assert [1] * PLAIN.trials == [trial.attempt for trial in state.trials]


def test_finds_the_same_best_trial(run: Runtime) -> None:
    """The highest value, at the last interval of the trial with the highest x."""
    state = run(PLAIN)
    highest = max(state.trials, key=lambda trial: trial.params["x"])
    assert state.best is not None
    assert (highest.number, 4, highest.params["x"] * 4) == (
        state.best.trial,
        state.best.interval,
        state.best.value,
    )


# The sampler learns.


def test_a_trial_has_the_values_that_it_ran_with(run: Runtime) -> None:
    """However often the sampler thought again of it while it waited."""
    state = run(LEARNING)
    assert [list(climb(trial.params)) for trial in state.trials] == _curves(state)
    assert LEARNING.trials == len({trial.params["x"] for trial in state.trials})
    assert Phase.COMPLETED is state.phase


# Some trials fail.


def test_a_function_that_raises_fails_its_trial(run: Runtime) -> None:
    """The others complete, and so does the sweep."""
    state = run(FAILING)
    assert ["completed", "failed"] * 2 == [trial.state for trial in state.trials]
    assert Phase.COMPLETED is state.phase


def test_a_failed_trial_keeps_its_error(run: Runtime) -> None:
    """The error is the exception's last line, as Python prints it."""
    raised = [f"ValueError: x must be at least 0.5, but got {x}" for x in (0.1, 0.2)]
    assert ["", raised[0], "", raised[1]] == [trial.error for trial in run(FAILING).trials]


def test_a_failed_trial_keeps_its_reports(run: Runtime) -> None:
    """What was reported before the error counts."""
    assert [4, 2, 4, 2] == [len(curve) for curve in _curves(run(FAILING))]


# A policy stops some.


def test_decides_as_the_policy_does(run: Runtime) -> None:
    """One trial after another, each is stopped where the policy says, for the reason it gives."""
    state = run(STOPPING)
    history = History(state.spec.objective.goal, state.spec.policy.tracks)
    expected = [_judged(history, trial.number, state) for trial in state.trials]
    actual = [
        (trial.state, state.history.intervals(trial.number), trial.reason) for trial in state.trials
    ]
    assert expected == actual


def test_stops_the_hopeless_only(run: Runtime) -> None:
    """Worked out by hand: 0.1, 0.41 and 0.3 lie below the best at interval 2, over 1.2."""
    states = [trial.state for trial in run(STOPPING).trials]
    assert ["completed", "stopped", "completed", "completed", "stopped", "stopped"] == states


def _judged(history: History, number: int, state: SweepState) -> tuple[str, int, str]:
    """How the policy alone judges a trial: its state, its intervals, the reason."""
    for value in climb(state.trials[number].params):
        interval = history.add(number, value)
        decision = state.spec.policy.decide(history, number, interval)
        if decision.stop:
            return "stopped", interval, decision.reason
    return "completed", 4, "ran to its end"
