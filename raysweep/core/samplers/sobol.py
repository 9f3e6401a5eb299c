"""Sobol sampling: scrambled points that fill the unit cube more evenly than random ones.

The points are scipy's (Joe and Kuo's direction numbers; Matousek's linear scrambling with a
digital shift), made in blocks: any trial's point costs at most one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from raysweep.core import checks
from raysweep.core.samplers.sampler import Observation, check_seed, point_generator
from raysweep.core.space import Space, Value
from raysweep.errors import SpecError

# The direction numbers that scipy carries: S. Joe and F. Y. Kuo, "Constructing Sobol sequences
# with better two-dimensional projections", SIAM J. Sci. Comput. 30 (2008).
MOST_DIMENSIONS = 21_201

# Points are multiples of 2**-30, 0 included; the middle of each cell lies in the open cube.
_HALF_CELL = 2.0**-31

_BLOCK = 256  # a power of two keeps scipy's points balanced
_BLOCKS_KEPT = 8  # asking in order needs one; a few more serve retries and several sweeps


@dataclass(frozen=True, kw_only=True)
class Sobol:
    """A scrambled Sobol sequence; trial t is its t-th point. Takes up to 21,201 dimensions."""

    kind: ClassVar[str] = "sobol"
    learns: ClassVar[bool] = False

    seed: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def check(self, space: Space) -> None:
        """Refuse a space of more dimensions than there are direction numbers."""
        if len(space.dimensions) > MOST_DIMENSIONS:
            raise SpecError(
                f"sobol sampling takes at most {MOST_DIMENSIONS} dimensions,"
                f" but the space has {len(space.dimensions)}; use random sampling"
            )

    def size(self, space: Space) -> None:  # noqa: ARG002  (the protocol's signature)
        """The sequence outlasts any sweep: 2**30 points."""
        return

    def propose(
        self,
        space: Space,
        known: Sequence[Observation],  # noqa: ARG002  (it does not learn)
        trial: int,
        seed: int,
    ) -> dict[str, Value]:
        """The parameters at the trial-th point of the sequence that `seed` scrambles."""
        return space.from_unit(sobol_point(len(space.dimensions), seed, trial))


def sobol_point(dimensions: int, seed: int, trial: int) -> npt.NDArray[np.float64]:
    """The trial-th point of the sequence that `seed` scrambles, strictly inside the unit cube."""
    checks.whole("trial", trial, at_least=0)
    block, row = divmod(trial, _BLOCK)
    point: npt.NDArray[np.float64] = _points(dimensions, seed, block)[row]
    return point


@lru_cache(maxsize=_BLOCKS_KEPT)
def _points(dimensions: int, seed: int, block: int) -> npt.NDArray[np.float64]:
    """The points of one block, shape (_BLOCK, dimensions), strictly inside the unit cube."""
    # Importing scipy.stats takes most of a second: only a sweep that draws from it pays.
    from scipy.stats import qmc  # noqa: PLC0415  (as said above)

    sequence = qmc.Sobol(dimensions, scramble=True, rng=point_generator(seed, 0))
    if block > 0:
        sequence.fast_forward(block * _BLOCK)
    points: npt.NDArray[np.float64] = sequence.random(_BLOCK) + _HALF_CELL
    points.setflags(write=False)
    return points
