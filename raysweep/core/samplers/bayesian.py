"""Bayesian sampling: where a Gaussian process of all results so far promises the most.

One rule: a proposal follows from the seed, the trial's number and what is known; asked again with
the same, the sampler answers the same.

The first trials are Sobol points, denser towards the middle. From then on candidates are drawn all
over the space and around the best trials, and the one with the greatest expected improvement is
taken. Trials that still run count as if they would find what is expected of them,
so that many may run at once. One that failed without a value counts as bad as the worst; one that was stopped early
counts with what it showed and what others gained from there on. Values are warped towards a normal
distribution first (I.-K. Yeo and R. A. Johnson, Biometrika 87, 2000): a few very bad ones would
hide what the good ones tell.

Of many results a part is looked at: what the process costs grows with their cube.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from raysweep.core.samplers.ends import first, untried
from raysweep.core.samplers.expected import expected_scores
from raysweep.core.samplers.gaussian_process import (
    Array,
    GaussianProcess,
    log_expected_improvement,
)
from raysweep.core.samplers.known import units
from raysweep.core.samplers.layout import Layout
from raysweep.core.samplers.sampler import Observation, check_seed, point_generator
from raysweep.core.samplers.sobol import Sobol
from raysweep.core.space import Space, Value

START = 4  # results before the first model
MOST_FITTED = 128  # points that the process's own parameters are fitted to
MOST_POINTS = 384  # points that it then believes
MOST_PENDING = 128  # of the trials that still run, the latest
EVERYWHERE = 1_024  # candidates drawn from the whole space
AROUND = 256  # candidates around the best, in each round of looking closer
ROUNDS = 5
CENTRES = 4  # trials, or candidates, that a round looks around
WIDEST = 0.2  # standard deviation of the first round's steps, in the unit cube; halved each round
APART = 1e-3  # in the unit cube, that what runs at once differs at least, if it can
FURTHEST = 5.0  # below the middle, in steps from there to the best, that a value counts
ALIKE = 1e-12  # deviation, relative to the largest value, of what differs by rounding alone


@dataclass(frozen=True, kw_only=True)
class Bayesian:
    """Learns from results; proposes nothing of a finite space twice, so that it has an end."""

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
        places = units(space, known)
        tried = {row.tobytes() for row in places}
        if space.size is not None and len(tried) >= space.size:
            return None
        begins = sum(each.score is not None for each in known) < START
        if begins:
            params = first(space, trial, seed)
            if space.to_unit(params).tobytes() not in tried:
                return params
        layout = _layout(space)
        random = point_generator(seed, trial)
        if begins:
            candidates = layout.snapped(random.random((EVERYWHERE, layout.size)))
        else:
            candidates = _ranked(layout, known, places, random)
        return untried(space, tried, candidates)


def _ranked(
    layout: Layout, known: Sequence[Observation], places: Array, random: np.random.Generator
) -> Array:
    """Candidates in the unit cube, the most promising first."""
    told, waiting, values = _learnt(known)
    process = _process(layout, places[told], values)
    pending = places[waiting]
    process = process.believing(layout.encoded(pending))
    best = float(process.expected(process.points)[0].max())

    def promise(candidates: Array) -> Array:
        return log_expected_improvement(*process.expected(layout.encoded(candidates)), best)

    centres = places[told[np.argsort(-values, kind="stable")[:CENTRES]]]
    candidates = layout.snapped(random.random((EVERYWHERE, layout.size)))
    promises = promise(candidates)
    for round_ in range(ROUNDS):
        nearby = layout.around(centres, WIDEST / 2**round_, AROUND, random)
        candidates = np.vstack([candidates, nearby])
        promises = np.concatenate([promises, promise(nearby)])
        centres = candidates[np.argsort(-promises, kind="stable")[:CENTRES]]
    return candidates[np.lexsort((-promises, _beside(candidates, pending)))]


def _beside(candidates: Array, others: Array) -> npt.NDArray[np.bool_]:
    """Which candidates are as good as the same as one of the others."""
    if not len(others):
        return np.zeros(len(candidates), dtype=bool)
    apart = np.zeros((len(candidates), len(others)))
    for one, other in zip(candidates.T, others.T, strict=True):
        apart = np.maximum(apart, np.nan_to_num(np.abs(one[:, None] - other)))
    return np.asarray(apart.min(axis=1) < APART)


def _learnt(
    known: Sequence[Observation],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
    """What there is to learn from: which trials told something, which still run, the former's values."""
    scores = expected_scores(known)
    pending = np.array([each.pending for each in known])
    never_ran = np.array([each.stopped and not each.curve for each in known])
    told = np.flatnonzero(~np.isnan(scores) | ~(pending | never_ran))
    waiting = np.flatnonzero(np.isnan(scores) & pending)[-MOST_PENDING:]
    worst = np.nanmin(scores)
    return told, waiting, _warped(np.nan_to_num(scores[told], nan=float(worst)))


def _process(layout: Layout, places: Array, values: Array) -> GaussianProcess:
    """The process of all that is known, or of what matters most in it."""
    order = np.argsort(-values, kind="stable")
    fitted = _spread(order, MOST_FITTED)
    process = GaussianProcess.fitted(layout.encoded(places[fitted]), values[fitted], layout.groups)
    if len(values) <= MOST_FITTED:
        return process
    kept = _spread(order, MOST_POINTS)
    return GaussianProcess.at(
        layout.encoded(places[kept]), values[kept], layout.groups, process.logs
    )


def _spread(order: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """So many of a ranking at most: the first half of them its best, the rest evenly from the others."""
    if len(order) <= most:
        return np.sort(order)
    best, others = order[: most // 2], order[most // 2 :]
    evenly = np.linspace(0, len(others) - 1, most - most // 2).astype(np.int64)
    return np.sort(np.concatenate([best, others[evenly]]))


def _warped(values: Array) -> Array:
    """The values with mean 0 and deviation 1, their distribution nearer to a normal one."""
    from scipy.stats import yeojohnson  # noqa: PLC0415  (as above)

    middle, best = float(np.median(values)), float(values.max())
    if best > middle:  # what has diverged says no more than that it is bad
        values = np.maximum(values, middle - FURTHEST * (best - middle))
    values = values / (float(np.abs(values).max()) or 1.0)  # whose squares no float might hold
    spread = float(values.std())
    if spread <= ALIKE:
        return np.zeros(len(values))
    plain = (values - values.mean()) / spread
    with np.errstate(all="ignore"):
        warped: Array = np.asarray(yeojohnson(plain)[0])
        warped = (warped - warped.mean()) / warped.std()
    return warped if bool(np.isfinite(warped).all()) else plain


@lru_cache(maxsize=8)
def _layout(space: Space) -> Layout:
    return Layout(space)
