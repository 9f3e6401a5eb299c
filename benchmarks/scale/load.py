"""How busy so many slots keep a controller, each with a trial that reports once a second.

One rule: slots speak as they do on Ray, a tick after they have something to say and at once when a place
is free; how long a tick is follows from the number of slots.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from record import QUICK
from trials import Learning
from world import World

from raysweep.runtime import pace

SLOTS = (16, 100, 1_000) if QUICK else (16, 100, 1_000, 10_000)
REPORTS = 60  # of a trial, the mean: a minute
METRICS = 8
WARM = 30.0  # virtual seconds
REQUESTS = 1_000 if QUICK else 5_000  # measured, at least


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a controller of so many slots has to do."""

    slots: int
    tick: float  # seconds
    calls: float  # of `exchange`, a second
    reports: float  # a second
    call: float  # microseconds of the loop that one call takes
    commit: float  # microseconds of the writing thread, for a commit a call: on Ray many share one
    request: float  # bytes
    journal: float  # bytes a report

    def busy(self, ray: float) -> float:
        """The share of a core that its process takes, with so many microseconds a call for Ray."""
        return self.calls * (self.call + self.commit + ray) / 1e6


def load(policy: str, slots: int) -> Load:
    """Measure it, in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as process:
        return process.submit(loaded, policy, slots).result()


def loaded(policy: str, slots: int) -> Load:
    """Measure it."""
    trial = Learning(reports=REPORTS, metrics=METRICS, seconds=1.0, fixed=False)
    tick = pace.tick(slots)
    lasts = max(2 * tick, REQUESTS / min(slots, 1 / tick * slots))
    with tempfile.TemporaryDirectory(prefix="raysweep-", dir="/var/tmp") as folder:
        world = World(policy, trial, slots=slots, folder=Path(folder))
        world.run(lambda: world.now >= WARM)
        before = world.reading()
        world.run(lambda: world.now >= WARM + lasts)
        took = world.reading().since(before)
    return Load(
        slots=slots,
        tick=tick,
        calls=took.exchanges / took.time,
        reports=took.reports / took.time,
        call=took.controller / took.exchanges / 1e3,
        commit=took.commits / took.exchanges / 1e3,
        request=took.requests / took.exchanges,
        journal=took.journal / took.reports,
    )
