"""How samplers that learn begin, and what is left in the end.

One rule: what is tried is known by its point in the unit cube.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt

from raysweep.core.samplers.sobol import sobol_point
from raysweep.core.space import Choice, Space, Value

# Both parameters of the beta distribution that the first trials' numbers have: 1 is even. The very
# first, which a model learns from, lie well inside; what runs beside them, further out.
INSIDE, FURTHER_OUT = 3.0, 1.5
MOST_INSIDE = 4  # trials


def first(space: Space, trial: int, seed: int) -> dict[str, Value]:
    """The parameters of one of the first trials, before there is anything to learn from.

    They follow a Sobol sequence, with numbers denser towards the middle: who writes a range puts
    what is plausible in there, and leaves room on both sides. Trial 0 is the middle itself.
    """
    from scipy.special import betaincinv  # noqa: PLC0415  (half a second, for who learns only)

    point = sobol_point(len(space.dimensions), seed, trial)
    shape = INSIDE if trial < MOST_INSIDE else FURTHER_OUT
    numbers = betaincinv(shape, shape, point) if trial else 0.5
    is_choice = [isinstance(dimension.expression, Choice) for dimension in space.dimensions]
    return space.from_unit(np.where(is_choice, point, numbers))


def untried(
    space: Space, tried: Collection[bytes], candidates: Iterable[npt.NDArray[np.float64]]
) -> dict[str, Value] | None:
    """The parameters of the first candidate that has not been tried.

    Where all have been, those of the first combination of a finite space that is left, if one is; of
    an endless space, in which nothing else is likely, the first candidate's once more.
    """
    likeliest: dict[str, Value] | None = None
    for candidate in candidates:
        params = space.from_unit(np.nan_to_num(candidate, nan=0.5))
        # Its own point, not the candidate: beside it by a rounding, or another way to write it.
        if space.to_unit(params).tobytes() not in tried:
            return params
        likeliest = likeliest or params
    if space.size is None:
        return likeliest
    combinations = map(space.at, range(space.size))
    return next((at for at in combinations if space.to_unit(at).tobytes() not in tried), None)
