"""The tree-structured Parzen estimator: likelier among the good trials than among the others.

One rule: a proposal follows from the seed, the trial's number and what is known; asked again with
the same, the sampler answers the same. Only the order of the scores counts, never their distances.

The trials so far are split into the few that are good and all others; each of the two sets becomes
a density with a joint kernel for every trial, and of a few dozen points drawn from the good one's
the one with the greatest ratio is taken (J. Bergstra, R. Bardenet, Y. Bengio and B. Kegl,
Algorithms for Hyper-Parameter Optimization, NeurIPS 2011). Kernels over all dimensions together are
those of S. Falkner, A. Klein and F. Hutter, BOHB, ICML 2018; what the parts are good for is measured
in S. Watanabe, Tree-Structured Parzen Estimator, arXiv 2304.11127. Trials that still run count among
the others: what is being tried is of less interest.

It costs little: a few milliseconds with a thousand trials, a few dozen with ten thousand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from raysweep.core.samplers.ends import first, untried
from raysweep.core.samplers.expected import expected_scores
from raysweep.core.samplers.known import units
from raysweep.core.samplers.layout import Array
from raysweep.core.samplers.parzen import Column, Parzen, columns_of
from raysweep.core.samplers.sampler import Observation, check_seed, point_generator
from raysweep.core.samplers.sobol import Sobol
from raysweep.core.space import Space, Value

START = 10  # trials that are over before anything is learnt from them
GOOD_SHARE = 0.15  # of the trials with a score
MOST_GOOD = 25
SHARPNESS = 3.0  # of the others' kernels: what was tried is left for what lies beside it
CANDIDATES = 64
MORE_CANDIDATES = 1_024  # where all of those have been tried
MOST_SPACES = 8  # whose columns are remembered


@dataclass(frozen=True, kw_only=True)
class Tpe:
    """Learns from results; proposes nothing of a finite space twice, so that it has an end.

    A trial that failed without a value is never good. One that its policy stopped, or that still runs, counts with
    what it showed and what others gained from there on, but is never better than the best that was
    completed.
    """

    kind: ClassVar[str] = "tpe"
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
        points = units(space, known)
        tried = {point.tobytes() for point in points}
        if space.size is not None and len(tried) >= space.size:
            return None
        if sum(each.score is not None or not each.pending for each in known) < START:
            params = first(space, trial, seed)
            if space.to_unit(params).tobytes() not in tried:
                return params
        random = point_generator(seed, trial)
        return untried(space, tried, _promising(_columns(space), points, known, random))


@lru_cache(maxsize=MOST_SPACES)
def _columns(space: Space) -> tuple[Column, ...]:
    return columns_of(space)


def _promising(
    columns: Sequence[Column],
    points: Array,
    known: Sequence[Observation],
    random: np.random.Generator,
) -> Iterator[Array]:
    """Candidates in the unit cube, the most promising first; then many more."""
    good = _good(known)
    likely = Parzen(columns, points[good])
    other = Parzen(columns, points[~good], SHARPNESS)
    everywhere = Parzen(columns, points[:0])
    for source, count in (
        (likely, CANDIDATES),
        (likely, MORE_CANDIDATES),
        (everywhere, MORE_CANDIDATES),
    ):
        candidates = source.drawn(random, count)
        promise = likely.log_density(candidates) - other.log_density(candidates)
        yield from candidates[np.argsort(-promise, kind="stable")]


def _good(known: Sequence[Observation]) -> npt.NDArray[np.bool_]:
    """Which trials are good: the best of those that have a score."""
    cut_short = np.array([each.pending or each.stopped for each in known], dtype=bool)
    scores = np.nan_to_num(expected_scores(known), nan=-np.inf)
    best = scores[~cut_short].max(initial=-np.inf)
    if np.isfinite(best):
        scores = np.minimum(scores, best)
    scored = int(np.isfinite(scores).sum())
    count = min(math.ceil(GOOD_SHARE * scored), MOST_GOOD)
    good = np.zeros(len(known), dtype=bool)
    good[np.lexsort((cut_short, -scores))[:count]] = True
    return good
