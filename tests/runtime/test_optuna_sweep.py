"""Optuna in a sweep: on the virtual clock, and beside the controller of one on a real Ray."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import objectives
import pytest
import ray
from optuna.trial import TrialState
from sweeps import PATIENCE, finished, running, sweep, until

import raysweep as rs
from raysweep.core.samplers import Observation
from raysweep.core.spec import SweepSpec
from raysweep.result import load_result
from raysweep.runtime import optuna_study
from raysweep.runtime.client import Client
from raysweep.runtime.local import Fault, KillSlot, RestartController, Step, simulate
from raysweep.runtime.proposals import draw


def spec() -> SweepSpec:
    """Thirty trials on four slots, the hopeless ones stopped."""
    return SweepSpec(
        name="t",
        space=rs.Space({"x": rs.uniform(0, 1)}),
        objective=rs.maximize("score"),
        sampler=rs.Optuna(seed=3, options={"n_startup_trials": 5}),
        seed=3,
        policy=rs.Bandit(slack_factor=0.1, delay_evaluation=2),
        limits=rs.Limits(max_total_trials=30, max_concurrent_trials=4),
    )


def climb(params: Any, seed: int, start: int) -> Iterator[Step]:  # noqa: ANN401  (params)
    """Six intervals, the better the larger x is; a few trials fail at once."""
    del seed
    if params["x"] < 0.05:
        raise RuntimeError
    for epoch in range(start, 6):
        yield Step(seconds=1 + params["x"], metrics={"score": params["x"] * (epoch + 1)})


def test_every_end_is_told() -> None:
    """What a study holds at the last proposal is what became of the trials by then."""
    made = spec()
    state = simulate(made, climb, slots=4).state
    study = optuna_study._studies[id(made)]
    told = study._study.get_trials(deepcopy=False)
    ended = {"stopped": TrialState.PRUNED, "completed": TrialState.COMPLETE}
    for number, each in study._told.items():
        if each.ended is not None:
            trial = state.trials[number]
            assert ended.get(trial.state, TrialState.FAIL) == told[each.number].state
            assert dict(trial.params) == told[each.number].params
    states = Counter(trial.state for trial in told)
    assert states[TrialState.PRUNED] > 3
    assert states[TrialState.COMPLETE] > 3
    assert 4 <= states[TrialState.RUNNING] <= 5  # one of them waits, at most


def test_outlasts_lost_slots_and_a_new_controller() -> None:
    """Trials that begin again, and a study that is not the one before, leave no trial twice."""
    faults: list[Fault] = [
        KillSlot(at=5.0, slot=1),
        RestartController(at=9.0),
        KillSlot(at=12.0, slot=2),
    ]
    made = spec()
    state = simulate(made, climb, slots=4, faults=faults).state
    running_ = [
        each
        for each in optuna_study._studies[id(made)]._study.get_trials(deepcopy=False)
        if each.state == TrialState.RUNNING
    ]
    assert 30 == len({trial.params["x"] for trial in state.trials})
    assert len(running_) <= 5


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_on_ray_the_study_is_told_what_runs_and_what_was_stopped(tmp_path: Path) -> None:
    """What the controller shows its sampler is, to a study, trials that run, pruned and completed."""
    made = sweep(
        objectives.walk,
        tmp_path,
        sampler=rs.Optuna("TPESampler", seed=3, options={"n_startup_trials": 5}),
        policy=rs.Bandit(slack_factor=0.1, delay_evaluation=1),
        limits={"max_total_trials": 24, "max_concurrent_trials": 2},
        isolation="none",
        sync_decisions=True,
    )
    with running(made) as client:
        seen = until_told(client, made.spec, {"RUNNING", "PRUNED", "COMPLETE"})
        until(client, finished)
    result = load_result("t", str(tmp_path))
    assert ("completed", 24) == (result.phase, len(result.trials))
    assert seen["PRUNED"] <= sum(trial.state == "stopped" for trial in result.trials)


def until_told(client: Client, of: SweepSpec, wanted: set[str]) -> Counter[str]:
    """How many trials of a study are in which state, told what the sampler is, once all of these are.

    The sampler's own study is out of reach, in a process beside the controller.
    """

    def known(controller: Any) -> list[Observation]:  # noqa: ANN401  (in here, it travels by value)
        observations: list[Observation] = controller._state.observations()
        return observations

    seen: Counter[str] = Counter()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        told = ray.get(client._controller.__ray_call__.remote(known))
        draw(of, told, range(len(told), len(told) + 1))
        trials = optuna_study._studies[id(of)]._study.trials
        seen = Counter(trial.state.name for trial in trials)
        if wanted <= seen.keys():
            return seen
        time.sleep(0.02)
    raise AssertionError(f"not told within {PATIENCE:g} s; last seen: {seen}")
