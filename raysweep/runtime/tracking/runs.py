"""What a script has logged: its runs, their metrics, params and tags, and the models it made.

One rule: it is data in memory. Nothing here knows HTTP, a clock's reading or a file; times are
milliseconds since 1970, as MLflow writes them, and come with what is logged.

There is one experiment. Whatever name or number a script asks for is this one, so that
`mlflow.set_experiment`, before or after `mlflow.start_run`, never separates a script from the run
that its trial was given.
"""

from __future__ import annotations

import math
import secrets
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXPERIMENT = "1"  # the id of the one experiment; "0" is MLflow's own default
PARENT = "mlflow.parentRunId"  # the tag that makes a run a nested one
RUN_NAME = "mlflow.runName"
REFUSED = 100  # requests that are noted, at most

Json = dict[str, Any]


class RefusedError(Exception):
    """A request that is answered with an error; it never leaves the rooms of tracking.

    Attributes:
        code: MLflow's name for the kind of error.
        message: what the script's user reads.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One value of one metric."""

    key: str
    value: float
    timestamp: int
    step: int
    model_id: str = ""  # the logged model that it was measured on

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """What makes it itself within a run; text for the value, as NaN does not equal NaN."""
        return self.key, repr(self.value), self.timestamp, self.step

    @property
    def place(self) -> tuple[int, int, float]:
        """Its place among the values of its key; the last of them is the metric's value now."""
        return self.step, self.timestamp, -math.inf if math.isnan(self.value) else self.value

    def shown(self) -> Json:
        """As MLflow writes it; protobuf's JSON has text for what is not finite."""
        said = {"key": self.key, "value": plain_number(self.value)}
        said |= {"timestamp": self.timestamp, "step": self.step}
        return said | ({"model_id": self.model_id} if self.model_id else {})


@dataclass(slots=True)
class Curve:
    """Every value of one metric, in order of arrival; 24 bytes each."""

    values: array[float] = field(default_factory=lambda: array("d"))
    timestamps: array[int] = field(default_factory=lambda: array("q"))
    steps: array[int] = field(default_factory=lambda: array("q"))
    last: Metric | None = None  # at the largest step, not of the latest arrival

    def add(self, metric: Metric) -> None:
        """Take one more value."""
        self.values.append(metric.value)
        self.timestamps.append(metric.timestamp)
        self.steps.append(metric.step)
        if self.last is None or metric.place >= self.last.place:
            self.last = metric

    def metrics(self, key: str, start: int, end: int) -> Iterator[Metric]:
        """The values from `start` up to `end`."""
        columns = (self.values[start:end], self.timestamps[start:end], self.steps[start:end])
        for value, timestamp, step in zip(*columns, strict=True):
            yield Metric(key=key, value=value, timestamp=int(timestamp), step=int(step))


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of MLflow's: the trial's own, or another that the script has made."""

    run_id: str
    artifact_uri: str
    start_time: int
    user: str = ""
    status: str = "RUNNING"
    end_time: int | None = None
    deleted: bool = False
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)  # params that the sweep wrote, not the script
    datasets: list[Json] = field(default_factory=list)
    model_inputs: list[Json] = field(default_factory=list)
    model_outputs: list[Json] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name that a reader sees."""
        return self.tags.get(RUN_NAME, "")

    @property
    def nested(self) -> bool:
        """Whether it is a part of another run, and so none of the trial's reports."""
        return PARENT in self.tags

    def require_active(self) -> None:
        """Refuse to write to a run that was deleted."""
        if self.deleted:
            raise RefusedError(
                "INVALID_PARAMETER_VALUE",
                f"run {self.run_id} was deleted by the script; restore it to log to it",
            )

    def set_param(self, key: str, value: str) -> None:
        """Write a param, which keeps its value for good, as everywhere in MLflow.

        Except that what the sweep wrote gives way: a script that logs the value it was given, be it
        as 0.1 where the sweep wrote 0.10, is right.
        """
        if key not in self.given and self.params.get(key, value) != value:
            raise RefusedError(
                "INVALID_PARAMETER_VALUE",
                f"param {key!r} of run {self.run_id} is {self.params[key]!r} and cannot be changed"
                f" to {value!r}; log what changes as a metric or a tag",
            )
        self.given.discard(key)
        self.params[key] = value

    def add(self, metrics: Iterable[Metric]) -> None:
        """Take values of metrics."""
        for metric in metrics:
            self.curves.setdefault(metric.key, Curve()).add(metric)

    def latest(self) -> dict[str, Metric]:
        """Each metric's value now."""
        return {key: curve.last for key, curve in self.curves.items() if curve.last is not None}

    def info(self) -> Json:
        """What MLflow calls the run's info."""
        return {
            "run_id": self.run_id,
            "run_uuid": self.run_id,
            "run_name": self.name,
            "experiment_id": EXPERIMENT,
            "user_id": self.user,
            "status": self.status,
            "start_time": self.start_time,
            **({} if self.end_time is None else {"end_time": self.end_time}),
            "artifact_uri": self.artifact_uri,
            "lifecycle_stage": "deleted" if self.deleted else "active",
        }

    def shown(self) -> Json:
        """As MLflow writes it."""
        return {
            "info": self.info(),
            "data": {
                "metrics": [metric.shown() for metric in self.latest().values()],
                "params": pairs(self.params),
                "tags": pairs(self.tags),
            },
            "inputs": {"dataset_inputs": self.datasets, "model_inputs": self.model_inputs},
            "outputs": {"model_outputs": self.model_outputs},
        }

    def recorded(self) -> Json:
        """For the record: without the trial's curves, which are in the sweep's journal."""
        last = {key: plain_number(metric.value) for key, metric in self.latest().items()}
        record = self.info() | {"params": self.params, "tags": self.tags, "metrics": last}
        record |= {"datasets": self.datasets}
        if self.nested:
            record["history"] = {
                key: [
                    [step, plain_number(value)]
                    for step, value in zip(c.steps, c.values, strict=True)
                ]
                for key, c in self.curves.items()
            }
        return record


