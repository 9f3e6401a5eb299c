"""What the trials of a chaos round train, and the witness that each of them leaves.

One rule: every value follows from the trial's params and the interval alone, bit by bit, so that an
attempt that was restored from the wrong state cannot report the right value.

The witness is one file, outside of the sweep's storage, that every trial appends lines to:

    ["began", trial, attempt, process id, interval, time]
    ["heard", trial, attempt, report, value, time made, time heard]

A line of the second kind is written once `trial.report()` has returned. With `sync_decisions` it
returns when the controller has acknowledged the report; without, when it was handed to the slot,
and the line says `said`. Times are this machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

INTERVALS = 30
EVERY = 3  # intervals between two checkpoints
SIZE = 512  # numbers in a trial's state

State = npt.NDArray[np.float64]


def begun(params: Mapping[str, Any]) -> State:
    """The state before the first interval."""
    state: State = np.cos(np.arange(SIZE) * (1.0 + params["rate"]))
    return state


def trained(params: Mapping[str, Any], state: State) -> State:
    """The state one interval later: elementwise, so that no library may add in another order."""
    rate: float = params["rate"]
    return state + rate * (_target(params) - state)


def score(params: Mapping[str, Any], state: State) -> float:
    """How good a state is."""
    return float(params["height"] - np.mean(np.square(_target(params) - state)))


def _target(params: Mapping[str, Any]) -> State:
    target: State = np.sin(np.arange(SIZE) * params["height"])
    return target


def curve(params: Mapping[str, Any], intervals: int = INTERVALS) -> list[float]:
    """What an undisturbed trial with these params reports."""
    return list(_scores(params, intervals))


def _scores(params: Mapping[str, Any], intervals: int) -> Iterator[float]:
    state = begun(params)
    for _ in range(intervals):
        state = trained(params, state)
        yield score(params, state)


def train(trial: Any, *, witness: str, pace: str, sync: bool) -> None:  # noqa: ANN401  (the trial; pickled by value, so nothing of raysweep is imported here)
    """Train from the checkpoint on; write down what `report` has returned from.

    Args:
        trial: what raysweep hands over.
        witness: the file that the lines go to.
        pace: a file that says how many seconds an interval takes; it may change at any time.
        sync: whether `report` waits for its acknowledgement.
    """
    saved = trial.checkpoint()
    start, state = (0, begun(trial.params)) if saved is None else (saved["at"], saved["state"])
    lines = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    _write(lines, ["began", trial.number, trial.attempt, os.getpid(), start, time.monotonic()])
    for interval in range(start + 1, INTERVALS + 1):
        time.sleep(float(Path(pace).read_text()))
        state = trained(trial.params, state)
        value = score(trial.params, state)
        saves = interval % EVERY == 0 or trial.checkpoint_wanted  # its machine is to be taken away
        made = time.monotonic()
        trial.report(score=value, at=interval)
        heard = ["heard" if sync else "said", trial.number, trial.attempt, interval - start, value]
        _write(lines, [*heard, made, time.monotonic()])
        if saves:
            trial.save({"at": interval, "state": state})


def _write(file: int, line: list[Any]) -> None:
    """One line in one write: with O_APPEND it is whole, whoever is killed and whoever else writes."""
    os.write(file, json.dumps(line).encode() + b"\n")
