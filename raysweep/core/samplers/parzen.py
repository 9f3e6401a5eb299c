"""A Parzen estimator over the unit cube of a space: one joint kernel for each point it is given.

One rule: a kernel compares only what is there. Where a dimension is inactive, in the kernel's point
or in the point that is asked about, the kernel is as even as a draw from the space.

A kernel is a product over the dimensions: a normal distribution cut off at the cube's faces, its
probability in the value's cell where values can be counted, and for options a share that is spread
over all of them. Densities are relative to an even draw, so that 0 is the logarithm of knowing
nothing.

Kernels of a dimension have one width: that of D. W. Scott, Multivariate Density Estimation, 1992,
not below the share of the range that each of a few points has (the "magic clipping" of J. Bergstra
and others' code, as S. Watanabe calls it in arXiv 2304.11127), so that a few points that lie close
do not shut out all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from raysweep.core.samplers.layout import LEAST_UNIT, MOST_UNIT, Array, centres_of
from raysweep.core.space import Choice, Dimension, Space

Indices = npt.NDArray[np.int64]

MOST_CELLS = 512  # from here on a value's cell is too narrow to tell mass from density
LEAST_MASS = 1e-300  # of a cell that a kernel does not reach: its logarithm is still a number

EVEN_VARIANCE = 1 / 12  # of a draw from the unit interval
NARROWEST = 0.01  # standard deviation of a kernel, in the unit cube
NARROWEST_CELL = 0.3  # the same in widths of a cell
SMOOTHING = 1.0  # of options: how many points' worth is spread over all


@dataclass(frozen=True, kw_only=True)
class Column:
    """A dimension as kernels see it."""

    options: int  # of a choice; else 0
    edges: Array | None  # of the cells of values that can be counted and of options, from 0 to 1
    centres: Array | None  # of the same cells
    parent: tuple[int, int] | None  # as in `Dimension`

    @classmethod
    def of(cls, dimension: Dimension) -> Self:
        """The column of a dimension."""
        expression = dimension.expression
        centres = centres_of(expression, MOST_CELLS)
        return cls(
            options=len(expression.values) if isinstance(expression, Choice) else 0,
            edges=None if centres is None else _edges(centres),
            centres=centres,
            parent=dimension.parent,
        )

    def cells(self, coordinates: Array) -> Indices:
        """The number of each coordinate's cell; of what is inactive, one past the last."""
        assert self.edges is not None, "only what can be counted has cells"
        count = len(self.edges) - 1
        found = np.minimum(np.searchsorted(self.edges[1:], coordinates, side="right"), count - 1)
        return np.where(np.isnan(coordinates), count, found)


def columns_of(space: Space) -> tuple[Column, ...]:
    """The columns of a space's dimensions."""
    return tuple(Column.of(dimension) for dimension in space.dimensions)


def _edges(centres: Array) -> Array:
    """Where cells end of which only the middles are known: they follow each other without a gap."""
    edges = [0.0]
    for centre in centres:
        edges.append(max(2 * float(centre) - edges[-1], edges[-1]))
    edges[-1] = 1.0
    return np.array(edges)


