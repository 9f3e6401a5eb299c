"""The sweep of a chaos round, as `raysweep run` reads it.

One rule: the conductor says what it wants in one variable of the environment; all else is fixed, so
that every round of one policy proposes the same trials.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from dataclasses import dataclass
from typing import Self

import objective

import raysweep as rs
from raysweep.core.policies import Policy

VARIABLE = "CHAOS_ROUND"
TRIALS = 48
SLOTS = 4
LEASE = 8.0  # seconds: a chaos round has no time for five minutes
POLICIES: dict[str, Policy] = {
    "none": rs.NoPolicy(),
    "bandit": rs.Bandit(slack_factor=0.4, delay_evaluation=6, evaluation_interval=2),
    "median_stopping": rs.MedianStopping(delay_evaluation=8),
    "truncation_selection": rs.TruncationSelection(
        truncation_percentage=50,  # of the few that run at once: what has ended is left out
        evaluation_interval=4,
        delay_evaluation=8,
        exclude_finished_jobs=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a round wants of its sweep."""

    policy: str
    sync: bool  # whether a report waits for its acknowledgement
    gpus: float  # of one trial
    witness: str  # file that the trials append to
    pace: str  # file that says how long an interval takes

    def variable(self) -> dict[str, str]:
        """What to add to the environment of `raysweep run`."""
        return {VARIABLE: json.dumps(dataclasses.asdict(self))}

    @classmethod
    def read(cls) -> Self:
        """What the conductor has asked for."""
        return cls(**json.loads(os.environ[VARIABLE]))


def swept(asked: Asked) -> rs.Sweep:
    """The sweep; name and storage come from the command line."""
    return rs.Sweep(
        functools.partial(objective.train, witness=asked.witness, pace=asked.pace, sync=asked.sync),
        space={"height": rs.uniform(0.1, 1.0), "rate": rs.uniform(0.02, 0.4)},
        objective=rs.maximize("score"),
        sampler=rs.Random(seed=11),
        policy=POLICIES[asked.policy],
        limits=rs.Limits(max_total_trials=TRIALS, max_concurrent_trials=SLOTS),
        resources=rs.Resources(cpus=1, gpus=asked.gpus),
        name="unnamed",
        max_attempts=1_000,  # a killed process counts as a failed attempt, and many are killed
        sync_decisions=asked.sync,
        grace=2.0,
        lease=LEASE,
    )


if VARIABLE in os.environ:
    sweep = swept(Asked.read())
