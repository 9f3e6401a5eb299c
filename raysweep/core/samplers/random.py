"""Random sampling: every trial's point is drawn on its own, evenly over the unit cube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raysweep.core.samplers.sampler import Observation, check_seed, point_generator
from raysweep.core.space import Space, Value

# A generator answers multiples of 2**-53, and now and then 0, which the open cube leaves out.
_LEAST = 2.0**-54


@dataclass(frozen=True, kw_only=True)
class Random:
    """Independent draws; takes any space and has no end."""

    kind: ClassVar[str] = "random"
    learns: ClassVar[bool] = False

    seed: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def check(self, space: Space) -> None:
        """Every space will do."""

    def size(self, space: Space) -> None:  # noqa: ARG002  (the protocol's signature)
        """Random proposals have no end."""
        return

    def propose(
        self,
        space: Space,
        known: Sequence[Observation],  # noqa: ARG002  (it does not learn)
        trial: int,
        seed: int,
    ) -> dict[str, Value]:
        """The parameters at a point that (seed, trial) alone decides."""
        point = point_generator(seed, trial).random(len(space.dimensions))
        return space.from_unit(np.maximum(point, _LEAST))
