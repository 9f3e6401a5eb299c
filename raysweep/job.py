"""`load`: a sweep out of an Azure Machine Learning job, run like any other."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.azureml import Job, read_job
from raysweep.core.command import Command
from raysweep.runtime import code
from raysweep.runtime.command.shell import shown
from raysweep.runtime.proposals import check as check_sampler
from raysweep.storage import snapshot
from raysweep.storage.copying import copy
from raysweep.storage.folder import SweepFolder, default_storage, find_sweep, made
from raysweep.sweep import Runnable


def load(
    source: str | os.PathLike[str] | Mapping[str, Any] | object,
    *,
    settings: Mapping[str, str] | None = None,
    storage: str | None = None,
    environments: str | os.PathLike[str] | None = None,
) -> JobSweep:
    """The sweep that an Azure ML v2 sweep job asks for.

    Args:
        source: a YAML file, what such a file holds as a dict, or the azure-ai-ml SDK's own object:
            a `SweepJob`, or what `command(...)(...).sweep(...)` gives.
        settings: dotted path -> value, changes to the job as `--set` makes them:
            `{"limits.max_total_trials": "8", "inputs.data.path": "./iris.csv"}`.
        storage: the folder in which the sweep's own will be; what the job says unless given.
        environments: a mapping file of environments; `docs/azure.md` describes it.

    Raises:
        JobFileError: the job cannot be run; every problem with its place in the file.
        SpecError: its sampler is of a library that is not installed, or it cannot begin with the
            earlier sweep that it names.
        SweepNotFoundError: there is no such earlier sweep.
    """
    mapping = None if environments is None else Path(environments)
    job = read_job(source, settings, environments=mapping)
    return JobSweep(job, storage=storage or job.storage or default_storage())


class JobSweep(Runnable):
    """A sweep whose trials are the commands of an Azure ML job."""

    def __init__(self, job: Job, *, storage: str) -> None:
        self.job = job
        self.settle(job.spec)
        self.storage = storage
        self._about = (*job.notices, *_preparing(job))
        check_sampler(self.spec)
        if job.warm_start is not None:
            self.warm_start(job.warm_start)

    def create(self) -> SweepFolder:
        """Make the sweep's folder: spec, command, and a snapshot of its code folder."""
        command = self.job.command
        place = Path(command.code) if command.code else None
        document, diff = code.origin(place.parent if place and place.is_file() else place)
        with made(self.storage, self.spec.name) as folder:
            folder.snapshot.parent.mkdir()
            if place is not None:
                snapshot.pack(place, folder.snapshot, apart=folder.path.parent)
            final = SweepFolder(folder.path.with_name(self.spec.name))
            reachable = _reachable(command, folder, final)
            text = json.dumps(reachable.to_dict(), indent=2, ensure_ascii=False)
            files = {folder.command: text.encode(), folder.diff: diff.encode()}
            folder.create(self.spec, origin={**document, "job": dict(self.job.about)}, files=files)
            folder.command.chmod(0o600)  # an address in it may be signed
        return find_sweep(self.storage, self.spec.name)

    def commands(self, trials: list[dict[str, Any]]) -> list[str]:
        """The command of each of these trials, its values written out; outputs as `./outputs`.

        Raises:
            CommandError: a value cannot stand where the command asks for it.
        """
        return [shown(self.job.command, params) for params in trials]


def _preparing(job: Job) -> list[str]:
    """What a person should know who waits for the first trial."""
    environment = job.command.environment
    if not environment.pip and environment.conda is None:
        return []
    line = "each node installs the environment before its first trial, unless it is there already"
    return [f"{line}; `raysweep logs NAME -f` shows how far it is"]


def _reachable(command: Command, folder: SweepFolder, final: SweepFolder) -> Command:
    """The command with inputs that every node reaches: as they lie, or copied to the storage."""
    from raysweep.runtime import cluster  # noqa: PLC0415  (ray is imported by who runs)

    local = {name: Path(each.path) for name, each in command.inputs.items() if not each.remote}
    everywhere = cluster.alike_everywhere([*local.values()])
    inputs = dict(command.inputs)
    for name, path in local.items():
        if path not in everywhere:
            copy(path, folder.input(name) / path.name)
            inputs[name] = dataclasses.replace(
                command.inputs[name], path=str(final.input(name) / path.name)
            )
    return dataclasses.replace(command, inputs=inputs)
