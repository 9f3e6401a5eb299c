"""What a sampler is, what it is shown, and where its randomness comes from.

One rule: random numbers derive from the seed and the trial's number, never from a shared
generator, so that the order of asking changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from raysweep.core import checks
from raysweep.core.space import Space, Value

# Each use of (seed, trial) has a stream of its own: one tells nothing about another.
_POINT, _TRIAL = 0, 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What is known of one trial when another is proposed."""

    trial: int  # below 0: of an earlier sweep, whose results this one begins with
    params: Mapping[str, Value]
    score: float | None = None  # its best finite counted value, turned so that greater is better
    pending: bool = False  # whether the trial may still report
    stopped: bool = False  # whether the policy, or the end of its sweep, cut it short
    curve: Sequence[float] = ()  # its value at each interval, turned the same way; not all finite

    def __post_init__(self) -> None:
        checks.whole("trial", self.trial)
        if self.score is not None:
            checks.number("score", self.score)


class Sampler(Protocol):
    """Proposes parameter values; frozen, so that a proposal depends on its arguments alone."""

    kind: ClassVar[str]  # the name in a spec: "random", "sobol", ...
    learns: ClassVar[bool]  # whether proposals depend on what is known

    @property
    def seed(self) -> int | None:
        """What the user asked for; None: the sweep draws one and hands it to `propose`."""

    def check(self, space: Space) -> None:
        """Raise a `SpecError`, before anything starts, if this space cannot be sampled."""

    def size(self, space: Space) -> int | None:
        """How many proposals there are; None if they have no end."""

    def propose(
        self, space: Space, known: Sequence[Observation], trial: int, seed: int
    ) -> dict[str, Value] | None:
        """The parameters of the trial of this number; None past the last.

        Args:
            space: A space that passed `check`.
            known: The trials so far; read only by a sampler that learns. One that waits may be
                proposed anew: then it is not among them.
            trial: The trial's number, 0, 1, 2, ...
            seed: The sweep's seed, at least 0: `self.seed`, or what was drawn in its place.
        """


def point_generator(seed: int, trial: int) -> np.random.Generator:
    """The generator from which a trial's point is drawn."""
    return np.random.Generator(np.random.PCG64(_entropy(seed, _POINT, trial)))


def trial_seed(seed: int, trial: int) -> int:
    """The seed a trial is handed, from 0 to 2**32 - 1: what numpy and torch both take."""
    return int(_entropy(seed, _TRIAL, trial).generate_state(1)[0])


def check_seed(seed: int | None) -> None:
    """Refuse what is neither None nor a whole number of at least 0."""
    if seed is not None:
        checks.whole("seed", seed, at_least=0)


def _entropy(seed: int, use: int, trial: int) -> np.random.SeedSequence:
    checks.whole("seed", seed, at_least=0)
    checks.whole("trial", trial, at_least=0)
    return np.random.SeedSequence(seed, spawn_key=(use, trial))
