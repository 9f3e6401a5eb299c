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
    """

    name: str
    family: str
    space: rs.Space
    read: Callable[[Params, np.random.Generator], Reading]
    truth: Callable[[Params], float]
    best: float
    usual: float

    def regret(self, params: Params) -> float:
        """0 for the best there is, 1 for an ordinary configuration or worse."""
        share = (self.truth(params) - self.best) / (self.usual - self.best)
        return float(min(max(share, 0.0), 1.0)) if np.isfinite(share) else 1.0
