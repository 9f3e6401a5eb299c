"""What a report costs a controller as its sweep grows.

One rule: each size is measured in turns with a sweep of a thousand trials, a stretch of each at a time, in
two processes; so whatever else slows the machine down slows both, and a ratio is of one moment. Between
the stretches the sweep grows through the same controller and journal, only in larger requests.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from memory import used
from record import QUICK
from stopwatch import GARBAGE
from trials import Learning
from world import Reading, World

from raysweep.runtime import status

SMALL = 1_000  # trials
SIZES = (10_000,) if QUICK else (10_000, 100_000, 1_000_000)
ROUNDS = 3 if QUICK else 11
STRETCH = 400  # trials
WARM = 400  # trials before a stretch: those that wait are then as many as ever
SLOTS = 100
REPORTS, METRICS = 10, 4  # of a trial, of a report
SECONDS = 0.04  # from report to report: about four in a request


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What some trials took."""

    report: float  # microseconds of the controller's loop a report
    commit: float  # microseconds of its writing thread a request


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What growing to a size took, and what it is like there."""

    ended: int  # trials
    memory: int  # bytes that the process has in use, the played slots included
    journal: int  # bytes
    reports: int
    in_bulk: float  # microseconds of the loop a report, a thousand in a request
    garbage: float  # microseconds a report, looking for garbage among all that lives
    longest: float  # milliseconds, the longest of these looks
    status: float  # milliseconds that it takes to say where the sweep stands


@dataclass(frozen=True, kw_only=True)
class Size:
    """A sweep of some size beside a small one, a stretch of each a round."""

    grown: Grown
    large: list[Stretch]
    small: list[Stretch]

    @property
    def ratios(self) -> list[float]:
        """What a report costs in the large sweep to what it costs in the small one."""
        pairs = zip(self.large, self.small, strict=True)
        return [large.report / small.report for large, small in pairs]

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)


def sizes(policy: str, folder: Path) -> Iterator[Size]:
    """A sweep under this policy as it grows."""
    with _process() as large, _process() as small:
        for size in SIZES:
            grown = large.submit(grow, policy, folder, size).result()
            pairs = [
                (large.submit(stretch).result(), small.submit(anew, policy, folder).result())
                for _ in range(ROUNDS)
            ]
            yield Size(
                grown=grown, large=[one for one, _ in pairs], small=[one for _, one in pairs]
            )


@contextmanager
def _process() -> Iterator[Executor]:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        yield process


# --- in a process of its own ----------------------------------------------------------------------


class Sweep:
    """The one that this process holds."""

    def __init__(self, policy: str, folder: Path) -> None:
        self.trial = Learning(reports=REPORTS, metrics=METRICS, seconds=SECONDS, fixed=True)
        place = Path(tempfile.mkdtemp(dir=folder))
        self.world = World(policy, self.trial, slots=SLOTS, folder=place)


_held: list[Sweep] = []


def grow(policy: str, folder: Path, size: int) -> Grown:
    """Let the sweep grow, from nothing at first."""
    if not _held:
        _held.append(Sweep(policy, folder))
    world = _held[0].world
    before = world.reading()
    world.grow_to(size)
    grew = world.reading().since(before)
    return Grown(
        ended=world.ended,
        memory=used(),
        journal=world.reading().journal,
        reports=world.reading().reports,
        in_bulk=grew.controller / grew.reports / 1e3,
        garbage=grew.collections / grew.reports / 1e3,
        longest=GARBAGE.longest / 1e6,
        status=_said(world),
    )


def stretch() -> Stretch:
    """Let some more trials run."""
    world = _held[0].world
    world.run_for(WARM)
    took: Reading = world.run_for(STRETCH)
    return Stretch(
        report=took.controller / took.reports / 1e3, commit=took.commits / took.exchanges / 1e3
    )


def anew(policy: str, folder: Path) -> Stretch:
    """Let some trials of a new small sweep run."""
    if _held:
        _held.pop().world.close()
        gc.unfreeze()
    gc.collect()
    grow(policy, folder, SMALL)
    return stretch()


def _said(world: World) -> float:
    """Milliseconds of CPU time until it is said where the sweep stands."""
    began = time.thread_time()
    status.describe(
        world.state, now=world.now, slots=SLOTS, paused="", finished=False, log=[], logged=0
    )
    return 1e3 * (time.thread_time() - began)