class Parzen:
    """An even draw and a kernel at each of the points, all of the same weight.

    Args:
        columns: one for each dimension.
        points: shape (n, dimensions), in the unit cube; NaN where inactive.
        sharpness: by what the usual width of the kernels is divided.
    """

    def __init__(self, columns: Sequence[Column], points: Array, sharpness: float = 1.0) -> None:
        self._columns = columns
        self._points = points
        self._widths = [
            0.0 if column.options else _width(column, points[:, index], len(columns), sharpness)
            for index, column in enumerate(columns)
        ]

    def log_density(self, points: Array) -> Array:
        """The logarithm of the density at each point, relative to an even draw's."""
        total = np.zeros((len(points), len(self._points)))
        smooth = [index for index, column in enumerate(self._columns) if column.edges is None]
        if smooth:
            total += self._smooth(points, smooth)
        for index, column in enumerate(self._columns):
            if column.edges is not None:
                total += self._counted(index, column, points[:, index])
        highest = total.max(axis=1, initial=0.0)  # an even draw's is 0
        summed = np.exp(total - highest[:, None]).sum(axis=1) + np.exp(-highest)
        return np.asarray(highest + np.log(summed / (len(self._points) + 1)))

    def _smooth(self, points: Array, dimensions: list[int]) -> Array:
        """The logarithms of kernels in dimensions without cells: one product of matrices."""
        widths = np.array([self._widths[index] for index in dimensions])
        x, m = points[:, dimensions], self._points[:, dimensions]
        here, there = ~np.isnan(x), ~np.isnan(m)
        x, m = np.where(here, x, 0.0), np.where(there, m, 0.0)
        constant = -np.log(math.sqrt(2 * math.pi) * widths * _inside(m, widths))
        constant = np.where(there, constant - 0.5 * (m / widths) ** 2, 0.0)
        left = np.hstack([here, x, x * x])
        right = np.hstack([constant, m / widths**2, there * (-0.5 / widths**2)])
        return np.asarray(left @ right.T)

    def _counted(self, index: int, column: Column, coordinates: Array) -> Array:
        """The logarithms of kernels in a dimension with cells."""
        cells, kernels = column.cells(coordinates), column.cells(self._points[:, index])
        if column.options:
            own, each = self._shares(column.options)
            inactive = (cells == column.options)[:, None] | (kernels == column.options)
            share = np.where(cells[:, None] == kernels, own + each, each)
            return np.where(inactive, 0.0, np.log(share * column.options))
        asked, which = np.unique(cells, return_inverse=True)
        return np.asarray(self._table(index, column)[asked][which][:, kernels])

    def _table(self, index: int, column: Column) -> Array:
        """Logarithm of (cell asked about, cell of a kernel), and a last row and column of 0."""
        edges, centres = column.edges, column.centres
        assert edges is not None
        assert centres is not None
        width = self._widths[index]
        below = _normal((edges[:, None] - centres) / width)
        mass = np.diff(below, axis=0) / _inside(centres, np.array(width))
        even = np.diff(edges)[:, None]
        logs = np.log(np.maximum(mass, LEAST_MASS) / np.maximum(even, LEAST_MASS))
        return np.pad(logs, ((0, 1), (0, 1)))

    def _shares(self, options: int) -> tuple[float, float]:
        """What a kernel's own option has beyond the others, and what each option has."""
        each = SMOOTHING / (len(self._points) + 1)
        return 1 / (1 + options * each), each / (1 + options * each)

    def drawn(self, random: np.random.Generator, count: int) -> Array:
        """Points drawn from the estimator, shape (count, dimensions); NaN where inactive.

        Where an option is drawn that is not the kernel's own, what is inside comes from another
        kernel that has it; evenly, if there is none.
        """
        kernels = random.integers(len(self._points) + 1, size=count)
        drawn = np.full((count, len(self._columns)), np.nan)
        sources: dict[tuple[int, int] | None, Indices] = {None: kernels}
        before: dict[int, Indices] = {}
        for index, column in enumerate(self._columns):
            if column.parent not in sources:
                assert column.parent is not None, "those without are there from the start"
                sources[column.parent] = self._having(index, before[column.parent[0]], random)
            source = before[index] = sources[column.parent]
            coordinates = self._along(index, column, source, random)
            if column.parent is not None:
                parent, option = column.parent
                there = self._columns[parent].cells(drawn[:, parent]) == option
                coordinates = np.where(there, coordinates, np.nan)
            drawn[:, index] = coordinates
        return drawn

    def _having(self, index: int, source: Indices, random: np.random.Generator) -> Indices:
        """For each kernel, itself or another that is active in a dimension; the even draw if none."""
        even = len(self._points)
        active = np.flatnonzero(~np.isnan(self._points[:, index]))
        others = active[random.integers(len(active), size=len(source))] if len(active) else even
        missing = np.append(np.isnan(self._points[:, index]), False)[source]
        return np.where(missing, others, source)

    def _along(
        self, index: int, column: Column, source: Indices, random: np.random.Generator
    ) -> Array:
        """Coordinates in one dimension, each from its kernel."""
        evenly = np.clip(random.random(len(source)), LEAST_UNIT, MOST_UNIT)
        means = np.append(self._points[:, index], np.nan)[source]
        if column.options:
            own, _ = self._shares(column.options)
            kept = random.random(len(source)) < own
            coordinates = np.where(kept & ~np.isnan(means), means, evenly)
        else:
            coordinates = np.where(
                np.isnan(means), evenly, _cut(means, self._widths[index], evenly)
            )
        if column.centres is None:
            return coordinates
        return np.asarray(column.centres[column.cells(coordinates)])


def _width(column: Column, coordinates: Array, dimensions: int, sharpness: float) -> float:
    """The standard deviation of the kernels in a dimension."""
    there = coordinates[~np.isnan(coordinates)]
    # As if an even draw were one more point: a single one says nothing about its spread.
    count = len(there) + 1
    squares = float(((there - there.mean()) ** 2).sum()) if len(there) else 0.0
    spread = math.sqrt((squares + EVEN_VARIANCE) / count)
    width = spread * math.pow(count, -1 / (dimensions + 4)) / sharpness
    cells = math.inf if column.edges is None else len(column.edges) - 1
    return max(width, 1 / (count + 1), NARROWEST, NARROWEST_CELL / cells)


def _cut(means: Array, width: float, evenly: Array) -> Array:
    """Normal draws within the unit interval, by their quantiles."""
    from scipy.special import ndtri  # noqa: PLC0415  (for who learns only)

    means = np.nan_to_num(means)
    below, above = _normal(-means / width), _normal((1 - means) / width)
    drawn = means + width * ndtri(below + evenly * (above - below))
    return np.asarray(np.clip(drawn, LEAST_UNIT, MOST_UNIT))


def _inside(means: Array, widths: Array) -> Array:
    """The share of normal distributions that lies in the unit interval."""
    return _normal((1 - means) / widths) - _normal(-means / widths)


def _normal(z: Array) -> Array:
    from scipy.special import ndtr  # noqa: PLC0415  (as above)

    return np.asarray(ndtr(z))
