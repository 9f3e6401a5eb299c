"""The commands that read a storage: `list`, `show`, `best`, `explain`, `export`.

One rule: they read folders, also beside a sweep that runs; no cluster is needed.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import click

from raysweep.cli import documents, options, pages
from raysweep.cli.documents import Document
from raysweep.cli.story import story_of
from raysweep.errors import JournalDamagedError
from raysweep.result import Result, load_result
from raysweep.storage.folder import SweepFolder, find_sweep, sweeps


@click.command(name="list")
@options.storage
@options.output
def list_(storage: str, as_json: bool) -> None:
    """List the sweeps of a storage."""
    found = [_line(folder) for folder in sweeps(storage)]
    if as_json:
        documents.echo(found)
    elif found:
        pages.show(pages.of_list(found))
    else:
        click.echo(f"no sweeps in {storage}", err=True)


def _line(folder: SweepFolder) -> Document:
    """A sweep as one of many, and when it was made; one that cannot be read says why."""
    began = datetime.fromtimestamp(folder.spec_file.stat().st_mtime, UTC)
    when = {"began": began.isoformat(timespec="seconds"), "path": folder.uri}
    try:
        result = Result(folder)
        return documents.of_line(result) | when | ({"began": result.began} if result.began else {})
    except JournalDamagedError as error:
        return {"name": folder.name, "phase": "damaged", "error": str(error)} | when


@click.command()
@options.name
@options.storage
@options.output
def show(name: str, storage: str, as_json: bool) -> None:
    """Show a sweep and all of its trials."""
    result = load_result(name, storage)
    if as_json:
        trials = [documents.of_trial(trial) for trial in result.trials]
        documents.echo(documents.of_sweep(result) | {"trials": trials})
    else:
        pages.show(*pages.of_sweep(result))


@click.command()
@options.name
@options.storage
@options.output
def best(name: str, storage: str, as_json: bool) -> None:
    """Show the best trial and how to load its checkpoint."""
    result = load_result(name, storage)
    trial = result.best
    if as_json:
        documents.echo(documents.of_trial(trial) | {"metrics": trial.metrics})
    else:
        pages.show(*pages.of_best(result, trial))


@click.command()
@options.name
@click.argument("trial", type=int)
@options.storage
@options.output
def explain(name: str, trial: int, storage: str, as_json: bool) -> None:
    """Tell a trial's story: attempts, decisions, why it ended."""
    result = load_result(name, storage)
    told = result.trial(trial)
    story = story_of(result.folder, trial)
    if as_json:
        texts = {"traceback": told.traceback, "log": told.log}
        documents.echo(documents.of_trial(told) | dataclasses.asdict(story) | texts)
    else:
        pages.show(*pages.of_story(result, told, story))


@click.command()
@options.name
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Where to write; the sweep's own folder unless given.")  # fmt: skip
@options.storage
def export(name: str, to: Path | None, storage: str) -> None:
    """Write a sweep's results as Parquet."""
    from raysweep.storage import dataset  # noqa: PLC0415  (pyarrow, only for who exports)

    click.echo(dataset.export(find_sweep(storage, name), to))


COMMANDS = {"list": list_, "show": show, "best": best, "explain": explain, "export": export}
