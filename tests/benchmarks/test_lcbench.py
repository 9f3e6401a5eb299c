"""LCBench's surrogate is asked the right question, and answers what it always answered."""

from __future__ import annotations

import json
from typing import Any

import lcbench
import numpy as np
import pytest
from scipy.stats import spearmanr

from raysweep.core.samplers import Random

GOOD = {
    "batch_size": 64,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.01,
    "num_layers": 3,
    "max_units": 256,
    "max_dropout": 0.2,
}
POOR = {
    "batch_size": 512,
    "learning_rate": 0.0001,
    "momentum": 0.1,
    "weight_decay": 0.1,
    "num_layers": 1,
    "max_units": 64,
    "max_dropout": 0.9,
}


def drawn(count: int) -> list[dict[str, Any]]:
    """Random configurations."""
    return [{**Random().propose(lcbench.space(), (), trial, 0)} for trial in range(count)]


@pytest.mark.parametrize(
    ("name", "params", "errors", "seconds"),
    [
        ("lcbench/3945", GOOD, [0.2054, 0.1150, 0.0912], 161.21),
        ("lcbench/3945", POOR, [0.5641, 0.5849, 0.5119], 71.91),
        ("lcbench/168908", GOOD, [0.4001, 0.3179, 0.2828], 2252.18),
        ("lcbench/189909", POOR, [0.5751, 0.5790, 0.5817], 47.71),
    ],
)
def test_predictions_are_those_recorded(
    name: str, params: dict[str, Any], errors: list[float], seconds: float
) -> None:
    """The errors after 1, 10 and 50 epochs, and the time of all, are what they were."""
    curve = lcbench.curve(name, params)
    assert errors == pytest.approx(curve.errors[[0, 9, 49]], abs=1e-3)
    assert seconds == pytest.approx(curve.seconds.sum(), rel=1e-3)


def _mean_rank_correlation(epoch: int) -> float:
    params = drawn(64)
    return float(
        np.mean(
            [
                spearmanr(curves[:, epoch - 2], curves[:, -1]).statistic
                for name in lcbench.names()[::7]
                if len(curves := np.array([c.errors for c in lcbench.curves(name, params)]))
            ]
        )
    )


@pytest.mark.parametrize(("epoch", "expected"), [(2, 0.68), (7, 0.84), (13, 0.90)])
def test_early_epochs_tell_of_the_last_as_much_as_they_do(epoch: int, expected: float) -> None:
    """The rank correlation of an epoch's errors with the last one's is LCBench's."""
    assert expected == pytest.approx(_mean_rank_correlation(epoch), abs=0.06)


def test_curves_improve_in_the_right_order_of_inputs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine of ten curves end below their beginning; in the order of config_space.json they do not."""
    params = drawn(64)

    def shares() -> list[float]:
        found = [lcbench.curves(name, params) for name in lcbench.names()[::7]]
        return [float(np.mean([c.errors[-1] < c.errors[0] for c in each])) for each in found]

    right = shares()
    space = json.loads((lcbench.DATA / "config_space.json").read_text())["hyperparameters"]
    wrong = [each["name"] for each in space if each["name"] in lcbench.ORDER]
    monkeypatch.setattr(lcbench, "ORDER", tuple(wrong))
    assert 0.85 < np.mean(right)
    assert np.mean(shares()) < 0.85


def test_space_is_the_sources() -> None:
    """Whole numbers are whole and within the bounds, both ends of each as likely as the rest."""
    params = drawn(2_000)
    for name, low, high in (
        ("batch_size", 16, 512),
        ("max_units", 64, 1024),
        ("num_layers", 1, 5),
    ):
        values = [each[name] for each in params]
        assert {int} == {type(value) for value in values}
        assert low <= min(values)
        assert max(values) <= high
    layers = np.bincount([each["num_layers"] for each in params])[1:]
    assert np.full(5, 400) == pytest.approx(layers, abs=80)


def test_many_are_asked_as_one() -> None:
    """One call for many configurations answers what a call for each does."""
    params = drawn(5)
    together = lcbench.curves("lcbench/7593", params)
    alone = [lcbench.curve("lcbench/7593", each) for each in params]
    for one, other in zip(together, alone, strict=True):
        assert one.errors == pytest.approx(other.errors, abs=1e-5)
        assert one.seconds == pytest.approx(other.seconds, abs=1e-2)


def test_there_are_34_tasks_with_references() -> None:
    """Every task has a best that is better than usual."""
    tasks = [lcbench.load(name) for name in lcbench.names()]
    assert 34 == len(tasks)
    assert all(0 < task.best < task.usual < 1 for task in tasks)


def test_a_reference_is_found_again() -> None:
    """The search that wrote the references comes to the same."""
    task = lcbench.load("lcbench/3945")
    found = lcbench.reference("lcbench/3945")
    assert task.best == pytest.approx(found.best, abs=1e-5)
    assert task.usual == pytest.approx(found.usual, abs=1e-5)
