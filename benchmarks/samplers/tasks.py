"""Tasks: what a sampler is to find the best parameters of, and how well it did.

One rule: a reading is what a trial would have reported, noise and all; the truth is what the
configuration is worth over all repetitions that are known. Samplers see readings only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import raysweep as rs

Params = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one trial finds."""

    value: float  # what it reports; lower is better in every task
    seconds: float  # how long it takes, as recorded or modelled


@dataclass(frozen=True, kw_only=True)
class Task:
    """A function of parameters, with its best value known.

    Args:
        read: (params, repetition) -> what a trial of this number of a run finds.
        truth: params -> what they are worth, without noise.
        best: the least truth there is.
        usual: the truth of an ordinary configuration: the median over the space.
        decades: 0 where what is left of the way to the best counts as it is; n where each tenth of
            it counts alike, down to 10**-n of the way.
    """

    name: str
    family: str
    space: rs.Space
    read: Callable[[Params, np.random.Generator], Reading]
    truth: Callable[[Params], float]
    best: float
    usual: float
    decades: int = 0

    def regret(self, params: Params) -> float:
        """0 for the best there is, 1 for an ordinary configuration or worse."""
        return self.regret_of(self.truth(params))

    def regret_of(self, truth: float) -> float:
        """The same of a configuration that is worth so much."""
        share = (truth - self.best) / (self.usual - self.best)
        if not np.isfinite(share):
            return 1.0
        if self.decades:
            share = 1 + np.log10(max(share, 10.0**-self.decades)) / self.decades
        return float(min(max(share, 0.0), 1.0))
