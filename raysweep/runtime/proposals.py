"""Asking the sampler for trials.

One rule: a draw depends on the spec, what is known and the trials' numbers alone, so it may be made
beside the controller's loop, on any thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from raysweep.core.events import Params
from raysweep.core.samplers import Observation
from raysweep.core.spec import SweepSpec


def draw(spec: SweepSpec, known: Sequence[Observation], numbers: range) -> list[Params]:
    """The parameters of the trials of these numbers; fewer when the sampler runs out."""
    drawn: list[Params] = []
    known = list(known)
    for number in numbers:
        params = spec.sampler.propose(spec.space, known, number, spec.seed)
        if params is None:
            break
        drawn.append(params)
        known.append(Observation(trial=number, params=params, pending=True))
    return drawn
