"""Where a sweep stands, and all that its controller asks of it.

One rule: asking changes nothing. What moves a sweep on is `raysweep.core.state`.
"""

from __future__ import annotations

import math
import operator
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import ClassVar, NamedTuple

from raysweep.core import requests
from raysweep.core.events import (
    Assign,
    AttemptId,
    Event,
    Exchanged,
    Params,
    Stop,
    SweepTimedOut,
    TrialsTimedOut,
)
from raysweep.core.exchange import Acknowledged, Refusal, Request
from raysweep.core.history import Best, Goal, History
from raysweep.core.roster import Roster, Slot
from raysweep.core.samplers import Observation
from raysweep.core.spec import SweepSpec
from raysweep.core.trials import CUT_SHORT, TERMINAL, Trial, TrialState


class Phase(StrEnum):
    """Where a sweep stands."""

    RUNNING = "running"
    ENDING = "ending"  # nothing new begins; what runs is told to end
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


OVER = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELED})


class News(NamedTuple):
    """How much has come to light so far: neither ever grows less."""

    ended: int  # trials
    reports: int


def observed(
    history: History, trial: int, params: Params, *, pending: bool, stopped: bool = False
) -> Observation:
    """What a sampler that learns may know of a trial: its values turned so that greater is better."""
    best, values = history.best(trial), history.curve(trial)
    turns = history.goal is Goal.MINIMIZE
    return Observation(
        trial=trial,
        params=params,
        score=-best if turns and best is not None else best,
        pending=pending,
        stopped=stopped,
        # Eight bytes a value, where a tuple of them takes 32: of each ended trial it is kept.
        curve=array("d", map(operator.neg, values) if turns else values) if values else (),
    )


