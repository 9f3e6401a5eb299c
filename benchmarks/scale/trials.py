"""The trials that are played: learning curves without a model.

One rule: all of a trial follows from its seed, so that every policy sees the same trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from raysweep.core.events import Params
from raysweep.runtime.local_slot import Step


class Learning:
    """Trials whose accuracy climbs from nothing to somewhere between a half and one."""

    def __init__(self, *, reports: int, metrics: int, seconds: float, fixed: bool) -> None:
        """Say how they are.

        Args:
            reports: of a trial; the mean, unless it is fixed.
            metrics: of a report.
            seconds: from one report to the next, more or less.
            fixed: whether all are of one length; otherwise a trial may end after any report.
        """
        self.seconds = seconds
        self._reports = reports
        self._fixed = fixed
        self._others = {f"metric_{number}": float(number) for number in range(1, metrics)}

    def __call__(self, params: Params, seed: int, start: int) -> Iterator[Step]:
        """Play one."""
        del params
        chance = seed % 1_000_003 / 1_000_003
        length = self._reports if self._fixed else 1 + int(-self._reports * math.log(1 - chance))
        highest = 0.5 + 0.5 * (seed % 10_007 / 10_007)
        seconds = self.seconds * (0.75 + seed % 101 / 200)
        for report in range(start + 1, length + 1):
            accuracy = highest * (1 - math.exp(-report / 1.5))
            yield Step(seconds=seconds, metrics={"accuracy": accuracy, **self._others})
