"""A controller that is killed every few seconds: whether a long sweep ends, and as fast as it began.

One rule: what a killed controller costs must not grow with what lies behind the sweep. So the sweep
is cut into fifths by its ended trials, and the last is held against the first: trials ended a
second, and the time from a kill to the first answer of the next controller.

    make chaos-controller            some minutes
    make chaos-controller QUICK=1    one minute
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import processes
import ray
from record import RESULTS, written
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import raysweep as rs
from raysweep.core.events import Exchanged
from raysweep.result import Result, load_result
from raysweep.runtime.client import Client, connect
from raysweep.runtime.status import Status
from raysweep.storage import journal

TRIALS, QUICK = 2_000, 400
SLOTS = 4
REPORTS = 3  # of a trial
SLEEP = 0.1  # seconds before each
EVERY = 5.0  # seconds between two kills
LOOK = 0.02  # seconds between looks while no controller answers
PATIENCE = 1_800.0  # seconds that the whole sweep may take
PARTS = 5
SLOWEST = 0.8  # of the first fifth's trials a second, at least, in the last
LONGEST = 1.25  # of the first fifth's seconds to an answer, at most, in the last


@dataclass(kw_only=True)
class Seen:
    """What was seen of the sweep from outside."""

    ended: list[tuple[float, int]] = field(default_factory=list)  # when, and how many trials had
    answers: list[tuple[int, float]] = field(
        default_factory=list
    )  # trials ended; seconds to answer

    def part(self, ended: int, trials: int) -> int:
        """The fifth that a number of ended trials lies in: 0, 1, ..."""
        return min(PARTS - 1, ended * PARTS // trials)

    def rates(self, trials: int) -> list[float]:
        """Trials ended a second, in each fifth."""
        marks = [next(time for time, ended in self.ended if ended >= trials * part // PARTS)
                 for part in range(PARTS + 1)]  # fmt: skip
        return [trials / PARTS / (end - start) for start, end in pairwise(marks)]

    def waits(self, trials: int) -> list[float]:
        """Seconds from a kill to the next answer, the median of each fifth."""
        parts: list[list[float]] = [[] for _ in range(PARTS)]
        for ended, seconds in self.answers:
            parts[self.part(ended, trials)].append(seconds)
        return [statistics.median(part) if part else float("nan") for part in parts]


def train(trial: Any) -> None:  # noqa: ANN401  (the trial; light, so that the controller is what counts)
    """Report a few times."""
    for report in range(1, REPORTS + 1):
        time.sleep(SLEEP)
        trial.report(score=trial.params["x"] * report)


def swept(trials: int, storage: Path) -> rs.Sweep:
    """The sweep."""
    return rs.Sweep(
        train,
        space={"x": rs.uniform(0.0, 1.0)},
        objective=rs.maximize("score"),
        sampler=rs.Random(seed=5),
        limits=rs.Limits(max_total_trials=trials, max_concurrent_trials=SLOTS),
        name="kills",
        storage=str(storage),
        isolation="none",
    )


def broken(sweep: rs.Sweep, mark: str, progress: Progress) -> Seen:
    """Run a sweep and kill its controller every few seconds; what was seen meanwhile."""
    client, seen = Client.launch(sweep.create()), Seen()
    bar = progress.add_task("trials", total=sweep.spec.total_trials)
    began = time.monotonic()
    next_kill, killed, ended = began + EVERY, None, 0
    while time.monotonic() - began < PATIENCE:
        status = asked(client)
        now = time.monotonic()
        if status is None:
            time.sleep(LOOK)
            continue
        if killed is not None:
            seen.answers.append((ended, now - killed))
            killed = None
        ended = status.ended
        seen.ended.append((now, ended))
        progress.update(bar, completed=ended)
        if status.over and status.finished:
            client.release()
            return seen
        if now >= next_kill and not status.over:
            killed, next_kill = kill(mark), now + EVERY
        time.sleep(LOOK)
    raise SystemExit(f"the sweep did not end within {PATIENCE:g} s")


def asked(client: Client) -> Status | None:
    """The status; None while there is no controller to give it."""
    try:
        return client.status()
    except ray.exceptions.RayActorError:  # killed while it answered
        return None


def kill(mark: str) -> float:
    """Kill the controller; when that was."""
    for controller in processes.of_sweeps(mark, "controller"):
        processes.kill(controller.pid)
    return time.monotonic()


def problems(result: Result) -> list[str]:
    """What is not as it would be without kills: each trial once, whole, in one attempt."""
    reports = Counter(
        (*block.id, number)
        for record in journal.read(result.folder.journal)
        if isinstance(record.event, Exchanged)
        for block in record.event.reports
        for number in range(block.first, block.last + 1)
    )
    wanted = Counter((trial.number, 1, number) for trial in result.trials
                     for number in range(1, REPORTS + 1))  # fmt: skip
    whole = [trial for trial in result.trials if trial.state == "completed"
             and trial.curve == [trial.params["x"] * n for n in range(1, REPORTS + 1)]]  # fmt: skip
    total = result.state.spec.total_trials
    found = []
    if len(whole) != total:
        found.append(f"{len(whole)} of {total} trials are completed with all their values")
    if lost := wanted - reports:
        found.append(f"{lost.total()} reports are lost: {list(lost)[:3]}")
    if twice := reports - wanted:
        found.append(f"{twice.total()} reports are there twice or again: {list(twice)[:3]}")
    return found


def rows(seen: Seen, trials: int) -> list[dict[str, Any]]:
    """What is written down: by fifths, and the last against the first."""
    rates, waits = seen.rates(trials), seen.waits(trials)
    return [
        _row("trials ended a second", rates, hold=SLOWEST, holds=rates[-1] >= SLOWEST * rates[0]),
        _row("seconds from kill to answer", waits, hold=LONGEST,
             holds=waits[-1] <= LONGEST * waits[0]),
    ]  # fmt: skip


def _row(what: str, parts: Sequence[float], *, hold: float, holds: bool) -> dict[str, Any]:
    rounded = [round(part, 2) for part in parts]
    ratio = round(parts[-1] / parts[0], 2)
    return {"what": what, "fifths": rounded, "ratio": ratio, "hold": hold, "holds": holds}


def shown(found: Sequence[dict[str, Any]]) -> Table:
    """The rows as a table."""
    numbers = [f"fifth {part}" for part in range(1, PARTS + 1)]
    table = Table("what", *numbers, "last / first", "hold", "holds")
    for row in found:
        cells = [*row["fifths"], row["ratio"], row["hold"], row["holds"]]
        table.add_row(row["what"], *map(str, cells))
    return table


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the page that Ray writes to a driver's stderr about each actor that was killed."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def main() -> None:
    """Kill, count, show, write down."""
    trials = QUICK if os.environ.get("QUICK") else TRIALS
    work = Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp"))
    mark = processes.new_mark()
    os.environ.update(RAY_TMPDIR=str(work), HOME=str(work))
    os.environ.pop("RAY_ADDRESS", None)
    try:
        connect(None, num_cpus=SLOTS, object_store_memory=80 * 1024 * 1024)
        with _quiet(), Progress(redirect_stderr=False) as progress:
            seen = broken(swept(trials, work / "storage"), mark, progress)
        result = load_result("kills", str(work / "storage"))
        wrong, found = problems(result), rows(seen, trials)
    finally:
        ray.shutdown()
        processes.kill_marked(mark)
        shutil.rmtree(work, ignore_errors=True)
    Console(width=140).print(shown(found))
    print(f"{trials} trials, {len(seen.answers)} kills, {len(wrong)} problems")
    for problem in wrong:
        print(f"PROBLEM {problem}")
    written(
        RESULTS / "chaos-controller.json",
        found,
        trials=trials,
        kills=len(seen.answers),
        problems=wrong,
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
