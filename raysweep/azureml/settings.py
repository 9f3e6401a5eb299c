"""Settings: values that are put into a document from the command line.

One rule: a setting speaks Azure ML's keys and stands in the document as if it had been written
there, but for its paths, which are relative to the current directory.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from raysweep.azureml.documents import Document, Steps
from raysweep.azureml.files import read_yaml
from raysweep.core import checks
from raysweep.errors import JobFileError, Problem


def with_settings(document: Document, settings: Mapping[str, str]) -> Document:
    """The document with some of its values set anew, by dotted path.

    Raises:
        JobFileError: a path leads through what has nothing inside, or a value is no YAML.
    """
    value = copy.deepcopy(document.value)
    problems: list[Problem] = []
    for path, text in settings.items():
        try:
            _put(value, _steps_of(path), path, setting_value(path, text))
        except JobFileError as error:
            problems.extend(error.problems)
    if problems:
        raise JobFileError(problems)
    return Document(
        value=value,
        file=document.file,
        folder=document.folder,
        keys=document.keys,
        values=document.values,
        settings={_steps_of(path): f"--set {path}" for path in settings},
        notices=document.notices,
    )


def setting_value(path: str, text: str) -> Any:  # noqa: ANN401  (whatever was written)
    """What a setting says: a mapping, a list or a string in JSON, else YAML 1.1 as in a file."""
    if text.lstrip()[:1] in ("{", "[", '"'):
        with suppress(ValueError):
            return json.loads(text, parse_constant=_refuse_constant)
    return read_yaml(text, file=f"--set {path}", folder=Path.cwd()).value


def _refuse_constant(name: str) -> None:
    """NaN and Infinity are words in YAML; in JSON they are nothing."""
    raise ValueError(name)


def _steps_of(path: str) -> Steps:
    return tuple(int(step) if step.isdecimal() else step for step in path.split("."))


def _put(value: Any, steps: Steps, path: str, new: object) -> None:  # noqa: ANN401  (a document)
    """Put a value where the steps lead; mappings that are missing on the way are made."""
    *way, last = steps
    for number, step in enumerate(way):
        value = _inside(value, step, steps[:number], path)
    if isinstance(value, list):
        value[_index(value, last, steps[:-1], path)] = new
    elif isinstance(value, dict):
        value[str(last)] = new
    else:
        raise _no_way(value, steps[:-1], path)


def _inside(value: Any, step: str | int, so_far: Steps, path: str) -> Any:  # noqa: ANN401  (the same)
    if isinstance(value, list):
        return value[_index(value, step, so_far, path)]
    if isinstance(value, dict):
        if value.get(str(step)) is None:
            value[str(step)] = {}
        return value[str(step)]
    raise _no_way(value, so_far, path)


def _index(items: list[Any], step: str | int, so_far: Steps, path: str) -> int:
    if isinstance(step, int) and step < len(items):
        return step
    where = ".".join(map(str, so_far))
    message = f"{where} is a list of {len(items)}; name one of it by its index from 0, not {step!r}"
    raise JobFileError([Problem(message=message, file=f"--set {path}")])


def _no_way(value: object, so_far: Steps, path: str) -> JobFileError:
    where = ".".join(map(str, so_far))
    message = f"{where} is {checks.described(value)} and has nothing inside; set {where} as a whole"
    return JobFileError([Problem(message=message, file=f"--set {path}")])
