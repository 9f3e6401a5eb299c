"""A simulated controller: one life of it, from taking the journal over to its death.

One rule: it does what `raysweep.runtime.controller` does, in the same order, with the real journal,
the real answers and the real state; only its clock, its wire and its slots are simulated. What it
has not committed dies with it, and every reply that rests on it waits for the commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from raysweep.core.events import (
    CancelAsked,
    Event,
    Opened,
    Params,
    Proposed,
    Revised,
    SamplerFailed,
    SlotLost,
    Suspended,
)
from raysweep.core.exchange import Reception, Refusal, Reply, Request
from raysweep.runtime import answers
from raysweep.runtime.proposals import draw
from raysweep.storage import replay
from simulation.fate import Clock, Fate, Violation
from simulation.scenario import LEASE, MARGIN, Fault, Scenario
from simulation.segments import Died, FaultySegments
from simulation.slot import Slot

HOLD = 9  # moments that an idle slot's request is held, for a trial to come
VERIFY = LEASE / 3  # how often a controller makes sure that it is the only one
SURE = LEASE / 2  # how long it may believe so, and renew leases, when it cannot

Letter = Callable[[], None]  # something that may leave once a commit is durable


class Cluster(Protocol):
    """What a controller can do with the world around it."""

    def send_reply(self, reply: Reply, slot: Slot) -> None:
        """Send a reply to a slot."""

    def start_slot(self, number: int, incarnation: int) -> Slot:
        """Start a slot's actor, or take up the one that has this name."""

    def find_slot(self, number: int, incarnation: int) -> Slot | None:
        """The living actor of this name."""

    def kill_slot(self, slot: Slot) -> None:
        """Kill an actor, if it is within reach."""

    def sees_death(self, slot: Slot) -> bool:
        """Whether it is surely known by now that this actor is dead."""

    def committed(self, controller: Controller) -> None:
        """A commit is durable; all that the controller has applied is in it."""

    def revised(self, *, late: bool) -> None:
        """The sampler has thought again of a trial, perhaps too late."""

    def canceled(self) -> None:
        """The sweep was told to end."""

    def suspended(self) -> None:
        """The sweep was left on purpose."""


@dataclass
class Commit:
    """What goes to the storage at once, and what may leave then."""

    payload: bytes = b""
    due: int = 0  # the moment at which the storage is asked
    letters: list[Letter] = field(default_factory=list)


