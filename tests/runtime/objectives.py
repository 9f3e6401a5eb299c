"""Training functions that the runtime tests run; they go to the trials pickled, by value."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

EPOCHS = 6


def climb(trial: Any) -> None:  # noqa: ANN401  (a raysweep Trial)
    """Report x, 2x, 3x, ... with a checkpoint each, continuing from the last one."""
    start = (trial.checkpoint() or {"epoch": 0})["epoch"]
    for epoch in range(start, EPOCHS):
        time.sleep(trial.params.get("pause", 0.01))
        value = trial.params["x"] * (epoch + 1)
        trial.report(score=value, start=start, checkpoint={"epoch": epoch + 1})


def peak(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Save a checkpoint with each report; the fourth is the best."""
    start = (trial.checkpoint() or {"epoch": 0})["epoch"]
    for epoch in range(start, trial.params["epochs"]):
        time.sleep(0.1)
        score = trial.params["x"] - abs(epoch + 1 - 4)
        trial.report(score=score, checkpoint={"epoch": epoch + 1})


def forget(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Save checkpoints, but begin anew each time."""
    for epoch in range(EPOCHS):
        time.sleep(trial.params.get("pause", 0.01))
        trial.report(score=trial.params["x"] * (epoch + 1), checkpoint={"epoch": epoch + 1})


def wait_for_all_others(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Trial 8 ends only when all others have; each of them takes no time."""
    others = Path(trial.params["place"])
    if trial.number == 8:
        while len(list(others.iterdir())) < trial.params["others"]:
            time.sleep(0.05)
            trial.heed()
    else:
        (others / str(trial.number)).touch()
    trial.report(score=1.0)


def hold_the_gil(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Trial 0 never ends and never lets another thread run; the others report once."""
    if trial.number == 0:
        int("9" * 4000) ** 4_000_000  # one C call that keeps the GIL for hours
    trial.report(score=1.0)


def raise_value_error(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Fail."""
    raise ValueError(f"no such width: {trial.params['x']}")


def die(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Report once, and be killed on the first attempt of each trial."""
    start = (trial.checkpoint() or {"epoch": 0})["epoch"]
    trial.report(score=float(start), checkpoint={"epoch": start + 1})
    trial.settle()
    if trial.attempt == 1:
        os.abort()


def report_another_metric(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Report everything but the primary metric."""
    trial.report(loss=0.5, acc=0.9)


def report_text(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Report what is no number."""
    trial.report(score="0.9")


def leave_a_child(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Start a child that would run for ever, note its process id, and report until stopped."""
    child = subprocess.Popen(["sleep", "1000"])
    Path(trial.params["note"]).write_text(str(child.pid))
    while True:
        trial.report(score=1.0)
        time.sleep(0.02)


def swallow(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Swallow every Exception, as careless code does."""
    while True:
        try:
            time.sleep(0.01)
            trial.report(score=1.0)
        except Exception:  # noqa: BLE001
            pass


def draw(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Report what an unseeded generator gives."""
    import random

    trial.report(score=random.random())


def read_shared(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Report the sum of the shared numbers."""
    trial.report(score=float(trial.shared["numbers"].sum()))


def once(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Report once."""
    trial.report(score=trial.params["x"])


def two(trial: Any, extra: int) -> None:  # noqa: ANN401  (the same)
    """Take one argument too many."""


def walk(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Six intervals in a third of a second."""
    for _ in range(6):
        time.sleep(0.05)
        trial.report(score=trial.params["x"])
