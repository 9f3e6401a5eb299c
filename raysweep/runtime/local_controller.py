"""The controller on a virtual clock, and where it keeps its records.

One rule: it does what `raysweep.runtime.controller` does, in the same order: a request is admitted,
what is new in it is applied and gathered, all of that is committed, and only then answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from raysweep.core.events import (
    Event,
    Opened,
    SamplerFailed,
    SlotLost,
    Stop,
)
from raysweep.core.exchange import Reception, Refusal, Reply, Request
from raysweep.core.spec import SweepSpec
from raysweep.core.state import SweepState
from raysweep.runtime import answers, proposals
from raysweep.runtime.asking import Ask, Asking
from raysweep.runtime.local_slot import LocalSlot
from raysweep.runtime.proposals import Answer
from raysweep.runtime.virtual_clock import VirtualClock
from raysweep.storage.journal import Journal, Record
from raysweep.storage.segments import FileSegments

SamplerTime = float | Callable[[int], float] | Literal["measured"]
"""Virtual seconds that a proposal takes: always, with so many trials known, or as long as it does."""


class MemoryJournal:
    """A journal that lasts as long as the simulation."""

    def __init__(self) -> None:
        self.epoch = 0
        self.records: list[Record] = []
        self._gathered: list[Record] = []

    def open(self) -> Sequence[Record]:
        """Begin the next epoch; returns all that was committed before."""
        self.epoch += 1
        self._gathered = []
        return self.records

    def append(self, record: Record) -> None:
        """Gather a record for the next commit."""
        self._gathered.append(record)

    def commit(self) -> None:
        """Keep what was gathered, whatever happens."""
        self.records += self._gathered
        self._gathered = []

    def close(self) -> None:
        """Nothing is open."""


class DiskJournal:
    """A real journal."""

    def __init__(self, folder: Path) -> None:
        self.records: Sequence[Record] = ()
        self._folder = folder
        self._journal: Journal

    @property
    def epoch(self) -> int:
        """Of its writer now."""
        return self._journal.epoch

    def open(self) -> Sequence[Record]:
        """Take the journal over; returns all that was committed before."""
        self._journal, records = Journal.open(FileSegments(self._folder))
        return [*records]

    def append(self, record: Record) -> None:
        """Gather a record for the next commit."""
        self._journal.append(record.event, record.commands)

    def commit(self) -> None:
        """Write what was gathered to disk."""
        if payload := self._journal.seal():
            self._journal.write(payload)

    def close(self) -> None:
        """Leave it to another writer; what is not committed is lost."""
        self._journal.close()


class LocalController:
    """One life of the controller, as `raysweep.runtime.controller` leads it on Ray.

    All that happens at one moment is committed together, then answered.
    """

    def __init__(
        self,
        spec: SweepSpec,
        clock: VirtualClock,
        journal: MemoryJournal | DiskJournal,
        slots: Mapping[int, LocalSlot],
        *,
        size: int,
        sampler_time: SamplerTime,
    ) -> None:
        """Take the sweep up from the journal.

        Args:
            spec: the sweep.
            clock: the virtual clock.
            journal: to be opened, and written from then on.
            slots: those that stand, now or later, by number.
            size: how many there are to be.
            sampler_time: what a proposal takes.
        """
        self.state = SweepState(spec)
        self.gone = False
        self._spec = spec
        self._clock = clock
        self._journal = journal
        self._slots = slots
        self._size = size
        self._sampler_time = sampler_time
        self._held: dict[int, Request] = {}  # by slot, of those with nothing to run
        self._replies: list[tuple[Request, Reply]] = []  # that leave with the next commit
        self._asking = Asking(spec)
        self._asked: Ask | None = None  # what the sampler is at
        self._turning = False  # whether a turn is to come at this moment
        known = journal.open()
        for event, commands in known:
            self.state.apply(event, commands)
        self._start, self._opened = self.state.time, clock.now
        self._reception = Reception(journal.epoch, spec.lease)
        kept = bool(slots) or not known
        self._apply(Opened(time=self._now(), epoch=journal.epoch, slots_kept=kept))
        self._plan_look()

    @property
    def done(self) -> bool:
        """Whether the sweep is over and all of it committed."""
        return self.state.over and not self._turning

    def _now(self) -> float:
        """The sweep's own time; the same moment may not come out earlier by a rounding."""
        return max(self.state.time, self._start + self._clock.now - self._opened)

    # --- the slots' way in ------------------------------------------------------------------------

    def receive(self, request: Request) -> None:
        """Take a request; its reply leaves with the commit, or once there is a trial for it."""
        refusal = self._reception.admit(request, self._clock.now)
        news = refusal or self.state.novel(request, self._now())
        if isinstance(news, Refusal):
            self._send(request, self._refusal(request, news))
            return
        if answers.has_effect(self.state, news):
            self._apply(news)
        if self.state.slots[request.slot].holds or self.state.over:
            self._answer(request)
            return
        self._held[request.slot] = request
        until = self._clock.now + self._spec.lease / 3
        self._clock.at(until, partial(self._release, request))

    def _release(self, request: Request) -> None:
        """Answer a request that has been held for long enough, so that its slot can speak."""
        if not self.gone and self._held.get(request.slot) is request:
            del self._held[request.slot]
            self._answer(request)

    def _answer(self, request: Request) -> None:
        reply = answers.reply(self.state, request, epoch=self._journal.epoch, slots=self._size)
        self._send(request, reply)

    def _refusal(self, request: Request, why: Refusal) -> Reply:
        return answers.refusal(self.state, request, why, epoch=self._journal.epoch)

    def _send(self, request: Request, reply: Reply) -> None:
        self._replies.append((request, reply))
        self._plan_turn()

    def slot_lost(self, number: int, incarnation: int) -> None:
        """A slot's actor is gone: its trials get another attempt."""
        self._reception.forget(number, incarnation)
        self._held.pop(number, None)
        if not self.state.superseded(number, incarnation):
            self._apply(
                SlotLost(time=self._now(), slot=number, incarnation=incarnation, cause="it died")
            )

    # --- events in, commands out ------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        commands = self.state.apply(event)
        self._journal.append(Record(event, commands))
        for command in commands:
            if isinstance(command, Stop):
                self._slots[self.state.trials[command.id.trial].slot].speak_soon()
        self._plan_turn()

    def _plan_turn(self) -> None:
        if not self._turning:
            self._turning = True
            self._clock.at(self._clock.now, self._turn)

    def _turn(self) -> None:
        """Hand out what there is, commit all of this moment, answer."""
        if self.gone:
            return
        self._serve()
        self._sample()
        self._journal.commit()
        self._turning = False
        replies, self._replies = self._replies, []
        for request, reply in replies:
            self._slots[request.slot].hear(request, reply)

    def _serve(self) -> None:
        """Give what waits to those who wait, the longest first."""
        while self._held and self.state.can_assign(slot := next(iter(self._held))):
            request = self._held.pop(slot)
            self._apply(answers.no_news(request, self._now()))
            self._answer(request)

    # --- beside the loop --------------------------------------------------------------------------

    def _sample(self) -> None:
        """Ask what there is to ask, one after the other; what is known is what is known now."""
        if self._asked is not None:
            return
        ask = self._asking.next(self.state, self._size, self._clock.now)
        if ask is None:
            return
        self._asked = ask
        began = time.perf_counter()
        answer = proposals.answer(self._spec, ask.known, ask.numbers)
        if answer.error:
            self._apply(SamplerFailed(time=self._now(), error=answer.error))
            return
        took = self._charge(ask, time.perf_counter() - began)
        self._clock.at(self._clock.now + took, partial(self._answered, ask, answer, took))

    def _charge(self, ask: Ask, measured: float) -> float:
        """The virtual seconds that an answer takes."""
        if self._sampler_time == "measured":
            return measured
        if callable(self._sampler_time):
            return sum(self._sampler_time(len(ask.known) + k) for k in range(len(ask.numbers)))
        return len(ask.numbers) * self._sampler_time

    def _answered(self, ask: Ask, answer: Answer, took: float) -> None:
        if self.gone or self.state.over:
            return
        self._asked = None
        event = self._asking.answered(
            self.state, ask, answer, now=self._clock.now, took=took, time=self._now()
        )
        if event is not None:
            self._apply(event)
        self._plan_turn()

    def _plan_look(self) -> None:
        """Look after time limits when the next is due; what begins later is due a limit later."""
        limit = self.state.limits.trial_timeout
        due = self.state.next_due()
        times = [] if due is None else [due]
        if limit is not None and not self.state.over:
            times.append(self._now() + limit)
        if times:
            at = min(times)
            self._clock.at(self._opened + at - self._start, partial(self._look, at))

    def _look(self, at: float) -> None:
        if self.gone:
            return
        for event in self.state.due(max(at, self._now())):
            self._apply(event)
        self._plan_look()
