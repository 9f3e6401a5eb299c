"""Who is where: the trials, the slots, and which slot holds which trial.

One rule: a trial changes its state only through `Roster.step`, which keeps every count and every
set in line with it. Nothing here decides anything.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Self

from sortedcontainers import SortedList

from raysweep.core.events import Assign, AttemptId, Params
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.trials import LIVE, TERMINAL, Step, Trial, TrialState

LATEST = 50  # trials that ended last, of which the numbers are kept at hand


@dataclass(slots=True, kw_only=True)
class Slot:
    """What the sweep knows of a slot."""

    incarnation: int
    places: int = 0
    ahead: int = 0  # how many trials it takes beyond its places
    lost: bool = False
    holds: set[int] = field(default_factory=set)  # numbers of the trials that are its to run


@dataclass(slots=True)
class Roster:
    """Every trial and every slot of a sweep; equal to another that would answer alike."""

    most_live: int | None  # trials that run at once; None: as many as the slots have places for
    trials: list[Trial] = field(default_factory=list)  # by number
    slots: dict[int, Slot] = field(default_factory=dict)
    counts: Counter[TrialState] = field(default_factory=Counter)
    live: set[int] = field(default_factory=set)  # numbers of the trials that are on a slot
    queued: set[int] = field(default_factory=set)  # of these: beyond its places, and not begun
    # Numbers of those that wait, lowest first: what was lost or failed goes before what is new.
    waiting: SortedList = field(default_factory=SortedList)
    latest: deque[int] = field(default_factory=lambda: deque(maxlen=LATEST), compare=False)

    def kept(self) -> list[Any]:
        """All that a snapshot keeps, as plain lists: `Roster.restored` reads it."""
        slots = [[n, s.incarnation, s.places, s.ahead, s.lost] for n, s in self.slots.items()]
        return [to_plain(self.trials), slots, sorted(self.queued)]

    @classmethod
    def restored(cls, most_live: int | None, kept: list[Any]) -> Self:
        """The roster that gave `kept`."""
        trials, slots, queued = kept
        roster = cls(most_live, [from_plain(Trial, trial) for trial in trials])
        for number, incarnation, places, ahead, lost in slots:
            roster.slots[number] = Slot(
                incarnation=incarnation, places=places, ahead=ahead, lost=lost
            )
        roster.queued.update(queued)
        roster.counts.update(trial.state for trial in roster.trials)
        ended = [trial for trial in roster.trials if trial.state in TERMINAL]
        ended.sort(key=lambda trial: trial.ended or 0.0)
        roster.latest.extend(trial.number for trial in ended[-LATEST:])
        for trial in roster.trials:
            if trial.state is TrialState.WAITING:
                roster.waiting.add(trial.number)
            elif trial.state in LIVE:
                roster.live.add(trial.number)
                roster.slots[trial.slot].holds.add(trial.number)
        return roster

    def add(self, params: Params) -> None:
        """A new trial, which waits."""
        trial = Trial(number=len(self.trials), params=params)
        self.trials.append(trial)
        self.counts[trial.state] += 1
        self.waiting.add(trial.number)

    def step(self, trial: Trial, step: Step) -> None:
        """Take a trial's step.

        Raises:
            InvalidTransitionError: the trial has no such step; nothing is changed.
        """
        before, number = trial.state, trial.number
        trial.step(step)
        self.counts[before] -= 1
        self.counts[trial.state] += 1
        self.queued.discard(number)
        if before is TrialState.WAITING:
            self.waiting.remove(number)
        elif trial.state is TrialState.WAITING:
            self.waiting.add(number)
        if trial.state in LIVE:
            self.live.add(number)
        elif before in LIVE:
            self.live.remove(number)
            self.slots[trial.slot].holds.remove(number)
        if trial.state in TERMINAL:
            self.latest.append(number)

    def assign(self, trial: Trial, number: int) -> Assign:
        """Begin a new attempt at a trial that waits, on the slot of this number."""
        slot = self.slots[number]
        self.step(trial, Step.ASSIGN)
        trial.begin_attempt(number, slot.incarnation)
        if not self._has_free_place(slot):
            self.queued.add(trial.number)
        slot.holds.add(trial.number)
        return trial.order_to_run()

    def can_assign(self, number: int) -> bool:
        """Whether a trial waits and this slot has room for it."""
        slot = self.slots[number]
        if slot.lost or not self.waiting:
            return False
        if not self._has_free_place(slot):
            return self._may_queue(slot)
        return self.most_live is None or len(self.live) - len(self.queued) < self.most_live

    def _has_free_place(self, slot: Slot) -> bool:
        return len(slot.holds - self.queued) < slot.places

    def _may_queue(self, slot: Slot) -> bool:
        """Whether the slot may have a trial before there is a place for it.

        Only while more wait than there are slots, so that none runs dry while trials lie elsewhere;
        and none that had an attempt before: one that ends its slot must not take others along again.
        """
        if len(slot.holds & self.queued) >= slot.ahead or len(self.waiting) <= len(self.slots):
            return False
        first: int = self.waiting[0]
        return self.trials[first].attempt == 0

    def superseded(self, number: int, incarnation: int) -> bool:
        """Whether this actor of a slot was given up."""
        slot = self.slots.get(number)
        if slot is None:
            return False
        return incarnation < slot.incarnation or (incarnation == slot.incarnation and slot.lost)

    def owned(self, id_: AttemptId, number: int, incarnation: int) -> Trial | None:
        """The trial, if this attempt at it is the current one and this slot's to run."""
        trial = self.current(id_)
        if trial is None or (trial.slot, trial.incarnation) != (number, incarnation):
            return None
        return trial

    def current(self, id_: AttemptId) -> Trial | None:
        """The trial, if it is live and this is its current attempt."""
        if not 0 <= id_.trial < len(self.trials):
            return None
        trial = self.trials[id_.trial]
        return trial if trial.id == id_ and trial.state in LIVE else None
