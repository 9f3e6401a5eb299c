"""The commands that need Ray: `run`, `watch`, `cancel`, `resume`.

One rule: Ray is imported once nothing is left to refuse without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from raysweep.cli import documents, files, options, pages
from raysweep.cli.doctor import unreachable
from raysweep.cli.group import FAILED
from raysweep.core.spec import Limits
from raysweep.core.state import Phase
from raysweep.errors import SpecError, UserError
from raysweep.result import Result
from raysweep.runtime.resumption import refuse_over
from raysweep.storage.folder import ENVIRONMENT, SweepFolder, find_sweep, new_sweep

detach_option = click.option(
    "--detach", is_flag=True, help="Start it and leave; needs a cluster (--address)."
)


@click.command()
@options.file
@options.settings
@options.address
@click.option("--cpus", help="CPUs of one trial.")
@click.option("--gpus", help="GPUs of one trial; may be a part of one, such as 0.5.")
@click.option("--storage", metavar="FOLDER", envvar=ENVIRONMENT, show_envvar=True,
              help="Where the sweep will live; default: as the file says, else ~/raysweep.")  # fmt: skip
@click.option("--name", help="The sweep's name; default: as the file says, else made up.")
@options.sampler
@options.warm_start
@options.environments
@detach_option
@options.output
@click.pass_context
def run(
    ctx: click.Context,
    *,
    file: Path,
    settings: Mapping[str, str],
    environments: Path | None,
    address: str | None,
    cpus: str | None,
    gpus: str | None,
    storage: str | None,
    name: str | None,
    sampler: str | None,
    warm_start: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Run the sweep that a file defines."""
    sweep = files.load(
        file,
        settings,
        environments=environments,
        cpus=cpus,
        gpus=gpus,
        name=name,
        storage=storage,
        sampler=sampler,
        warm_start=warm_start,
    )
    pages.notify(sweep.notices)
    sweep.storage = storage or sweep.storage
    folder = new_sweep(sweep.storage, sweep.spec.name)
    pages.notify([f"sweep {folder.name} begins; its files: {folder.uri}"])
    from raysweep.runtime import session  # noqa: PLC0415  (see the rule above)

    with _cluster(address):
        result = session.run(
            sweep.spec, sweep.create, storage=sweep.storage, address=address, detach=detach
        )
    _close(ctx, result, as_json=as_json, watched=not detach)


@click.command()
@options.name
@options.settings
@options.storage
@options.address
@detach_option
@options.output
@click.pass_context
def resume(
    ctx: click.Context,
    *,
    name: str,
    settings: Mapping[str, str],
    storage: str,
    address: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Take up a sweep that was interrupted, or give one that is over more to do.

    Limits may be changed: --set limits.max_total_trials=200 has a sweep of 100 trials run 100 more.
    """
    folder = find_sweep(storage, name)
    result = Result(folder)
    limits = _limits(result, settings)
    refuse_over(result, limits)
    from raysweep.runtime import session  # noqa: PLC0415  (see the rule above)

    with _cluster(address):
        result = session.resume(folder, limits=limits, address=address, detach=detach)
    _close(ctx, result, as_json=as_json, watched=not detach)


@click.command()
@options.name
@options.storage
@options.address
@options.output
@click.pass_context
def watch(ctx: click.Context, name: str, storage: str, address: str | None, as_json: bool) -> None:
    """Watch a running sweep until it is over."""
    folder = find_sweep(storage, name)
    over = Result(folder).state.over
    if not over:
        from raysweep.runtime import session  # noqa: PLC0415  (see the rule above)

        with _cluster(address), _leaving(folder):
            if not session.watch(folder, address=address):
                raise _nothing_runs(folder)
    _close(ctx, Result(folder), as_json=as_json, watched=not over)


@click.command()
@options.name
@options.storage
@options.address
@click.option("--reason", default="canceled", show_default=True, help="Why, for the record.")
def cancel(name: str, storage: str, address: str | None, reason: str) -> None:
    """End a running sweep."""
    folder = find_sweep(storage, name)
    _refuse_over(folder)
    from raysweep.runtime import session  # noqa: PLC0415  (see the rule above)

    with _cluster(address):
        if not session.cancel(folder, address=address, reason=reason):
            raise _nothing_runs(folder)
    click.echo(f"{name} ends: its trials have been told to stop")


COMMANDS = {"run": run, "resume": resume, "watch": watch, "cancel": cancel}


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Say in words, and soon, that there is no cluster."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address and (why := unreachable(address)) is not None:
        raise _no_cluster(address, why)
    try:
        yield
    except ConnectionError as error:
        raise _no_cluster(address or "auto", str(error).partition(". ")[0]) from error


def _no_cluster(address: str, why: str) -> UserError:
    return UserError(
        f"no Ray cluster answers at address {address!r} ({why}); start one with"
        f" `ray start --head`, or give another --address"
    )


@contextlib.contextmanager
def _leaving(folder: SweepFolder) -> Iterator[None]:
    """Tell who leaves with Ctrl-C that the sweep stays."""
    try:
        yield
    except KeyboardInterrupt:
        again = options.command_line("watch", folder.name, folder.storage)
        click.echo(f"the sweep goes on; watch it again with:\n  {again}", err=True)
        raise


def _limits(result: Result, settings: Mapping[str, str]) -> Limits | None:
    """The limits that a sweep is to have from now on; None when nothing of them is set."""
    for path in settings:
        if path.partition(".")[0] != "limits":
            raise SpecError(
                f"a sweep that has begun keeps what it was asked for, all but its limits, so {path!r}"
                f" cannot be set; start another sweep with `raysweep run`"
            )
    if not settings:
        return None
    state = result.state
    return files.changed(dataclasses.replace(state.spec, limits=state.limits), settings).limits


def _refuse_over(folder: SweepFolder) -> None:
    result = Result(folder)
    if result.state.over:
        line = options.command_line("show", folder.name, folder.storage)
        raise SpecError(f"sweep {folder.name!r} is over ({result.phase}): see `{line}`")


def _nothing_runs(folder: SweepFolder) -> UserError:
    line = options.command_line("resume", folder.name, folder.storage)
    return UserError(
        f"sweep {folder.name!r} does not run on this cluster (--address names another);"
        f" if it was interrupted, take it up with `{line}`"
    )


def _close(ctx: click.Context, result: Result, *, as_json: bool, watched: bool) -> None:
    """Print what a sweep came to, or, of one that was detached, where it stands."""
    if as_json:
        documents.echo(documents.of_sweep(result))
    else:
        on_screen = watched and sys.stdout.isatty() and sys.stderr.isatty()  # the last frame stays
        pages.show(*([] if on_screen else pages.of_head(result)), pages.of_place(result))
    done = result.phase is Phase.COMPLETED or not result.state.over
    ctx.exit(0 if done else FAILED)
