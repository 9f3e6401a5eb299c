"""Ray Tune's side of the benchmark: `Tuner.fit` as its documentation has it.

One rule: the same trials over as many CPUs as on our side; every setting that is not a default is a field
of the run, and is written down with the results.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gauges import Growth, busy, memory
from notes import Notes
from ray import tune
from runs import Answer, Run
from tasks import NAME, Array, Task, ideal, perform, task_of, trained

Train = Callable[[dict[str, Any]], None]


class FewerTrialsError(Exception):
    """Tune did not do what it was asked for."""


class Clock(tune.Callback):
    """Notes when the first trial began and the last one ended, and how the driver's memory grew."""

    def __init__(self, trials: int) -> None:
        self.first = 0.0
        self.last = 0.0
        self.ended = 0
        self.growth = Growth(total=trials)

    def on_trial_start(self, *_: object, **__: object) -> None:
        """A trial has an actor."""
        self.first = self.first or time.monotonic()

    def on_trial_complete(self, *_: object, **__: object) -> None:
        """A trial has ended well."""
        self.last = time.monotonic()
        self.ended += 1
        self.growth.look(self.ended, memory())


@contextlib.contextmanager
def set_to(settings: tuple[tuple[str, str], ...]) -> Iterator[None]:
    """Environment variables, for as long as it takes."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def fitted(run: Run, place: Path) -> Answer:
    """An experiment whose trials report and sleep."""
    if run.warm:
        fitted(replace(run, trials=2, warm=False, broken=False), place / "warm")
    notes = Notes(folder=str(place / "notes")).made()
    clock = Clock(run.trials)
    tuner = tuner_of(reporting(task_of(run, notes), run), run, place, clock)
    with set_to(run.settings):
        began = time.monotonic()
        results = tuner.fit()
        wall = time.monotonic() - began
    check(results, run)
    seconds = clock.last - clock.first
    return {
        "seconds": seconds,
        "wall": wall,
        "wall_to_ideal": wall / ideal(run) if run.every else 0.0,
        "seconds_to_ideal": seconds / ideal(run) if run.every else 0.0,
        "trials_a_second": run.trials / seconds,
        "reports_a_second": run.trials * run.reports / seconds,
        "until_first": notes.first() - began,
        "driver_bytes": clock.growth.bytes_a_trial,
    }


def reporting(task: Task, run: Run) -> Train:
    """A training function that performs this; the last trial's first try may be meant to fail."""
    last = f"_{run.trials - 1:05d}" if run.broken else "none"

    def train(_: dict[str, Any]) -> None:
        trial = tune.get_context().get_trial_id()
        if trial.endswith(last) and not task.notes.is_marked("resumed"):
            raise RuntimeError("left for Tuner.restore to take up")
        perform(task, report)

    return train


def report(metrics: dict[str, float], state: Array | None) -> None:
    """Report to Tune; a checkpoint is a folder with a file, as its guide has it."""
    if state is None:
        tune.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/state.npy", state)
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def tuner_of(train: Train, run: Run, place: Path, clock: Clock) -> tune.Tuner:
    """An experiment over it, as the run wants it."""
    return tune.Tuner(
        train,
        param_space={"rate": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            num_samples=run.trials,
            max_concurrent_trials=run.slots,
            reuse_actors=run.reuse,
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(place),
            verbose=0,
            callbacks=[clock],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=run.keep or None),
        ),
    )


def check(results: tune.ResultGrid, run: Run) -> None:
    """Make sure that all trials ended as they should.

    Raises:
        FewerTrialsError: they did not.
    """
    scores = [
        result.metrics.get("score")
        for result in map(results.__getitem__, range(len(results)))
        if result.metrics
    ]
    whole = scores.count(float(run.epochs or run.reports))
    failed = int(run.broken)
    if results.num_errors != failed or whole != run.trials - failed:
        raise FewerTrialsError(f"{whole} of {run.trials} ended well: {results.errors[:1]}")


def digits(run: Run, place: Path) -> Answer:
    """An experiment of real trials that train."""
    import digits as training  # noqa: PLC0415  (torch, only where it is used)

    notes = Notes(folder=str(place / "notes")).made()

    def train(config: dict[str, Any]) -> None:
        training.train(run.epochs, config["rate"], tune.report, notes)

    tuner = tuner_of(train, run, place, Clock(run.trials))
    with set_to(run.settings):
        spent, began = busy(), time.monotonic()
        results = tuner.fit()
        wall, spent = time.monotonic() - began, busy() - spent
    check(results, run)
    answer = trained(notes, run.slots)
    return answer | {"wall": wall, "cpu_outside": spent - answer["training_cpu"]}


def resumed(run: Run, place: Path) -> Answer:
    """Take up an experiment of so many trials, one of which failed."""
    notes = Notes(folder=str(place / "notes"))
    notes.forget_first()
    notes.mark("resumed")
    train = reporting(task_of(run, notes), replace(run, broken=True))
    with set_to(run.settings):
        began = time.monotonic()
        tuner = tune.Tuner.restore(str(place / NAME), trainable=train, resume_errored=True)
        results = tuner.fit()
        wall = time.monotonic() - began
    check(results, replace(run, broken=False))
    return {"until_first": notes.first() - began, "wall": wall}
