"""The Gaussian process against its definitions: gradient, posterior, expected improvement."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from raysweep.core.samplers.gaussian_process import (
    GaussianProcess,
    _covariance,
    _loss,
    _squared,
    log_expected_improvement,
)

RANDOM = np.random.default_rng(3)
GROUPS = np.array([0, 1, 1, 2])  # one scale for the columns of a choice
POINTS = RANDOM.random((12, 4))
VALUES = np.sin(5 * POINTS[:, 0]) + 0.1 * RANDOM.standard_normal(12)
LOGS = np.array([-0.7, 0.3, 0.1, 0.2, -4.0])


def test_the_gradient_is_that_of_the_loss() -> None:
    """Held against differences of the loss itself."""
    squared = _squared(POINTS, POINTS, GROUPS)
    _, gradient = _loss(LOGS, squared, VALUES)
    step = 1e-6 * np.eye(len(LOGS))
    expected = [
        (_loss(LOGS + s, squared, VALUES)[0] - _loss(LOGS - s, squared, VALUES)[0]) / 2e-6
        for s in step
    ]
    assert expected == pytest.approx(gradient.tolist(), rel=1e-5, abs=1e-6)


def test_the_posterior_is_the_textbooks() -> None:
    """Rasmussen and Williams, equations 2.25 and 2.26, with dense inverses."""
    new = RANDOM.random((5, 4))
    process = GaussianProcess.at(POINTS, VALUES, GROUPS, LOGS)
    mean, spread = process.expected(new)
    known = _covariance(_squared(POINTS, POINTS, GROUPS), LOGS) + math.exp(LOGS[-1]) * np.eye(12)
    across = _covariance(_squared(new, POINTS, GROUPS), LOGS)
    inverse = np.linalg.inv(known)
    expected = VALUES.mean() + across @ inverse @ (VALUES - VALUES.mean())
    variance = math.exp(LOGS[-2]) - np.diag(across @ inverse @ across.T)
    assert expected.tolist() == pytest.approx(mean.tolist(), abs=1e-6)
    assert np.sqrt(variance).tolist() == pytest.approx(spread.tolist(), abs=1e-4)


def test_a_fit_finds_what_matters() -> None:
    """Of a function of the first column, the others have longer scales."""
    process = GaussianProcess.fitted(POINTS, VALUES, GROUPS)
    assert process.logs[0] < min(process.logs[1:3])


def test_what_is_believed_changes_no_expectation_there() -> None:
    """And leaves little to find at that place."""
    process = GaussianProcess.at(POINTS, VALUES, GROUPS, LOGS)
    new = RANDOM.random((3, 4))
    (before, spread), (after, less) = process.expected(new), process.believing(new).expected(new)
    assert before.tolist() == pytest.approx(after.tolist(), abs=0.02)
    assert (less < spread).all()
    assert (less < 0.2).all()


@pytest.mark.parametrize("z", [3.0, 0.0, -0.5, -0.999, -1.001, -5.0, -20.0])
def test_expected_improvement_is_its_integral(z: float) -> None:
    """Against the closed form, as far as that can be computed."""
    expected = math.log(stats.norm.pdf(z) + z * stats.norm.cdf(z)) if z > -15 else None
    actual = float(log_expected_improvement(np.array([z]), np.array([1.0]), 0.0)[0])
    if expected is None:  # phi(z) / z**2 (1 - 3 / z**2 + ...), the series of the tail
        expected = stats.norm.logpdf(z) - 2 * math.log(-z) + math.log1p(-3 / z**2 + 15 / z**4)
    assert expected == pytest.approx(actual, rel=1e-4)


def test_expected_improvement_goes_on_falling() -> None:
    """Nothing is flat or infinite however far below the best a point is."""
    z = -np.logspace(0, 8, 200)
    answers = log_expected_improvement(z, np.ones(200), 0.0)
    assert np.isfinite(answers).all()
    assert (np.diff(answers) < 0).all()
