"""A sweep in one process on a virtual clock: for tests, simulation and benchmarks.

One rule: nothing sleeps and nothing is left to chance. What happens next is the earliest entry of a
heap, so the same spec, trial and faults give the same records, byte for byte. State, books,
reception and answers are the very ones of a sweep on Ray; only its actors are played here, and a
message takes no time.

Unlike a real slot, one that has nothing to say and nothing to hear speaks only every third of a
lease: a day of virtual time then costs no more than what happens in it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from raysweep.core import checks
from raysweep.core.events import (
    Assign,
    AttemptId,
    Checkpoint,
    End,
    Ending,
    Event,
    Exchanged,
    Opened,
    Params,
    Proposed,
    SamplerFailed,
    SlotLost,
    Stop,
)
from raysweep.core.exchange import Reception, Refusal, Reply, Request, SlotBook
from raysweep.core.samplers import trial_seed
from raysweep.core.spec import SweepSpec
from raysweep.core.state import SweepState
from raysweep.errors import SpecError
from raysweep.runtime import answers, pace, proposals
from raysweep.runtime.failures import failure
from raysweep.storage.journal import Journal, Record

NEVER = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stretch of a simulated trial's work, and the report at its end."""

    seconds: float  # of virtual time
    metrics: Mapping[str, float] = field(default_factory=dict)  # empty: it ends without a report
    checkpoint: bool = False  # whether one is handed over with the report

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise SpecError(f"a step's seconds must be at least 0 and finite, not {self.seconds}")
        if self.checkpoint and not self.metrics:
            raise SpecError("a step with a checkpoint needs metrics: it is handed to a report")


SimulatedTrial = Callable[[Params, int, int], Iterator[Step]]
"""Called for each attempt with the trial's parameters, its seed and the interval that it continues
from. To return is to complete, to raise is to fail; a stop reaches it at its next report."""


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

    >>> import raysweep as rs
    >>> def trial(params, seed, start):
    ...     for epoch in range(start, 3):
    ...         yield Step(seconds=60, metrics={"accuracy": params["x"] * epoch})
    >>> sweep = rs.Sweep(
    ...     trial, space={"x": rs.choice([0.2, 0.4])}, objective=rs.maximize("accuracy"),
    ...     sampler=rs.Grid(), limits=rs.Limits(max_total_trials=2),
    ... )
    >>> result = simulate(sweep.spec, trial, slots=1)
    >>> result.seconds, result.busy, result.state.best
    (360.0, 1.0, Best(trial=1, interval=3, value=0.8))
    """
    checks.whole("slots", slots, at_least=1)
    checks.number("sampler_time", sampler_time, at_least=0)
    for fault in faults:
        checks.number("a fault's at", fault.at, at_least=0)
        if isinstance(fault, KillSlot):
            checks.whole("the slot to kill", fault.slot, at_least=0, at_most=slots - 1)
        else:
            checks.number("a restart's down", fault.down, at_least=0)
    record = _Memory() if journal is None else _Disk(journal)
    return _World(spec, trial, slots, record, sampler_time).run(faults)


class _Clock:
    """Virtual time: what is to happen, the earliest first, in order of asking at one moment."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(time, self.now), next(self._order), act))

    def step(self) -> None:
        self.now, _, act = heapq.heappop(self._heap)
        act()


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
        places: int,
        record: _Memory | _Disk,
        sampler_time: float,
    ) -> None:
        self.spec = spec
        self.trial = trial
        self.places = places  # how many slots stand
        self.record = record
        self.sampler_time = sampler_time
        self.clock = _Clock()
        self.slots: dict[int, _Slot] = {}
        self.controller: _Controller | None = None
        self.worked = 0.0  # seconds that ended attempts ran

    def run(self, faults: Sequence[Fault]) -> LocalResult:
        for fault in faults:
            self.clock.at(fault.at, partial(self._strike, fault))
        self._open()
        while self.controller is None or not self.controller.done:
            self.clock.step()
        self.record.close()
        room = self.places * self.clock.now
        return LocalResult(
            state=self.controller.state,
            seconds=self.clock.now,
            busy=self.worked / room if room else 0.0,
            records=self.record.records,
        )

    def _open(self) -> None:
        self.controller = _Controller(self, kept=bool(self.slots))
        self._fill(self.controller)

    def _fill(self, controller: _Controller) -> None:
        """Put a slot wherever none stands."""
        for number in range(self.places):
            slot = self.slots.get(number)
            if slot is not None and slot.gone:
                controller.slot_lost(number, slot.incarnation)
            if slot is None or slot.gone:
                known = controller.state.slots.get(number)
                before = max(slot.incarnation if slot else 0, known.incarnation if known else 0)
                self.slots[number] = _Slot(self, number, before + 1)

    def _strike(self, fault: Fault) -> None:
        if isinstance(fault, KillSlot):
            self.slots[fault.slot].die()
            if self.controller is not None:
                self._fill(self.controller)
        elif self.controller is not None:
            self.controller.gone, self.controller = True, None
            self.record.close()
            for slot in self.slots.values():
                slot.hear_nothing()
            self.clock.at(self.clock.now + fault.down, self._open)


