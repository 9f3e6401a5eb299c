"""The commands that start nothing: `validate`, `preview`, `doctor`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import click

from raysweep.cli import doctor as doctors
from raysweep.cli import documents, files, options, pages
from raysweep.cli.doctor import Mark
from raysweep.cli.group import FAILED
from raysweep.job import JobSweep


@click.command()
@options.file
@options.settings
@options.sampler
@options.warm_start
@options.earlier_storage
@options.environments
@options.output
def validate(
    *,
    file: Path,
    settings: Mapping[str, str],
    sampler: str | None,
    warm_start: str | None,
    storage: str | None,
    environments: Path | None,
    as_json: bool,
) -> None:
    """Check a file and say what it asks for; nothing is started."""
    sweep = files.load(
        file,
        settings,
        environments=environments,
        storage=storage,
        sampler=sampler,
        warm_start=warm_start,
    )
    pages.notify(sweep.notices)
    if as_json:
        documents.echo(sweep.spec.to_dict())
    else:
        command = sweep.job.command if isinstance(sweep, JobSweep) else None
        pages.show(*pages.of_spec(sweep.spec, command))


@click.command()
@options.file
@click.option("-n", "--count", type=click.IntRange(min=1), default=5, show_default=True,
              help="How many trials.")  # fmt: skip
@options.settings
@options.sampler
@options.warm_start
@options.earlier_storage
@options.environments
@options.output
def preview(
    *,
    file: Path,
    count: int,
    settings: Mapping[str, str],
    sampler: str | None,
    warm_start: str | None,
    storage: str | None,
    environments: Path | None,
    as_json: bool,
) -> None:
    """Show the parameters and commands of the first trials; nothing is started."""
    sweep = files.load(
        file,
        settings,
        environments=environments,
        storage=storage,
        sampler=sampler,
        warm_start=warm_start,
    )
    pages.notify(sweep.notices)
    trials = sweep.preview(count)
    commands = sweep.commands(trials) if isinstance(sweep, JobSweep) else []
    if as_json:
        documents.echo(documents.of_preview(trials, commands))
    else:
        pages.show(*pages.of_preview(trials, commands))


@click.command()
@options.storage
@options.address
@options.output
@click.pass_context
def doctor(ctx: click.Context, storage: str, address: str | None, as_json: bool) -> None:
    """Check this machine, the storage and the cluster."""
    checks = []
    for check in doctors.examine(storage, address):
        checks.append(check)
        if not as_json:
            pages.show(pages.of_check(check))
    if as_json:
        documents.echo([dataclasses.asdict(check) for check in checks])
    ctx.exit(FAILED if any(check.mark is Mark.FAIL for check in checks) else 0)


COMMANDS = {"validate": validate, "preview": preview, "doctor": doctor}
