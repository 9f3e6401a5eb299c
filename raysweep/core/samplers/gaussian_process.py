"""A Gaussian process over the unit cube: fitted to a few hundred points, asked what it expects.

One rule: the same points give the same process; nothing is drawn at random.

The kernel is Matern-5/2 with a length scale for each dimension (C. E. Rasmussen and C. K. I.
Williams, Gaussian Processes for Machine Learning, 2006, chapters 4 and 5). Length scales have the
prior that grows with the number of dimensions of C. Hvarfner, E. O. Hellsten and L. Nardi, Vanilla
Bayesian Optimization Performs Great in High Dimensions, ICML 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

JITTER = 1e-8  # added to the diagonal: rounding must not make it negative
SCALE_SPREAD = math.sqrt(3)  # standard deviation of a length scale's logarithm
NOISE_MEAN, NOISE_SPREAD = math.log(1e-5), 2.0  # of the logarithm of the noise's variance
SIGNAL_SPREAD = 1.0  # of the logarithm of the signal's variance; its mean is 0
BOUNDS = (-7.0, 7.0)  # of every logarithm
STEPS = 40  # of the fit, at most
FURTHEST = -1e4  # deviations below the best from where on a series' first term is exact enough


@dataclass(frozen=True, kw_only=True)
class GaussianProcess:
    """A process that has seen `points`.

    Args:
        points: shape (n, columns).
        groups: shape (columns,): which length scale each column has, from 0 without gaps.
        logs: logarithms of the length scales, the signal's variance and the noise's.
    """

    points: Array
    groups: npt.NDArray[np.int64]
    logs: Array
    _factor: Array  # lower triangular, of the covariance of the points
    _weights: Array  # covariance^-1 (values - mean)
    _mean: float

    @classmethod
    def fitted(cls, points: Array, values: Array, groups: npt.NDArray[np.int64]) -> Self:
        """The process that the values, shape (n,) and about standard normal, make most likely."""
        from scipy.optimize import minimize  # noqa: PLC0415  (half a second, for who learns only)

        distances = _squared(points, points, groups)
        count = distances.shape[0]
        start = np.array([_scale_mean(count)] * count + [0.0, NOISE_MEAN])
        found = minimize(
            _loss, start, args=(distances, values - values.mean()), jac=True, method="L-BFGS-B",
            bounds=[BOUNDS] * (count + 1) + [(math.log(1e-6), 0.0)], options={"maxiter": STEPS},
        )  # fmt: skip
        return cls.at(points, values, groups, np.asarray(found.x))

    @classmethod
    def at(cls, points: Array, values: Array, groups: npt.NDArray[np.int64], logs: Array) -> Self:
        """The process with given logarithms."""
        factor = _factor(_across(points, points, groups, logs), logs[-1])
        mean = float(values.mean())
        weights = _solved(factor, values - mean)
        return cls(
            points=points, groups=groups, logs=logs, _factor=factor, _weights=weights, _mean=mean
        )

    def believing(self, points: Array) -> Self:
        """The process as if its own expectation had been found at these points.

        A kriging believer (D. Ginsbourger, R. Le Riche and L. Carraro, Kriging Is Well-Suited to
        Parallelize Optimization, 2010): what is being tried already is of less interest.
        """
        if not len(points):
            return self
        expected, _ = self.expected(points)
        known = self._factor @ (self._factor.T @ self._weights) + self._mean
        everything = np.vstack([self.points, points])
        return self.at(everything, np.concatenate([known, expected]), self.groups, self.logs)

    def expected(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the value at each point, without noise."""
        from scipy.linalg import solve_triangular  # noqa: PLC0415  (as above)

        across = _across(points, self.points, self.groups, self.logs)
        mean = self._mean + across @ self._weights
        explained = solve_triangular(self._factor, across.T, lower=True, check_finite=False)
        variance = math.exp(self.logs[-2]) - np.einsum("ij,ij->j", explained, explained)
        return mean, np.sqrt(np.maximum(variance, 1e-12))


def _scale_mean(count: int) -> float:
    """The prior mean of a length scale's logarithm, for so many dimensions."""
    return math.sqrt(2) + math.log(count) / 2 - SCALE_SPREAD**2 / 2