class Controller:
    """One life of the controller."""

    def __init__(
        self,
        segments: FaultySegments,
        *,
        scenario: Scenario,
        fate: Fate,
        cluster: Cluster,
        slots_kept: bool,
        wall: str,
    ) -> None:
        """Take the sweep over; what the storage refuses is an `OSError`."""
        self.gone = False
        self.frozen_until = 0
        self._scenario, self._fate, self._cluster = scenario, fate, cluster
        self._journal, self.state = replay.take_over(segments, scenario.spec)
        self.epoch = self._journal.epoch
        self.replayed = len(self.state.trials)
        self._clock = Clock(fate)
        self._start, self._from = self.state.time, self._clock.now()
        self._paused = False
        self._verified = self._clock.now()
        self._reception = Reception(self.epoch, LEASE)
        self._admitted: dict[tuple[int, int], int] = {}  # sequences
        self._gathered = 0  # events that are not sealed
        self._letters: list[Letter] = []  # that wait for these
        self._sealed: Commit | None = None
        self._held: list[tuple[float, Slot, Request]] = []  # until when, and whose
        self._drawn: tuple[float, list[Params], int] | None = None  # ready when, of how many
        self._revised: tuple[float, int, Params] | None = None  # ready when, which trial, what
        self._crew: dict[int, tuple[int, Slot | None]] = {}  # by number; None: out of sight
        self._latest: dict[int, int] = {}  # incarnations
        self._wall, self._slots_kept = wall, slots_kept

    def __str__(self) -> str:
        """Named by its epoch."""
        return f"controller {self.epoch}"

    def open(self) -> None:
        """Begin, once what was replayed has been looked at."""
        self._apply(
            Opened(
                time=self._time(), epoch=self.epoch, slots_kept=self._slots_kept, wall=self._wall
            )
        )
        for number, slot in self.state.slots.items():
            if not slot.lost:
                self._rejoin(number, slot.incarnation)

    @property
    def is_done(self) -> bool:
        """Whether the sweep is over and all of it committed."""
        return self.state.over and not self._gathered and self._sealed is None

    def _time(self) -> float:
        """The sweep's own time; it stands still while the storage refuses."""
        return self._start + (0 if self._paused else self._clock.now() - self._from)

    # --- the slots' way in ------------------------------------------------------------------------

    def take(self, request: Request, slot: Slot) -> None:
        """Take a request; it gives no answer, and so renews no lease, if it may have been replaced."""
        if not self._is_sure:
            return
        refusal = self._reception.admit(request, self._clock.now())
        if refusal is None and not self._is_one_of_the_crew(request):
            self._reception.forget(request.slot, request.incarnation)  # it has no lease to run out
            refusal = Refusal.SUPERSEDED
        if refusal is None and self._paused:
            refusal = Refusal.PAUSED
        if refusal is not None:
            self._refuse(request, slot, refusal)
            return
        news = self.state.novel(request, self._time())
        if isinstance(news, Refusal):
            self._refuse(request, slot, news)
            return
        self._check_admitted(request)
        if answers.has_effect(self.state, news):
            self._apply(news)
        if self.state.slots[request.slot].holds:
            self._answer(request, slot)
        else:
            self._hold_or_answer(self._clock.now() + HOLD, slot, request)

    def _is_one_of_the_crew(self, request: Request) -> bool:
        """Whether the slot was found in the journal or started here.

        One that an earlier controller started and did not live to journal has nothing to run. Were
        it heard beside the one that was started in its place, it would count as that one's
        successor, and what that one runs would be taken from it. It is told before it is told to
        wait for the storage, which would renew its lease.
        """
        incarnation, _ = self._crew.get(request.slot, (0, None))
        return incarnation == request.incarnation

    def _check_admitted(self, request: Request) -> None:
        """Rule 1: it is this epoch's, and none that was sent later has been taken."""
        who = (request.slot, request.incarnation)
        latest = self._admitted.get(who, 0)
        if request.epoch != self.epoch or request.sequence <= latest:
            raise Violation(
                f"{self} took request {request.sequence} of slot {who} in epoch {request.epoch}"
                f" after request {latest}"
            )
        self._admitted[who] = request.sequence

    def _hold_or_answer(self, until: float, slot: Slot, request: Request) -> None:
        """Answer, unless the slot is idle and may yet be given something."""
        waits = not (self.state.over or self._paused or self.state.slots[slot.number].lost)
        if waits and self.state.can_assign(slot.number):
            self._apply(answers.no_news(request, self._time()))
        elif waits and self._clock.now() < until:
            self._held.append((until, slot, request))
            return
        self._answer(request, slot)

    def _answer(self, request: Request, slot: Slot) -> None:
        slots = len(self._crew)
        reply = answers.reply(self.state, request, epoch=self.epoch, slots=slots)
        self._leave_with_commit(lambda: self._cluster.send_reply(reply, slot))

    def _refuse(self, request: Request, slot: Slot, why: Refusal) -> None:
        """Refuse at once, unless the refusal says what is acknowledged."""
        reply = answers.refusal(self.state, request, why, epoch=self.epoch)
        if why is Refusal.GAP:
            self._leave_with_commit(lambda: self._cluster.send_reply(reply, slot))
        else:
            self._cluster.send_reply(reply, slot)

    # --- people's way in --------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the sweep."""
        self._apply(CancelAsked(time=self._time()))
        self._leave_with_commit(self._cluster.canceled)

    def suspend(self) -> None:
        """Leave the sweep as it is."""
        self._apply(Suspended(time=self._time()))
        self._leave_with_commit(self._cluster.suspended)

    # --- events in, commands out ------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        self._journal.append(event, self.state.apply(event))
        self._gathered += 1

    def _leave_with_commit(self, letter: Letter) -> None:
        """Let something leave once all that was applied so far is durable."""
        if self._gathered:
            self._letters.append(letter)
        elif self._sealed is not None:
            self._sealed.letters.append(letter)
        else:
            letter()

    def act(self) -> None:
        """One moment: look around, propose, answer who was held, commit perhaps."""
        self._look()
        self._sample()
        if self._scenario.revises and not self._paused:
            self._revise()
        held, self._held = self._held, []
        for until, slot, request in held:
            self._hold_or_answer(until, slot, request)
        self._commit()

    def _commit(self) -> None:
        """Seal what was gathered; ask the storage for it, at once or a little later."""
        if self._sealed is None and self._gathered and self._fate.chance(0.6):
            due = self._fate.now + self._fate.one_of((0, 0, 0, 1, 2))
            self._sealed = Commit(self._journal.seal(), due, self._letters)
            self._gathered, self._letters = 0, []
        if self._sealed is not None and self._sealed.due <= self._fate.now:
            self._write(self._sealed)

    def _write(self, commit: Commit) -> None:
        """Commit, then let the letters go; whoever has been replaced gets no further than this."""
        try:
            self._journal.write(commit.payload)
        except OSError as error:
            self._fate.tell(self, "pauses:", error)
            self._start, self._paused = self._time(), True
            return
        if self._paused:
            self._from, self._paused = self._clock.now(), False
        self._sealed = None
        self._verified = self._clock.now()
        self._fate.tell(self, "commits", len(commit.payload), "bytes")
        self._cluster.committed(self)
        for letter in commit.letters:
            if self._fate.strikes(Fault.KILLED_ANSWERING):
                raise Died
            letter()

    @property
    def has_uncommitted(self) -> bool:
        """Whether its state is ahead of the journal."""
        return self._gathered > 0

    # --- beside the loop --------------------------------------------------------------------------

    @property
    def _is_sure(self) -> bool:
        """Whether it has the sweep, as far as it may believe; else it answers and kills nobody."""
        return self._clock.now() - self._verified <= SURE

    def _verify(self) -> None:
        """Make sure that no later controller has the sweep; when nobody can tell, that is no news."""
        try:
            self._journal.verify()
        except OSError as error:
            self._fate.tell(self, "cannot tell who has the sweep:", error)
        else:
            self._verified = self._clock.now()

    def _look(self) -> None:
        """Look after time limits, leases, the epoch and the number of slots."""
        if self._clock.now() - self._verified > VERIFY:
            self._verify()
        if self._paused or not self._is_sure:
            return
        for event in self.state.due(self._time()):
            self._apply(event)
        for number, incarnation in self._reception.silent(self._clock.now(), MARGIN):
            self._fate.tell(self, f"gives up slot {number}.{incarnation}: it was silent")
            self._lose(number, incarnation, "it was silent for longer than its lease")
        for number, (incarnation, slot) in [*self._crew.items()]:
            if slot is not None and self._cluster.sees_death(slot):
                self._lose(number, incarnation, "it died")
        self._fill()

    def _sample(self) -> None:
        """Keep trials waiting; a draw takes a while, in which others may do as they like."""
        if self._drawn is None:
            wanted = 0 if self._paused else self.state.proposals_wanted(self._scenario.ahead)
            if wanted and not self.state.over:
                self._draw(wanted)
        elif self._clock.now() >= self._drawn[0]:
            _, params, wanted = self._drawn
            self._drawn = None
            exhausted = len(params) < wanted
            self._apply(Proposed(time=self._time(), params=tuple(params), exhausted=exhausted))

    def _revise(self) -> None:
        """Think again of a trial that waits; it may be assigned, or the sweep may end, meanwhile."""
        untouched = [n for n in self.state.roster.waiting if self.state.trials[n].untouched]
        if self._revised is not None and self._clock.now() >= self._revised[0]:
            _, number, params = self._revised
            self._revised = None
            self._cluster.revised(late=number not in untouched)
            self._apply(Revised(time=self._time(), trial=number, params=params))
        elif self._revised is None and untouched and self._fate.chance(self._scenario.revises):
            other = self._fate.number(0, 999)
            drawn = draw(self._scenario.spec, [], range(other, other + 1))
            if drawn:
                ready = self._clock.now() + self._fate.number(0, 3)
                self._revised = (ready, self._fate.one_of(untouched), drawn[0])

    def _draw(self, wanted: int) -> None:
        first = len(self.state.trials)
        fails, ends = self._scenario.sampler_fails, self._scenario.sampler_ends
        if fails is not None and first <= fails < first + wanted:
            self._apply(SamplerFailed(time=self._time(), error="ValueError: by chance"))
            return
        drawn = draw(self._scenario.spec, [], range(first, first + wanted))
        if ends is not None:
            drawn = drawn[: max(0, ends - first)]
        self._drawn = (self._clock.now() + self._fate.number(0, 3), drawn, wanted)

    # --- slots ------------------------------------------------------------------------------------

    def _rejoin(self, number: int, incarnation: int) -> None:
        """Take up a slot that an earlier controller made.

        Its lease may have been renewed by the controller before, for as long as that one could
        believe that it still had the sweep.
        """
        self._latest[number] = incarnation
        self._crew[number] = (incarnation, self._cluster.find_slot(number, incarnation))
        self._reception.expect(number, incarnation, self._clock.now() + SURE)

    def _fill(self) -> None:
        """Start the slots that have something to run and for which there is room."""
        wanted, room = self.state.slots_wanted(), len(self._scenario.places)
        for number in range(room if wanted is None else min(wanted, room)):
            if number in self._crew:
                continue
            known = self.state.slots.get(number)
            before = max(self._latest.get(number, 0), known.incarnation if known else 0)
            self._latest[number] = before + 1
            slot = self._cluster.start_slot(number, before + 1)
            self._crew[number] = (before + 1, slot)
            self._reception.expect(number, before + 1, self._clock.now())

    def _lose(self, number: int, incarnation: int, cause: str) -> None:
        """A slot is given up: make sure that nothing is left of it."""
        self._reception.forget(number, incarnation)
        known, slot = self._crew.get(number, (0, None))
        if known == incarnation:
            del self._crew[number]
            if slot is not None:
                self._cluster.kill_slot(slot)
        if not self.state.superseded(number, incarnation):
            self._apply(
                SlotLost(time=self._time(), slot=number, incarnation=incarnation, cause=cause)
            )
