"""The keys of a sweep job and what may stand there, as Azure ML declares them.

One rule: this is a table. Each line is a key and its reader; what a job means is said elsewhere,
and what Azure ML accepts but raysweep cannot run is in `refusals.py`. The order of a union is
Azure ML's own, because the first that takes a value decides what it becomes.
"""

from __future__ import annotations

from typing import Any

from raysweep.azureml.documents import Place
from raysweep.azureml.readers import (
    ByType,
    Fields,
    Reader,
    Table,
    anything,
    at_all,
    each,
    first_of,
    listed,
    mapping,
    nullable,
    number,
    real,
    refused,
    snake,
    strictly_real,
    strictly_whole,
    text,
    truth,
    whole,
    word,
)
from raysweep.core import checks

# Search space

_BOUNDS: Fields = {"min_value": number, "max_value": number}
_NORMAL: Fields = {"mu": number, "sigma": number}


def _needing_all(fields: Fields) -> Table:
    return Table(fields=fields, needs=tuple(fields))


def _option(value: Any, place: Place) -> Any:  # noqa: ANN401  (a reader)
    """One of a choice's values: a scalar as it is written, or a mapping with values inside."""
    if isinstance(value, dict):
        return each(_inner)(value, place)
    if value is None or isinstance(value, bool):  # an extension
        return value
    return first_of(
        strictly_whole, text, strictly_real, what="a number, a string, a boolean, null or a mapping"
    )(value, place)


def _inner(value: Any, place: Place) -> Any:  # noqa: ANN401  (a reader)
    """What stands in a mapping of a choice: an expression, or a scalar; digits become numbers."""
    if isinstance(value, dict):
        return EXPRESSION(value, place)
    if value is None or isinstance(value, bool):  # an extension
        return value
    return first_of(
        strictly_whole,
        real,
        text,
        what="a number, a string, a boolean, null or an expression with a type",
    )(value, place)


EXPRESSION = ByType(
    tables={
        "choice": Table(fields={"values": listed(_option)}),
        "randint": _needing_all({"upper": whole}),
        "uniform": _needing_all(_BOUNDS),
        "loguniform": _needing_all(_BOUNDS),
        "quniform": _needing_all({**_BOUNDS, "q": number}),
        "qloguniform": _needing_all({**_BOUNDS, "q": number}),
        "normal": _needing_all(_NORMAL),
        "lognormal": _needing_all(_NORMAL),
        "qnormal": _needing_all({**_NORMAL, "q": number}),
        "qlognormal": _needing_all({**_NORMAL, "q": number}),
    }
)

# What searches, and when it ends

SAMPLERS = ("random", "grid", "bayesian")
_OTHERS = (
    "; another sampler of raysweep's stands in a block of its own, as `raysweep: {sampler: tpe}`"
)
_SEEDED = "Azure ML has none here, so it stands in `raysweep: {sampler: {type: bayesian, seed: 7}}`"


def _any_float(value: Any, place: Place) -> float:  # noqa: ANN401  (a reader)
    """A float, not-a-number and the infinities included: nothing is made of it anyway."""
    return float(value) if isinstance(value, float) else real(value, place)


_SAMPLER_TABLES = {
    "random": Table(
        fields={
            "seed": whole,
            "logbase": first_of(_any_float, text),
            "rule": word("random", "sobol", casing=snake),
        }
    ),
    "grid": Table(fields={}),
    "bayesian": Table(fields={}, remedies={"seed": _SEEDED}),
}