@dataclass(slots=True, kw_only=True)
class Model:
    """A model that the script has logged."""

    model_id: str
    name: str
    artifact_uri: str
    created: int
    updated: int
    model_type: str = ""
    source_run_id: str = ""
    status: str = "LOGGED_MODEL_PENDING"
    deleted: bool = False
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)

    def shown(self) -> Json:
        """As MLflow writes it."""
        info = {
            "model_id": self.model_id,
            "experiment_id": EXPERIMENT,
            "name": self.name,
            "creation_timestamp_ms": self.created,
            "last_updated_timestamp_ms": self.updated,
            "artifact_uri": self.artifact_uri,
            "status": self.status,
            "model_type": self.model_type,
            "source_run_id": self.source_run_id,
            "tags": pairs(self.tags),
        }
        metrics = [
            metric.shown() | {"run_id": self.source_run_id} for metric in self.metrics.values()
        ]
        return {"info": info, "data": {"params": pairs(self.params), "metrics": metrics}}


class Book:
    """All that one script has logged.

    Args:
        run: the trial's own run.
        experiment: the name of the experiment until the script gives it another.
        artifacts: the folder of the trial's own artifacts; those of other runs and of models go
            beneath it.
    """

    def __init__(self, run: Run, experiment: str, artifacts: Path) -> None:
        self.own = run
        self.runs = {run.run_id: run}
        self.models: dict[str, Model] = {}
        self.experiment = experiment
        self.experiment_tags: dict[str, str] = {}
        self.registered: dict[str, list[Json]] = {}  # versions of models by the model's name
        self.refused: dict[str, None] = {}  # what was asked for and is not here, once each
        self._artifacts = artifacts

    def refuse(self, what: str) -> None:
        """Note something that was asked for and is not here."""
        if len(self.refused) < REFUSED:
            self.refused[what] = None

    def run(self, run_id: str) -> Run:
        """A run by its id."""
        if run_id not in self.runs:
            raise RefusedError("RESOURCE_DOES_NOT_EXIST", f"this trial has no run {run_id!r}")
        return self.runs[run_id]

    def model(self, model_id: str) -> Model:
        """A model by its id."""
        model = self.models.get(model_id)
        if model is None or model.deleted:
            raise RefusedError("RESOURCE_DOES_NOT_EXIST", f"this trial has no model {model_id!r}")
        return model

    def new_run(self, *, start_time: int, user: str, tags: dict[str, str]) -> Run:
        """Make a run beside the trial's own; what one on the top level leaves is the trial's, too."""
        run_id = secrets.token_hex(16)
        nested = PARENT in tags
        uri = (self._artifacts / "runs" / run_id).as_uri() if nested else self.own.artifact_uri
        tags.setdefault(RUN_NAME, f"{self.own.name}_{len(self.runs)}")
        run = Run(run_id=run_id, artifact_uri=uri, start_time=start_time, user=user, tags=tags)
        self.runs[run_id] = run
        return run

    def new_model(self, *, name: str, now: int, model_type: str, source_run_id: str) -> Model:
        """Make a model."""
        model_id = f"m-{secrets.token_hex(16)}"
        uri = (self._artifacts / "models" / model_id).as_uri()
        model = Model(
            model_id=model_id, name=name or model_id, artifact_uri=uri, created=now, updated=now,
            model_type=model_type, source_run_id=source_run_id,
        )  # fmt: skip
        self.models[model_id] = model
        return model

    def measure(self, metrics: Iterable[Metric]) -> None:
        """Note for each model what was measured on it."""
        for metric in metrics:
            model = self.models.get(metric.model_id)
            if model is not None:
                model.metrics[metric.key] = metric

    def shown_experiment(self, name: str = "") -> Json:
        """The one experiment, as MLflow writes it, under the name that was asked for."""
        return {
            "experiment_id": EXPERIMENT,
            "name": name or self.experiment,
            "artifact_location": self._artifacts.as_uri(),
            "lifecycle_stage": "active",
            "creation_time": self.own.start_time,
            "last_update_time": self.own.start_time,
            "tags": pairs(self.experiment_tags),
        }

    def record(self) -> Json:
        """All of it but the trial's curves, as plain data that JSON can hold."""
        others = [run for run in self.runs.values() if run is not self.own]
        return {
            "experiment": {"name": self.experiment, "tags": self.experiment_tags},
            "run": self.own.recorded(),
            "others": [run.recorded() for run in others],
            "models": [model.shown() for model in self.models.values() if not model.deleted],
            "registered": self.registered,
            "refused": [*self.refused],
        }


def pairs(values: Mapping[str, str]) -> list[Json]:
    """A mapping in MLflow's form."""
    return [{"key": key, "value": value} for key, value in values.items()]


def plain_number(value: float) -> float | str:
    """A number that JSON can hold; what is not finite as protobuf writes it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
