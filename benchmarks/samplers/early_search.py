"""Which setting of which policy to recommend: looked for on the development tasks, and only there.

One rule: the policies and the history are raysweep's own, the sweep around them is a sketch that is
many times as fast. It takes a stop as a sweep does: one epoch late, or after the time of grace.

    python early_search.py [KIND ...]    fifteen minutes for all: every setting, what it saves and loses
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from statistics import mean

import lcbench
import split
from early import EPOCHS, Asha, Outcome, Row, curve_of, judged
from tasks import Params

from raysweep.core.history import Goal, History
from raysweep.core.policies import Bandit, MedianStopping, NoPolicy, Policy, TruncationSelection
from raysweep.core.samplers import Random

SEEDS = range(1_000, 1_010)  # none of those that the verdict uses
WORKERS = (4, 16)
TRIALS = 64
GRACE = 10.0  # seconds that a stopped trial has; the default of a sweep
SAVED, LOST = 0.6, 0.01  # what the recommended setting is to hold, with any number of workers


def settings() -> Iterator[Policy]:
    """All that are tried."""
    yield Asha()
    for every, delay in product((1, 2, 5, 10), (0, 2, 3, 5, 8, 12)):
        schedule = {"delay_evaluation": delay, "evaluation_interval": every}
        yield MedianStopping(**schedule)
        for factor in (0.1, 0.2, 0.3, 0.5, 1.0):
            yield Bandit(slack_factor=factor, **schedule)
        for amount in (0.02, 0.05, 0.1):
            yield Bandit(slack_amount=amount, **schedule)
        for percentage in (20, 30, 40, 50, 60, 80):
            yield TruncationSelection(truncation_percentage=percentage, **schedule)


def sketch(task: str, policy: Policy, *, workers: int, trials: int, seed: int) -> Outcome:
    """What `early.outcome` comes to with random sampling, but for who is first within a tick."""
    params = proposals(seed, trials)
    curves = [curve_of(task, each) for each in params]
    history = History(Goal.MINIMIZE, policy.tracks)
    epochs, stopped, worked = [EPOCHS] * trials, [False] * trials, 0.0
    due: list[tuple[float, int, int]] = []  # a heap: when a trial reports which epoch
    waiting = iter(range(trials))
    free, ends = [0.0] * workers, []
    while free or due:
        while free and (trial := next(waiting, None)) is not None:
            begun = heapq.heappop(free)
            heapq.heappush(due, (begun + curves[trial].seconds[0], trial, 1))
        free.clear()
        now, trial, epoch = heapq.heappop(due)
        history.add(trial, float(curves[trial].errors[epoch - 1]))
        decision = policy.decide(history, trial, epoch)
        if epoch < EPOCHS and not decision.stop:
            heapq.heappush(due, (now + curves[trial].seconds[epoch], trial, epoch + 1))
            continue
        late = 0.0
        if epoch < EPOCHS:
            late = min(float(curves[trial].seconds[epoch]), GRACE)
            epochs[trial], stopped[trial] = epoch + 1, True
        worked += float(curves[trial].seconds[:epoch].sum()) + late
        history.finish(trial)
        ends.append(now + late)
        free.append(now + late)
        if len(ends) == trials:
            break
    best = history.best_trial()
    assert best is not None, "every trial reports"
    return Outcome(
        params=params,
        epochs=epochs,
        stopped=stopped,
        recommended=best.trial,
        seconds=max(ends),
        worked=worked,
    )


@lru_cache(maxsize=64)
def proposals(seed: int, trials: int) -> list[Params]:
    """What random sampling proposes."""
    space, sampler = lcbench.space(), Random()
    return [sampler.propose(space, (), trial, seed) for trial in range(trials)]


def rows(policy: Policy, tasks: Sequence[str]) -> list[Row]:
    """A setting on every task, with every seed and number of workers."""
    return [
        {
            "workers": workers,
            **judged(task, sketch(task, policy, workers=workers, trials=TRIALS, seed=seed)),
        }
        for task in tasks
        for seed in SEEDS
        for workers in WORKERS
    ]


def averages(found: Sequence[Row]) -> dict[str, float]:
    """Of a setting's rows."""
    names = ("saved", "regret", "error", "winner_stopped")
    return {name: mean(float(row[name]) for row in found) for name in names}


def main() -> None:
    """Print every setting of the kinds that are named, or of all, with what it saves and loses."""
    tasks = split.development(lcbench.names())
    base = averages(rows(NoPolicy(), tasks))
    print(f"none: regret {base['regret']:.4f}")
    for policy in settings():
        if policy.kind not in (sys.argv[1:] or policy.kind):
            continue
        found = rows(policy, tasks)
        each = averages(found)
        lost = each["regret"] - base["regret"]
        least = min(
            averages([row for row in found if row["workers"] == workers])["saved"]
            for workers in WORKERS
        )
        mark = "*" if least >= SAVED and lost <= LOST else " "
        print(
            f"{mark} saved {each['saved']:.3f} (at least {least:.3f}) lost {lost:+.4f}"
            f" in error {each['error'] - base['error']:+.5f}"
            f" winner stopped {each['winner_stopped']:.3f}  {policy}",
            flush=True,
        )


if __name__ == "__main__":
    main()
