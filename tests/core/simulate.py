"""Runs the simulation: thousands of seeds over all cores, or one seed with its whole story.

One rule: a seed that fails is named with the line that runs it again, and the exit code says whether
one did. `make simulate` runs this file; what a seed is, `simulation` says.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":  # pytest finds it by itself
    sys.path.append(str(ROOT / "tests" / "contracts"))

from simulation import Fault, Outcome, simulate  # noqa: E402  (found only now)

SHOWN = 20  # violations that are told at the end; the others are counted
CHUNK = 10  # seeds that a process takes at a time


@dataclass
class Tally:
    """What many seeds came to."""

    seeds: int = 0
    moments: int = 0
    made: int = 0
    acknowledged: int = 0
    lost: int = 0
    twice: int = 0
    injected: Counter[Fault] = field(default_factory=Counter)
    struck: Counter[Fault] = field(default_factory=Counter)  # seeds in which the fault happened
    seen: Counter[str] = field(default_factory=Counter)
    violations: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count another seed."""
        self.seeds += 1
        self.moments += outcome.moments
        self.made += outcome.made
        self.acknowledged += outcome.acknowledged
        self.lost += outcome.lost
        self.twice += outcome.twice
        self.injected.update(outcome.injected)
        self.struck.update(outcome.injected.keys())
        self.seen.update(outcome.seen)
        if outcome.violation:
            self.violations.append(outcome)


@click.command()
@click.option("--seeds", default=10_000, show_default=True, help="How many seeds to run.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--jobs", default=0, help="Processes; as many as there are cores unless given.")
@click.option("--fail-fast", is_flag=True, help="End with the first seed that fails.")
@click.option("--seed", type=int, default=None, help="Run this seed alone.")
@click.option("--verbose", is_flag=True, help="With --seed: tell all that happens, a line each.")
def main(
    seeds: int, first: int, jobs: int, seed: int | None, *, fail_fast: bool, verbose: bool
) -> None:
    """Run simulated sweeps in which everything breaks, and see that nothing is lost."""
    console = Console(soft_wrap=True)
    if seed is not None:
        sys.exit(run_one(seed, console, verbose=verbose))
    began = time.monotonic()
    numbers = range(first, first + seeds)
    tally = run_many(numbers, jobs or os.cpu_count() or 1, console, fail_fast=fail_fast)
    tell(tally, time.monotonic() - began, console)
    sys.exit(1 if tally.violations else 0)


def run_one(seed: int, console: Console, *, verbose: bool) -> int:
    """Run one seed, and tell its story if that is wanted; returns the exit code."""
    outcome = simulate(seed, click.echo if verbose else None)
    if outcome.violation:
        click.echo(f"{outcome.trace}\nseed {seed}: {outcome.violation}")
        return 1
    console.print(
        f"seed {seed}: nothing violated in {outcome.moments} moments; {outcome.made} reports made,"
        f" {outcome.acknowledged} acknowledged, {outcome.lost} lost, {outcome.twice} twice",
        highlight=False,
    )
    return 0


def run_many(numbers: range, jobs: int, console: Console, *, fail_fast: bool) -> Tally:
    """Run many seeds over several processes, with a bar that shows how far it is."""
    tally = Tally()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with multiprocessing.Pool(jobs) as pool, Progress(*columns, console=console) as progress:
        task = progress.add_task("seeds", total=len(numbers))
        for outcome in pool.imap_unordered(simulate, numbers, chunksize=CHUNK):
            tally.add(outcome)
            progress.advance(task)
            if outcome.violation:
                progress.update(task, description=f"seeds ({len(tally.violations)} violations)")
                if fail_fast:
                    break
    return tally


def tell(tally: Tally, seconds: float, console: Console) -> None:
    """Say what was done, what came of it, and how to run again what failed."""
    console.print(_faults(tally))
    console.print(_events(tally))
    console.print(
        f"{tally.seeds:,} seeds, {tally.moments:,} moments in {seconds:.0f} s:"
        f" {tally.made:,} reports made, {tally.acknowledged:,} acknowledged,"
        f" {tally.lost:,} lost, {tally.twice:,} twice; {len(tally.violations):,} violations",
        highlight=False,
    )
    for outcome in sorted(tally.violations, key=lambda each: each.seed)[:SHOWN]:
        console.print(f"\n{escape(outcome.violation)}\n  {outcome.replay}", highlight=False)
    if len(tally.violations) > SHOWN:
        console.print(f"\nand {len(tally.violations) - SHOWN} others", highlight=False)


def _faults(tally: Tally) -> Table:
    table = Table("fault", "injected", "in seeds")
    for fault in Fault:
        table.add_row(fault.value, f"{tally.injected[fault]:,}", f"{tally.struck[fault]:,}")
    return _right(table)


def _events(tally: Tally) -> Table:
    table = Table("what came of it", "times")
    for what, times in sorted(tally.seen.items()):
        table.add_row(what, f"{times:,}")
    return _right(table)


def _right(table: Table) -> Table:
    for column in table.columns[1:]:
        column.justify = "right"
    return table


if __name__ == "__main__":
    main()
