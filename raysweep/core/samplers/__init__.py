"""Samplers: each proposes parameters from a space, what is known, a trial's number and a seed."""

from __future__ import annotations

from collections.abc import Mapping

from raysweep.core.samplers.bayesian import Bayesian
from raysweep.core.samplers.grid import Grid
from raysweep.core.samplers.random import Random
from raysweep.core.samplers.sampler import Observation, Sampler, trial_seed
from raysweep.core.samplers.sobol import Sobol

__all__ = [
    "SAMPLERS",
    "Bayesian",
    "Grid",
    "Observation",
    "Random",
    "Sampler",
    "Sobol",
    "trial_seed",
]

SAMPLERS: Mapping[str, type[Sampler]] = {
    sampler.kind: sampler for sampler in (Grid, Random, Sobol, Bayesian)
}
