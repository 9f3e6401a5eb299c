"""From a report to its decision: what `trial.report` takes when the sweep decides synchronously.

One rule: beside it, in the same Ray, stands the least that any durable decision takes: one bare call from
an actor to another, which writes to a file on the same disk, syncs it and returns.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from notes import Notes
from ours import Train, checked, sweep_of
from record import percentile
from runs import Answer, Run

import raysweep as rs

WARM_UP = 20  # reports and calls that are not counted
PACE = 0.01  # seconds between two reports of a trial that only makes load
LINE = b"x" * 100  # about what a report takes in a journal


class Clerk:
    """Writes a line down, and answers when it is on the disk."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def write(self, line: bytes) -> None:
        """Write it down."""
        os.write(self._file, line)
        os.fdatasync(self._file)


class Caller:
    """Calls a clerk, as a slot calls its controller."""

    async def took(self, clerk: Any, calls: int) -> list[float]:  # noqa: ANN401  (Ray's handle)
        """What each call took, in seconds."""
        seconds = []
        for _ in range(WARM_UP + calls):
            began = time.perf_counter()
            await clerk.write.remote(LINE)
            seconds.append(time.perf_counter() - began)
        return seconds[WARM_UP:]


def bare(calls: int, place: Path) -> list[float]:
    """What bare calls take, in seconds."""
    clerk: Any = ray.remote(num_cpus=0)(Clerk).remote(str(place / "clerk"))
    caller: Any = ray.remote(num_cpus=0)(Caller).remote()
    seconds: list[float] = ray.get(caller.took.remote(clerk, calls))
    for actor in (clerk, caller):
        ray.kill(actor)
    return seconds


def decided(run: Run, place: Path) -> Answer:
    """Time the reports of one trial; all others, if there are any, report a hundred times a second."""
    notes = Notes(folder=str(place / "notes")).made()
    beside = bare(run.reports, place)
    sweep = sweep_of(timing(run.reports, run.trials - 1, notes), run, place, sync_decisions=True)
    result = sweep.run(screen="none")
    answer = checked(result, notes, run.trials)
    took = notes.times()
    return answer | {
        "p50": 1000 * percentile(took, 50),
        "p99": 1000 * percentile(took, 99),
        "bare_p50": 1000 * percentile(beside, 50),
        "bare_p99": 1000 * percentile(beside, 99),
    }


def timing(reports: int, others: int, notes: Notes) -> Train:
    """A training function: trial 0 times its reports while the others make load."""

    def train(trial: rs.Trial) -> None:
        made = 0

        def report() -> float:
            nonlocal made
            made += 1
            began = time.perf_counter()
            trial.report(score=float(made))
            return time.perf_counter() - began

        (timed if trial.number == 0 else load)(report)
        notes.ended(trial.number, made)

    def timed(report: Callable[[], float]) -> None:
        while notes.marks() < others:
            time.sleep(PACE)
        notes.took([report() for _ in range(WARM_UP + reports)][WARM_UP:])
        notes.mark("done")

    def load(report: Callable[[], float]) -> None:
        report()
        notes.mark(str(time.monotonic_ns()))
        while not notes.is_marked("done"):
            time.sleep(max(0.0, PACE - report()))

    return train