class Standing:
    """Where one sweep stands; equal to another when all that matters is equal."""

    # What does not matter: the rest says it as well, or it lasts only while an event is taken.
    _passing: ClassVar[frozenset[str]] = frozenset({"_observed", "_unsettled"})

    def __init__(self, spec: SweepSpec) -> None:
        self.spec = spec
        self.phase = Phase.RUNNING
        self.reason = ""  # why the sweep ends or ended
        self.time = 0.0  # of the last event
        self.epoch = 0
        self.limits = spec.limits  # that hold now
        self.total_trials = spec.total_trials  # at most; None when only the timeout ends the sweep
        self.roster = Roster(spec.limits.max_concurrent_trials)
        self.history = History(spec.objective.goal, spec.policy.tracks)
        self.exhausted = False  # whether the sampler has no more to propose
        self.reports = 0  # in the whole sweep
        self.suspended = False  # whether its controller has left it
        self._observed: list[Observation] = []  # by trial, as they were when last asked for
        self._unsettled: list[int] = []  # trials of these that had not ended then

    def __eq__(self, other: object) -> bool:
        """Whether two sweeps would answer every further event alike."""
        if not isinstance(other, Standing):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        return all(mine[name] == theirs[name] for name in mine.keys() - self._passing)

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial, by number."""
        return self.roster.trials

    @property
    def slots(self) -> dict[int, Slot]:
        """Every slot, by number, as its latest incarnation."""
        return self.roster.slots

    @property
    def counts(self) -> Counter[TrialState]:
        """How many trials are in each state."""
        return self.roster.counts

    @property
    def over(self) -> bool:
        """Whether the sweep has ended."""
        return self.phase in OVER

    @property
    def all_proposed(self) -> bool:
        """Whether no further trial will be proposed."""
        return self.exhausted or (
            self.total_trials is not None and len(self.trials) >= self.total_trials
        )

    @property
    def best(self) -> Best | None:
        """The trial with the best finite counted value; ties to the lower number."""
        return self.history.best_trial()

    def proposals_wanted(self, ahead: int) -> int:
        """How many trials the sampler should propose so that `ahead` trials wait."""
        if self.phase is not Phase.RUNNING or self.all_proposed:
            return 0
        left = ahead if self.total_trials is None else self.total_trials - len(self.trials)
        return max(0, min(left, ahead - len(self.roster.waiting)))

    @property
    def room(self) -> int:
        """How many trials the slots take, those that they hold ready included."""
        return sum(slot.places + slot.ahead for slot in self.slots.values() if not slot.lost)

    def slots_wanted(self) -> int | None:
        """How many slots of one place have something to run; None when there is no bound."""
        if self.over:
            return 0
        known = len(self.roster.live) + len(self.roster.waiting)
        bounds = [] if self.roster.most_live is None else [self.roster.most_live]
        if self.phase is not Phase.RUNNING or self.all_proposed:
            bounds.append(known)
        elif self.total_trials is not None:
            bounds.append(known + self.total_trials - len(self.trials))
        return min(bounds, default=None)

    @property
    def places(self) -> int:
        """How many trials the slots run at once."""
        return sum(slot.places for slot in self.slots.values() if not slot.lost)

    def free(self, places: int) -> int:
        """How many more trials may begin now, if there are so many places."""
        most = self.roster.most_live
        bound = places if most is None else min(places, most)
        return max(0, bound - len(self.roster.live) + len(self.roster.queued))

    @property
    def news(self) -> News:
        """How much has come to light from which a sampler could learn."""
        return News(sum(self.counts[state] for state in TERMINAL), self.reports)

    def trial_time(self) -> float | None:
        """Seconds that the trials that ended last took on average; None while none has."""
        latest = (self.trials[number] for number in self.roster.latest)
        times = [
            trial.ended - trial.first_begun
            for trial in latest
            if trial.ended is not None and trial.first_begun is not None
        ]
        return math.fsum(times) / len(times) if times else None

    def observations(self, *, but: int | None = None) -> list[Observation]:
        """What a sampler that learns may know: every trial so far, by number.

        What is known of an ended trial stays as it is and is looked at once, so that asking costs
        as much as there are trials that have not ended. Of one with no news the same object comes
        again, so that nobody need be told.

        Args:
            but: the trial that is to be proposed anew, which knows nothing of itself.
        """
        for number in self._unsettled:
            before, now = self._observed[number], self._observation(self.trials[number])
            if now.params is not before.params or now != before:  # True would equal 1
                self._observed[number] = now
        fresh = range(len(self._observed), len(self.trials))
        self._observed += [self._observation(self.trials[number]) for number in fresh]
        self._unsettled += fresh
        self._unsettled = [n for n in self._unsettled if self.trials[n].state not in TERMINAL]
        known = self._observed.copy()
        if but is not None:
            del known[but]
        return known

    def _observation(self, trial: Trial) -> Observation:
        return observed(
            self.history,
            trial.number,
            trial.params,
            pending=trial.state not in TERMINAL,
            stopped=trial.state in CUT_SHORT,
        )

    def due(self, now: float) -> list[Event]:
        """The time limits that have been reached."""
        timeout = self.limits.timeout
        if self.phase is not Phase.RUNNING:
            return []
        if timeout is not None and now >= timeout:
            return [SweepTimedOut(time=now)]
        over = sorted(id_ for id_, time in self._deadlines() if now >= time)
        return [TrialsTimedOut(time=now, ids=tuple(over))] if over else []

    def next_due(self) -> float | None:
        """The time at which `due` will next have something to say."""
        if self.phase is not Phase.RUNNING:
            return None
        timeout = self.limits.timeout
        times = [] if timeout is None else [timeout]
        return min([*times, *(time for _, time in self._deadlines())], default=None)

    def _deadlines(self) -> Iterator[tuple[AttemptId, float]]:
        """When the `trial_timeout` of each running attempt is over."""
        limit = self.limits.trial_timeout
        if limit is None:
            return
        for number in self.roster.live:
            trial = self.trials[number]
            if trial.state is TrialState.RUNNING:
                yield trial.id, trial.begun + limit

    # --- the exchange: see `raysweep.core.requests` -----------------------------------------------

    def superseded(self, slot: int, incarnation: int) -> bool:
        """Whether this actor of a slot was given up."""
        return self.roster.superseded(slot, incarnation)

    def can_assign(self, slot: int) -> bool:
        """Whether a trial waits that this slot may have."""
        return self.roster.can_assign(slot)

    def novel(self, request: Request, time: float) -> Exchanged | Refusal:
        """What a request says that is not known yet, or why it cannot be taken."""
        return requests.novel(self.roster, request, time)

    def acknowledged(self, request: Request) -> tuple[Acknowledged, ...]:
        """Up to which report each attempt of this request is known."""
        return requests.acknowledged(self.roster, request)

    def owed(self, request: Request) -> tuple[list[Assign], list[Stop], list[AttemptId]]:
        """What the slot must be told until it shows that it knows: assignments, stops, drops."""
        return requests.owed(self.roster, request)
