"""Real sweeps on Ray, each beside the same run on the virtual clock: whether that tells the truth.

One rule: a sweep is a user's, with slots, a journal and a sampler that is asked beside the controller.
Its trials sleep as long as was recorded, speeded up until an ordinary one takes a second.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import race
import ray
import suites
from contenders import OPTUNAS, generator
from plan import Job
from store import Row
from tasks import Params, Reading, Task

import raysweep as rs
from raysweep.core.samplers import named

SECONDS = 1.0  # that an ordinary trial takes
POINTS = 256  # of which the mean is ordinary
NAMESPACE = "raysweep-bench"


@ray.remote(num_cpus=0)
class Reader:
    """Reads a task for the trials of all sweeps of a job, so that no slot has to load it."""

    def __init__(self, task: str, ordinary: float) -> None:
        self._task = paced(suites.load(task), ordinary)
        self._waiting: dict[int, asyncio.Barrier] = {}

    async def all_there(self, seed: int, workers: int) -> None:
        """Return once so many trials of a sweep have come: on the virtual clock all begin at once."""
        await self._waiting.setdefault(seed, asyncio.Barrier(workers)).wait()

    async def read(self, params: Params, seed: int, number: int) -> tuple[float, float]:
        """What trial `number` of a run reports, and how many seconds it takes."""
        reading = self._task.read(params, generator(seed, number))
        return reading.value, reading.seconds


def paced(task: Task, ordinary: float) -> Task:
    """The task, speeded up until a trial takes `ordinary` seconds in the mean."""
    random = np.random.default_rng(0)
    units = random.uniform(1e-9, 1 - 1e-9, (POINTS, len(task.space.dimensions)))
    found = [task.read(task.space.from_unit(unit), random).seconds for unit in units]
    faster = float(np.mean(found)) / ordinary

    def read(params: Params, draws: np.random.Generator) -> Reading:
        reading = task.read(params, draws)
        return replace(reading, seconds=reading.seconds / faster)

    return replace(task, read=read)


def rows(job: Job, place: Path, ordinary: float = SECONDS) -> list[Row]:
    """A row for each seed of a job: the sweep on Ray, and the same on the virtual clock.

    Args:
        job: what to run.
        place: a folder for the sweeps' own, which every node must reach; none of them stays.
        ordinary: seconds that a trial takes in the mean.
    """
    name = f"{job.task}-{uuid.uuid4().hex}"
    reader = Reader.options(name=name, namespace=NAMESPACE).remote(job.task, ordinary)  # type: ignore[attr-defined]  (Ray's decorator adds it)
    try:
        task = paced(suites.load(job.task), ordinary)
        return [_row(job, task, seed, name, place) for seed in job.seeds]
    finally:
        ray.kill(reader)
        shutil.rmtree(place, ignore_errors=True)


def _row(job: Job, task: Task, seed: int, reader: str, place: Path) -> Row:
    virtual = race.run(task, job.contender, workers=job.workers, budget=job.budget, seed=seed)
    theirs = OPTUNAS.get(job.contender)
    sweep = rs.Sweep(
        _training(reader, job.workers, seed),
        space=task.space,
        objective=rs.minimize("value"),
        sampler=named(f"optuna:{theirs}" if theirs else job.contender, seed),
        limits=rs.Limits(max_total_trials=job.budget, max_concurrent_trials=job.workers),
        resources=rs.Resources(cpus=round(1 / job.workers, 3)),  # they sleep
        isolation="none",
        name=f"real-{uuid.uuid4().hex}",
        storage=str(place),
    )
    return {
        "seed": seed,
        **_of(sweep.run(screen="none"), task, job, seed),
        "virtual_regrets": virtual.regrets,
        "virtual_busy": virtual.busy,
    }


def _training(reader: str, workers: int, seed: int) -> Callable[[rs.Trial], None]:
    """What each trial does: sleep as long as the reader says, and report what it says."""

    def train(trial: rs.Trial) -> None:
        task = ray.get_actor(reader, NAMESPACE)
        if trial.number < workers and trial.attempt == 1:
            ray.get(task.all_there.remote(seed, workers))
        value, seconds = ray.get(task.read.remote(trial.params, seed, trial.number))
        time.sleep(seconds)  # in place of training
        trial.report(value=value)

    return train


def _of(result: rs.Result, task: Task, job: Job, seed: int) -> Row:
    """What a sweep came to, in the order in which its trials ended, from when all slots were there."""
    state = result.state
    if state.counts["completed"] < job.budget:
        errors = sorted({trial.error for trial in state.trials if trial.error})
        raise RuntimeError(f"not all trials on {job.task} completed: {' | '.join(errors[:3])}")
    ended = sorted(((t.ended or 0.0, t) for t in state.trials), key=itemgetter(0))
    readings = [task.read(trial.params, generator(seed, trial.number)) for _, trial in ended]
    first = [
        end - reading.seconds
        for (end, trial), reading in zip(ended, readings, strict=True)
        if trial.number < job.workers
    ]
    told = [
        (end - min(first), trial.params, reading.value)
        for (end, trial), reading in zip(ended, readings, strict=True)
    ]
    worked = sum(reading.seconds for reading in readings)
    return {
        "regrets": race.incumbents(task, told),
        "ends": [end for end, _, _ in told],
        "busy": worked / (job.workers * told[-1][0]),
    }
