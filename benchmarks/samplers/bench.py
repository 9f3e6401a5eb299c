"""The sampler benchmark: runs what is missing, spread over a Ray cluster, and shows what came out.

One rule: every run is kept when it is done; begun again, the benchmark goes on where it was.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import ray
import suites
from contenders import CONTENDERS
from plan import Job, jobs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from store import Store

import raysweep

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "samplers"
FLUSH = 60.0  # seconds between two files of what was run


def version(contender: str) -> str:
    """What makes a contender what it is: a package's version, for ours the code itself."""
    if contender.startswith("optuna"):
        return f"optuna {importlib.metadata.version('optuna')}"
    core = Path(raysweep.__file__).parent / "core"
    code = hashlib.sha256()
    for file in sorted((core / "samplers").glob("*.py")):
        code.update(file.read_bytes())
    return f"raysweep {raysweep.__version__} {code.hexdigest()[:8]}"


@ray.remote(num_cpus=1)
def _made(job: Job, made_by: str) -> list[dict[str, Any]]:
    """The runs of a job, a row each; on whatever machine has the room."""
    import race  # noqa: PLC0415  (with all that samplers import: for the workers)

    task = suites.load(job.task)
    rows = []
    for seed in job.seeds:
        run = race.run(task, job.contender, workers=job.workers, budget=job.budget, seed=seed)
        rows.append(
            {
                "task": job.task,
                "contender": job.contender,
                "version": made_by,
                "workers": job.workers,
                "budget": job.budget,
                "seed": seed,
                "regrets": run.regrets,
                "ends": run.ends,
                "asks": [float(f"{seconds:.2g}") for seconds in run.asks],
                "recommended": run.recommended,
                "busy": run.busy,
            }
        )
    return rows


def _made_anywhere(missing: list[Job], console: Console) -> Iterator[list[dict[str, Any]]]:
    """The rows of all jobs, as they are done; a few more are out than there are CPUs."""
    room = 2 * int(ray.cluster_resources()["CPU"])
    waiting, out = iter(missing), {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("runs", total=sum(len(job.seeds) for job in missing))
        while True:
            while len(out) < room and (job := next(waiting, None)) is not None:
                out[_made.remote(job, version(job.contender))] = job
            if not out:
                return
            (done,), _ = ray.wait([*out])
            job = out.pop(done)
            yield ray.get(done)
            progress.update(bar, advance=len(job.seeds), description=f"{job.contender} {job.task}")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


@click.command()
@click.option("--suite", "suite_names", default="tables", help=f"Of {', '.join(suites.SUITES)}.")
@click.option("--part", type=click.Choice(["development", "test", "all"]), default="test")
@click.option("--contenders", default=",".join(CONTENDERS), help="Who is compared.")
@click.option("--workers", default="1,4,16,64", help="Trials at a time.")
@click.option("--budget", default=200, help="Trials a run.")
@click.option("--seeds", default=30, help="Runs a task, from seed 0.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=RESULTS, help="Where runs are kept."
)
@click.option("--address", help="Of a Ray cluster; one is started here unless given.")
def main(  # noqa: PLR0917  (click names them)
    suite_names: str,
    part: str,
    contenders: str,
    workers: str,
    budget: int,
    seeds: int,
    out: Path,
    address: str | None,
) -> None:
    """Run what is missing of a benchmark of samplers, and show what came out."""
    console = Console(stderr=True)
    store = Store(out)
    tasks = [name for suite in suite_names.split(",") for name in suites.names(suite, part)]
    wanted = jobs(tasks, contenders.split(","), _numbers(workers), budget, range(seeds))
    missing = [left for job in wanted if (left := store.missing(job, version(job.contender)))]
    if missing:
        _connect(address)
        rows: list[dict[str, Any]] = []
        flushed = time.monotonic()
        try:
            for made in _made_anywhere(missing, console):
                rows += made
                if time.monotonic() - flushed > FLUSH:
                    store.add(rows)
                    rows, flushed = [], time.monotonic()
        finally:
            store.add(rows)
            store.merge()


def _connect(address: str | None) -> None:
    """Ray, with one thread for each run, as many at once as there are CPUs."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if address is None:
        environment = {"env_vars": threads | {"PYTHONPATH": str(HERE)}}
    else:
        environment = {"env_vars": threads, "working_dir": str(HERE)}
    ray.init(address=address, runtime_env=environment, log_to_driver=False, include_dashboard=False)


if __name__ == "__main__":
    main()
