"""Samplers: each proposes parameters from a space, what is known, a trial's number and a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from raysweep.core import checks
from raysweep.core.samplers.auto import Auto, settled
from raysweep.core.samplers.bayesian import Bayesian
from raysweep.core.samplers.grid import Grid
from raysweep.core.samplers.optuna import Optuna
from raysweep.core.samplers.random import Random
from raysweep.core.samplers.sampler import Observation, Sampler, trial_seed
from raysweep.core.samplers.sobol import Sobol
from raysweep.core.samplers.tpe import Tpe
from raysweep.errors import SpecError

__all__ = [
    "SAMPLERS",
    "Auto",
    "Bayesian",
    "Grid",
    "Observation",
    "Optuna",
    "Random",
    "Sampler",
    "Sobol",
    "Tpe",
    "named",
    "seeded",
    "settled",
    "trial_seed",
]

SAMPLERS: Mapping[str, type[Sampler]] = {
    sampler.kind: sampler for sampler in (Grid, Random, Sobol, Bayesian, Tpe, Auto, Optuna)
}


def named(name: str, seed: int | None = None) -> Sampler:
    """The sampler that a word stands for: `sobol`, `optuna:CmaEsSampler`.

    Args:
        name: a key of `SAMPLERS`; after `optuna:` the name of a class in `optuna.samplers`.
        seed: of a sampler that takes one.

    Raises:
        SpecError: there is no such sampler.

    >>> named("sobol", seed=7), named("optuna:GPSampler")
    (Sobol(seed=7), Optuna(sampler='GPSampler', options={}, seed=None))
    """
    kind, colon, inner = checks.text("sampler", name).partition(":")
    if kind not in SAMPLERS:
        known = [*SAMPLERS]
        shown = ", ".join([*known, f"{Optuna.kind}:<Sampler>"])
        near = checks.did_you_mean(kind, known)
        raise SpecError(f"sampler must be one of {shown}, but got {name!r}{near}")
    if colon and kind != Optuna.kind:
        raise SpecError(f"sampler {kind} takes nothing after a colon, but got {name!r}")
    make: Any = SAMPLERS[kind]  # no two take the same arguments
    return seeded(Optuna(inner) if colon else make(), seed)


def seeded(sampler: Sampler, seed: int | None) -> Sampler:
    """The sampler with this seed, if it takes one and has none of its own."""
    made: Any = sampler
    takes = any(field.name == "seed" for field in dataclasses.fields(made))
    if seed is None or not takes or sampler.seed is not None:
        return sampler
    again: Sampler = dataclasses.replace(made, seed=seed)
    return again
