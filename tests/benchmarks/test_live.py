"""The live objectives are quick, repeat themselves and have spaces with conditions."""

from __future__ import annotations

import json

import live
import numpy as np
import pytest
from references import read_references

from raysweep.core.samplers import Random


@pytest.mark.parametrize("name", live.names())
def test_a_trial_repeats_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same parameters and the same split give the same loss."""
    monkeypatch.setattr(live, "CNN_EPOCHS", 1)
    params = json.loads(json.dumps(Random().propose(live.space(name), (), 1, 0)))
    assert live.measured(name, params, 0) == live.measured(name, params, 0)


@pytest.mark.parametrize("name", live.names())
def test_spaces_are_conditional(name: str) -> None:
    """Some configurations lack what only another option has."""
    space = live.space(name)
    drawn = [Random().propose(space, (), trial, 0) for trial in range(10)]
    assert min(int(space.active(params).sum()) for params in drawn) < len(space.dimensions)


def test_a_reading_is_one_of_the_splits() -> None:
    """Its truth is the mean over all of them."""
    task = live.load("live/wine")
    params = task.space.from_unit([0.9] * len(task.space.dimensions))
    losses = [live.measured("live/wine", params, split) for split in range(live.SPLITS)]
    reading = task.read(params, np.random.default_rng(0))
    assert reading.value in losses
    assert 0 < reading.seconds < 10
    assert task.truth(params) == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("name", live.SUBJECTS)
def test_every_option_can_be_trained(name: str) -> None:
    """Each model gives a loss between 0 and the worst that counts."""
    space, options = live.space(name), live.SUBJECTS[name].options
    for at, option in enumerate(options):
        inside = [0.5] * (len(space.dimensions) - 1)
        params = space.from_unit([(at + 0.5) / len(options), *inside])
        assert option["kind"] == params["model"]["kind"]
        assert 0 <= live.measured(name, params, 0) <= live.WORST


def test_references_are_there_for_every_task() -> None:
    """The best is better than usual."""
    known = read_references(live.REFERENCES)
    assert [*known] == live.names()
    assert all(0 <= each.best < each.usual for each in known.values())