def sampler(value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
    """A sampling algorithm, by its name or as a mapping."""
    if isinstance(value, dict):
        return ByType(tables=_SAMPLER_TABLES, casing=snake, remedy=_OTHERS)(value, place)
    return {"type": word(*SAMPLERS, remedy=_OTHERS)(value, place)}


_SCHEDULE = {"evaluation_interval": nullable(whole), "delay_evaluation": nullable(whole)}

POLICY = ByType(
    casing=snake,
    tables={
        "bandit": Table(
            fields=_SCHEDULE | {"slack_factor": nullable(real), "slack_amount": nullable(real)}
        ),
        "median_stopping": Table(fields=_SCHEDULE),
        "truncation_selection": Table(
            fields=_SCHEDULE
            | {"truncation_percentage": whole, "exclude_finished_jobs": truth},  # an extension
            needs=("truncation_percentage",),
        ),
    },
)

OBJECTIVE = _needing_all(
    {"goal": word("minimize", "maximize", casing=snake), "primary_metric": text}
)

LIMITS = Table(
    fields={
        "max_total_trials": whole,
        "max_concurrent_trials": whole,
        "timeout": whole,
        "trial_timeout": whole,
    },
    needs=("max_total_trials",),
)

# Where it runs

RESOURCES = Table(
    fields={
        "instance_count": whole,
        "instance_type": text,
        "max_instance_count": whole,
        "locations": listed(text),
        "shm_size": text,
        "docker_args": first_of(text, listed(text), what="a string or a list of strings"),
        "properties": each(at_all),
    }
)

QUEUE = Table(
    fields={
        "job_tier": word("spot", "basic", "standard", "premium", "null"),
        "priority": word("low", "medium", "high"),
    }
)

DISTRIBUTION = ByType(
    tables={
        "pytorch": Table(fields={"process_count_per_instance": whole}),
        "mpi": Table(fields={"process_count_per_instance": whole}),
        "tensorflow": Table(fields={"parameter_server_count": whole, "worker_count": whole}),
        "ray": Table(
            fields={
                "port": whole,
                "address": text,
                "include_dashboard": truth,
                "dashboard_port": whole,
                "head_node_additional_args": text,
                "worker_node_additional_args": text,
            }
        ),
    }
)

_MANAGED = Table(fields={"client_id": text, "object_id": text})

IDENTITY = ByType(
    casing=snake,
    tables={
        "managed": _MANAGED,
        "managed_identity": _MANAGED,
        "aml_token": Table(fields={}),
        "user_identity": Table(fields={}),
    },
)

_SERVICE = {"port": whole, "nodes": text, "properties": each(at_all)}
_SHOWN_SERVICE = ("$schema", "endpoint", "status", "error_message")

SERVICE = first_of(
    Table(fields=_SERVICE | {"type": word("ssh"), "ssh_public_keys": text}, ignores=_SHOWN_SERVICE),
    Table(
        fields=_SERVICE | {"type": word("tensor_board"), "log_dir": text}, ignores=_SHOWN_SERVICE
    ),
    Table(fields=_SERVICE | {"type": text}, ignores=_SHOWN_SERVICE),
)

# What goes in and out

_MODES = ("download", "ro_mount", "direct")
_DATA = {"path": text, "path_on_compute": text, "datastore": text}

_FILES = ByType(
    tables={
        "uri_file": Table(fields=_DATA | {"mode": word(*_MODES)}),
        "uri_folder": Table(fields=_DATA | {"mode": word(*_MODES)}),
        "mltable": Table(fields=_DATA | {"mode": word(*_MODES, "eval_mount", "eval_download")}),
        **{
            model: Table(fields={"path": text, "datastore": text, "mode": word(*_MODES)})
            for model in ("custom_model", "mlflow_model", "triton_model")
        },
    },
    default=Table(fields=_DATA | {"mode": word(*_MODES, "eval_mount", "eval_download")}),
)

# The first of these that fits: a bare 1 is a whole number, and in {value: 1} it is true.
_LITERAL = first_of(
    strictly_whole, strictly_real, text, truth, what="a number, a string, a boolean or a mapping"
)
_VALUE = _needing_all(
    {"value": first_of(text, truth, whole, what="a number, a string or a boolean")}
)


def input_(value: Any, place: Place) -> Any:  # noqa: ANN401  (a reader)
    """An input: a scalar for a literal, a mapping for what is read from a path."""
    if not isinstance(value, dict):
        return _LITERAL(value, place)
    if "value" in value:
        return _VALUE(value, place)["value"]
    return _FILES(value, place)


def _version(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
    if isinstance(value, int | float):
        return str(value)
    return text(value, place)


_OUTPUT = Table(
    fields={
        "name": text,
        "version": _version,
        "mode": word("mount", "upload", "rw_mount", "direct"),
        "type": word(
            "uri_file", "uri_folder", "custom_model", "mlflow_model", "mltable", "triton_model"
        ),
        "path": text,
    },
    ignores=("$schema",),
)
_LONGEST_NAME = 255  # of an output, in Azure ML


def output(value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
    """An output: null, or a mapping."""
    found = _OUTPUT(value or {}, place) if value is None else _OUTPUT(value, place)
    name = found.get("name", "")
    if len(name) > _LONGEST_NAME or not all(
        sign.isascii() and (sign.isalnum() or sign in "_-") for sign in name.rstrip("\n")
    ):
        raise refused(place.at("name"), f"must be letters, digits, '_' and '-', but got {name!r}")
    if found.get("version") and not name:
        raise refused(place.at("version"), "needs a name beside it: name the output, too")
    return found


# The environment

_ROUTE = _needing_all({"port": whole, "path": text})


def _asset(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
    if isinstance(value, str) and value.startswith(("azureml:", "azureml://registries/")):
        return value
    raise refused(place, f"must begin with 'azureml:', but got {checks.described(value)}")


INLINE_ENVIRONMENT = Table(
    fields={
        "name": at_all,
        "version": at_all,
        "description": text,
        "tags": each(at_all),
        "id": _asset,
        "image": text,
        "conda_file": anything,
        "build": Table(fields={"path": text, "dockerfile_path": text}),
        "os_type": word("linux", "windows"),
        "datastore": text,
        "inference_config": _needing_all(
            {"liveness_route": _ROUTE, "readiness_route": _ROUTE, "scoring_route": _ROUTE}
        ),
        "auto_delete_setting": Table(
            fields={
                "condition": word(
                    "created_greater_than", "last_accessed_greater_than", casing=snake
                ),
                "value": text,
            }
        ),
    },
    ignores=("$schema", "creation_context", "latest_version", "intellectual_property"),
)


def environment(value: Any, place: Place) -> Any:  # noqa: ANN401  (a reader)
    """A registered environment by its name, or one that is written out."""
    if isinstance(value, dict):
        return INLINE_ENVIRONMENT(value, place)
    name = text(value, place)
    if name.startswith("azureml:") and ("/" not in name or name.startswith("azureml:/")):
        return name
    hint = "; did you mean 'azureml:" + name.split("/")[-1] + "'?" if name else ""
    raise refused(place, f"must begin with 'azureml:' or be a mapping, but got {name!r}{hint}")


# The trial, and the job around it

TRIAL = Table(
    fields={
        "command": text,
        "code": text,
        "environment": environment,
        "environment_variables": mapping,
        "resources": RESOURCES,
        "distribution": DISTRIBUTION,
        "queue_settings": QUEUE,
    },
    needs=("command", "environment"),
    ignores=("$schema",),
)

_TAGS = each(nullable(text))


def _kind(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
    if value == "sweep":
        return "sweep"
    raise refused(place, f"must be sweep, but got {checks.described(value)}; only sweeps run here")


JOB: dict[str, Reader] = {
    "type": _kind,
    "name": text,
    "display_name": text,
    "experiment_name": text,
    "description": text,
    "tags": _TAGS,
    "properties": _TAGS,
    "services": each(SERVICE),
    "compute": text,
    "identity": IDENTITY,
    "sampling_algorithm": sampler,
    "search_space": each(EXPRESSION),
    "objective": OBJECTIVE,
    "early_termination": POLICY,
    "limits": LIMITS,
    "inputs": each(input_),
    "outputs": each(output),
    "resources": RESOURCES,
    "queue_settings": QUEUE,
}
JOB_NEEDS = ("type", "trial", "objective", "limits")
JOB_IGNORES = ("$schema", "creation_context", "status", "id", "log_files")

# What Azure ML has no key for

ENVIRONMENT_CHOICE = first_of(
    word("cluster"),
    Table(fields={"python": text}, needs=("python",)),
    Table(fields={"pip": listed(text)}, needs=("pip",)),
    Table(fields={"conda_file": anything}, needs=("conda_file",)),
    what="cluster, {python: PATH}, {pip: [REQUIREMENT, ...]} or {conda_file: PATH}",
)

RAYSWEEP = Table(
    fields={
        "resources": Table(fields={"cpus": number, "gpus": number, "custom": each(number)}),
        "storage": text,
        "max_attempts": whole,
        "sync_decisions": truth,
        "grace": number,
        "lease": number,
        "keep_checkpoints": whole,
        "environment": ENVIRONMENT_CHOICE,
        "sampler": first_of(
            text, each(anything), what="a sampler's name, or a mapping with its type"
        ),
        "try_first": listed(each(at_all)),
        "warm_start": text,
    }
)
