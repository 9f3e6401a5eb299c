"""COCO's functions are least where the references say, and the regret counts in decades."""

from __future__ import annotations

import coco
import numpy as np
import pytest


def test_there_are_96_functions_with_references() -> None:
    """Both suites in both dimensions, the best always better than usual."""
    tasks = [coco.load(name) for name in coco.names()]
    assert 96 == len(tasks)
    assert all(task.best < task.usual for task in tasks)


@pytest.mark.parametrize("name", ["bbob/f08-5d", "bbob-mixint/f03-10d"])
def test_a_reference_is_found_again(name: str) -> None:
    """What wrote the references comes to the same."""
    task, found = coco.load(name), coco.reference(name)
    assert task.best == pytest.approx(found.best)
    assert task.usual == pytest.approx(found.usual)


def test_four_of_five_parameters_are_whole() -> None:
    """A function of bbob-mixint takes whole numbers first, counted from 0."""
    sizes = [each.size for each in coco.load("bbob-mixint/f01-5d").space.parameters.values()]
    assert [2, 4, 8, 16, None] == sizes


def test_best_point_is_drawn_by_no_one_and_beaten_by_no_one() -> None:
    """No random configuration comes below the least value."""
    task = coco.load("bbob/f24-5d")
    random = np.random.default_rng(0)
    found = [task.truth(task.space.from_unit(random.random(5))) for _ in range(500)]
    assert task.best < min(found)


def test_regret_counts_in_decades() -> None:
    """Each tenth of the way that is left is worth the same; 1e-8 of it counts as the best."""
    task = coco.load("bbob/f01-5d")
    way = task.usual - task.best
    regrets = [task.regret_of(task.best + share * way) for share in (2, 1, 0.1, 1e-4, 1e-8, 0)]
    assert [1, 1, 0.875, 0.5, 0, 0] == pytest.approx(regrets, abs=1e-6)
