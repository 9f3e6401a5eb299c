"""A sweep in one process on a virtual clock: for tests, simulation and benchmarks.

One rule: nothing sleeps and nothing is left to chance; the same spec, trial and faults give the
same records, byte for byte. State, books, reception and answers are the very ones of a sweep on
Ray; only its actors are played here, and a message takes no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from raysweep.core import checks
from raysweep.core.events import (
    Event,
    Exchanged,
    Opened,
    Params,
    Proposed,
    SamplerFailed,
    SlotLost,
    Stop,
)
from raysweep.core.exchange import Reception, Refusal, Reply, Request
from raysweep.core.spec import SweepSpec
from raysweep.core.state import SweepState
from raysweep.runtime import answers, pace, proposals
from raysweep.runtime.local_slot import LocalSlot, SimulatedTrial
from raysweep.runtime.virtual_clock import VirtualClock
from raysweep.storage.journal import Journal, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSlot:
    """A slot's actor dies with what it runs; another takes its place at once."""

    at: float  # virtual seconds
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartController:
    """The controller dies; after `down` seconds another replays what was committed."""

    at: float  # virtual seconds
    down: float = 0.0


Fault = KillSlot | RestartController


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalResult:
    """What a simulated sweep came to."""

    state: SweepState  # at the end
    seconds: float  # virtual, time without a controller included
    busy: float  # the share of the slots' time that trials ran, 0 to 1
    records: Sequence[Record]  # empty when they went to a journal on disk


def simulate(
    spec: SweepSpec,
    trial: SimulatedTrial,
    *,
    slots: int,
    journal: Path | None = None,
    sampler_time: float = 0.0,
    faults: Sequence[Fault] = (),
) -> LocalResult:
    """Run a sweep to its end on a virtual clock.

    Args:
        spec: the sweep. Its resources and its isolation play no part.
        trial: what stands for the training function.
        slots: how many trials can run at once; the spec's limits hold, too.
        journal: the folder of a journal to write as the controller does, fsync included. What
            is in it already is taken up as on a new cluster. None: records stay in memory.
        sampler_time: virtual seconds that a proposal takes.
        faults: what breaks, and when.

    Raises:
        SpecError: an argument that cannot be simulated.

    >>> from raysweep.core.samplers import Grid
    >>> from raysweep.core.space import Space, choice
    >>> from raysweep.core.spec import maximize
    >>> from raysweep.runtime.local_slot import Step
    >>> def trial(params, seed, start):
    ...     for epoch in range(start, 3):
    ...         yield Step(seconds=60, metrics={"accuracy": params["x"] * epoch})
    >>> space = Space({"x": choice([0.2, 0.4])})
    >>> spec = SweepSpec(
    ...     name="two", space=space, objective=maximize("accuracy"), sampler=Grid(), seed=0
    ... )
    >>> result = simulate(spec, trial, slots=1)
    >>> result.seconds, result.busy, result.state.best
    (360.0, 1.0, Best(trial=1, interval=3, value=0.8))
    """
    checks.whole("slots", slots, at_least=1)
    checks.number("sampler_time", sampler_time, at_least=0)
    for fault in faults:
        _check(fault, slots)
    record = _Memory() if journal is None else _Disk(journal)
    return _World(spec, trial, slots, record, sampler_time).run(faults)


def _check(fault: Fault, slots: int) -> None:
    """Refuse a fault that cannot happen."""
    checks.number("at", fault.at, at_least=0)
    if isinstance(fault, KillSlot):
        checks.whole("slot", fault.slot, at_least=0, at_most=slots - 1)
    else:
        checks.number("down", fault.down, at_least=0)


class _Memory:
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
        self._gathered.append(record)

    def commit(self) -> None:
        self.records += self._gathered
        self._gathered = []

    def close(self) -> None:
        """Nothing is open."""


class _Disk:
    """A real journal."""

    def __init__(self, folder: Path) -> None:
        self.records: Sequence[Record] = ()
        self._folder = folder
        self._journal: Journal

    @property
    def epoch(self) -> int:
        return self._journal.epoch

    def open(self) -> Sequence[Record]:
        self._journal, records = Journal.open(self._folder)
        return records

    def append(self, record: Record) -> None:
        self._journal.append(record.event, record.commands)

    def commit(self) -> None:
        if payload := self._journal.seal():
            self._journal.write(payload)

    def close(self) -> None:
        self._journal.close()


