"""The commands about checkpoints: `checkpoint ls`, `show`, `export`.

One rule: they read files, also beside a sweep that runs; no cluster is needed, and no code that a
checkpoint holds runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from raysweep.cli import documents, options, pages
from raysweep.cli.documents import Document
from raysweep.errors import UserError
from raysweep.result import checkpoint_file, load_result
from raysweep.storage.checkpoints import exporting
from raysweep.storage.checkpoints.reading import Opened
from raysweep.storage.mirror import is_bucket

where = click.argument("where")
of_trial = click.option(
    "--trial", type=int, help="Of a sweep: this trial's latest; the best trial's unless given."
)


@click.group()
def checkpoint() -> None:
    """List checkpoints, show what is in one, hand it to other tools.

    WHERE is a checkpoint's file, its URI in a bucket, or the name of a sweep: then it is the one that
    `raysweep best` shows.
    """


@checkpoint.command()
@options.name
@click.argument("trial", type=int, required=False)
@options.storage
@options.output
def ls(name: str, trial: int | None, storage: str, as_json: bool) -> None:
    """List the checkpoints of a sweep, or of one TRIAL."""
    result = load_result(name, storage)
    found = documents.of_checkpoints(
        result, result.trials if trial is None else [result.trial(trial)]
    )
    if as_json:
        documents.echo(found)
    elif found:
        pages.show(*pages.of_checkpoints(result, found))
    else:
        whose = "" if trial is None else f"trial {trial} of "
        click.echo(f"no checkpoints of {whose}{name}", err=True)


@checkpoint.command()
@where
@of_trial
@click.option("--verify", is_flag=True, help="Check the checksum of every leaf.")
@options.storage
@options.output
def show(where: str, trial: int | None, verify: bool, storage: str, as_json: bool) -> None:
    """Show what is in a checkpoint."""
    found = _found(where, trial, storage)
    if verify:
        with found.opened.damage_named():
            found.opened.verify(found.opened.rows)
    about = _about(found, verified=verify)
    if as_json:
        documents.echo(about)
    else:
        pages.show(*pages.of_checkpoint(about))


@checkpoint.command()
@where
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", "form", type=click.Choice([*exporting.FORMS]), required=True,
              help="What reads it; files: a folder, of a checkpoint that is one.")  # fmt: skip
@click.option("--part", metavar="PATH", default="",
              help="A part of it, such as model or optimizer.state; all unless given.")  # fmt: skip
@of_trial
@click.option("--force", is_flag=True, help="Replace FILE if it is there; never a folder.")
@options.storage
def export(
    *,
    where: str,
    file: Path,
    form: str,
    part: str,
    trial: int | None,
    force: bool,
    storage: str,
) -> None:
    """Write a checkpoint for other tools.

    Prints FILE. For torch, `torch.load(FILE, weights_only=True)` reads it. For safetensors, names are
    joined by dots, and what is no tensor is JSON in the metadata.
    """
    _refuse_taken(file, form, force=force)
    found = _found(where, trial, storage)
    file.parent.mkdir(parents=True, exist_ok=True)
    pages.notify(exporting.FORMS[form](exporting.part_of(found.opened, part), file))
    click.echo(file)


@dataclass(frozen=True, slots=True)
class _Found:
    """A checkpoint that is open."""

    path: str
    size: int  # bytes
    opened: Opened


def _found(where: str, trial: int | None, storage: str) -> _Found:
    """The checkpoint that a command is about.

    Raises:
        UserError: there is none.
        CheckpointDamagedError: it is not what was written.
    """
    named = is_bucket(where) or Path(where).is_file()
    if named and trial is not None:
        raise UserError(f"--trial is for a sweep's name, but {where} is a checkpoint")
    path = where if named else _path_in_sweep(where, trial, storage)
    try:
        with checkpoint_file(path) as file:
            opened = Opened(file)
            opened.path = path
            return _Found(path, file.stat().st_size, opened)
    except FileNotFoundError as error:
        if named:
            raise UserError(f"there is no checkpoint {where}") from error
        raise


def _path_in_sweep(name: str, trial: int | None, storage: str) -> str:
    """The best trial's checkpoint, or the latest of another."""
    if "/" in name or name.endswith(".arrow"):
        raise UserError(f"{name} is no file; for a sweep, give its name and --storage")
    result = load_result(name, storage)
    if trial is None:
        if (path := result.best.checkpoint_path) is not None:
            return path
        raise UserError(
            f"trial {result.best.number}, the best of {name!r}, has no checkpoint at or before its"
            f" best interval; `raysweep checkpoint ls {name}` lists all there are"
        )
    latest = result.state.trials[result.trial(trial).number].restored
    if latest is None:
        raise UserError(f"trial {trial} of {name!r} has no checkpoint")
    return f"{result.path}/{latest.path}"


def _about(found: _Found, *, verified: bool) -> Document:
    """All that `show` says."""
    opened = found.opened
    table = opened.table(("path", "kind", "dtype", "shape", "nbytes"))
    header = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    return {
        "path": found.path,
        "size": found.size,
        "format": header["raysweep.format"],
        "checksum": header["raysweep.checksum"],
        "verified": verified,
        "metadata": opened.metadata,
        "leaves": table.rename_columns(["path", "kind", "dtype", "shape", "size"]).to_pylist(),
    }


def _refuse_taken(file: Path, form: str, *, force: bool) -> None:
    """Refuse to write where something is."""
    if not os.path.lexists(file):
        return
    if form == "files":
        if not file.is_dir() or any(file.iterdir()):
            raise UserError(f"{file} is there already; files go to a new folder, or an empty one")
    elif not file.is_file():
        raise UserError(f"{file} is there already, and is no file: choose another name")
    elif not force:
        raise UserError(f"{file} is there already: choose another name, or replace it with --force")


COMMANDS = {"checkpoint": checkpoint}
