"""Chaos on real processes: break a real sweep on purpose, in every way, and count what is lost.

One rule: what was acknowledged is known from the trials themselves, who write down each report that
`trial.report()` has returned from, and from a client that asks all the while; the journal is held
against both afterwards. The audit is made to fail first, on evidence that was spoilt on purpose.

    make chaos            about half an hour; SEED=... for other moments
    make chaos QUICK=1    some minutes, each fault a few times
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import audit
import disks
import nodes
import processes
from faults import FAULTS
from record import RESULTS, written
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rounds import Fault, Outcome, Round, played

UNDISTURBED = Fault(
    name="nothing",
    inject=lambda _: None,
    count=0,
    gap=(0.0, 0.0),
    policies=("none", "bandit"),
    pace=0.02,
)
QUICK = 2  # faults of a round, at most, when it must be quick
SEED = 7


@dataclass(kw_only=True)
class Row:
    """One fault, over all of its rounds."""

    fault: str
    why_not: str = ""  # it was left out, and why
    outcomes: list[Outcome] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def total(self, name: str) -> int:
        """A count, over all rounds."""
        return sum(getattr(outcome.findings, name) for outcome in self.outcomes)

    @property
    def injected(self) -> int:
        """How many faults there were."""
        return sum(len(outcome.injected) for outcome in self.outcomes)

    @property
    def recovered(self) -> list[float]:
        """Seconds to recover, of each fault that interrupted something."""
        return sorted(seconds for outcome in self.outcomes for seconds in outcome.recovered)

    def document(self) -> dict[str, Any]:
        """What is written down."""
        if self.why_not:
            return {"fault": self.fault, "injected": 0, "left_out": self.why_not}
        counts = ("acknowledged", "lost", "twice", "trials", "ended_right",
                  "decisions", "stops", "decided_wrong")  # fmt: skip
        seconds = self.recovered
        return {
            "fault": self.fault,
            "injected": self.injected,
            **{name: self.total(name) for name in counts},
            "seconds_to_recover": _spread(seconds),
            "left": [one for outcome in self.outcomes for one in outcome.left],
            "policies": [outcome.policy for outcome in self.outcomes],
            "seconds": round(sum(outcome.seconds for outcome in self.outcomes), 1),
            "problems": self.problems,
        }


def _spread(seconds: Sequence[float]) -> dict[str, float | int | None]:
    if not seconds:
        return {"samples": 0, "median": None, "worst": None}
    median = round(statistics.median(seconds), 2)
    return {"samples": len(seconds), "median": median, "worst": round(seconds[-1], 2)}


@dataclass(kw_only=True)
class Benchmark:
    """All rounds of all faults."""

    seed: int
    quick: bool
    work: Path
    progress: Progress
    rounds: int = 0
    best: dict[str, tuple[int, int, float] | None] = field(default_factory=dict)

    def row(self, fault: Fault) -> Row:
        """All rounds of a fault."""
        row = Row(fault=fault.name)
        if fault.tmpfs and (why := disks.why_not()):
            row.why_not = why
            return row
        for policy in fault.policies[: 1 if self.quick and fault.count else None]:
            outcome = self._round(self._sized(fault), policy)
            row.outcomes.append(outcome)
            row.problems += [f"{policy}: {problem}" for problem in self._problems(outcome)]
        return row

    def _sized(self, fault: Fault) -> Fault:
        return dataclasses.replace(fault, count=min(QUICK, fault.count)) if self.quick else fault

    def _round(self, fault: Fault, policy: str) -> Outcome:
        self.rounds += 1
        place = self.work / f"{self.rounds:02d}"
        rng = random.Random(f"{self.seed} {fault.name} {policy}")  # noqa: S311  (moments, no secrets)
        bar = self.progress.add_task(f"{fault.name}; {policy}", total=fault.count)
        with _storage(fault, place):
            outcome = played(
                Round(fault, policy, place, rng),
                lambda done: self.progress.update(bar, completed=done),
            )
        if not self._problems(outcome):
            shutil.rmtree(place, ignore_errors=True)
        self.progress.remove_task(bar)
        self.progress.console.print(told(fault, outcome), soft_wrap=True, markup=False)
        return outcome

    def _problems(self, outcome: Outcome) -> list[str]:
        """All that is wrong with a round, in words."""
        usual = self.best.setdefault(outcome.policy, outcome.best)
        same = outcome.policy != "none" or outcome.best == usual
        other = [] if same else [f"the best is {outcome.best}, but undisturbed {usual}"]
        return [*outcome.findings.problems, *outcome.left, *other]


def told(fault: Fault, outcome: Outcome) -> str:
    """A round in a line."""
    found = outcome.findings
    return (
        f"{fault.name}; {outcome.policy}: {len(outcome.injected)} faults,"
        f" {found.acknowledged} acknowledged, {found.lost} lost, {found.twice} twice,"
        f" {found.ended_right} of {found.trials} trials ended as they should,"
        f" {outcome.seconds:.0f} s"
    )


@contextmanager
def _storage(fault: Fault, place: Path) -> Iterator[None]:
    """A storage of its own for a round that needs one."""
    if not fault.tmpfs:
        yield
        return
    disks.mount(place / "storage")
    try:
        yield
    finally:
        disks.unmount(place / "storage")


def shown(rows: Sequence[Row]) -> Table:
    """The table."""
    table = Table("fault", "injected", "acknowledged", "lost", "twice", "ended as they should",
                  "decisions", "wrong", "left", "seconds to recover")  # fmt: skip
    for row in rows:
        if row.why_not:
            table.add_row(row.fault, f"left out: {row.why_not}", *[""] * 8)
            continue
        spread = _spread(row.recovered)
        seconds = "" if not spread["samples"] else f"{spread['median']} (worst {spread['worst']})"
        left = sum(len(outcome.left) for outcome in row.outcomes)
        ended = f"{row.total('ended_right')} of {row.total('trials')}"
        cells = [row.injected, row.total("acknowledged"), row.total("lost"), row.total("twice"),
                 ended, f"{row.total('decisions')} ({row.total('stops')} stops)",
                 row.total("decided_wrong"), left, seconds]  # fmt: skip
        style = "red" if row.problems else None
        table.add_row(row.fault, *map(str, cells), style=style)
    return table


def self_tested(row: Row) -> list[str]:
    """What the audit does not find in evidence that was spoilt; fills the row's problems."""
    evidence = row.outcomes[-1].evidence
    if row.problems or evidence is None:
        return ["an undisturbed round was not sound, so nothing can be said of the audit"]
    return [f"the audit does not find that {name}" for name in audit.missed(evidence)]


