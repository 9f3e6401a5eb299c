"""The azure-ai-ml SDK's own objects as the document that a job file would hold.

One rule: objects are known by the package that made them and read by their attributes; azure-ai-ml
is never imported, so that an object of any of its versions can be read without it.

Two things are lost before they get here: the SDK raises timeouts below 60 s to 60, and a
`BanditPolicy` cannot tell a slack of 0 from none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.azureml.components import Inline
from raysweep.azureml.documents import Document
from raysweep.core import checks
from raysweep.errors import JobFileError, Problem

PACKAGE = "azure.ai.ml"

_SWEEPS = ("Sweep", "SweepJob")
_OTHERS = {
    "Command": "add the search: job(lr=Uniform(...)).sweep(primary_metric=..., goal=...)",
    "CommandJob": "make it the trial of a SweepJob",
    "PipelineJob": "hand over the sweep inside, not the pipeline",
    "Pipeline": "hand over the sweep inside, not the pipeline",
}

# Attributes that a document holds under the same key, whatever they are.
_PLAIN = ("name", "display_name", "experiment_name", "description", "compute")
_TEXTS = ("tags", "properties")
_PORT = ("type", "optional", "default", "mode", "description")
_FILE = ("type", "path", "mode")
_COMMAND = ("command", "environment_variables")
_RESOURCES = ("instance_count", "shm_size", "docker_args", "locations", "max_instance_count")

# How a registered asset is called once the SDK has taken `azureml:` off.
_ASSET = re.compile(r"[A-Za-z0-9][\w.-]*[:@][\w.-]+")


def is_sdk_object(source: object) -> bool:
    """Whether azure-ai-ml made it; its job builders are mappings, too."""
    return type(source).__module__.startswith(f"{PACKAGE}.")


def document(source: object) -> Document:
    """The document of a `SweepJob`, or of what `command(...).sweep(...)` answers.

    Raises:
        JobFileError: it is something else.
    """
    kind = type(source).__name__
    if not is_sdk_object(source):
        message = "must be a path, a mapping or a SweepJob, but got " + checks.described(source)
        raise JobFileError([Problem(message=message)])
    if kind not in _SWEEPS:
        remedy = _OTHERS.get(kind, "hand over a SweepJob")
        raise JobFileError([Problem(message=f"must be a sweep, but got a {kind}; {remedy}")])
    return Document(
        value=_job(source), folder=Path(_attribute(source, "base_path") or "").resolve()
    )


def _attribute(thing: Any, name: str) -> Any:  # noqa: ANN401  (an SDK object)
    """An attribute; None where the class has none: builders make one up for any name."""
    if name in vars(thing) or f"_{name}" in vars(thing) or hasattr(type(thing), name):
        return getattr(thing, name, None)
    return None


def _given(thing: Any, names: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401  (the same)
    """The attributes of these names that are not None."""
    found = {name: _attribute(thing, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _job(job: Any) -> dict[str, Any]:  # noqa: ANN401  (the same)
    trial = job.trial
    own_inputs = vars(job).get("_job_inputs", vars(job).get("_inputs"))  # a builder's, a job's
    own_outputs = vars(job).get("_job_outputs", vars(job).get("_outputs"))
    is_job = type(trial).__name__ == "CommandJob"  # lends the sweep what it has not itself
    limits = _limits(job, trial if is_job else None)
    parts = {
        "type": "sweep",
        **_given(job, _PLAIN),
        **{name: dict(value) for name, value in _given(job, _TEXTS).items() if value},
        "trial": _trial(trial),
        "inputs": _inputs(own_inputs or (is_job and trial.inputs) or {}),
        "outputs": _outputs(own_outputs or (is_job and trial.outputs) or {}),
        "search_space": _expressions(_attribute(job, "search_space")),
        "sampling_algorithm": _sampler(_attribute(job, "sampling_algorithm")),
        "objective": _given_or_none(job, "objective", ("goal", "primary_metric")),
        "early_termination": _policy(_attribute(job, "early_termination")),
        "limits": limits,
        "resources": _resources(_attribute(job, "resources")),
        "queue_settings": _given_or_none(job, "queue_settings", ("job_tier", "priority")),
        "identity": _given_or_none(job, "identity", ("type", "client_id", "object_id")),
        "services": {name: {} for name in _attribute(job, "services") or ()} or None,
    }
    return {key: value for key, value in parts.items() if value is not None}


def _given_or_none(thing: Any, part: str, names: tuple[str, ...]) -> dict[str, Any] | None:  # noqa: ANN401  (the same)
    """The attributes of a part, if there is one."""
    inner = _attribute(thing, part)
    if inner is None or isinstance(inner, Mapping):
        return dict(inner) if inner else None
    return _given(inner, names)


def _limits(job: Any, command_job: Any) -> dict[str, Any] | None:  # noqa: ANN401  (the same)
    names = ("max_total_trials", "max_concurrent_trials", "timeout", "trial_timeout")
    found = _given_or_none(job, "limits", names)
    lent = command_job and command_job.limits and command_job.limits.timeout
    if lent:
        found = {"trial_timeout": lent, **(found or {})}
    return found


def _trial(trial: Any) -> Any:  # noqa: ANN401  (the same)
    if trial is None or isinstance(trial, str):
        return trial
    parts = {
        **{name: value for name, value in _given(trial, _COMMAND).items() if value != {}},
        "code": _code(trial.code),
        "environment": _environment(trial.environment),
        "resources": _resources(_attribute(trial, "resources")),
        "distribution": _distribution(_attribute(trial, "distribution")),
        "queue_settings": _given_or_none(trial, "queue_settings", ("job_tier", "priority")),
    }
    found = {key: value for key, value in parts.items() if value is not None}
    if type(trial).__name__ != "CommandComponent":
        return found
    ports = {"inputs": trial.inputs, "outputs": trial.outputs}
    return Inline(found | {key: _ports(value) for key, value in ports.items()})


def _ports(ports: Mapping[str, Any]) -> dict[str, Any]:
    """What a component declares."""
    return {name: _given(port, _PORT) for name, port in ports.items()}


def _code(code: object) -> str | None:
    if code is None:
        return None
    path = str(code)
    return f"azureml:{path}" if _is_asset(path) else path


def _is_asset(path: str) -> bool:
    return bool(_ASSET.fullmatch(path) or path.startswith("/subscriptions/"))


def _environment(environment: Any) -> Any:  # noqa: ANN401  (the same)
    """A registered environment by name, or one that is written out."""
    if isinstance(environment, str):
        known = environment.startswith("azureml:")
        return environment if known else f"azureml:{environment}"
    if environment is None or isinstance(environment, Mapping):
        return environment
    parts = _given(environment, ("image",))
    if not vars(environment).get("_is_anonymous"):
        parts |= _given(environment, ("name", "version"))
    if environment.build is not None:
        parts["build"] = _given(environment.build, ("path", "dockerfile_path"))
    if environment.conda_file:
        parts["conda_file"] = environment.conda_file
    return parts


def _resources(resources: Any) -> dict[str, Any] | None:  # noqa: ANN401  (the same)
    """Where it would run; an empty answer is none."""
    if resources is None:
        return None
    if isinstance(resources, Mapping):
        return dict(resources) or None
    found = _given(resources, _RESOURCES)
    if resources.instance_type is not None:
        found["instance_type"] = str(resources.instance_type)
    return found or None


def _distribution(distribution: Any) -> dict[str, Any] | None:  # noqa: ANN401  (the same)
    if distribution is None or isinstance(distribution, Mapping):
        return dict(distribution) if distribution else None
    return {name: value for name, value in vars(distribution).items() if value is not None}


def _inputs(inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Literals as they are, files as mappings; what is None is not given."""
    found = {name: _input(value) for name, value in inputs.items() if value is not None}
    return found or None


