"""How samplers that learn begin, and what is left in the end.

One rule: what is tried is known by its point in the unit cube.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from raysweep.core.samplers.sobol import sobol_point
from raysweep.core.space import Choice, Space, Value

MIDDLING = 3.0  # both parameters of the beta distribution that the first trials' numbers have


def first(space: Space, trial: int, seed: int) -> dict[str, Value]:
    """The parameters of one of the first trials, before there is anything to learn from.

    They follow a Sobol sequence, with numbers denser towards the middle: who writes a range puts
    what is plausible in there, and leaves room on both sides. Trial 0 is the middle itself.
    """
    from scipy.special import betaincinv  # noqa: PLC0415  (half a second, for who learns only)

    point = sobol_point(len(space.dimensions), seed, trial)
    numbers = betaincinv(MIDDLING, MIDDLING, point) if trial else 0.5
    is_choice = [isinstance(dimension.expression, Choice) for dimension in space.dimensions]
    return space.from_unit(np.where(is_choice, point, numbers))


def untried(space: Space, tried: Collection[bytes]) -> dict[str, Value] | None:
    """The first combination of a finite space whose point is none of those; None if all are tried."""
    combinations = map(space.at, range(space.size or 0))
    return next((at for at in combinations if space.to_unit(at).tobytes() not in tried), None)
