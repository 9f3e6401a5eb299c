"""Where the known trials lie in the unit cube, for those that learn.

One rule: a trial is placed once. A sampler is shown all trials at every proposal, and to place ten
thousand anew takes longer than all else that it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from raysweep.core.samplers.sampler import Observation
from raysweep.core.space import Space, Value

MOST_SPACES = 8  # whose trials are remembered at a time
MOST_KEPT = 65_536  # trials of a space that are remembered, unless more are shown at once

_Array = npt.NDArray[np.float64]


def units(space: Space, observations: Sequence[Observation]) -> _Array:
    """Where trials lie, shape (trials, dimensions); NaN where inactive.

    Parameters are known again by identity, so they must not be changed once they were shown. May
    be called from several threads at once.

    Raises:
        SpecError: Some parameters are none of the space's.
    """
    if not observations:
        return np.empty((0, len(space.dimensions)))
    return _places(space).rows(observations)


class _Places:
    """The rows of one space's trials. Each step on the dictionary is whole, so none is locked."""

    def __init__(self, space: Space) -> None:
        self._space = space
        # By id; holding the parameters keeps their id from passing to others.
        self._kept: dict[int, tuple[Mapping[str, Value], _Array]] = {}

    def rows(self, observations: Sequence[Observation]) -> _Array:
        if len(self._kept) > max(MOST_KEPT, 2 * len(observations)):
            self._kept = {}
        kept = self._kept
        found = [kept.get(id(each.params)) for each in observations]
        rows = [
            self._placed(kept, each.params) if row is None else row[1]
            for each, row in zip(observations, found, strict=True)
        ]
        return np.concatenate(rows).reshape(len(rows), -1)

    def _placed(
        self, kept: dict[int, tuple[Mapping[str, Value], _Array]], params: Mapping[str, Value]
    ) -> _Array:
        row = self._space.to_unit(params)
        row.setflags(write=False)
        kept[id(params)] = params, row
        return row


@lru_cache(maxsize=MOST_SPACES)
def _places(space: Space) -> _Places:
    return _Places(space)
