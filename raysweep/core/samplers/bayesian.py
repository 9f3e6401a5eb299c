"""Bayesian sampling: where a Gaussian process of all results so far promises the most.

One rule: a proposal follows from the seed, the trial's number and what is known; asked again with
the same, the sampler answers the same.

The first trials are Sobol points. From then on candidates are drawn all over the space and around
the best trials, and the one with the greatest expected improvement is taken. Trials that still run
count with what they have shown, or as if they would find what is expected of them, so that many
may run at once. One that failed counts as bad as the worst. Values are warped towards a normal
distribution first (I.-K. Yeo and R. A. Johnson, Biometrika 87, 2000): a few very bad ones would
hide what the good ones tell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from raysweep.core.samplers.gaussian_process import (
    Array,
    GaussianProcess,
    log_expected_improvement,
)
from raysweep.core.samplers.sampler import Observation, check_seed, point_generator
from raysweep.core.samplers.sobol import Sobol
from raysweep.core.space import Choice, Expression, Space, Value

LEAST_START = 5  # trials that are Sobol points, at least; one more than there are dimensions
MOST_START = 16
MOST_POINTS = 160  # that a process is fitted to: its cost grows with their cube
EVERYWHERE = 1_024  # candidates drawn from the whole space
AROUND = 256  # candidates around the best, in each round of looking closer
ROUNDS = 4
CENTRES = 4  # trials, or candidates, that a round looks around
WIDEST = 0.2  # standard deviation of the first round's steps, in the unit cube; halved each round
MOST_COUNTED = 4_096  # values of a parameter that are looked up in a table
APART = 1e-3  # in the unit cube, that what runs at once differs at least, if it can
ALIKE = 1e-12  # deviation, relative to the largest value, of what differs by rounding alone
LEAST_UNIT, MOST_UNIT = 2.0**-40, 1 - 2.0**-40


@dataclass(frozen=True, kw_only=True)
class Bayesian:
    """Learns from results; proposes nothing twice, so that a finite space has an end."""

    kind: ClassVar[str] = "bayesian"
    learns: ClassVar[bool] = True

    seed: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def check(self, space: Space) -> None:
        """Refuse a space of more dimensions than Sobol points have."""
        Sobol().check(space)

    def size(self, space: Space) -> int | None:
        """The number of combinations, if there is one."""
        return space.size

    def propose(
        self, space: Space, known: Sequence[Observation], trial: int, seed: int
    ) -> dict[str, Value] | None:
        """The parameters that promise the most; None when all have been tried."""
        tried = {_text(each.params) for each in known}
        if space.size is not None and len(tried) >= space.size:
            return None
        scored = [each for each in known if each.score is not None]
        start = min(MOST_START, max(LEAST_START, len(space.dimensions) + 1))
        if len(scored) < start:
            point = Sobol().propose(space, (), trial, seed)
            if _text(point) not in tried:
                return point
        layout = _Layout(space)
        random = point_generator(seed, trial)
        if len(scored) < LEAST_START:
            candidates = layout.snapped(random.random((EVERYWHERE, layout.size)))
        else:
            candidates = _ranked(layout, known, random)
        for candidate in candidates:
            params = space.from_unit(candidate)
            if _text(params) not in tried:
                return params
        return _untried(space, tried)


def _ranked(layout: _Layout, known: Sequence[Observation], random: np.random.Generator) -> Array:
    """Candidates in the unit cube, the most promising first."""
    units, values, pending = _learnt(layout, known)
    points = layout.encoded(units)
    process = GaussianProcess.fitted(points, values, layout.groups)
    process = process.believing(layout.encoded(pending))
    best = float(process.expected(process.points)[0].max())

    def promise(candidates: Array) -> Array:
        return log_expected_improvement(*process.expected(layout.encoded(candidates)), best)

    centres = units[np.argsort(-values, kind="stable")[:CENTRES]]
    candidates = layout.snapped(random.random((EVERYWHERE, layout.size)))
    promises = promise(candidates)
    for round_ in range(ROUNDS):
        nearby = layout.around(centres, WIDEST / 2**round_, random)
        candidates = np.vstack([candidates, nearby])
        promises = np.concatenate([promises, promise(nearby)])
        centres = candidates[np.argsort(-promises, kind="stable")[:CENTRES]]
    return candidates[np.lexsort((-promises, _beside(candidates, pending)))]


def _beside(candidates: Array, others: Array) -> npt.NDArray[np.bool_]:
    """Which candidates are as good as the same as one of the others."""
    if not len(others):
        return np.zeros(len(candidates), dtype=bool)
    apart = np.nan_to_num(np.abs(candidates[:, None, :] - others[None, :, :]))
    return np.asarray(apart.max(axis=2).min(axis=1) < APART)


def _learnt(layout: _Layout, known: Sequence[Observation]) -> tuple[Array, Array, Array]:
    """What there is to learn from: points with their warped values, and points that are pending."""
    told = [each for each in known if each.score is not None or not each.pending]
    scores = [each.score for each in told if each.score is not None]
    worst = min(scores)
    values = np.array([worst if each.score is None else each.score for each in told])
    if len(told) > MOST_POINTS:  # half of them the best, half the latest of the others
        order = np.argsort(-values, kind="stable")
        half = MOST_POINTS // 2
        kept = np.sort(np.concatenate([order[:half], np.sort(order[half:])[-half:]]))
        told, values = [told[index] for index in kept], values[kept]
    waiting = [each for each in known if each.score is None and each.pending]
    return layout.units(told), _warped(values), layout.units(waiting)


def _warped(values: Array) -> Array:
    """The values with mean 0 and deviation 1, their distribution nearer to a normal one."""
    from scipy.stats import yeojohnson  # noqa: PLC0415  (half a second, for who learns only)

    largest = float(np.abs(values).max()) or 1.0
    values = values / largest  # whose squares no float might hold
    spread = float(values.std())
    if spread <= ALIKE:
        return np.zeros(len(values))
    plain = (values - values.mean()) / spread
    with np.errstate(all="ignore"):
        warped: Array = np.asarray(yeojohnson(plain)[0])
        warped = (warped - warped.mean()) / warped.std()
    return warped if bool(np.isfinite(warped).all()) else plain


def _untried(space: Space, tried: set[str]) -> dict[str, Value] | None:
    """The first combination of a finite space that is left."""
    numbers = range(space.size or 0)
    return next((at for at in map(space.at, numbers) if _text(at) not in tried), None)


def _text(params: object) -> str:
    return json.dumps(params, sort_keys=True)


class _Layout:
    """The unit cube of a space, and how a model sees its points, many at once."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._dimensions = space.dimensions
        self.size = len(space.dimensions)
        widths = [each.expression.width for each in space.dimensions]
        self.groups = np.repeat(np.arange(self.size), widths)
        self._centres = [_centres_of(each.expression) for each in space.dimensions]

    def units(self, observations: Sequence[Observation]) -> Array:
        """Where trials lie, shape (trials, dimensions); NaN where inactive."""
        rows = [self._space.to_unit(each.params) for each in observations]
        return np.array(rows).reshape(len(rows), self.size)

    def snapped(self, points: Array) -> Array:
        """Points moved to the nearest that stand for a value."""
        points = np.clip(points, LEAST_UNIT, MOST_UNIT)
        for index, centres in enumerate(self._centres):
            if centres is not None:
                between = (centres[1:] + centres[:-1]) / 2
                points[:, index] = centres[np.searchsorted(between, points[:, index])]
        return points

    def around(self, centres: Array, width: float, random: np.random.Generator) -> Array:
        """Points near the centres: some coordinates moved a little, options drawn anew."""
        rows = random.integers(len(centres), size=AROUND)
        points = centres[rows].copy()
        fresh = random.random(points.shape)
        points = np.where(np.isnan(points), fresh, points)
        moves = random.random(points.shape) < max(0.3, 2 / self.size)
        steps = points + width * random.standard_normal(points.shape)
        options = np.array([isinstance(each.expression, Choice) for each in self._dimensions])
        return self.snapped(np.where(moves, np.where(options, fresh, steps), points))

    def encoded(self, points: Array) -> Array:
        """Points as `Space.encode` lays them out, shape (points, width)."""
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
                columns.append(np.where(active, np.nan_to_num(u), 0.5))
        return np.array(columns).T.reshape(len(points), len(self.groups))


def _centres_of(expression: Expression) -> Array | None:
    """The coordinates of an expression's values, in rising order, if they are few."""
    if isinstance(expression, Choice):
        return np.array([expression.unit_of(option) for option in range(len(expression.values))])
    if expression.size is None or expression.size > MOST_COUNTED:
        return None
    return np.array([expression.to_unit(expression.at(index)) for index in range(expression.size)])