def _squared(a: Array, b: Array, groups: npt.NDArray[np.int64]) -> Array:
    """Squared distances by length scale, shape (scales, len(a), len(b))."""
    squared = (a[:, None, :] - b[None, :, :]) ** 2
    summed = np.zeros((int(groups.max()) + 1, len(a), len(b)))
    for column, group in enumerate(groups):
        summed[group] += squared[:, :, column]
    return summed


def _covariance(squared: Array, logs: Array) -> Array:
    return _matern(np.tensordot(np.exp(-2 * logs[:-2]), squared, axes=1), logs[-2])


def _across(a: Array, b: Array, groups: npt.NDArray[np.int64], logs: Array) -> Array:
    """The covariance of two sets of points, shape (len(a), len(b))."""
    rates = np.exp(-logs[:-2])[groups]
    a, b = a * rates, b * rates
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return _matern(np.maximum(squared, 0.0), logs[-2])


def _matern(squared: Array, log_signal: float) -> Array:
    """Matern-5/2 of squared distances in length scales."""
    r = np.sqrt(5 * squared)
    return np.asarray(math.exp(log_signal) * (1 + r + r * r / 3) * np.exp(-r))


def _factor(covariance: Array, log_noise: float) -> Array:
    """The Cholesky factor, with as much jitter as it takes."""
    diagonal = np.eye(len(covariance))
    jitter = JITTER
    while True:
        try:
            noisy = covariance + (math.exp(log_noise) + jitter) * diagonal
            return np.asarray(np.linalg.cholesky(noisy), dtype=np.float64)
        except np.linalg.LinAlgError:
            jitter *= 10


def _solved(factor: Array, values: Array) -> Array:
    from scipy.linalg import cho_solve  # noqa: PLC0415  (as above)

    return np.asarray(cho_solve((factor, True), values, check_finite=False))


def _loss(logs: Array, squared: Array, values: Array) -> tuple[float, Array]:
    """The negative logarithm of likelihood times prior, and its gradient."""
    covariance = _covariance(squared, logs)
    factor = _factor(covariance, logs[-1])
    weights = _solved(factor, values)
    loss = 0.5 * values @ weights + np.log(np.diag(factor)).sum()
    # d loss / d theta = tr((inverse - weights weights') dK / d theta) / 2
    inner = (_solved(factor, np.eye(len(values))) - np.outer(weights, weights)) / 2
    rates = np.exp(-2 * logs[:-2])
    r = math.sqrt(5) * np.sqrt(np.tensordot(rates, squared, axes=1))
    slope = inner * (math.exp(logs[-2]) * 5 / 3 * (1 + r) * np.exp(-r))
    by_scale = rates * np.tensordot(squared, slope, axes=([1, 2], [0, 1]))
    by_signal = np.einsum("ij,ij->", inner, covariance)
    by_noise = math.exp(logs[-1]) * np.trace(inner)
    gradient = np.array([*by_scale, by_signal, by_noise])
    means = np.array([_scale_mean(len(rates))] * len(rates) + [0.0, NOISE_MEAN])
    spreads = np.array([SCALE_SPREAD] * len(rates) + [SIGNAL_SPREAD, NOISE_SPREAD])
    away = (logs - means) / spreads
    return float(loss + 0.5 * away @ away), gradient + away / spreads


def log_expected_improvement(mean: Array, spread: Array, best: float) -> Array:
    """The logarithm of the improvement over `best` that a point promises; greater is better.

    S. Ament and others, Unexpected Improvements to Expected Improvement for Bayesian Optimization,
    NeurIPS 2023, equation 9: it keeps its slope where the improvement itself would be 0.
    """
    from scipy.special import erfcx, log_ndtr  # noqa: PLC0415  (as above)

    z = (mean - best) / spread
    with np.errstate(all="ignore"):  # each formula is wrong where the other is taken
        near = np.log(np.exp(-z * z / 2) / math.sqrt(2 * math.pi) + z * np.exp(log_ndtr(z)))
        tail = np.log(erfcx(-z / math.sqrt(2)) * np.abs(z)) + math.log(math.pi / 2) / 2
        far = -z * z / 2 - math.log(2 * math.pi) / 2 + np.log(-np.expm1(np.minimum(tail, -1e-300)))
        furthest = -z * z / 2 - math.log(2 * math.pi) / 2 - 2 * np.log(np.abs(z))
    chosen = np.where(z > -1, near, np.where(z > FURTHEST, far, furthest))
    return np.asarray(np.nan_to_num(chosen, nan=-np.inf) + np.log(spread))
