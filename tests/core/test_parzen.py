"""The Parzen estimator against its definitions: a density, and what is drawn from it."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.core.samplers import Random
from raysweep.core.samplers.parzen import Column, Parzen, columns_of
from raysweep.core.space import (
    Space,
    choice,
    normal,
    qloguniform,
    quniform,
    randint,
    uniform,
)

COUNTABLE = Space(
    {
        "model": choice(
            [
                "linear",
                {"depth": randint(3), "act": choice(["relu", {"slope": quniform(0, 1, 0.5)}])},
            ]
        ),
        "batch": qloguniform(1, 8, 1),
    }
)
LINE = Space({"x": uniform(0, 1)})
MIXED = Space(
    {"head": choice([None, {"rate": uniform(0, 1), "size": randint(4)}]), "y": normal(0, 1)}
)


def _points(space: Space, count: int) -> np.ndarray:
    drawn = [Random().propose(space, (), trial, 1) for trial in range(count)]
    rows = [space.to_unit(params) for params in drawn]
    return np.array(rows).reshape(count, len(space.dimensions))


def _even(columns: tuple[Column, ...], point: np.ndarray) -> float:
    """How likely an even draw is to be this combination."""
    widths = [
        np.diff(column.edges)[column.cells(np.array([u]))[0]]
        for column, u in zip(columns, point, strict=True)
        if column.edges is not None and not np.isnan(u)
    ]
    return float(np.prod(widths))


@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_the_combinations_of_a_space_are_certain_together(count: int) -> None:
    """Over all combinations, options and what is inside them included, the density sums to one."""
    columns = columns_of(COUNTABLE)
    combinations = np.array(
        [COUNTABLE.to_unit(COUNTABLE.at(index)) for index in range(COUNTABLE.size or 0)]
    )
    density = np.exp(Parzen(columns, _points(COUNTABLE, count)).log_density(combinations))
    even = [_even(columns, point) for point in combinations]
    expected = 1.0
    assert expected == pytest.approx(float(density @ even))


@pytest.mark.parametrize("points", [[], [0.001], [0.2, 0.21, 0.9]])
def test_a_continuous_density_integrates_to_one(points: list[float]) -> None:
    """What a kernel has beyond the ends is spread over the inside."""
    estimator = Parzen(columns_of(LINE), np.array(points).reshape(-1, 1))
    grid = (np.arange(20_000) + 0.5)[:, None] / 20_000
    expected = 1.0
    assert expected == pytest.approx(float(np.exp(estimator.log_density(grid)).mean()), abs=1e-4)


def test_knowing_nothing_is_an_even_draw() -> None:
    """Without points every density is 1, wherever."""
    estimator = Parzen(columns_of(MIXED), np.empty((0, 4)))
    assert [0.0] * 5 == estimator.log_density(_points(MIXED, 5)).tolist()


def test_what_is_drawn_is_distributed_as_the_density_says() -> None:
    """Shares of the cells of two parameters agree with their densities."""
    space = Space({"a": randint(5), "b": choice(["x", "y"])})
    columns = columns_of(space)
    estimator = Parzen(columns, _points(space, 4))
    drawn = estimator.drawn(np.random.default_rng(0), 40_000)
    combinations = np.array([space.to_unit(space.at(index)) for index in range(10)])
    density = np.exp(estimator.log_density(combinations)) / 10
    shares = [float((drawn == point).all(axis=1).mean()) for point in combinations]
    assert density == pytest.approx(shares, abs=0.01)


def test_what_is_drawn_lies_in_the_space() -> None:
    """A dimension has a coordinate exactly when the options drawn before make it active."""
    for space in (COUNTABLE, MIXED):
        drawn = Parzen(columns_of(space), _points(space, 6)).drawn(np.random.default_rng(1), 200)
        for point in drawn:
            params = space.from_unit(np.nan_to_num(point, nan=0.5))
            assert np.isnan(point).tolist() == np.isnan(space.to_unit(params)).tolist()


def test_what_is_inside_an_option_is_drawn_from_where_it_is_active() -> None:
    """Three of four points lack the option; whoever draws it looks at the fourth's rate."""
    points = np.array([[0.25, np.nan, np.nan, 0.5]] * 3 + [[0.75, 0.9, 0.875, 0.5]])
    drawn = Parzen(columns_of(MIXED), points, 10.0).drawn(np.random.default_rng(2), 400)
    rates = drawn[drawn[:, 0] > 0.5, 1]
    assert len(rates) > 50
    assert np.mean(np.abs(rates - 0.9) < 0.3) > 0.5  # a draw that knew nothing: 0.4


def test_a_kernel_compares_only_what_is_active() -> None:
    """Coordinates inside an option that a point lacks change nothing about how near it is."""
    estimator = Parzen(columns_of(MIXED), np.array([[0.25, np.nan, np.nan, 0.5]]))
    asked = np.array([[0.75, rate, 0.125, 0.5] for rate in (0.1, 0.5, 0.9)])
    one, two, three = estimator.log_density(asked)
    assert one == pytest.approx(two) == pytest.approx(three)


def test_a_sharper_estimator_is_higher_at_its_points() -> None:
    """Narrow kernels know more about where their points are."""
    points = _points(LINE, 50)
    usual, sharp = (Parzen(columns_of(LINE), points, by) for by in (1.0, 3.0))
    assert usual.log_density(points).mean() < sharp.log_density(points).mean()


def test_cells_follow_each_other_without_a_gap() -> None:
    """Of values of unequal width, each coordinate is in the cell of the value that is drawn there."""
    space = Space({"batch": qloguniform(1, 8, 1)})
    (column,) = columns_of(space)
    coordinates = np.random.default_rng(3).random(500)
    drawn = [space.from_unit([u])["batch"] for u in coordinates]
    expected = [int(str(batch)) - 1 for batch in drawn]
    assert expected == column.cells(coordinates).tolist()


def test_too_many_values_to_count_are_a_continuum() -> None:
    """A million whole numbers have no cells."""
    (column,) = columns_of(Space({"n": randint(10**6)}))
    assert column.edges is None
