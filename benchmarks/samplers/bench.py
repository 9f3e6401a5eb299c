"""The sampler benchmark: runs what is missing, spread over a Ray cluster, and shows what came out.

One rule: every run is kept when it is done; begun again, the benchmark goes on where it was.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

# Before numpy comes in, which looks at them once: asks are timed in this process.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import ray
import suites
from contenders import CONTENDERS
from plan import BUDGETS, Job, races, sweeps
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from store import LATENCIES, RACES, REALS, SWEEPS, Store, read, write
from summary import LATENCY
from versions import version

HERE = Path(__file__).resolve().parent
# QUICK=1: what fits into five minutes on two cores. Optuna's GPSampler does not, and what is shown
# then is written down nowhere that lasts.
QUICK = bool(os.environ.get("QUICK"))
RESULTS = HERE.parent / "results" / "samplers"
OUT = Path(tempfile.gettempdir()) / "raysweep-samplers" if QUICK else RESULTS
COMPARED = [name for name in CONTENDERS if not (QUICK and name == "optuna-gp")]
BUDGET, SEEDS = (50, 2) if QUICK else (100, 30)
LEARNERS = ("random",) if QUICK else ("random", "bayesian", "tpe")  # with early termination
FLUSH = 60.0  # seconds between two files of what was run
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
Rows = list[dict[str, Any]]
POLICIES = ("none", "bandit", "median", "truncation", "asha", "one-epoch-3")


@ray.remote(num_cpus=1)
def _made(job: Job, made_by: str) -> Rows:
    """The runs of a job, a row each; on whatever machine has the room."""
    run = _sweep if job.policy else _race
    return [{**_about(job, made_by), "seed": seed, **run(job, seed)} for seed in job.seeds]


def _about(job: Job, made_by: str) -> dict[str, Any]:
    """What all rows of a job say."""
    return {
        "task": job.task,
        "contender": job.contender,
        "policy": job.policy,
        "version": made_by,
        "workers": job.workers,
        "budget": job.budget,
    }


def _race(job: Job, seed: int) -> dict[str, Any]:
    import race  # noqa: PLC0415  (with all that samplers import: for the workers)

    task = suites.load(job.task)
    run = race.run(task, job.contender, workers=job.workers, budget=job.budget, seed=seed)
    return {
        "regrets": run.regrets,
        "ends": _rounded(run.ends, 4),
        "asks": _rounded(run.asks, 2),  # nothing is measured more exactly
        "busy": run.busy,
    }


def _rounded(values: Iterable[float], digits: int) -> list[float]:
    """The values to so many digits: they take a fraction of the room."""
    return [float(f"{value:.{digits}g}") for value in values]


def _sweep(job: Job, seed: int) -> dict[str, Any]:
    import early  # noqa: PLC0415  (as above)

    how = {"workers": job.workers, "trials": job.budget, "seed": seed}
    found = early.run(job.task, job.policy, job.contender, **how)
    return {name: found[name] for name in SWEEPS.names if name in found}


def _made_anywhere(missing: list[Job]) -> Iterator[tuple[Job, Rows]]:
    """The rows of all jobs, as they are done; twice as many are out as there are CPUs."""
    room = 2 * int(ray.cluster_resources()["CPU"])
    waiting, out = iter(missing), {}
    while True:
        while len(out) < room and (job := next(waiting, None)) is not None:
            out[_made.remote(job, version(job.contender, job.policy))] = job
        if not out:
            return
        (done,), _ = ray.wait([*out])
        yield out.pop(done), ray.get(done)


def _made_in_turn(missing: list[Job], place: Path) -> Iterator[tuple[Job, Rows]]:
    """The rows of all jobs, which are sweeps that have the cluster for themselves."""
    import real  # noqa: PLC0415  (as above)

    for job in missing:
        about = _about(job, version(job.contender))
        yield job, [{**about, **row} for row in real.rows(job, place)]


def _run_missing(
    store: Store,
    wanted: Iterable[Job],
    connect: Callable[[], None],
    console: Console,
    make: Callable[[list[Job]], Iterator[tuple[Job, Rows]]] = _made_anywhere,
) -> None:
    """Run what the store does not have, and keep it, also when interrupted."""
    if not (wanted := [*wanted]):
        return
    with_versions = ((job, version(job.contender, job.policy)) for job in wanted)
    missing = [left for job, made_by in with_versions if (left := store.missing(job, made_by))]
    if not missing:
        console.print("all of this has been run already, and is shown with whatever else there is")
        return
    connect()
    rows: Rows = []
    flushed = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            bar = progress.add_task("runs", total=sum(len(job.seeds) for job in missing))
            for job, made in make(missing):
                progress.update(bar, advance=len(made), description=f"{job.contender} {job.task}")
                rows += made
                if time.monotonic() - flushed > FLUSH:
                    store.add(rows)
                    if not console.is_terminal:  # where there is no bar
                        console.print(f"{time.strftime('%H:%M')} {len(rows)} more runs are kept")
                    rows, flushed = [], time.monotonic()
    finally:
        store.add(rows)
        store.merge()


def _time_asks(contenders: Iterable[str], file: Path) -> None:
    """Time asks here and now, one contender after another: nothing else may run meanwhile."""
    import latency  # noqa: PLC0415  (as above)

    versions = {name: version(name) for name in contenders if not name.endswith("-x2")}
    rows = latency.renewed(read(file), versions, quick=QUICK)
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, rows, LATENCIES)


def _connect(address: str | None, cpus: int | None) -> None:
    """Ray, with one thread for each run, as many at once as there are CPUs."""
    if ray.is_initialized():
        return
    # A copy of this folder: a `split.py` where somebody stands is not the benchmark's.
    environment = {"env_vars": ONE_THREAD, "working_dir": str(HERE)}
    ray.init(
        address=address or "local",
        num_cpus=None if address else cpus,
        runtime_env=environment,
        log_to_driver=False,
        include_dashboard=False,
        logging_level="warning",
    )


class _Names(click.ParamType):
    """Names with commas between them, each one of those that are known."""

    name = "names"

    def __init__(self, known: Iterable[str]) -> None:
        self._known = [*known]

    def convert(
        self, value: str | list[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """The names as a list."""
        names = value if isinstance(value, list) else value.split(",")
        for name in names:
            if name not in self._known:
                self.fail(f"{name!r} is none of {', '.join(self._known)}", param, ctx)
        return names


class _Counts(click.ParamType):
    """Whole numbers with commas between them."""

    name = "counts"

    def convert(
        self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """The numbers as a list."""
        try:
            counts = value if isinstance(value, list) else [int(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} must be numbers such as 1,16", param, ctx)
        if min(counts) < 1:
            self.fail(f"{value!r} must be numbers of at least 1", param, ctx)
        return counts


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--suite",
    "chosen",
    type=_Names([*suites.SUITES, "early", "real", "latency"]),
    default="tables,early,latency",
    help=f"Of {', '.join(suites.SUITES)}: whole trials; early: early termination; real:"
    " sweeps on Ray beside the virtual clock, one after another; latency: how long a sampler thinks.",
)
@click.option(
    "--part",
    type=click.Choice(["development", "test", "all"]),
    default="test",
    help="Which tasks; samplers are tuned on the development tasks only.",
)
@click.option(
    "--contenders",
    type=_Names(CONTENDERS),
    default=",".join(COMPARED),
    help=f"Who is compared: of {', '.join(CONTENDERS)}.",
)
@click.option("--workers", type=_Counts(), default="1,16", help="Trials at a time.")
@click.option(
    "--budget",
    type=click.IntRange(BUDGETS[0]),
    default=BUDGET,
    help=f"Trials a run; it is looked at after {', '.join(map(str, BUDGETS))}.",
)
@click.option("--seeds", type=click.IntRange(1), default=SEEDS, help="Runs a task, from seed 0.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Where runs are kept.")
@click.option("--address", help="Of a Ray cluster; one is started here unless given.")
@click.option("--cpus", type=click.IntRange(1), help="Of this machine, if Ray is started here.")
def main(  # noqa: PLR0917  (click names them)
    chosen: list[str],
    part: str,
    contenders: list[str],
    workers: list[int],
    budget: int,
    seeds: int,
    out: Path,
    address: str | None,
    cpus: int | None,
) -> None:
    """Run what is missing of the sampler benchmark, and show what came out.

    Runs are kept as Parquet in --out, beside one page, report.html, with tables and pictures. What is
    there already is shown with the rest and not run again, and an interrupted benchmark goes on where
    it was. As it stands here it takes hours on two cores: begin with a few seeds and contenders, and
    another --out than the repository's own results. One benchmark at a time writes to a folder.
    """
    import report  # noqa: PLC0415  (matplotlib: not for --help)

    console = Console(stderr=True)

    def connect() -> None:
        _connect(address, cpus)

    whole = [suite for suite in chosen if suite in suites.SUITES]
    tasks = [name for suite in whole for name in suites.names(suite, part)]
    wanted = races(tasks, contenders, workers, budget, range(seeds))
    _run_missing(Store(out, "race", RACES), wanted, connect, console)
    if "early" in chosen:
        learners = [name for name in contenders if name in LEARNERS]
        curves = suites.names("lcbench", part)
        at_once = [count for count in workers if count in {4, 16}] or [16]
        wanted = sweeps(
            curves, learners, policies=POLICIES, workers=at_once, trials=64, seeds=range(seeds)
        )
        _run_missing(Store(out, "early", SWEEPS), wanted, connect, console)
    if "real" in chosen:
        alone = [name for name in contenders if not name.endswith("-x2")]
        wanted = races(suites.names("lcbench", part), alone, workers, budget, range(seeds))
        make = functools.partial(_made_in_turn, place=out / "sweeps")
        _run_missing(Store(out, "real", REALS), wanted, connect, console, make)
    if "latency" in chosen:
        _time_asks(contenders, out / LATENCY)
    report.show(out)


if __name__ == "__main__":
    main(prog_name="raysweep bench")
