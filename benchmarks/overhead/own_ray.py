"""A Ray of one's own: started for one measurement, gone after it.

One rule: both sides get the same, with so many CPUs by name as trials are to run at once, in a folder of
its own that is removed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from gauges import workers

OBJECT_STORE = 100 * 2**20  # bytes
NAMESPACE = "raysweep"
PATIENCE = 300  # seconds until the workers must have started
CALLS = 300  # of a bare actor, to know what one takes


@contextlib.contextmanager
def own_ray(slots: int, temporary: Path) -> Iterator[None]:
    """A Ray on this machine.

    Args:
        slots: CPUs that it believes to have; a worker process stands ready for each, as it does on a
            machine that has them. (Otherwise Ray starts two ahead here, and one for each real core at once.)
        temporary: its folder; sockets lie in it, so its name must be short.
    """
    os.environ |= {
        "RAY_worker_maximum_startup_concurrency": str(slots),
        "RAY_worker_register_timeout_seconds": str(
            PATIENCE
        ),  # all start at once, on few real cores
    }
    ray.init(
        address="local",
        num_cpus=slots,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace=NAMESPACE,
        object_store_memory=OBJECT_STORE,
        _temp_dir=str(temporary),
    )
    try:
        _wait_for_workers(slots)
        yield
    finally:
        ray.shutdown()


def _wait_for_workers(slots: int) -> None:
    """Return once a worker stands ready for each CPU."""
    until = time.monotonic() + PATIENCE
    while (ready := len(workers("ray::IDLE"))) < slots:
        if time.monotonic() > until:
            raise TimeoutError(f"only {ready} of {slots} workers of Ray have started")
        time.sleep(0.2)


class Idler:
    """An actor that does nothing."""

    def nothing(self) -> None:
        """Return."""


def bare_call() -> float:
    """What one call of a warm actor takes, in seconds: the median."""
    idler: Any = ray.remote(num_cpus=0)(Idler).remote()
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        ray.get(idler.nothing.remote())
        took.append(time.perf_counter() - began)
    ray.kill(idler)
    return statistics.median(took[CALLS // 10 :])
