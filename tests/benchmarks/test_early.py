"""The runs of early termination count what really ran, and the comparators do what they are called."""

from __future__ import annotations

import early
import early_search
import lcbench
import numpy as np
import pytest

from raysweep.core.history import Goal, History
from raysweep.core.policies import Policy

TASK = "lcbench/3945"


def outcome(way: early.Way, *, workers: int = 4, seed: int = 0) -> early.Outcome:
    """A short sweep."""
    return early.outcome(TASK, way, "random", workers=workers, trials=12, seed=seed)


def test_without_a_policy_all_epochs_run() -> None:
    """Nothing is saved and nothing stopped, and the best value seen is recommended."""
    found = outcome(early.WAYS["none"])
    seen = [lcbench.curve(TASK, params).errors.min() for params in found.params]
    assert [50] * 12 == found.epochs
    assert [False] * 12 == found.stopped
    assert np.argmin(seen) == found.recommended


@pytest.mark.parametrize("way", early.WAYS)
def test_configurations_are_the_same_whatever_the_policy(way: str) -> None:
    """For one seed the policies are compared on the same trials."""
    assert outcome(early.WAYS["one-epoch-1"]).params == outcome(early.WAYS[way]).params


def test_a_row_says_what_was_saved_and_lost() -> None:
    """The share saved is that of the epochs that did not run; the winner is the best at the end."""
    row = early.run(TASK, "truncation", "random", workers=4, trials=12, seed=1)
    assert row["saved"] == pytest.approx(1 - row["epochs"] / 600)
    assert 0.2 < row["saved"] < 1
    assert row["least_regret"] <= row["regret"] <= 1
    assert row["winner_stopped"] in (True, False)
    assert row["worked"] <= row["seconds"] * 4


def test_asha_lets_a_third_pass_a_rung() -> None:
    """At epochs 1, 3, 9, ... those beyond the best third of all that were there are stopped."""
    asha = early.Asha()
    history = History(Goal.MINIMIZE, asha.tracks)
    stopped = []
    for trial, value in enumerate([0.5, 0.4, 0.6, 0.3, 0.45, 0.35]):
        history.add(trial, value)
        stopped.append(asha.decide(history, trial, 1).stop)
    assert [False, False, True, False, True, False] == stopped
    history.add(0, 0.9)
    assert not asha.decide(history, 0, 2).stop


def test_one_epoch_keeps_the_best_of_the_first() -> None:
    """All train for an epoch, those kept for all of them."""
    found = outcome(early.KeepBest(keep=3))
    first = [lcbench.curve(TASK, params).errors[0] for params in found.params]
    assert 9 * 1 + 3 * 50 == sum(found.epochs)
    assert {*np.argsort(first)[:3]} == {
        at for at, epochs in enumerate(found.epochs) if epochs == 50
    }


@pytest.mark.parametrize(
    "policy", [way for way in early.WAYS.values() if not isinstance(way, early.KeepBest)]
)
def test_the_sketch_of_the_search_comes_to_what_a_sweep_does(policy: Policy) -> None:
    """But for who reports first within a tick, which moves few epochs."""
    swept = outcome(policy)
    sketched = early_search.sketch(TASK, policy, workers=4, trials=12, seed=0)
    assert swept.params == sketched.params
    assert swept.recommended == sketched.recommended
    assert sum(swept.epochs) == pytest.approx(sum(sketched.epochs), rel=0.05)
    assert swept.worked == pytest.approx(sketched.worked, rel=0.05)
