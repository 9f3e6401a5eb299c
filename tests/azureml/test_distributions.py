"""What a job's search space draws, held against Azure ML's own definitions of its expressions.

Each definition is https://learn.microsoft.com/azure/machine-learning/how-to-tune-hyperparameters in
a line: how a draw comes about. Its distribution is scipy's, never ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import raysweep as rs

DRAWS = 3_000
BAND = 1.63 / math.sqrt(DRAWS)  # Kolmogorov's: a right distribution leaves it once in a hundred

UNIFORM = {"min_value": -2, "max_value": 6}
EXPONENTS = {"min_value": -6.5, "max_value": "1e-1"}  # of e; a string that is a number, as 1e-1 is
NORMAL = {"mu": 3, "sigma": 0.5}

Cdf = Callable[[Any], Any]

CONTINUOUS: dict[str, tuple[dict[str, Any], Cdf]] = {
    "uniform": (UNIFORM, stats.uniform(-2, 8).cdf),
    "loguniform": (EXPONENTS, lambda x: stats.uniform(-6.5, 6.6).cdf(np.log(x))),
    "normal": (NORMAL, stats.norm(3, 0.5).cdf),
    "lognormal": (NORMAL, lambda x: stats.norm(3, 0.5).cdf(np.log(x))),
}
QUANTISED: dict[str, tuple[dict[str, Any], Cdf, float, float]] = {
    "quniform": (UNIFORM | {"q": 0.5}, stats.uniform(-2, 8).cdf, -2, 6),
    "qloguniform": (
        {"min_value": 0, "max_value": 4, "q": 5},
        lambda x: stats.uniform(0, 4).cdf(np.log(np.maximum(x, 1e-300))),
        1,
        math.exp(4),
    ),
    "qnormal": (NORMAL | {"q": 0.25}, stats.norm(3, 0.5).cdf, -math.inf, math.inf),
    "qlognormal": (
        NORMAL | {"q": 2},
        lambda x: stats.norm(3, 0.5).cdf(np.log(np.maximum(x, 1e-300))),
        0,
        math.inf,
    ),
}


def draws(expression: dict[str, Any], **algorithm: Any) -> list[Any]:  # noqa: ANN401  (keys of a job)
    """What a job's trials get for a parameter."""
    sweep = rs.load(
        {
            "type": "sweep",
            "trial": {"command": "python a.py ${{search_space.x}}", "environment": "azureml:a:1"},
            "search_space": {"x": expression},
            "sampling_algorithm": {"type": "random", "seed": 11} | algorithm,
            "objective": {"goal": "maximize", "primary_metric": "m"},
            "limits": {"max_total_trials": DRAWS},
        }
    )
    return [params["x"] for params in sweep.preview(DRAWS)]


@pytest.mark.parametrize("rule", ["random", "sobol"])
@pytest.mark.parametrize("kind", CONTINUOUS)
def test_a_continuous_expression_follows_its_definition(kind: str, rule: str) -> None:
    """A Kolmogorov-Smirnov test does not tell the draws from the definition."""
    bounds, cdf = CONTINUOUS[kind]
    assert stats.kstest(draws({"type": kind} | bounds, rule=rule), cdf).pvalue > 0.01


@pytest.mark.parametrize("rule", ["random", "sobol"])
@pytest.mark.parametrize("kind", QUANTISED)
def test_a_quantised_expression_rounds_its_definition(kind: str, rule: str) -> None:
    """Values are multiples of q within the bounds, as often as the draws that round to them."""
    bounds, cdf, low, high = QUANTISED[kind]
    q = bounds["q"]
    values = np.array(draws({"type": kind} | bounds, rule=rule), dtype=float)
    assert np.allclose(values / q, np.round(values / q), atol=1e-9)
    assert low <= values.min()
    assert values.max() <= high
    steps = np.unique(values)
    last = steps.max() if math.isfinite(high) else math.inf
    expected = [1.0 if step == last else float(cdf(step + q / 2)) for step in steps]
    actual = [float((values <= step).mean()) for step in steps]
    assert max(abs(a - e) for a, e in zip(actual, expected, strict=True)) < BAND


@pytest.mark.parametrize("rule", ["random", "sobol"])
def test_options_and_whole_numbers_are_equally_likely(rule: str) -> None:
    """`choice` and `randint`: the steps of their distribution lie in Kolmogorov's band."""
    options = ["a", 1, "1e-4", 0.5]
    chosen = draws({"type": "choice", "values": options}, rule=rule)
    drawn = draws({"type": "randint", "upper": 8}, rule=rule)
    for values, all_of_them in ((chosen, options), (drawn, list(range(8)))):
        counts = np.array([values.count(option) for option in all_of_them]) / DRAWS
        even = np.arange(1, len(all_of_them) + 1) / len(all_of_them)
        assert sum(counts) == pytest.approx(1)
        assert np.abs(np.cumsum(counts) - even).max() < BAND


def test_sobol_with_a_seed_gives_the_same_trials_twice() -> None:
    """And with another seed others; the base of the logarithm changes nothing."""
    expression = {"type": "loguniform"} | EXPONENTS
    once = draws(expression, rule="sobol", seed=3)
    assert once == draws(expression, rule="sobol", seed=3)
    assert once == draws(expression, rule="sobol", seed=3, logbase=10)
    assert once == draws(expression, rule="sobol", seed=3, logbase="e")
    assert once != draws(expression, rule="sobol", seed=4)
