"""What a seed stands for: a sweep, the slots it has, what its trials report and what breaks.

One rule: all of it follows from the seed alone, and is written down here before anything happens.
Faults are drawn in swarms: each seed has some of them often, some seldom and some never, so that
what only a few of them do together is not drowned by the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from random import Random
from typing import Self

from drafts import METRIC, draft_spec

from raysweep.core import samplers
from raysweep.core.policies import Bandit, MedianStopping, NoPolicy, Policy, TruncationSelection
from raysweep.core.samplers import Sampler
from raysweep.core.space import Space, choice, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize, minimize

LEASE = 60  # moments, as every other length of time in a simulation
MARGIN = 12  # beyond a lease, for clocks that go at different rates
RATES = (0.94, 1.0, 1.06)  # at which a process's clock may go: what the margin has to bear


class Fault(StrEnum):
    """What can break, as the table of a run names it."""

    DROP = "message dropped"
    DOUBLE = "message doubled"
    DELAY = "message delayed"
    HOLE = "request short of some reports"
    SLOT_KILLED = "slot killed"
    NODE_LOST = "slot lost with its node"
    SLOT_CUT_OFF = "slot cut off"
    SLOT_FROZEN = "slot frozen"
    CONTROLLER_KILLED = "controller killed between commits"
    KILLED_BEFORE_COMMIT = "controller killed before a commit"
    COMMIT_TORN = "controller killed in a commit"
    KILLED_AFTER_COMMIT = "controller killed after a commit"
    KILLED_ANSWERING = "controller killed among its replies"
    CONTROLLER_FROZEN = "controller frozen"
    SECOND_CONTROLLER = "second controller"
    RACE = "controllers at the storage at once"
    STORAGE_FULL = "storage full"
    STORAGE_AWAY = "storage out of reach"
    CLUSTER_LOST = "whole cluster lost"
    WALL_CLOCK_JUMPS = "wall clock jumps"
    ATTEMPT_RAISES = "attempt raises"
    ATTEMPT_KILLED = "attempt's process killed"
    CHECKPOINT_DAMAGED = "checkpoint damaged"


# How likely each is where it is drawn at its usual rate: of a message, of a commit, of an attempt,
# of a step at the storage, or in a moment of a slot, a controller or the world.
USUAL: Mapping[Fault, float] = {
    Fault.DROP: 0.1,
    Fault.DOUBLE: 0.1,
    Fault.DELAY: 0.3,
    Fault.HOLE: 0.05,
    Fault.SLOT_KILLED: 0.008,
    Fault.NODE_LOST: 0.003,
    Fault.SLOT_CUT_OFF: 0.004,
    Fault.SLOT_FROZEN: 0.004,
    Fault.CONTROLLER_KILLED: 0.008,
    Fault.KILLED_BEFORE_COMMIT: 0.02,
    Fault.COMMIT_TORN: 0.02,
    Fault.KILLED_AFTER_COMMIT: 0.02,
    Fault.KILLED_ANSWERING: 0.02,
    Fault.CONTROLLER_FROZEN: 0.006,
    Fault.SECOND_CONTROLLER: 0.012,
    Fault.RACE: 0.05,
    Fault.STORAGE_FULL: 0.004,
    Fault.STORAGE_AWAY: 0.003,
    Fault.CLUSTER_LOST: 0.002,
    Fault.WALL_CLOCK_JUMPS: 0.02,
    Fault.ATTEMPT_RAISES: 0.02,
    Fault.ATTEMPT_KILLED: 0.008,
    Fault.CHECKPOINT_DAMAGED: 0.2,
}
SWARM = (0.0, 0.0, 0.5, 1.0, 1.0, 2.5, 5.0)  # times the usual rate
CALM = 0.03  # share of seeds in which nothing breaks

# In some seeds nothing dies: what matters is who hears whom and for how long, over slow trials that
# another slot would take at once. Leases are seldom run out where everything dies all the time.
ESTRANGED = 0.25  # share of these seeds
ESTRANGING = frozenset(
    {
        Fault.DROP,
        Fault.DELAY,
        Fault.SLOT_CUT_OFF,
        Fault.SLOT_FROZEN,
        Fault.CONTROLLER_FROZEN,
        Fault.SECOND_CONTROLLER,
        Fault.STORAGE_FULL,
        Fault.STORAGE_AWAY,
    }
)

POLICIES: tuple[Policy, ...] = (
    NoPolicy(),
    NoPolicy(),
    Bandit(slack_factor=0.3, delay_evaluation=3),
    Bandit(slack_amount=0.25, evaluation_interval=2),
    MedianStopping(delay_evaluation=2),
    MedianStopping(evaluation_interval=3),
    TruncationSelection(truncation_percentage=40, evaluation_interval=2),
    TruncationSelection(truncation_percentage=50, exclude_finished_jobs=True),
)
ODD = (float("nan"), float("inf"), float("-inf"))


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything about a seed that is not a matter of the moment."""

    seed: int
    spec: SweepSpec
    places: tuple[int, ...]  # of each slot that the cluster has room for
    likely: Mapping[Fault, float] = field(default_factory=dict)
    calm_from: int = 0  # the moment from which on nothing breaks
    ahead: int = 2  # trials that should wait for a slot
    queue: int = 0  # trials that a slot takes beyond its places
    sampler_ends: int | None = None  # after so many trials it has no more, though more may be had
    revises: float = 0.0  # how likely it thinks again of a trial that waits, in a moment
    sampler_fails: int | None = None  # asked for the trial of this number, it raises
    cancel_at: int | None = None  # a moment
    suspend_at: int | None = None
    snapshots: float = 0.0  # how likely one is kept, in a moment
    lengths: tuple[int, int] = (3, 13)  # intervals of the shortest and of the longest trial
    speed: float = 0.7  # how likely a trial comes to a report, in a moment
    level: float = 0.0  # that all values lie above
    digits: int = 3  # of the values; with few of them ties are common
    odd: float = 0.0  # share of values that are not finite
    mute: float = 0.0  # share of trials that never report the primary metric
    saves: float = 0.4  # how likely a report comes with a checkpoint
    fresh: float = 0.1  # how likely an attempt takes no notice of its checkpoint
    places_to_fail: int = 1_000  # lines that may raise; of one alone, all failures are alike
    raises_at: int | None = None  # the interval at which every attempt raises: the code is broken
    deadly: int | None = None  # the trial whose attempts take their slots with them

    @classmethod
    def of(cls, seed: int) -> Self:
        """The scenario of this seed."""
        draw = Random(f"scenario {seed}")
        scenario = cls._any(seed, draw)
        return scenario._estranged(draw) if draw.random() < ESTRANGED else scenario

    @classmethod
    def _any(cls, seed: int, draw: Random) -> Self:
        calm_from = draw.randint(60, 200)
        return cls(
            seed=seed,
            spec=_spec(draw),
            places=tuple(draw.choice((1, 1, 2, 3)) for _ in range(draw.randint(1, 4))),
            likely=_swarm(draw),
            calm_from=calm_from,
            ahead=draw.randint(1, 5),
            sampler_ends=_perhaps(draw, 0.15, draw.randint(0, 6)),
            sampler_fails=_perhaps(draw, 0.05, draw.randint(0, 8)),
            cancel_at=_perhaps(draw, 0.2, draw.randint(1, calm_from)),
            suspend_at=_perhaps(draw, 0.15, draw.randint(1, calm_from)),
            snapshots=draw.choice((0.0, 0.05)),
            lengths=draw.choice(((1, 3), (3, 13), (8, 20))),
            speed=draw.choice((0.1, 0.3, 0.7)),
            level=draw.choice((0.0, 0.0, -0.5, -2.0)),
            digits=draw.choice((1, 3, 17)),
            odd=draw.choice((0.0, 0.0, 0.1)),
            mute=draw.choice((0.0, 0.0, 0.1)),
            saves=draw.choice((0.0, 0.2, 0.5, 1.0)),
            fresh=draw.choice((0.0, 0.1, 0.5)),
            places_to_fail=draw.choice((1, 1_000, 1_000)),
            raises_at=_perhaps(draw, 0.04, draw.randint(0, 2)),
            deadly=_perhaps(draw, 0.04, draw.randint(0, 3)),
            queue=draw.choice((0, 0, 1, 3)),
            revises=draw.choice((0.0, 0.2, 0.6)),
        )

    def _estranged(self, draw: Random) -> Self:
        """The same, but nothing dies, few trials take long, and there is room for them elsewhere."""
        total = draw.randint(1, 3)
        limits = dataclasses.replace(self.spec.limits, max_total_trials=total, trial_timeout=None)
        likely = {fault: likely for fault, likely in self.likely.items() if fault in ESTRANGING}
        return dataclasses.replace(
            self,
            spec=dataclasses.replace(self.spec, limits=limits),
            likely=likely,
            places=tuple(draw.randint(1, 3) for _ in range(draw.randint(2, 4))),
            lengths=(4, 10),
            speed=0.05,
            raises_at=None,
            deadly=None,
        )

    def undisturbed(self) -> Self:
        """The same sweep with nothing that breaks it or ends it early."""
        limits = dataclasses.replace(self.spec.limits, timeout=None, trial_timeout=None)
        return dataclasses.replace(
            self,
            spec=dataclasses.replace(self.spec, limits=limits),
            likely={},
            cancel_at=None,
            suspend_at=None,
            deadly=None,
        )

    def length(self, trial: int) -> int:
        """How many intervals a trial has."""
        shortest, longest = self.lengths
        return shortest + trial * 7 % (longest - shortest + 1)

    def is_mute(self, trial: int) -> bool:
        """Whether a trial never reports the primary metric."""
        return self.mute > 0 and Random(f"mute {self.seed} {trial}").random() < self.mute

    def value(self, trial: int, interval: int) -> float:
        """What a trial reports at an interval, on whichever attempt."""
        return _value((self.seed, trial, interval), self.level, self.digits, self.odd)