class _Controller:
    """One life of the controller, as `raysweep.runtime.controller` leads it on Ray.

    All that happens at one moment is committed together, then answered.
    """

    def __init__(self, world: _World, *, kept: bool) -> None:
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
        self._apply(
            Opened(time=self._now(), epoch=self._record.epoch, slots_kept=kept or not known)
        )
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
        reply = answers.reply(
            self.state, request, epoch=self._record.epoch, slots=self._world.places
        )
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
        wanted = self.state.proposals_wanted(pace.ahead(self._world.places))
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


@dataclass(slots=True, eq=False)
class _Attempt:
    """An attempt at a trial while it runs."""

    id: AttemptId
    steps: Iterator[Step]
    began: float
    due: float  # when its present step is done; NEVER while its report waits
    step: Step | None = None
    heard: int = 0  # the last report that is known to be acknowledged
    stopped: bool = False  # told to end
    killed_at: float = NEVER


class _Slot:
    """One slot, as `raysweep.runtime.slot` stands on Ray."""

    def __init__(self, world: _World, number: int, incarnation: int) -> None:
        self.incarnation = incarnation
        self.gone = False
        self._world = world
        self._clock = world.clock
        self._spec = world.spec
        self._book = SlotBook(slot=number, incarnation=incarnation, places=1)
        self._running: dict[AttemptId, _Attempt] = {}
        self._asked: Request | None = None  # the one in flight
        self._sent = self._clock.now
        self._not_before = 0.0  # a request after one that was not answered
        self._at_latest = NEVER  # the next request
        self._lease_until = self._clock.now + self._spec.lease
        self._woken_at = NEVER
        self._plan()

    # --- what happens when ------------------------------------------------------------------------

    def _plan(self) -> None:
        """Be woken when there is something to do."""
        at = min((min(one.due, one.killed_at) for one in self._running.values()), default=NEVER)
        at = max(min(at, self._asks_at()), self._clock.now)
        if not self.gone and at < self._woken_at:
            self._woken_at = at
            self._clock.at(at, partial(self._wake, at))

    def _wake(self, at: float) -> None:
        if self.gone or at != self._woken_at:
            return  # an earlier waking took its place
        self._woken_at = NEVER
        for attempt in list(self._running.values()):
            if attempt.killed_at <= self._clock.now:
                self._end(attempt, Ending.OBEYED, "killed: it did not end when asked")
            elif attempt.due <= self._clock.now:
                self._step_done(attempt)
        if self._asks_at() <= self._clock.now:
            self._ask()
        self._plan()

    # --- talking ----------------------------------------------------------------------------------

    def _asks_at(self) -> float:
        if self._asked is not None:
            return NEVER
        tick = 0.0 if self._spec.sync_decisions else self._book.tick
        due = pace.due(self._book, self._sent, tick=tick, heartbeat=self._spec.lease / 3)
        return max(self._not_before, min(self._at_latest, due))

    def speak_soon(self) -> None:
        """There is something to hear: make the next request within a heartbeat."""
        self._at_latest = min(self._at_latest, self._clock.now + pace.HEARTBEAT)
        self._plan()

    def _ask(self) -> None:
        self._asked = self._book.request()
        self._sent = self._clock.now
        self._at_latest = NEVER
        if self._world.controller is None:
            self.hear_nothing()
        else:
            self._world.controller.receive(self._asked)

    def hear_nothing(self) -> None:
        """The request in flight is not answered: ask again, unless the lease is over."""
        if self._asked is None:
            return
        self._asked = None
        self._not_before = self._clock.now + pace.AGAIN
        if self._clock.now > self._lease_until:
            self.die()
        self._plan()

    def hear(self, request: Request, reply: Reply) -> None:
        """Do what a reply says."""
        if self._asked is not request:
            return  # it is to a slot that stood here before
        self._asked = None
        self._lease_until = max(self._lease_until, self._sent + self._spec.lease)
        commands = self._book.digest(request, reply)
        for command in commands:
            if isinstance(command, Assign):
                self._begin(command)
            else:
                self._stop(command)
        self._let_go_on(reply)
        if reply.refused is Refusal.SUPERSEDED or reply.close:
            self.die()
        elif reply.refused is not None:
            self._at_latest = self._clock.now
        elif commands:  # the controller knows that they arrived when the slot says so
            self._at_latest = self._clock.now + pace.HEARTBEAT
        self._plan()

    def _let_go_on(self, reply: Reply) -> None:
        """Let the reports return that waited for their acknowledgement."""
        for acknowledged in reply.acknowledged:
            if attempt := self._running.get(acknowledged.id):
                attempt.heard = acknowledged.report
                if attempt.due == NEVER and not self._must_wait(attempt):
                    self._reported(attempt)

    # --- running ----------------------------------------------------------------------------------

    def _begin(self, assign: Assign) -> None:
        seed = trial_seed(self._spec.seed, assign.id.trial)
        attempt = _Attempt(
            id=assign.id,
            steps=_steps(self._world.trial, assign, seed),
            began=self._clock.now,
            due=self._clock.now,
        )
        self._running[assign.id] = attempt
        self._next_step(attempt)

    def _next_step(self, attempt: _Attempt) -> None:
        try:
            attempt.step = next(attempt.steps)
        except StopIteration:
            self._end(attempt, Ending.RETURNED)
        except Exception as error:  # noqa: BLE001  (the trial's code: whatever it raises is kept)
            self._end(attempt, Ending.RAISED, *failure(error))
        else:
            attempt.due = self._clock.now + attempt.step.seconds

    def _step_done(self, attempt: _Attempt) -> None:
        assert attempt.step is not None
        if not attempt.step.metrics:
            self._next_step(attempt)
            return
        self._book.report(attempt.id, attempt.step.metrics, self._clock.now - attempt.began)
        if self._must_wait(attempt):
            attempt.due = NEVER
        else:
            self._reported(attempt)

    def _must_wait(self, attempt: _Attempt) -> bool:
        unheard = attempt.heard < self._book.last_report(attempt.id)
        return (self._spec.sync_decisions and unheard) or self._book.full(attempt.id)

    def _reported(self, attempt: _Attempt) -> None:
        """The report returns: here a stop reaches the trial."""
        assert attempt.step is not None
        if attempt.stopped:
            self._end(attempt, Ending.OBEYED)
            return
        if attempt.step.checkpoint:
            self._save(attempt.id)
        self._next_step(attempt)

    def _save(self, id_: AttemptId) -> None:
        report = self._book.last_report(id_)
        path = f"{id_.trial}/{id_.attempt}-{report}"  # there is no file: a name of its own will do
        self._book.checkpoint(Checkpoint(id=id_, report=report, path=path, size=0, checksum=""))

    def _end(
        self,
        attempt: _Attempt,
        ending: Ending,
        error: str = "",
        where: str = "",
        traceback: str = "",
    ) -> None:
        self._drop(attempt)
        self._book.end(
            End(
                id=attempt.id,
                last_report=self._book.last_report(attempt.id),
                ending=ending,
                error=error,
                where=where,
                traceback=traceback,
            )
        )

    def _stop(self, stop: Stop) -> None:
        """Tell an attempt to end; one that is not the slot's any more ends at once and unheard."""
        attempt = self._running.get(stop.id)
        if attempt is None:
            return
        if not stop.reason:
            self._drop(attempt)
            return
        attempt.stopped = True
        attempt.killed_at = self._clock.now + self._spec.grace

    def _drop(self, attempt: _Attempt) -> None:
        del self._running[attempt.id]
        self._world.worked += self._clock.now - attempt.began

    def die(self) -> None:
        """The slot is gone, and all that it ran."""
        for attempt in list(self._running.values()):
            self._drop(attempt)
        self.gone = True


def _steps(trial: SimulatedTrial, assign: Assign, seed: int) -> Iterator[Step]:
    """The attempt's steps; what the trial raises is raised when a step is asked for."""
    yield from trial(assign.params, seed, assign.start)
