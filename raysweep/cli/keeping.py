"""The commands that hand out what trials have left: `logs`, `download`.

One rule: they read folders, also beside a sweep that runs; no cluster is needed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from raysweep.cli import options
from raysweep.core import checks
from raysweep.core.trials import TERMINAL
from raysweep.errors import SpecError, UserError
from raysweep.result import Result, TrialResult, load_result
from raysweep.storage.copying import copy
from raysweep.storage.folder import SweepFolder, find_sweep

LOOK = 0.2  # seconds between looks at the logs
ASK = 2.0  # seconds between looks at whether all is over, which costs a replay
OUTPUTS = "outputs"


@click.command()
@options.name
@click.argument("trial", type=int, required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the trial, or the sweep, is over.")
@options.storage
def logs(name: str, trial: int | None, storage: str, *, follow: bool) -> None:
    """Print what trials have written; with -f, as it comes.

    Of one TRIAL as it is; of all, each line after the number of its trial.
    """
    folder = find_sweep(storage, name)
    readers = Readers(folder, trial)
    for line in readers.follow() if follow else readers.read(last=True):
        click.echo(line)
    if trial is not None:  # to follow one, it need not be there yet
        Result(folder).trial(trial)


@dataclass(slots=True)
class _Reader:
    """One log, read on from where it was left."""

    path: Path
    prefix: str
    _at: int = 0
    _rest: bytes = b""

    def lines(self, *, last: bool) -> Iterator[str]:
        """The whole lines that are new; with `last`, also one without an end."""
        with self.path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        self._at += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        if last and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        yield from (f"{self.prefix}{line.decode(errors='replace')}" for line in whole)


@dataclass(slots=True)
class Readers:
    """The logs of a sweep, or of one of its trials."""

    folder: SweepFolder
    trial: int | None
    _readers: dict[Path, _Reader] = field(default_factory=dict)
    _fetched: float = -ASK

    def read(self, *, last: bool = False) -> Iterator[str]:
        """What is new in them."""
        self._fetch(last=last)
        for path in self._paths():
            if path not in self._readers:
                kind, _, name = path.stem.partition("-")
                told = str(int(name)) if kind == "trial" else f"{kind} {name}"
                prefix = "" if self.trial is not None else f"[{told}] "
                self._readers[path] = _Reader(path, prefix)
            yield from self._readers[path].lines(last=last)

    def follow(self) -> Iterator[str]:
        """What is new in them, until nothing can come any more."""
        asked = 0.0
        while True:
            now = time.monotonic()
            over = now - asked >= ASK and self._over()
            asked = now if now - asked >= ASK else asked
            yield from self.read(last=over)
            if over:
                return
            time.sleep(LOOK)

    def _fetch(self, *, last: bool) -> None:
        """Have what a bucket holds here, now and then: there a log comes with its attempt's end."""
        now = time.monotonic()
        if last or now - self._fetched >= ASK:
            self._fetched = now
            self.folder.fetch_all(self.folder.log(0).parent)

    def _paths(self) -> list[Path]:
        if self.trial is None:
            return sorted(self.folder.log(0).parent.glob("*.log"))
        path = self.folder.log(self.trial)
        return [path] if path.exists() else []

    def _over(self) -> bool:
        state = Result(self.folder).state
        if state.over or self.trial is None or self.trial >= len(state.trials):
            return state.over
        return state.trials[self.trial].state in TERMINAL


@click.command()
@options.name
@click.option("--trial", type=int, help="Which; the best unless given.")
@click.option(
    "--output-name", metavar="OUTPUT", help="One output of the command; all unless given."
)
@click.option("-p", "--download-path", type=click.Path(file_okay=False, path_type=Path),
              default=Path(), help="Where to; the current folder unless given.")  # fmt: skip
@options.storage
def download(
    name: str, trial: int | None, output_name: str | None, download_path: Path, storage: str
) -> None:
    """Copy what a trial has left: outputs, artifacts, its log.

    Prints the paths of the copies.
    """
    result = load_result(name, storage)
    told = result.best if trial is None else result.trial(trial)
    left = _left_by(result.folder, told)
    if output_name is not None:
        left = _output(left, told, output_name)
    if not left:
        raise UserError(f"trial {told.number} of {name!r} has left nothing but its metrics")
    target = download_path / f"{name}-trial-{told.number}"
    new = {place: path for place, path in left.items() if not (target / place).exists()}
    for place in left.keys() - new.keys():
        click.echo(f"{target / place} is there already, and stays as it is", err=True)
    for place, path in new.items():
        click.echo(_copy(path, target / place))


def _left_by(folder: SweepFolder, trial: TrialResult) -> dict[str, Path]:
    """What a trial has left, by the name that its copy gets."""
    folder.fetch_all(*folder.left_by(trial.number, trial.attempts)[:3], folder.log(0).parent)
    outputs = folder.output(trial.number, "")
    named = sorted(outputs.iterdir()) if outputs.is_dir() else []
    places = {
        **{f"{OUTPUTS}/{path.name}": path for path in named},
        "artifacts": folder.artifacts(trial.number),
        "log.txt": folder.log(trial.number),
    }
    return {place: path for place, path in places.items() if _has_content(path)}


def _has_content(path: Path) -> bool:
    return path.is_file() or any(not each.is_dir() for each in path.rglob("*"))


def _output(left: dict[str, Path], trial: TrialResult, name: str) -> dict[str, Path]:
    """One output of what a trial has left."""
    found = [path.name for place, path in left.items() if place.startswith(f"{OUTPUTS}/")]
    if name not in found:
        there = f"it has {', '.join(found)}" if found else "it has none"
        near = checks.did_you_mean(name, found)
        raise SpecError(f"trial {trial.number} has left no output {name!r}: {there}{near}")
    return {f"{OUTPUTS}/{name}": left[f"{OUTPUTS}/{name}"]}


def _copy(path: Path, place: Path) -> Path:
    """Copy a file or a folder, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    half = place.with_name(f".{place.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    copy(path, half)
    half.rename(place)
    return place


COMMANDS = {"logs": logs, "download": download}