def _input(value: Any) -> Any:  # noqa: ANN401  (the same)
    if not is_sdk_object(value):
        return value
    found = _given(value, _FILE)
    if (path := found.get("path")) is not None:
        found["path"] = f"azureml:{path}" if _is_asset(str(path)) else str(path)
    return found


def _outputs(outputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Outputs by their type; where Azure ML would put them is not of interest."""
    found = {
        name: _given(value, ("type",)) if is_sdk_object(value) else value
        for name, value in outputs.items()
    }
    return found or None


def _expressions(space: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if space is None else {name: _expression(value) for name, value in space.items()}


def _expression(value: Any) -> Any:  # noqa: ANN401  (the same)
    """A distribution as a mapping, to whatever depth; anything else as it is."""
    if is_sdk_object(value):
        return {
            name: _expression(inner) for name, inner in vars(value).items() if inner is not None
        }
    if isinstance(value, Mapping):
        return {name: _expression(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_expression(inner) for inner in value]
    return value


def _sampler(sampler: Any) -> Any:  # noqa: ANN401  (the same)
    if sampler is None or isinstance(sampler, str):
        return sampler
    return {name: value for name, value in vars(sampler).items() if value is not None}


def _policy(policy: Any) -> dict[str, Any] | None:  # noqa: ANN401  (the same)
    """The policy; a slack of 0 is what the SDK writes for "not given"."""
    if policy is None:
        return None
    found = {name: value for name, value in vars(policy).items() if value is not None}
    return {name: value for name, value in found.items() if value or not name.startswith("slack_")}