class _World:
    """What there is: a clock, a record, slots, and most of the time a controller."""

    def __init__(
        self,
        spec: SweepSpec,
        trial: SimulatedTrial,
        size: int,
        record: _Memory | _Disk,
        sampler_time: float,
    ) -> None:
        self.spec = spec
        self.trial = trial
        self.size = size  # how many slots stand
        self.record = record
        self.sampler_time = sampler_time
        self.clock = VirtualClock()
        self.slots: dict[int, LocalSlot] = {}
        self._controller: _Controller | None = None
        self._worked = 0.0  # seconds that trials ran on slots that were replaced

    def run(self, faults: Sequence[Fault]) -> LocalResult:
        for fault in faults:
            self.clock.at(fault.at, partial(self._strike, fault))
        self._open()
        while self._controller is None or not self._controller.done:
            self.clock.step()
        self.record.close()
        worked = self._worked + sum(slot.worked for slot in self.slots.values())
        room = self.size * self.clock.now
        return LocalResult(
            state=self._controller.state,
            seconds=self.clock.now,
            busy=worked / room if room else 0.0,
            records=self.record.records,
        )

    def _open(self) -> None:
        self._controller = _Controller(self)
        self._fill(self._controller)

    def _fill(self, controller: _Controller) -> None:
        """Put a slot wherever none stands."""
        for number in range(self.size):
            slot = self.slots.get(number)
            if slot is not None and not slot.gone:
                continue
            known = controller.state.slots.get(number)
            before = known.incarnation if known else 0
            if slot is not None:
                before = max(before, slot.incarnation)
                self._worked += slot.worked
                controller.slot_lost(number, slot.incarnation)
            self.slots[number] = self._slot(number, before + 1)

    def _slot(self, number: int, incarnation: int) -> LocalSlot:
        return LocalSlot(
            self.spec, self.trial, self.clock, self._take, number=number, incarnation=incarnation
        )

    def _take(self, request: Request) -> bool:
        """Take a request to the controller; False when there is none."""
        if self._controller is not None:
            self._controller.receive(request)
        return self._controller is not None

    def _strike(self, fault: Fault) -> None:
        if isinstance(fault, KillSlot):
            self.slots[fault.slot].die()
            if self._controller is not None:
                self._fill(self._controller)
        elif self._controller is not None:
            self._controller.gone, self._controller = True, None
            self.record.close()
            for slot in self.slots.values():
                slot.hear_nothing()
            self.clock.at(self.clock.now + fault.down, self._open)


class _Controller:
    """One life of the controller, as `raysweep.runtime.controller` leads it on Ray.

    All that happens at one moment is committed together, then answered.
    """

    def __init__(self, world: _World) -> None:
        self._world = world
        self._clock = world.clock
        self._record = world.record
        self.state = SweepState(world.spec)
        known = self._record.open()
        for event, commands in known:
            self.state.apply(event, commands)
        self.gone = False
        self._start, self._opened = self.state.time, self._clock.now
        self._reception = Reception(self._record.epoch, world.spec.lease)
        self._held: dict[int, Request] = {}  # by slot, of those with nothing to run
        self._replies: list[tuple[Request, Reply]] = []  # that leave with the next commit
        self._sampling = False
        self._turning = False  # whether a turn is to come at this moment
        kept = bool(world.slots) or not known
        self._apply(Opened(time=self._now(), epoch=self._record.epoch, slots_kept=kept))
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
        until = self._clock.now + self._world.spec.lease / 3
        self._clock.at(until, partial(self._release, request))

    def _release(self, request: Request) -> None:
        """Answer a request that has been held for long enough, so that its slot can speak."""
        if not self.gone and self._held.get(request.slot) is request:
            del self._held[request.slot]
            self._answer(request)

    def _answer(self, request: Request) -> None:
        reply = answers.reply(self.state, request, epoch=self._record.epoch, slots=self._world.size)
        self._send(request, reply)

    def _refusal(self, request: Request, why: Refusal) -> Reply:
        return answers.refusal(self.state, request, why, epoch=self._record.epoch)

    def _send(self, request: Request, reply: Reply) -> None:
        self._replies.append((request, reply))
        self._plan_turn()

    def slot_lost(self, number: int, incarnation: int) -> None:
        """A slot's actor is gone: its trials get another attempt."""
        self._reception.forget(number, incarnation)
        self._held.pop(number, None)
        known = self.state.slots.get(number)
        if known is not None and known.incarnation == incarnation and not known.lost:
            self._apply(
                SlotLost(time=self._now(), slot=number, incarnation=incarnation, cause="it died")
            )

    # --- events in, commands out ------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        commands = self.state.apply(event)
        self._record.append(Record(event, commands))
        for command in commands:
            if isinstance(command, Stop):
                self._world.slots[self.state.trials[command.id.trial].slot].speak_soon()
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
        self._record.commit()
        self._turning = False
        replies, self._replies = self._replies, []
        for request, reply in replies:
            self._world.slots[request.slot].hear(request, reply)

    def _serve(self) -> None:
        """Give what waits to those who wait, the longest first."""
        while self._held and self.state.can_assign(slot := next(iter(self._held))):
            request = self._held.pop(slot)
            self._apply(
                Exchanged(
                    time=self._now(),
                    slot=slot,
                    incarnation=request.incarnation,
                    places=request.places,
                )
            )
            self._answer(request)

    # --- beside the loop --------------------------------------------------------------------------

    def _sample(self) -> None:
        """Have trials proposed, as long as any are wanted; what is known is what is known now."""
        wanted = self.state.proposals_wanted(pace.ahead(self._world.size))
        if self._sampling or not wanted:
            return
        self._sampling = True
        spec, first = self._world.spec, len(self.state.trials)
        known = self.state.observations() if spec.sampler.learns else []
        try:
            drawn = proposals.draw(spec, known, range(first, first + wanted))
        except Exception as error:  # noqa: BLE001  (the sampler may be anyone's: whatever it raises is told)
            self._apply(SamplerFailed(time=self._now(), error=repr(error)))
            return
        propose = partial(self._propose, drawn, exhausted=len(drawn) < wanted, known=len(known))
        self._clock.at(self._clock.now + wanted * self._world.sampler_time, propose)

    def _propose(self, drawn: list[Params], *, exhausted: bool, known: int) -> None:
        if self.gone or self.state.over:
            return
        self._sampling = False
        self._apply(
            Proposed(time=self._now(), params=tuple(drawn), exhausted=exhausted, known=known)
        )

    def _plan_look(self) -> None:
        """Look after time limits when the next is due; what begins later is due a limit later."""
        limit = self._world.spec.limits.trial_timeout
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
