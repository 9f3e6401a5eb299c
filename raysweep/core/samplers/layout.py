"""How a model sees the unit cube of a space, many points at once.

One rule: a number is one column, a choice a column for each option; where inactive, a number is in
the middle and a choice all 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysweep.core.space import INACTIVE, Choice, Expression, Space

Array = npt.NDArray[np.float64]

MOST_COUNTED = 4_096  # values of a parameter that are looked up in a table
MOVED = 0.3  # share of the coordinates that a step moves
LEAST_UNIT, MOST_UNIT = 2.0**-40, 1 - 2.0**-40
TAIL = 1e-3  # of a distribution without bounds, on each side: no model tells what lies out there


class Layout:
    """The columns of a space.

    Attributes:
        size: how many dimensions the cube has.
        is_choice: which of them are choices, shape (size,).
        groups: which dimension each column belongs to, shape (columns,).
    """

    def __init__(self, space: Space) -> None:
        self._dimensions = space.dimensions
        self.size = len(space.dimensions)
        self.is_choice = np.array([isinstance(d.expression, Choice) for d in space.dimensions])
        widths = [each.expression.width for each in space.dimensions]
        self.groups = np.repeat(np.arange(self.size), widths)
        tails = np.array([d.expression.has_tails for d in space.dimensions], dtype=bool)
        self._least = np.where(tails, TAIL, LEAST_UNIT)
        self._most = np.where(tails, 1 - TAIL, MOST_UNIT)
        self._centres = [centres_of(d.expression, MOST_COUNTED) for d in space.dimensions]

    def snapped(self, points: Array) -> Array:
        """Points moved to the nearest that stand for a value, and out of the tails."""
        points = np.clip(points, self._least, self._most)
        for index, centres in enumerate(self._centres):
            if centres is not None:
                between = (centres[1:] + centres[:-1]) / 2
                points[:, index] = centres[np.searchsorted(between, points[:, index])]
        return points

    def around(
        self, centres: Array, width: float, count: int, random: np.random.Generator
    ) -> Array:
        """Points near the centres: some coordinates moved a little, options drawn anew.

        What would leave the cube comes back from its face: else many would be the face itself.
        """
        points = centres[random.integers(len(centres), size=count)].copy()
        fresh = random.random(points.shape)
        points = np.where(np.isnan(points), fresh, points)
        moves = random.random(points.shape) < max(MOVED, 1 / self.size)
        moves[np.arange(count), random.integers(self.size, size=count)] = True
        steps = points + width * random.standard_normal(points.shape)
        steps = self._least + np.abs(steps - self._least)
        steps = self._most - np.abs(self._most - steps)
        return self.snapped(np.where(moves, np.where(self.is_choice, fresh, steps), points))

    def encoded(self, points: Array) -> Array:
        """Points as `Space.encode` lays them out, shape (points, columns)."""
        columns: list[npt.NDArray[np.float64]] = []
        options: list[npt.NDArray[np.int64]] = []
        there: list[npt.NDArray[np.bool_]] = []
        for index, dimension in enumerate(self._dimensions):
            u = points[:, index]
            active = ~np.isnan(u)
            if dimension.parent is not None:
                parent, option = dimension.parent
                active = active & there[parent] & (options[parent] == option)
            expression = dimension.expression
            there.append(active)
            if isinstance(expression, Choice):
                count = len(expression.values)
                drawn = np.minimum(np.nan_to_num(u) * count, count - 1).astype(np.int64)
                options.append(drawn)
                columns += [(active & (drawn == option)).astype(float) for option in range(count)]
            else:
                options.append(np.zeros(len(u), dtype=np.int64))
                columns.append(np.where(active, np.nan_to_num(u), INACTIVE))
        return np.array(columns).T.reshape(len(points), len(self.groups))


def centres_of(expression: Expression, most: int) -> Array | None:
    """The coordinates of an expression's values, in rising order, if they are at most so many."""
    if isinstance(expression, Choice):
        return np.array([expression.unit_of(option) for option in range(len(expression.values))])
    if expression.size is None or expression.size > most:
        return None
    return np.array([expression.to_unit(expression.at(index)) for index in range(expression.size)])
