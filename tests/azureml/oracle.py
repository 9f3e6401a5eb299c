"""What azure-ai-ml makes of a job file, in plain terms that both sides know.

One rule: nothing here knows how raysweep reads a job; the two meet in the tests alone.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The package asks whether it may send telemetry; it may not, and needs no network for loading.
os.environ["AZURE_ML_CLI_TELEMETRY_ENABLED"] = "false"

# azure-ai-ml 1.35 declares marshmallow fields that 3.26 deprecates, and its marks of experimental
# classes warn as they are made; nobody here can mend either, so it runs with warnings off.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from azure.ai.ml import load_job
    from azure.ai.ml._utils.utils import map_single_brackets_and_warn
    from azure.ai.ml.entities._job.sweep.sweep_job import SweepJob

SHORTEST = 60  # seconds: what Azure ML raises shorter timeouts to


@contextmanager
def quiet() -> Iterator[None]:
    """Without azure-ai-ml's warnings and logs."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def load(path: Path) -> Any:  # noqa: ANN401  (a SweepJob; its attributes may be None by their types)
    """The job that the SDK loads; None when it refuses."""
    with quiet():
        try:
            job = load_job(path)
        except Exception:  # noqa: BLE001  (it refuses by many kinds, AttributeError included)
            return None
    return job if isinstance(job, SweepJob) else None


def plain(job: Any) -> dict[str, Any]:  # noqa: ANN401  (the same)
    """The parts that raysweep has, too."""
    return {
        "space": {name: expression(each) for name, each in job.search_space.items()},
        "objective": (job.objective.goal, job.objective.primary_metric),
        "limits": {
            name: getattr(job.limits, name)
            for name in ("max_total_trials", "max_concurrent_trials", "timeout", "trial_timeout")
        },
        "policy": policy(job.early_termination),
        "sampler": sampler(job.sampling_algorithm),
        "command": command(job.trial.command),
        "code": path(job, job.trial.code) if job.trial.code is not None else "",
        "processes": processes(job.trial.distribution),
        "variables": {
            str(name): str(value)
            for name, value in job.trial.environment_variables.items()
            if value is not None
        },
        "environment": environment(job.trial.environment),
        "literals": {n: v for n, v in job.inputs.items() if not hasattr(v, "path")},
        "inputs": {
            name: (value.type, path(job, value.path), value.mode or "ro_mount")
            for name, value in job.inputs.items()
            if hasattr(value, "path")
        },
        "outputs": {n: v.type if v is not None else "uri_folder" for n, v in job.outputs.items()},
        "about": {
            key: getattr(job, key)
            for key in ("display_name", "experiment_name", "description")
            if getattr(job, key) is not None
        },
        "tags": dict(job.tags),
        "name": job.name,
    }


def command(text: str) -> str:
    """The command as it is submitted."""
    with quiet():
        mapped: str = map_single_brackets_and_warn(text)
    return mapped


def path(job: Any, written: str) -> str:  # noqa: ANN401  (the same)
    """A path as an absolute one."""
    if written.startswith("https:"):
        return written
    return os.path.normpath(Path(job.base_path).resolve() / written.removeprefix("file:"))


def environment(given: Any) -> tuple[str, str, Mapping[str, Any] | None]:  # noqa: ANN401  (or text)
    """Its name where it is registered, its image, its conda file."""
    if isinstance(given, str):
        return (given if given.startswith("azureml://") else f"azureml:{given}", "", None)
    return ("", given.image or "", given.conda_file or None)


def processes(distribution: Any) -> int | None:  # noqa: ANN401  (an SDK object)
    """How many ranks PyTorch has; None where there is no PyTorch."""
    if getattr(distribution, "type", None) != "pytorch":
        return None
    return getattr(distribution, "process_count_per_instance", None) or 1


def sampler(given: Any) -> tuple[str, int | None]:  # noqa: ANN401  (the same)
    """Its kind and seed; random sampling is what Azure ML does when nothing is said."""
    if given is None or isinstance(given, str):
        return given or "random", None
    if getattr(given, "rule", None) == "sobol":
        return "sobol", given.seed
    return given.type, getattr(given, "seed", None)


def policy(given: Any) -> dict[str, Any]:  # noqa: ANN401  (the same)
    """Its type and fields; 0 is what the SDK writes for nothing."""
    return {"type": "none"} if given is None else {k: v for k, v in vars(given).items() if v}


def expression(given: Any) -> dict[str, Any]:  # noqa: ANN401  (the same)
    """A distribution as raysweep would write it: natural bounds, constants and twins resolved."""
    fields = {name: value for name, value in vars(given).items() if name != "type"}
    kind = given.type
    if kind == "choice":
        return {"type": kind, "values": distinct([option(value) for value in fields["values"]])}
    if kind == "randint":
        return {"type": kind, **fields}
    fields = {name: float(value) for name, value in fields.items()}
    if "min_value" in fields:
        natural = math.exp if "log" in kind else float
        fields["low"], fields["high"] = (
            natural(fields.pop("min_value")),
            natural(fields.pop("max_value")),
        )
        if fields["low"] == fields["high"]:
            return {"type": "choice", "values": [constant(fields["low"], fields.get("q"))]}
    return {"type": kind, **fields}


def constant(value: float, q: float | None) -> float:
    """The only value: a whole one where q is whole."""
    if q is None:
        return value
    return int(value) if q.is_integer() else value + 0.0  # a multiple of q has no sign at 0


def option(value: Any) -> Any:  # noqa: ANN401  (a scalar or a mapping)
    """One value of a choice."""
    if not isinstance(value, Mapping):
        return value
    inner = {
        key: expression(each) if hasattr(each, "type") else each for key, each in value.items()
    }
    return {"type": "mapping", "items": inner} if "type" in inner else inner


def distinct(values: list[Any]) -> list[Any]:
    """Each value once; 1, 1.0 and "1" are three."""
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())
