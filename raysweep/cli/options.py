"""The options that several commands share, and the line that names another command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from raysweep.storage.folder import DEFAULT_STORAGE, ENVIRONMENT, default_storage, storage_name

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]

storage = click.option(
    "--storage",
    metavar="FOLDER",
    envvar=ENVIRONMENT,
    default=DEFAULT_STORAGE,
    show_default=True,
    show_envvar=True,
    help="Where sweeps live.",
)
output = click.option(
    "-o",
    "--output",
    "as_json",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    callback=lambda _ctx, _option, value: value == "json",
    help="How the result is printed.",
)
address = click.option(
    "--address",
    help="Of a Ray cluster: auto or host:port. Default: RAY_ADDRESS.",
)
name = click.argument("name")
environments = click.option(
    "--environments",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Maps the environments that an Azure ML job names to what is installed here.",
)
sampler = click.option(
    "--sampler",
    metavar="NAME",
    help="What proposes the trials, such as sobol, bayesian or optuna:GPSampler; default: as the"
    " file says.",
)
warm_start = click.option(
    "--warm-start",
    metavar="NAME",
    help="An earlier sweep, whose results a sampler that learns begins with: NAME or STORAGE/NAME.",
)
earlier_storage = click.option(
    "--storage",
    metavar="FOLDER",
    envvar=ENVIRONMENT,
    show_envvar=True,
    help="Where the sweep to begin with is; default: as the file says, else ~/raysweep.",
)
file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


def settings(function: Function) -> Function:
    """`--set limits.max_total_trials=8`, as often as wanted."""
    option: Decorator[Function] = click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        callback=lambda _ctx, _option, given: dict(map(_setting, given)),
        help="Change a part of the spec, such as limits.max_total_trials=8; may be repeated.",
    )
    return option(function)


def _setting(given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{given!r} must be KEY=VALUE, such as sampler.seed=3")
    return key, value


def command_line(verb: str, name: str, place: str | os.PathLike[str]) -> str:
    """The command that does this to a sweep, with its storage unless that is the default."""
    usual = storage_name(default_storage())
    there = storage_name(place)
    where = "" if there == usual else f" --storage {shlex.quote(there)}"
    return f"raysweep {verb} {name}{where}"
