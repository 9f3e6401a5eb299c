"""A sweep out of a Python file or an Azure ML job file, with changes from the command line.

One rule: whatever is wrong with the file is said in one message with the file and the line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from raysweep import job
from raysweep.core import checks
from raysweep.core.samplers import Optuna, named
from raysweep.core.spec import SweepSpec
from raysweep.errors import SpecError, UserError
from raysweep.runtime.proposals import check as check_sampler
from raysweep.sweep import Runnable, found_in

OPEN = ("resources.custom", "sampler.options")  # mappings whose keys the spec does not know
JOBS = (".yml", ".yaml")
BLOCK = "raysweep."  # where a job file has what Azure has no key for


def load(
    file: Path,
    settings: Mapping[str, str],
    *,
    environments: Path | None = None,
    cpus: str | None = None,
    gpus: str | None = None,
    name: str | None = None,
    storage: str | None = None,
    sampler: str | None = None,
    warm_start: str | None = None,
) -> Runnable:
    """The sweep that a file asks for; of a Python file, what is at its top level, not `__main__`.

    Args:
        file: a Python file that holds one sweep, or an Azure ML job file.
        settings: changes, by dotted path: in the spec, or in the job.
        environments: maps the names of a job's environments to what is installed here.
        cpus: of one trial; None: as the file says. So are the others.
        gpus: of one trial.
        name: of the sweep.
        storage: where the sweep will be, and an earlier one is looked for.
        sampler: its name, as `raysweep.core.samplers.named` takes it.
        warm_start: the earlier sweep that this one begins with: NAME or STORAGE/NAME.

    Raises:
        SweepNotFoundError: there is no such earlier sweep.
        SpecError: it is neither, an error is in it, or it does not hold one sweep.
    """
    called = None if name is None else json.dumps(name)  # a name of digits is no number
    flags = {"resources.cpus": cpus, "resources.gpus": gpus, "name": called}
    given = {path: value for path, value in flags.items() if value is not None}
    if file.suffix in JOBS:
        for path, word in (("sampler", sampler), ("warm_start", warm_start)):
            given |= {} if word is None else {path: json.dumps(word)}
        asked = {path if path == "name" else BLOCK + path: value for path, value in given.items()}
        return job.load(
            file, settings={**settings, **asked}, storage=storage, environments=environments
        )
    if file.suffix != ".py":
        raise SpecError(
            f"{file} must be a Python file (.py) or an Azure ML job (.yml), but ends with"
            f" {file.suffix!r}"
        )
    if environments is not None:
        raise SpecError(
            f"--environments is for Azure ML jobs, and {file} is Python: give it to rs.load(...)"
        )
    sweep = found_in(_imported(file))
    _change(sweep, {**settings, **given}, sampler)
    if warm_start is not None:
        sweep.warm_start(warm_start, storage=storage)
    return sweep


def _change(sweep: Runnable, settings: Mapping[str, str], sampler: str | None) -> None:
    """Have a sweep run what is asked for in place of what its file says."""
    asked = sweep.asked
    proposes = asked if sampler is None else named(sampler, asked.seed)
    if isinstance(asked, Optuna) and isinstance(proposes, Optuna):
        proposes = asked if asked.sampler == proposes.sampler else proposes  # its options stay
    sweep.settle(changed(dataclasses.replace(sweep.spec, sampler=proposes), settings))
    check_sampler(sweep.spec)


def _imported(file: Path) -> ModuleType:
    """The file as a module of its own name, beside which its neighbours can be imported."""
    path = file.resolve()
    name = path.stem if path.stem not in sys.modules else f"_{path.stem}"
    source = importlib.util.spec_from_file_location(name, path)
    assert source is not None, "a path that ends with .py has a loader"
    assert source.loader is not None, "the same"
    module = importlib.util.module_from_spec(source)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            source.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # anything may be in a user's file
        raise SpecError(_told(file, error)) from error
    return module


def _told(file: Path, error: BaseException) -> str:
    """`examples/digits.py:12: what is wrong there`."""
    where = f"{file}:{_line(file.resolve(), error)}"
    if isinstance(error, SyntaxError):
        return f"{error.filename or file}:{error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, UserError):
        return f"{where}: {error}"
    return f"{where}: {type(error).__name__}: {error}"


def _line(path: Path, error: BaseException) -> int:
    """The line of the file that the error passed through last."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if os.path.realpath(frame.filename) == str(path)]
    return (lines and lines[-1]) or 1


def changed(spec: SweepSpec, settings: Mapping[str, str]) -> SweepSpec:
    """The spec with some of its parts set anew.

    Args:
        spec: what the file asks for.
        settings: dotted path -> value as JSON; what is no JSON is a string.

    Raises:
        SpecError: there is no such path, or what comes out cannot be run.
    """
    if not settings:
        return spec
    document = json.loads(json.dumps(spec.to_dict()))  # a copy, down to the mappings inside
    for path, text in settings.items():
        _put(document, path, _value(text))
    if "sampler.seed" in settings:  # the sweep's seed is the sampler's
        document["seed"] = document["sampler"]["seed"]
    return SweepSpec.from_dict(document)


def _put(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    place: Any = document
    name = "spec"
    for key in parents:
        checks.known_keys(name, {key: None}, checks.mapping(name, place))
        place = place[key]
        name = key if name == "spec" else f"{name}.{key}"
    if name not in OPEN:
        checks.known_keys(name, {last: None}, checks.mapping(name, place))
    place[last] = value


def _value(text: str) -> Any:  # noqa: ANN401  (whatever JSON says)
    try:
        return json.loads(text)
    except ValueError:
        return text
