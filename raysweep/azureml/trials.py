"""A job's trial: what a command needs, part by part.

One rule: everything is read and judged by itself, so that all that is wrong is told at once;
`commands.py` then puts the parts together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from raysweep.azureml import schema
from raysweep.azureml.documents import Place
from raysweep.azureml.environments import Environments
from raysweep.azureml.readers import Reader, Table, mapping, refused, text
from raysweep.azureml.refusals import refuse
from raysweep.core import checks


def table(environments: Environments) -> Table:
    """The keys of a trial, each with what raysweep makes of it."""
    readers: dict[str, Reader] = {
        **schema.TRIAL.fields,
        "command": _text,
        "code": _code,
        "environment": environments,
        "environment_variables": _variables,
        "resources": resources,
        "distribution": _processes,
    }
    return Table(fields=readers, needs=schema.TRIAL.needs, ignores=schema.TRIAL.ignores)


def resources(value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
    """Azure ML's resources, of which one thing matters here: that a trial needs one node."""
    plain = schema.RESOURCES(value, place)
    if (count := plain.get("instance_count", 1)) != 1:
        raise refuse("nodes", place.at("instance_count"), f"must be 1, but got {count}")
    return plain


def _text(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
    command = text(value, place)
    if not command.strip():
        raise refuse("command", place, "must not be empty")
    return _sendable(command.replace("\r\n", "\n"), place)


def _code(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
    """The absolute path of a folder, or of the one file that is to be in the working directory."""
    path = text(value, place)
    if _is_remote(path):
        raise refuse("remote_code", place, f"is not on this machine: {path}")
    absolute = os.path.normpath(place.folder / path)
    if not os.path.exists(absolute):  # noqa: PTH110  (normalised for the message already)
        raise refused(
            place, f"must be a folder or a file that exists, but got {path!r} ({absolute})"
        )
    return absolute


def _is_remote(path: str) -> bool:
    return path.startswith(("git+", "azureml:")) or "://" in path


def _variables(value: Any, place: Place) -> dict[str, str]:  # noqa: ANN401  (a reader)
    """Environment variables, written as Azure ML writes them: `True`, `0.1`; null leaves one out."""
    given: Mapping[Any, Any] = mapping(value, place)
    return {
        _variable(str(name), place.at(name)): _sendable(str(each), place.at(name))
        for name, each in given.items()
        if each is not None
    }


def _variable(name: str, place: Place) -> str:
    if not name or "=" in name:
        raise refuse("text", place, f"must have a name without =, but got {name!r}", key=True)
    return _sendable(name, place)


def _sendable(value: str, place: Place) -> str:
    """Text that a process can be handed."""
    if "\0" in value or not checks.is_unicode(value):
        raise refuse("text", place, f"must be Unicode without a NUL, but got {value!r}")
    return value


def _processes(value: Any, place: Place) -> int | None:  # noqa: ANN401  (a reader)
    """How many ranks PyTorch has, all on the trial's node; None where nobody asks for ranks."""
    plain = schema.DISTRIBUTION(value, place)
    kind = plain["type"]
    if kind == "ray":
        raise refuse("distribution", place, "must fit on one node, but got a Ray cluster")
    if kind == "tensorflow":
        workers = plain.get("worker_count", 1)
        servers = plain.get("parameter_server_count", 0)
        if workers != 1 or servers != 0:
            got = f"{workers} workers and {servers} parameter servers"
            raise refuse("distribution", place, f"must be one TensorFlow worker, but got {got}")
        return None
    count: int = plain.get("process_count_per_instance", 1)
    if count < 1:
        where = place.at("process_count_per_instance")
        raise refuse("processes", where, f"must be at least 1, but got {count}")
    if kind == "mpi" and count > 1:
        where = place.at("process_count_per_instance")
        raise refuse("distribution", where, f"must be 1 with MPI, but got {count}")
    return count if kind == "pytorch" else None
