"""A trial that is a command component: a file of its own, with inputs that have defaults.

One rule: in a component, `${{inputs.lr}}` is the search space's `lr` if there is one, else the
job's input, else the component's default; an optional input that has none of them is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep.azureml import schema, trials
from raysweep.azureml.commands import redirected
from raysweep.azureml.documents import Place
from raysweep.azureml.environments import Environments
from raysweep.azureml.files import read_mapping
from raysweep.azureml.inputs import literal, output
from raysweep.azureml.readers import (
    Reader,
    Table,
    anything,
    at_all,
    each,
    listed,
    real,
    refused,
    text,
    truth,
    whole,
)
from raysweep.core.command import Input, Literal, Output
from raysweep.errors import JobFileError

_LITERALS: Mapping[str, Reader] = {
    "string": text,
    "number": real,
    "integer": whole,
    "boolean": truth,
}


class Inline(dict[str, Any]):
    """A component that stands in a document itself: an SDK object holds one, a file never does."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """What a component declares beside its command."""

    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> declaration
    outputs: Mapping[str, Output] = field(default_factory=dict)
    place: Place


def _port(value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
    """The declaration of an input, its default as a value of its type."""
    found = _PORT(value, place)
    if "default" in found and (reader := _LITERALS.get(str(found["type"]))) is not None:
        found["default"] = reader(found["default"], place.at("default"))
    return found


_PORT = Table(
    fields={
        "type": text,
        "optional": truth,
        "default": anything,
        "description": text,
        "mode": text,
        "min": anything,
        "max": anything,
        "enum": listed(at_all),
    },
    needs=("type",),
)


def _declared_output(value: Any, place: Place) -> Output:  # noqa: ANN401  (a reader)
    fields = ("type", "mode")
    given = {key: each for key, each in value.items() if key in fields} if value else value
    return output(given, place)


def table(environments: Environments) -> Table:
    """The keys of a command component."""
    trial = trials.table(environments)
    return Table(
        fields={
            **trial.fields,
            "type": _kind,
            "name": text,
            "version": at_all,
            "display_name": text,
            "description": text,
            "tags": each(at_all),
            "properties": each(at_all),
            "is_deterministic": truth,
            "inputs": each(_port),
            "outputs": each(_declared_output),
        },
        needs=schema.TRIAL.needs,
        ignores=(*schema.TRIAL.ignores, "id", "creation_context", "latest_version"),
    )


def _kind(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
    if value == "command":
        return "command"
    raise refused(place, f"must be command, but got {value!r}; only commands can be trials")


def read(reference: str, place: Place, environments: Environments) -> dict[str, Any]:
    """The parts of a trial that a component file describes, and the component itself."""
    if reference.startswith("azureml:"):
        raise refused(
            place,
            f"is known to Azure ML only: {reference}; save it (az ml component show ... > a file),"
            " and name the file: --set trial=file:./component.yml",
        )
    path = place.folder / reference.removeprefix("file:")
    if not path.is_file():
        raise refused(place, f"must be a mapping or a component's file, but got {reference!r}")
    document = read_mapping(Path(path))
    return parts(document.value, document.top, environments)


def parts(value: Any, place: Place, environments: Environments) -> dict[str, Any]:  # noqa: ANN401  (a reader)
    """The parts of a trial in a component, and the component itself."""
    found = table(environments)(value, place)
    component = Component(
        inputs=found.pop("inputs", {}), outputs=found.pop("outputs", {}), place=place
    )
    return {**found, "component": component}


def completed(
    component: Component,
    inputs: Mapping[str, Literal | Input],
    parameters: Collection[str],
    place: Place,
) -> dict[str, Literal | Input]:
    """The values of a component's inputs, from the job or by default.

    Raises:
        JobFileError: an input has no value, or the job gives one that the component has not.
    """
    problems = []
    values: dict[str, Literal | Input] = {}
    for name, port in component.inputs.items():
        if name in parameters:
            continue
        if name in inputs:
            values[name] = _typed(inputs[name], port, place.at(name))
        elif "default" in port:
            values[name] = literal([], port["default"], port["default"], component.place)
        elif not port.get("optional"):
            problems.append(
                place.problem(f"must have {name!r}, which the component needs", key=True)
            )
    for name in inputs:
        if name not in component.inputs:
            message = f"is no input of the component (known: {', '.join(component.inputs)})"
            problems.append(place.at(name).problem(message, key=True))
    if problems:
        raise JobFileError(problems)
    return values


def _typed(value: Literal | Input, port: Mapping[str, Any], place: Place) -> Literal | Input:
    """The job's value as the type that the component declares."""
    reader = _LITERALS.get(str(port["type"]))
    if reader is None or isinstance(value, Input):
        return value
    typed: Literal = str(value) if reader is text else reader(value, place)
    return typed


def command_text(text: str, parameters: Collection[str]) -> str:
    """The component's command with its references to parameters as the job has them."""
    return redirected(
        text,
        lambda found: (
            "search_space" if found.root == "inputs" and found.name in parameters else found.root
        ),
    )
