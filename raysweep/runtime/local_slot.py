"""A slot on a virtual clock, and the simulated trials that it runs.

One rule: it does what `raysweep.runtime.slot` does, at the moments at which that would. With one
difference: while it has nothing to say and nothing to hear it speaks only every third of a lease,
so that a day of virtual time costs no more than what happens in it. And since a
message takes no time here, nothing is worth holding ready: the slot's queue stays empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from raysweep.core.events import Assign, AttemptId, Checkpoint, End, Ending, Params, Stop
from raysweep.core.exchange import Refusal, Reply, Request, SlotBook
from raysweep.core.samplers import trial_seed
from raysweep.core.spec import SweepSpec
from raysweep.errors import SpecError
from raysweep.runtime import pace
from raysweep.runtime.failures import failure
from raysweep.runtime.virtual_clock import VirtualClock

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


class LocalSlot:
    """One slot, as `raysweep.runtime.slot` stands on Ray."""

    def __init__(
        self,
        spec: SweepSpec,
        trial: SimulatedTrial,
        clock: VirtualClock,
        ask: Callable[[Request], bool],
        *,
        number: int,
        incarnation: int,
    ) -> None:
        """Stand from now on; `ask` takes a request to the controller, if there is one."""
        self.incarnation = incarnation
        self.gone = False
        self.worked = 0.0  # seconds that attempts which are over ran
        self._spec = spec
        self._trial = trial
        self._clock = clock
        self._ask = ask
        self._book = SlotBook(slot=number, incarnation=incarnation, places=1)
        self._running: dict[AttemptId, _Attempt] = {}
        self._asked: Request | None = None  # the one in flight
        self._sent = clock.now
        self._not_before = 0.0  # a request after one that was not answered
        self._at_latest = NEVER  # the next request
        self._lease_until = clock.now + spec.lease
        self._woken_at = NEVER
        self._plan()

    # --- what happens when ------------------------------------------------------------------------

    def _plan(self) -> None:
        """Be woken when there is something to do."""
        at = min((min(one.due, one.killed_at) for one in self._running.values()), default=NEVER)
        at = max(min(at, self._speaks_at()), self._clock.now)
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
        if self._speaks_at() <= self._clock.now:
            self._speak()
        self._plan()

    # --- talking ----------------------------------------------------------------------------------

    def _speaks_at(self) -> float:
        if self._asked is not None:
            return NEVER
        tick = 0.0 if self._spec.sync_decisions else self._book.tick
        due = pace.due(self._book, self._sent, tick=tick, heartbeat=self._spec.lease / 3)
        return max(self._not_before, min(self._at_latest, due))

    def speak_soon(self) -> None:
        """There is something to hear: make the next request within a heartbeat."""
        self._at_latest = min(self._at_latest, self._clock.now + pace.HEARTBEAT)
        self._plan()

    def _speak(self) -> None:
        self._asked = self._book.request()
        self._sent = self._clock.now
        self._at_latest = NEVER
        if not self._ask(self._asked):
            self.hear_nothing()

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
            steps=_steps(self._trial, assign, seed),
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
        self.worked += self._clock.now - attempt.began

    def die(self) -> None:
        """The slot is gone, and all that it ran."""
        for attempt in list(self._running.values()):
            self._drop(attempt)
        self.gone = True


def _steps(trial: SimulatedTrial, assign: Assign, seed: int) -> Iterator[Step]:
    """The attempt's steps; what the trial raises is raised when a step is asked for."""
    yield from trial(assign.params, seed, assign.start)
