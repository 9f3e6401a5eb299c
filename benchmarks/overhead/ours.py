"""raysweep's side of the benchmark: its public face, the journal on and synced to the disk.

One rule: after each sweep every report that was made must be in the journal exactly once, or there is no
result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import exactly_once
from gauges import busy, controller_watched, memory
from idler import bare_call
from notes import Notes
from runs import Answer, Run
from tasks import NAME, Array, Task, ideal, perform, task_of, trained

import raysweep as rs

Train = Callable[[rs.Trial], None]


def swept(run: Run, place: Path) -> Answer:
    """A sweep whose trials report and sleep."""
    if run.warm:
        swept(replace(run, trials=2, warm=False, place=""), place / "warm")
    notes = Notes(folder=str(place / "notes")).made()
    sweep = sweep_of(reporting(task_of(run, notes)), run, place)
    before = memory()
    with controller_watched(notes, run.trials) as growth:
        began = time.monotonic()
        result = sweep.run(screen="none")
        wall = time.monotonic() - began
    driver = memory() - before
    answer = checked(result, notes, run.trials)
    return answer | {
        "wall": wall,
        "wall_to_ideal": wall / ideal(run) if run.every else 0.0,
        "until_first": notes.first() - began,
        "driver_bytes": driver / run.trials,
        "controller_bytes": growth.bytes_a_trial,
    }


def reporting(task: Task) -> Train:
    """A training function that performs this."""

    def train(trial: rs.Trial) -> None:
        def report(metrics: dict[str, float], state: Array | None) -> None:
            trial.report(metrics, checkpoint=None if state is None else {"state": state})

        perform(task, report)
        task.notes.ended(trial.number, task.reports)

    return train


def sweep_of(train: Train, run: Run, place: Path, *, sync_decisions: bool = False) -> rs.Sweep:
    """A sweep over it, as the run wants it."""
    return rs.Sweep(
        train,
        space={"rate": rs.loguniform(1e-4, 1e-2)},
        objective=rs.maximize("score"),
        sampler=rs.Random(seed=1),
        policy=rs.Bandit(slack_factor=1e6) if sync_decisions else None,  # judges, stops nobody
        limits=rs.Limits(max_total_trials=run.trials, max_concurrent_trials=run.slots),
        isolation="process" if run.isolation == "process" else "none",
        sync_decisions=sync_decisions,
        name=NAME,
        storage=str(place),
    )


def checked(result: rs.Result, notes: Notes, trials: int) -> Answer:
    """The rates of a sweep in which nothing was lost.

    They count from the first trial's begin to the last trial's end, as the journal has them.
    """
    state = result.state
    made = notes.ledger()
    if state.counts["completed"] != trials or len(made) != trials:
        raise exactly_once.NotOnceError(f"{trials} trials were to complete: {state.counts}")
    reports = exactly_once.check(result.folder.journal, made)
    begun = min(trial.first_begun for trial in state.trials if trial.first_begun is not None)
    seconds = max(trial.ended for trial in state.trials if trial.ended is not None) - begun
    return {
        "seconds": seconds,
        "trials_a_second": trials / seconds,
        "reports_a_second": reports / seconds,
        "reports_checked": reports,
    }


def digits(run: Run, place: Path) -> Answer:
    """A sweep of real trials that train."""
    import digits as training  # noqa: PLC0415  (torch, only where it is used)

    notes = Notes(folder=str(place / "notes")).made()

    def train(trial: rs.Trial) -> None:
        training.train(run.epochs, trial.params["rate"], trial.report, notes)
        notes.ended(trial.number, run.epochs)

    sweep = sweep_of(train, run, place)
    spent, began = busy(), time.monotonic()
    result = sweep.run(screen="none")
    wall, spent = time.monotonic() - began, busy() - spent
    answer = checked(result, notes, run.trials) | trained(notes, run.slots)
    bare = 1000 * bare_call()
    return answer | {
        "wall": wall,
        "cpu_outside": spent - answer["training_cpu"],
        "bare_call": bare,
        "idle_beyond": answer["idle"] - bare,
    }


def resumed(run: Run, place: Path) -> Answer:
    """Take up a sweep of so many trials, which is over, and have it do one more."""
    notes = Notes(folder=str(place / "notes"))
    notes.forget_first()
    limits = rs.Limits(max_total_trials=run.trials + 1, max_concurrent_trials=run.slots)
    began = time.monotonic()
    result = rs.resume(NAME, str(place), limits=limits, screen="none")
    wall = time.monotonic() - began
    answer = checked(result, notes, run.trials + 1)
    return answer | {"until_first": notes.first() - began, "wall": wall}
