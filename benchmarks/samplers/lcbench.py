"""LCBench: the learning curves of a network on 34 OpenML tasks, as a surrogate predicts them.

One rule: interval k of a trial is the k-th epoch that was trained, 1 to 50; what a configuration is
worth is its error at the last one. A surrogate has no noise: a reading is the truth.

    python lcbench.py    finds the references again and writes them: four minutes

Source, licence and traps are in data/lcbench/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from references import Reference, read_references, search, written
from tasks import Params, Reading, Task

import raysweep as rs

DATA = Path(__file__).parent / "data" / "lcbench"
REFERENCES = DATA / "references.json"
EPOCHS = np.arange(2, 52)  # as the surrogate counts: 1 is untrained, 52 is odd in its data
SECONDS, ACCURACY = 0, 1  # the surrogate's columns
POINTS = 16_384  # of which the median is the ordinary configuration
ORDER = (  # of the surrogate's inputs, after the epoch; a wrong one is not refused
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "num_layers",
    "max_units",
    "max_dropout",
)
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What a configuration shows; both of shape (50,), by epoch."""

    errors: Array  # share of the validation set, 0 to 1
    seconds: Array  # that the epoch takes


def names() -> list[str]:
    """Every task, as `lcbench/OpenML id`."""
    return [f"lcbench/{choice}" for choice in _hyperparameters()["OpenML_task_id"]["choices"]]


@cache
def load(name: str) -> Task:
    """A task at its last epoch."""
    reference = read_references(REFERENCES)[name]

    def read(params: Params, random: np.random.Generator) -> Reading:
        del random
        shown = curve(name, params)
        return Reading(value=float(shown.errors[-1]), seconds=float(shown.seconds.sum()))

    return Task(
        name=name,
        family="lcbench",
        space=space(),
        read=read,
        truth=lambda params: float(curve(name, params).errors[-1]),
        best=reference.best,
        usual=reference.usual,
    )


@cache
def space() -> rs.Space:
    """The space of every task: whole numbers are whole, and logarithmic where the source says so."""
    return rs.Space({name: _expression(_hyperparameters()[name]) for name in ORDER})


def curve(name: str, params: Params) -> Curve:
    """A configuration's learning curve."""
    return curves(name, [params])[0]


def curves(name: str, found: Sequence[Params]) -> list[Curve]:
    """The learning curves of many configurations, in one call."""
    predicted = _predicted(name, found, EPOCHS)
    times = np.maximum.accumulate(predicted[:, :, SECONDS].clip(min=0.0), axis=1)
    seconds = np.diff(times, axis=1, prepend=0.0)
    errors = _errors(predicted)
    return [Curve(errors=each, seconds=took) for each, took in zip(errors, seconds, strict=True)]


def last_errors(name: str, found: Sequence[Params]) -> Array:
    """What many configurations are worth."""
    return _errors(_predicted(name, found, EPOCHS[-1:]))[:, 0]


def _errors(predicted: Array) -> Array:
    return 1.0 - predicted[:, :, ACCURACY].clip(0.0, 100.0) / 100.0


def _predicted(name: str, found: Sequence[Params], epochs: npt.NDArray[np.int_]) -> Array:
    """All that the surrogate says, shape (configurations, epochs, outputs)."""
    each = np.array([[params[key] for key in ORDER] for params in found], dtype=np.float32)
    continuous = np.column_stack(
        [
            np.tile(epochs.astype(np.float32), len(each)),
            np.repeat(each, len(epochs), axis=0),
        ]
    )
    code = _codes()[name.partition("/")[2]]
    task = np.full((len(continuous), 1), code, dtype=np.int32)
    answer = _session().run(None, {"x_cat": task, "x_cont": continuous})[0]
    return np.asarray(answer, dtype=float).reshape(len(each), len(epochs), -1)


@cache
def _session() -> Any:  # noqa: ANN401  (onnxruntime ships no types)
    """One for a process, on one thread: others work here, too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        DATA / "model.onnx", options, providers=["CPUExecutionProvider"]
    )


@cache
def _codes() -> dict[str, int]:
    return dict(json.loads((DATA / "encoding.json").read_text())["OpenML_task_id"])


@cache
def _hyperparameters() -> dict[str, dict[str, Any]]:
    found = json.loads((DATA / "config_space.json").read_text())["hyperparameters"]
    return {each["name"]: each for each in found}


def _expression(given: dict[str, Any]) -> Any:  # noqa: ANN401  (an expression of raysweep's)
    low, high = given["lower"], given["upper"]
    if given["type"] == "uniform_float":
        return rs.loguniform(low, high) if given["log"] else rs.uniform(low, high)
    if given["log"]:
        return rs.qloguniform(low, high, 1)
    return rs.quniform(low - 0.5, high + 0.5, 1)  # so that both ends are as likely as the others


def reference(name: str) -> Reference:
    """The least and the median error that there is, as far as a long search can tell."""
    return search(space(), lambda found: last_errors(name, found), points=POINTS)


def main() -> None:
    """Find and write the references of all tasks."""
    written(REFERENCES, {name: reference(name) for name in names()})


if __name__ == "__main__":
    main()
