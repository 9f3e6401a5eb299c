"""What came of the benchmark, as tables: for a terminal, for the report and for the project's pages.

One rule: nothing is said that is not computed from the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import figures
import numpy as np
import suites
from figures import Runs
from plan import BUDGETS
from rich.table import Table
from store import RACES, REALS, SWEEPS, Row, Store, about, read

OURS = "bayesian"
LATENCY = "latency.parquet"
SHOWN = ("tables", "lcbench", "live", "coco")  # suites, in this order
TOGETHER = ("tables", "lcbench", "live")  # of which the verdict is; COCO's functions stay apart
Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that a folder of runs holds."""

    suites: Mapping[str, Mapping[Key, Runs]]  # by suite; then by contender and number of workers
    sweeps: Sequence[Row]  # of early termination
    reals: Sequence[Row]  # sweeps on Ray
    latencies: Sequence[Row]
    made: Mapping[str, str]  # machine, versions, contenders, tasks

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What is there; nothing is an empty folder's."""
        races = Store(folder, "race", RACES).rows()
        kept = Store(folder, "early", SWEEPS).rows()
        reals = Store(folder, "real", REALS).rows()
        latencies = read(folder / LATENCY)
        versions = {f"{_who(row)}: {row['version']}" for row in [*races, *kept, *reals, *latencies]}
        tasks = {row["task"] for row in [*races, *kept]}
        said = {"contenders": "; ".join(sorted(versions)), "tasks": ", ".join(sorted(tasks))}
        return cls(
            suites=_by_suite(races),
            sweeps=[{**row, "sampler": row["contender"], "trials": row["budget"]} for row in kept],
            reals=reals,
            latencies=latencies,
            made={**about(folder), **said},
        )

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Every table, with the name that pages call it by."""
        for suite, runs in self.suites.items():
            for workers in at_once(runs):
                yield f"regret {suite} {workers}", regrets(runs, workers)
                if (OURS, workers) in runs:
                    yield f"differences {suite} {workers}", differences(runs, workers)
            yield f"speed-up {suite}", speed_ups(runs)
            yield f"use {suite}", use(runs)
        for sampler in proposed_by(self.sweeps):
            yield f"early {sampler}", early_table(self.sweeps, sampler)
        if self.reals:
            yield "real", real_table(self.reals)
        if self.latencies:
            yield "latency", latency_table(self.latencies)


def _who(row: Row) -> str:
    """Who made a run: a contender, with a policy or while its asks were timed."""
    beside = row.get("policy", "one ask")
    return f"{row['contender']} ({beside})" if beside else str(row["contender"])


def at_once(runs: Mapping[Key, Runs]) -> list[int]:
    """The numbers of workers that there are runs with."""
    return sorted({workers for _, workers in runs})


def looked_at(runs: Mapping[Key, Runs]) -> list[int]:
    """The numbers of trials after which there is something to say."""
    return [budget for budget in BUDGETS if any(each.at(budget) for each in runs.values())]


def common(runs: Iterable[Runs]) -> int | None:
    """The most trials to be looked at that every run of all has; None: they have not even the fewest."""
    lengths = [len(regrets) for each in runs for regrets in each.regrets.values()]
    return max((budget for budget in BUDGETS if budget <= min(lengths)), default=None)


def named(workers: int) -> str:
    """`1 worker`, `16 workers`."""
    return f"{workers} worker{'s' * (workers > 1)}"


def regrets(runs: Mapping[Key, Runs], workers: int) -> Table:
    """Mean normalised regret after so many trials, with 95 percent intervals; best first."""
    budgets = looked_at(runs)
    shown = Table(title=f"mean normalised regret, {named(workers)}")
    shown.add_column("sampler")
    for column in (*(f"{budget} trials" for budget in budgets), "tasks", "runs"):
        shown.add_column(column, justify="right")
    rows = []
    for (contender, count), each in runs.items():
        if count == workers:
            found = [figures.mean(each.at(budget)) for budget in budgets if each.at(budget)]
            cells = [f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found]
            cells += [""] * (len(budgets) - len(cells))
            cells += [str(len(each.tasks)), _counted(each, budgets)]
            rows.append((-len(found), found[-1].mean, contender, cells))
    for *_, contender, cells in sorted(rows):
        shown.add_row(contender, *cells)
    return shown


def _counted(runs: Runs, budgets: Sequence[int]) -> str:
    """How many runs there are, and how many of them went on for longer."""
    counts = {len(at): budget for budget in budgets if (at := runs.at(budget))}
    first, *further = counts.items()
    return ", ".join([str(first[0]), *(f"{count} to {budget}" for count, budget in further)])


def differences(runs: Mapping[Key, Runs], workers: int) -> Table:
    """How much lower ours is than each other, paired, with 95 percent intervals."""
    budgets = looked_at(runs)
    shown = Table(title=f"{OURS} less the others, paired, {named(workers)}")
    shown.add_column("against")
    for budget in budgets:
        shown.add_column(f"{budget} trials", justify="right")
    ours = runs[OURS, workers]
    for (contender, count), each in sorted(runs.items()):
        if count == workers and contender != OURS:
            found = [figures.difference(ours.at(budget), each.at(budget)) for budget in budgets]
            shown.add_row(contender, *("" if one is None else str(one) for one in found))
    return shown


def speed_ups(runs: Mapping[Key, Runs]) -> Table:
    """How many times as many trials random takes."""
    budgets = looked_at(runs)
    shown = Table(title="trials that random takes for the same regret, times as many")
    shown.add_column("sampler")
    for budget in budgets:
        shown.add_column(f"as after {budget}", justify="right")
    for name, workers in sorted(runs):
        if name != "random" and ("random", workers) in runs:
            each, random = runs[name, workers], runs["random", workers]
            cells = [_times(each, random, budget) for budget in budgets]
            shown.add_row(f"{name}, {named(workers)}", *cells)
    return shown


def _times(runs: Runs, random: Runs, budget: int) -> str:
    found = figures.speed_up(runs, random, budget)
    if found is None:
        return ""
    times, reached = found
    return f"{times:.1f}" if reached else f"more than {times:.1f}"


def use(runs: Mapping[Key, Runs]) -> Table:
    """The share of the workers' time that trials ran, the sampler's own time charged."""
    shown = Table(title="worker use: the share of their time that trials ran (mean)")
    shown.add_column("sampler")
    for workers in at_once(runs):
        shown.add_column(named(workers), justify="right")
    for name in sorted({name for name, _ in runs}):
        cells = [runs.get((name, workers)) for workers in at_once(runs)]
        shown.add_row(name, *("" if c is None else f"{np.mean(c.busy):.1%}" for c in cells))
    return shown


def proposed_by(sweeps: Sequence[Row]) -> list[str]:
    """The samplers that there are sweeps of."""
    return sorted({row["sampler"] for row in sweeps})


def early_table(sweeps: Sequence[Row], sampler: str) -> Table:
    """What each policy saves and costs, beside a sampler; the recommended one is marked."""
    import early  # noqa: PLC0415  (onnxruntime)

    shown = Table(title=f"early termination: 64 trials of {sampler}, of up to 50 epochs")
    shown.add_column("policy")
    for column in ("workers", "epochs saved", "regret", "lost", "winner stopped", "time", "runs"):
        shown.add_column(column, justify="right")
    found = [row for row in early.table(sweeps) if row["sampler"] == sampler]
    for row in sorted(found, key=lambda r: (r["workers"], r["saved"])):
        mark = " *" if row["policy"] == early.RECOMMENDED else ""
        shown.add_row(
            row["policy"] + mark, str(row["workers"]), f"{row['saved']:.1%}",
            f"{row['regret']:.3f}", str(_lost(sweeps, row)), f"{row['winner_stopped']:.1%}",
            f"{row['time']:.2f}", str(row["runs"]),
        )  # fmt: skip
    return shown


def _lost(sweeps: Sequence[Row], about_: Mapping[str, object]) -> figures.Interval | str:
    """The regret that a policy costs, paired with no policy, with its interval; "" without one."""

    def of(policy: object) -> dict[tuple[str, int], float]:
        return {
            (row["task"], row["seed"]): row["regret"]
            for row in sweeps
            if (row["policy"], row["sampler"], row["workers"])
            == (policy, about_["sampler"], about_["workers"])
        }

    return figures.difference(of(about_["policy"]), of("none")) or ""


def real_table(reals: Sequence[Row]) -> Table:
    """What sweeps on Ray came to, beside the same on the virtual clock."""
    runs = figures.grouped(reals)
    virtual = figures.grouped(
        [{**row, "regrets": row["virtual_regrets"], "busy": row["virtual_busy"]} for row in reals]
    )
    budgets = looked_at(runs)
    shown = Table(title="sweeps on Ray less the same on the virtual clock, paired")
    shown.add_column("sampler")
    columns = [f"{budget} trials" for budget in budgets]
    for column in ("workers", *columns, "use on Ray", "virtual", "runs"):
        shown.add_column(column, justify="right")
    for (name, workers), each in sorted(runs.items()):
        clock = virtual[name, workers]
        found = [figures.difference(each.at(b), clock.at(b)) for b in budgets]
        use_of = (f"{np.mean(one.busy):.1%}" for one in (each, clock))
        shown.add_row(
            name, str(workers), *("" if f is None else str(f) for f in found), *use_of,
            str(len(each.regrets)),
        )  # fmt: skip
    return shown


def latency_table(latencies: Sequence[Row]) -> Table:
    """The median of what asks took, in milliseconds."""
    counts = sorted({row["observations"] for row in latencies})
    shown = Table(title="one ask, milliseconds (median), by how many results are known")
    shown.add_column("sampler")
    for count in counts:
        shown.add_column(f"{count:,}", justify="right")
    for name in sorted({row["contender"] for row in latencies}):
        found = {r["observations"]: r["seconds"] for r in latencies if r["contender"] == name}
        cells = [f"{1000 * np.median(found[c]):.1f}" if c in found else "" for c in counts]
        shown.add_row(name, *cells)
    return shown


def _by_suite(races: Sequence[Row]) -> dict[str, Mapping[Key, Runs]]:
    """The runs of each suite; before them, if there are several, those of `TOGETHER`."""
    rows: dict[str, list[Row]] = {}
    for row in races:
        rows.setdefault(suites.HOMES[row["task"].partition("/")[0]], []).append(row)
    found = {suite: figures.grouped(rows[suite]) for suite in SHOWN if suite in rows}
    parts = [suite for suite in TOGETHER if suite in rows]
    if len(parts) <= 1:  # shown as it is
        return found
    everything = [row for suite in parts for row in rows[suite]]
    return {"all": _everywhere(figures.grouped(everything)), **found}


def _everywhere(runs: Mapping[Key, Runs]) -> Mapping[Key, Runs]:
    """Of those who ran on every task, as many trials as there are on each: means of the same."""
    most = max((len(each.tasks) for each in runs.values()), default=0)
    kept = {key: each for key, each in runs.items() if len(each.tasks) == most}
    return {key: _cut(each, common([each])) for key, each in kept.items()}


def _cut(runs: Runs, trials: int | None) -> Runs:
    return replace(runs, regrets={run: each[:trials] for run, each in runs.regrets.items()})
