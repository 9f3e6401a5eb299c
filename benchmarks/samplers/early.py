"""Early termination on LCBench's learning curves: what each policy saves, and what it costs.

One rule: a sweep is raysweep's own, its state, policies and slots on a virtual clock; only the epochs
are the surrogate's. For one seed `random` proposes the same configurations whatever the policy.

What a sweep recommends is the trial that showed the best value at any epoch, as raysweep does; its
regret is that of its error at the last epoch, whether or not the sweep ever ran it. Without a policy
the same rule holds, so a policy is charged with what it lost and with nothing else.
"""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any, ClassVar

import lcbench
import numpy as np
from tasks import Params

from raysweep.core.events import GO_ON, Decision
from raysweep.core.history import History, Track
from raysweep.core.policies import Bandit, MedianStopping, NoPolicy, Policy, TruncationSelection
from raysweep.core.samplers import SAMPLERS
from raysweep.core.spec import Limits, SweepSpec, minimize
from raysweep.core.state import SweepState
from raysweep.core.trials import TrialState
from raysweep.runtime.local import LocalResult, Step, simulate

EPOCHS = len(lcbench.EPOCHS)
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asha(MedianStopping):  # by name: a spec takes policies of raysweep's own only
    """Asynchronous successive halving that stops, and never pauses: the comparator.

    At `least`, `least * eta`, ... epochs a trial goes on if it is among the best 1 / eta of those
    that have been there, and the best of them always does (L. Li and others, "A System for Massively
    Parallel Hyperparameter Tuning", MLSys 2020, in the form that Optuna and Ray Tune stop trials by).
    """

    kind: ClassVar[str] = "asha"
    tracks: ClassVar[Track] = Track.VALUES

    eta: int = 3
    least: int = 1

    def decide(self, history: History, trial: int, interval: int) -> Decision:
        """Stop at a rung when too many are better."""
        if not self._is_rung(interval):
            return GO_ON
        better = history.strictly_better(history.value(trial, interval), interval)
        if better < max(1, history.reached(interval) // self.eta):
            return GO_ON
        return Decision(stop=True, reason=f"asha: {better} are better at epoch {interval}")

    def _is_rung(self, interval: int) -> bool:
        rung = self.least
        while rung < interval:
            rung *= self.eta
        return rung == interval


@dataclass(frozen=True, kw_only=True)
class KeepBest:
    """All configurations for `first` epochs, then the best `keep` of them to the end."""

    keep: int
    first: int = 1


Way = Policy | KeepBest
RECOMMENDED = "truncation"
WAYS: Mapping[str, Way] = {
    "none": NoPolicy(),
    # Of each policy the setting that `early_search.py` found on the development tasks: what loses
    # least among those that save 65 percent there, so that 60 are saved elsewhere.
    "bandit": Bandit(slack_factor=0.2, delay_evaluation=8),
    "median": MedianStopping(delay_evaluation=3),
    "truncation": TruncationSelection(truncation_percentage=50, evaluation_interval=5),
    # As Azure's documentation writes them.
    "bandit-azure": Bandit(slack_factor=0.1, evaluation_interval=1, delay_evaluation=5),
    "median-azure": MedianStopping(evaluation_interval=1, delay_evaluation=5),
    "truncation-azure": TruncationSelection(
        truncation_percentage=20, evaluation_interval=1, delay_evaluation=5
    ),
    "asha": Asha(),
    "one-epoch-1": KeepBest(keep=1),
    "one-epoch-3": KeepBest(keep=3),
    "one-epoch-8": KeepBest(keep=8),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a sweep came to."""

    params: list[Params]  # by trial
    epochs: list[int]  # that each trial began
    stopped: list[bool]  # whether a trial was ended before its end
    recommended: int
    seconds: float  # virtual
    worked: float  # the same, of all workers together


def run(task: str, way: str, sampler: str, *, workers: int, trials: int, seed: int) -> Row:
    """One sweep of a task, as a row of plain values."""
    begun = time.perf_counter()
    found = outcome(task, WAYS[way], sampler, workers=workers, trials=trials, seed=seed)
    return {
        "task": task,
        "policy": way,
        "sampler": sampler,
        "workers": workers,
        "trials": trials,
        "seed": seed,
        **judged(task, found),
        "took": time.perf_counter() - begun,
    }


def table(rows: Sequence[Row]) -> list[Row]:
    """What each policy saves and costs, with each sampler and number of workers; `lost` is paired.

    A row counts once there is one of `none` of the same task, sampler, workers, trials and seed.
    """
    free = {_pair(row): row for row in rows if row["policy"] == "none"}
    rows = [row for row in rows if _pair(row) in free]
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["policy"], row["sampler"], row["workers"]), []).append(row)
    return [
        {
            "policy": policy,
            "sampler": sampler,
            "workers": workers,
            "runs": len(group),
            **{
                name: fmean(row[name] for row in group)
                for name in ("epochs", "saved", "regret", "error", "winner_stopped")
            },
            "lost": fmean(row["regret"] - free[_pair(row)]["regret"] for row in group),
            "time": fmean(row["seconds"] / free[_pair(row)]["seconds"] for row in group),
        }
        for (policy, sampler, workers), group in groups.items()
    ]


def _pair(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in ("task", "sampler", "workers", "trials", "seed"))


def judged(task: str, found: Outcome) -> Row:
    """What a sweep's outcome is worth.

    `winner_stopped`: whether the trial that ends best among all of the run was ended before its end.
    """
    ends = np.array([curve_of(task, params).errors[-1] for params in found.params])
    winner = int(ends.argmin())
    full = EPOCHS * len(ends)
    regret = lcbench.load(task).regret_of
    return {
        "epochs": sum(found.epochs),
        "saved": 1 - sum(found.epochs) / full,
        "error": float(ends[found.recommended]),
        "regret": regret(float(ends[found.recommended])),
        "least_regret": regret(float(ends[winner])),  # of all that the sampler proposed
        "winner_stopped": found.stopped[winner],
        "stopped": sum(found.stopped),
        "seconds": found.seconds,
        "worked": found.worked,
    }


def outcome(task: str, way: Way, sampler: str, *, workers: int, trials: int, seed: int) -> Outcome:
    """One sweep of a task."""
    if isinstance(way, KeepBest):
        return _keep_best(task, way, sampler, workers=workers, trials=trials, seed=seed)
    return _swept(task, way, sampler, workers=workers, trials=trials, seed=seed)


def _swept(
    task: str,
    policy: Policy,
    sampler: str,
    *,
    workers: int,
    trials: int,
    seed: int,
    last: int = EPOCHS,
) -> Outcome:
    spec = SweepSpec(
        name="early",
        space=lcbench.space(),
        objective=minimize("error"),
        sampler=SAMPLERS[sampler](),
        seed=seed,
        policy=policy,
        limits=Limits(max_total_trials=trials),
    )
    begun: dict[str, int] = {}
    result = simulate(spec, _trial(task, last, begun), slots=workers)
    return _outcome(result, result.state, begun, workers)


def _outcome(
    result: LocalResult, state: SweepState, begun: Mapping[str, int], workers: int
) -> Outcome:
    best = state.best
    assert best is not None, "every trial reports"
    trials = [state.trials[number] for number in range(len(state.trials))]
    return Outcome(
        params=[trial.params for trial in trials],
        epochs=[begun[_key(trial.params)] for trial in trials],
        stopped=[trial.state is TrialState.STOPPED for trial in trials],
        recommended=best.trial,
        seconds=result.seconds,
        worked=result.busy * result.seconds * workers,
    )


def _trial(
    task: str, last: int, begun: dict[str, int]
) -> Callable[[Params, int, int], Iterator[Step]]:
    """A trial that trains so many epochs, and keeps count of those that it began."""

    def trial(params: Params, seed: int, start: int) -> Iterator[Step]:
        del seed
        curve, key = curve_of(task, params), _key(params)
        for epoch in range(start, last):
            begun[key] = epoch + 1
            yield Step(
                seconds=float(curve.seconds[epoch]), metrics={"error": float(curve.errors[epoch])}
            )

    return trial


def _keep_best(
    task: str, way: KeepBest, sampler: str, *, workers: int, trials: int, seed: int
) -> Outcome:
    """A sweep of the first epochs, then the best of them go on, the better ones first."""
    found = _swept(
        task, NoPolicy(), sampler, workers=workers, trials=trials, seed=seed, last=way.first
    )
    curves = [curve_of(task, params) for params in found.params]
    order = np.argsort([curve.errors[: way.first].min() for curve in curves], kind="stable")
    kept = [int(number) for number in order[: way.keep]]
    rest = [float(curves[number].seconds[way.first :].sum()) for number in kept]
    return Outcome(
        params=found.params,
        epochs=[EPOCHS if number in kept else way.first for number in range(trials)],
        stopped=[number not in kept for number in range(trials)],
        recommended=min(kept, key=lambda number: float(curves[number].errors.min())),
        seconds=found.seconds + _makespan(rest, workers),
        worked=found.worked + sum(rest),
    )


def _makespan(lengths: Sequence[float], workers: int) -> float:
    """When the last of them ends, taken in order by whoever is free."""
    free = [0.0] * workers
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


def _key(params: Params) -> str:
    return json.dumps(params)


def curve_of(task: str, params: Params) -> lcbench.Curve:
    """A configuration's learning curve, kept: every policy of a seed asks for the same."""
    return _known(task, _key(params))


@lru_cache(maxsize=50_000)  # 1 kB each
def _known(task: str, key: str) -> lcbench.Curve:
    return lcbench.curve(task, json.loads(key))
