"""Samplers: each proposes parameters from a space, what is known, a trial's number and a seed."""

from __future__ import annotations

from collections.abc import Mapping

from raysweep.core.samplers.auto import Auto, settled
from raysweep.core.samplers.bayesian import Bayesian
from raysweep.core.samplers.grid import Grid
from raysweep.core.samplers.random import Random
from raysweep.core.samplers.sampler import Observation, Sampler, trial_seed
from raysweep.core.samplers.sobol import Sobol
from raysweep.core.samplers.tpe import Tpe

__all__ = [
    "SAMPLERS",
    "Auto",
    "Bayesian",
    "Grid",
    "Observation",
    "Random",
    "Sampler",
    "Sobol",
    "Tpe",
    "settled",
    "trial_seed",
]

SAMPLERS: Mapping[str, type[Sampler]] = {
    sampler.kind: sampler for sampler in (Grid, Random, Sobol, Bayesian, Tpe, Auto)
}
