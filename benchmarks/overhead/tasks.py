"""What the trials of the benchmark do, whoever runs them.

One rule: both sides run the same function, which reports through whatever it is handed, and neither side's
trials import anything of the other's. The metric `score` is the report's number, so that a journal can be
held against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from notes import Notes
from runs import Answer, Run

NAME = "bench"  # of each sweep and experiment

Array = npt.NDArray[np.float64]
Report = Callable[[dict[str, float], Array | None], None]  # metrics, checkpoint


@dataclass(frozen=True, kw_only=True)
class Task:
    """One trial's work: report, sleep, and so on; as Ray's own release tests have it."""

    notes: Notes
    reports: int
    every: float = 0.0  # seconds that are slept after each report
    metrics: int = 1  # of a report
    checkpoint_each: int = 0  # every so many reports have a checkpoint; 0: none has
    checkpoint_bytes: int = 0


def perform(task: Task, report: Report) -> None:
    """Make the reports of one trial."""
    others = {f"metric_{number}": 0.1 * number for number in range(1, task.metrics)}
    task.notes.begun()
    for number in range(1, task.reports + 1):
        saves = task.checkpoint_each > 0 and (number - 1) % task.checkpoint_each == 0
        state = np.random.default_rng().random(task.checkpoint_bytes // 8) if saves else None
        report({**others, "score": float(number)}, state)
        if task.every:
            time.sleep(task.every)


def ideal(run: Run) -> float:
    """Seconds that the sleeps of all trials take, over so many slots."""
    return run.trials / run.slots * run.reports * run.every


def task_of(run: Run, notes: Notes) -> Task:
    """What each trial of a run does."""
    return Task(
        notes=notes,
        reports=run.reports,
        every=run.every,
        metrics=run.metrics,
        checkpoint_each=run.checkpoint_each,
        checkpoint_bytes=run.checkpoint_bytes,
    )


def trained(notes: Notes, slots: int) -> Answer:
    """What the trials that trained say of the time between them.

    A slot is idle from the end of a last training step to the begin of the next trial's code in it.
    Whose slot is whose is told the same way on both sides: the next to begin takes the slot that has
    been free for longest, which pairs the ends with the begins in their order.
    """
    began, ended, cpu = notes.training().T
    idle = np.sort(began)[slots:] - np.sort(ended)[:-slots]
    return {
        "idle": 1000 * float(np.median(idle)),
        "idle_most": 1000 * float(idle.max()),
        "trial_seconds": float(np.median(ended - began)),
        "training_cpu": float(cpu.sum()),
    }
