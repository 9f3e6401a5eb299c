"""The least that an actor costs: one that does nothing.

One rule: it is warm when it is timed.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import ray

CALLS = 300  # the first tenth of them warms it up


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