@lru_cache(maxsize=10_000)
def _value(place: tuple[int, int, int], level: float, digits: int, odd: float) -> float:
    seed, trial, interval = place
    draw = Random(f"value {seed} {trial} {interval}")
    if draw.random() < odd:
        return draw.choice(ODD)
    return round(level + draw.random(), digits)


def _spec(draw: Random) -> SweepSpec:
    total: int | None = draw.randint(1, 10)
    timeout = _perhaps(draw, 0.15, draw.randint(30, 250))
    if draw.random() < 0.05:  # nothing but its time ends it
        total, timeout = None, draw.randint(30, 120)
    space, sampler = _sampling(draw)
    spec = draft_spec(
        policy=draw.choice(POLICIES),
        objective=draw.choice((maximize, minimize))(METRIC),
        max_attempts=draw.choice((1, 1, 2, 3)),
    )
    limits = Limits(
        max_total_trials=total,
        max_concurrent_trials=_perhaps(draw, 0.4, draw.randint(1, 4)),
        timeout=timeout,
        trial_timeout=_perhaps(draw, 0.3, draw.randint(5, 40)),
    )
    return dataclasses.replace(
        spec,
        space=space,
        sampler=sampler,
        limits=limits,
        seed=draw.randrange(2**32),
        lease=float(LEASE),
        sync_decisions=draw.random() < 0.2,
    )


def _sampling(draw: Random) -> tuple[Space, Sampler]:
    """A grid, which is finite and may run out before the limits say so, or numbers without end."""
    if draw.random() < 0.3:
        return Space({"x": choice([*range(draw.randint(1, 12))])}), samplers.Grid()
    return Space({"x": uniform(0, 1)}), samplers.Random()


def _swarm(draw: Random) -> Mapping[Fault, float]:
    if draw.random() < CALM:
        return {}
    return {fault: usual * draw.choice(SWARM) for fault, usual in USUAL.items()}


def _perhaps(draw: Random, likely: float, value: int) -> int | None:
    return value if draw.random() < likely else None