def arguments() -> argparse.Namespace:
    """What the command line asks for; `make` hands over its variables by the environment."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or SEED))
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows whose names hold this")
    parser.add_argument("--self-test", action="store_true", help="only make the audit fail")
    parser.add_argument("--results", type=Path, default=RESULTS / "chaos.json")
    return parser.parse_args()


def chosen(asked: argparse.Namespace) -> list[Fault]:
    """The faults that are asked for."""
    if asked.self_test:
        return []
    return [fault for fault in FAULTS
            if not asked.only or any(text in fault.name for text in asked.only)]  # fmt: skip


@contextmanager
def _work() -> Iterator[Path]:
    """A short folder for sockets and sweeps; all that carries this run's mark ends with it."""
    work = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))
    mark = processes.new_mark()
    os.environ.update(nodes.HEALTH, RAY_TMPDIR=str(work), HOME=str(work), PYTHONUNBUFFERED="1")
    os.environ.pop("RAY_ADDRESS", None)
    (work / "ray").mkdir()  # `Cluster` notes its address there, and expects the folder
    try:
        yield work
    finally:
        processes.kill_marked(mark)


def main() -> None:
    """Break, audit, show, write down."""
    asked = arguments()
    disks.go_apart()
    console = Console(width=170)
    quick = bool(os.environ.get("QUICK"))
    print(f"seed {asked.seed}; the moments of the faults follow from it, what they meet does not")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    began = time.monotonic()
    with _work() as work, Progress(*columns, console=Console()) as progress:
        benchmark = Benchmark(seed=asked.seed, quick=quick, work=work, progress=progress)
        rows = [benchmark.row(UNDISTURBED)]
        void = self_tested(rows[0])
        rows += [benchmark.row(fault) for fault in chosen(asked)]
    problems = [*void, *(f"{row.fault}: {problem}" for row in rows for problem in row.problems)]
    injected = sum(row.injected for row in rows)
    console.print(shown(rows))
    print(f"{injected} faults in {(time.monotonic() - began) / 60:.0f} minutes, seed {asked.seed};"
          f" spoilt evidence that the audit does not find: {len(void)} of {SPOILT}")  # fmt: skip
    for problem in problems:
        print(f"PROBLEM {problem}")
    if not problems:
        shutil.rmtree(work, ignore_errors=True)
    if not (asked.only or asked.self_test):
        written(
            asked.results,
            [row.document() for row in rows],
            seed=asked.seed,
            quick=quick,
            injected=injected,
            spoilt_and_not_found=void,
        )
    sys.exit(f"what is left to look at: {work}" if problems else 0)


SPOILT = len(audit.CHANGES) + 6

if __name__ == "__main__":
    main()
