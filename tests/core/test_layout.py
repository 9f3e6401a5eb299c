from __future__ import annotations

import numpy as np

from raysweep.core.samplers.layout import Layout
from raysweep.core.samplers.sampler import point_generator
from raysweep.core.space import Space, choice, quniform, randint, uniform

SPACE = Space(
    {
        "x": uniform(0, 1),
        "n": randint(5),
        "c": choice(["a", {"q": quniform(0, 1, 0.5), "d": choice([1, 2])}, "b"]),
    }
)


def test_many_points_are_encoded_as_the_space_encodes_each() -> None:
    """Inactive numbers in the middle, inactive choices all 0."""
    params = [SPACE.from_unit(point) for point in np.random.default_rng(0).random((50, 5))]
    rows = np.array([SPACE.to_unit(each) for each in params])
    expected = np.array([SPACE.encode(each) for each in params])
    assert np.array_equal(expected, Layout(SPACE).encoded(rows))
    assert [0, 1, 2, 2, 2, 3, 4, 4] == Layout(SPACE).groups.tolist()


def test_points_are_moved_to_where_values_are() -> None:
    """To the nearest: a value's own point stays where it is."""
    layout = Layout(SPACE)
    moved = layout.snapped(np.random.default_rng(1).random((50, 5)))
    for point in moved:
        own = SPACE.to_unit(SPACE.from_unit(point))
        assert np.allclose(own, point) or np.isnan(own).any()
        assert np.allclose(own[:3], point[:3])
    assert [0.1, 0.3, 0.5, 0.7, 0.9] == sorted({round(n, 12) for n in moved[:, 1]})


def test_steps_stay_near_and_move_something() -> None:
    """Numbers by a little, options anew; what was inactive gets a value."""
    layout = Layout(SPACE)
    centre = np.array([[0.5, 0.5, 0.5, np.nan, np.nan]])
    points = layout.around(centre, 0.01, 200, point_generator(0, 0))
    assert (200, 5) == points.shape
    assert np.isfinite(points).all()
    assert np.abs(points[:, 0] - 0.5).max() < 0.1
    assert len(np.unique(points[:, 2])) == 3
