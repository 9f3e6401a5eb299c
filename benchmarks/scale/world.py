"""A sweep whose controller and journal are real and whose slots are played, on a virtual clock.

One rule: what a controller does on Ray is done here by the same code and timed: a request is unpacked,
admitted, applied, journaled, committed with an fsync and answered, and the answer packed. What Ray adds is
measured apart, in `bare_actor`; what the slots and their trials do is not the controller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import msgpack
from stopwatch import COLLECTIONS, COMMITS, CONTROLLER, SAMPLER, SLOTS, WATCH, Act

from raysweep.core.events import Assign, End, Ending
from raysweep.core.exchange import Reply, Request, SlotBook
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.policies import (
    Bandit,
    MedianStopping,
    NoPolicy,
    Policy,
    TruncationSelection,
)
from raysweep.core.samplers import Observation, Random, trial_seed
from raysweep.core.space import Space, Value, choice, loguniform, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.core.state import SweepState
from raysweep.runtime import heap, status
from raysweep.runtime.local_controller import DiskJournal, LocalController
from raysweep.runtime.local_slot import LocalSlot, SimulatedTrial
from raysweep.runtime.virtual_clock import VirtualClock
from raysweep.storage.journal import Record

POLICIES: Mapping[str, Policy] = {  # each stops about a quarter of the trials that `trials` plays
    "none": NoPolicy(),
    "bandit": Bandit(slack_factor=0.6, delay_evaluation=5),
    "median_stopping": MedianStopping(delay_evaluation=5),
    "truncation_selection": TruncationSelection(truncation_percentage=5, delay_evaluation=5),
}
SPACE = Space(
    {
        "lr": loguniform(1e-5, 1e-1),
        "momentum": uniform(0, 1),
        "width": choice([16, 32, 64]),
        "optimizer": choice(["adam", "sgd"]),
    }
)
CROWD = 100  # trials at once
ENDLESS = 100_000_000  # trials; more than any world gets to


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What has happened in a world, or what happened between two readings."""

    time: float  # virtual seconds
    ended: int  # trials
    reports: int
    exchanges: int
    requests: int  # bytes
    journal: int  # bytes
    controller: int  # nanoseconds of CPU time in its loop
    commits: int  # the same, writing
    sampler: int  # the same, drawing
    collections: int  # the same, for garbage among all that lives

    def since(self, earlier: Reading) -> Reading:
        """What happened after an earlier one."""
        names = [field.name for field in fields(self)]
        return Reading(**{name: getattr(self, name) - getattr(earlier, name) for name in names})


class World:
    """A controller, its slots, and a clock that goes on when it is told to."""

    def __init__(self, policy: str, trial: SimulatedTrial, *, slots: int, folder: Path) -> None:
        self._clock = _Clock()
        self._journal = _Journal(folder)
        self._slots: dict[int, LocalSlot] = {}
        self._exchanges = self._requests = 0
        self._settled = time.monotonic()
        spec = sweep(policy)
        with WATCH.on(CONTROLLER):
            self._controller = LocalController(
                spec, self._clock, self._journal, self._slots, size=slots, sampler_time=0.0
            )
        self.state = self._journal.state = self._controller.state
        for number in range(slots):
            self._slots[number] = _Slot(
                spec, trial, self._clock, self._take, number=number, incarnation=1
            )
        self._crowd = _Crowd(number=slots, trial=trial, seed=spec.seed)
        self._slots[slots] = self._crowd  # type: ignore[assignment]  (all that a controller asks of one)

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return len(self.state.trials) - len(self.state.roster.waiting) - len(self.state.roster.live)

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self._clock.now

    def run(self, until: Callable[[], bool]) -> None:
        """Let time go on."""
        while not until():
            self._clock.step()
            if time.monotonic() - self._settled > heap.EVERY:
                WATCH.run(CONTROLLER, heap.settle)
                self._settled = time.monotonic()

    def run_for(self, ended: int) -> Reading:
        """Let so many more trials end; returns what happened."""
        before, until = self.reading(), self.ended + ended
        self.run(lambda: self.ended >= until)
        return self.reading().since(before)

    def grow_to(self, ended: int) -> None:
        """Have as many trials end as quickly as can be, beside what the slots do."""
        self._crowd.places = CROWD
        while self.ended + 2 * CROWD <= ended:
            self._take(self._crowd.request())
            self.run(self._crowd.is_answered)
        self._crowd.places = 0
        self._take(self._crowd.request())
        self.run(lambda: self.ended >= ended)

    def reading(self) -> Reading:
        """What has happened so far."""
        WATCH.switch(WATCH.running)
        return Reading(
            time=self.now,
            ended=self.ended,
            reports=self.state.reports,
            exchanges=self._exchanges,
            requests=self._requests,
            journal=self._journal.size,
            controller=WATCH.spent[CONTROLLER],
            commits=WATCH.spent[COMMITS],
            sampler=WATCH.spent[SAMPLER],
            collections=WATCH.spent[COLLECTIONS],
        )

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def _take(self, request: Request) -> bool:
        """Take a request to the controller as its actor's `exchange` does."""
        packed = msgpack.packb(to_plain(request))
        self._exchanges += 1
        self._requests += len(packed)
        with WATCH.on(CONTROLLER):
            self._controller.receive(from_plain(Request, msgpack.unpackb(packed)))
        return True


class _Clock(VirtualClock):
    """What is to happen later goes on the account that asked for it."""

    def at(self, time: float, act: Act) -> None:
        account = WATCH.running
        super().at(time, lambda: WATCH.run(account, act))


class _Slot(LocalSlot):
    """A slot that the controller calls, and that is not the controller."""

    def hear(self, request: Request, reply: Reply) -> None:
        """Unpack what the controller packs."""
        packed = msgpack.packb(to_plain(reply))
        with WATCH.on(SLOTS):
            if self._asked is not None and self._asked.sequence == request.sequence:
                super().hear(self._asked, from_plain(Reply, msgpack.unpackb(packed)))

    def speak_soon(self) -> None:
        """Be told that there is something to hear."""
        with WATCH.on(SLOTS):
            super().speak_soon()


class _Crowd:
    """A slot of many places that is done with its trials at once: how a sweep becomes large."""

    def __init__(self, *, number: int, trial: SimulatedTrial, seed: int) -> None:
        self.places = 0
        self._asked = False
        self._book = SlotBook(slot=number, incarnation=1, places=0)
        self._trial = trial
        self._seed = seed

    def request(self) -> Request:
        """All that is done."""
        self._asked, self._book.places = True, self.places
        return self._book.request()

    def is_answered(self) -> bool:
        """Whether it has heard what its last request came to."""
        return not self._asked

    def hear(self, request: Request, reply: Reply) -> None:
        """Do what is to be done; a stop always comes too late."""
        with WATCH.on(SLOTS):
            self._asked = False
            for command in self._book.digest(request, reply):
                if isinstance(command, Assign):
                    self._play(command)

    def speak_soon(self) -> None:
        """It speaks soon anyway."""

    def _play(self, assign: Assign) -> None:
        steps = self._trial(assign.params, trial_seed(self._seed, assign.id.trial), assign.start)
        at, last = 0.0, 0
        for step in steps:
            at += step.seconds
            last = self._book.report(assign.id, step.metrics, at)
        self._book.end(End(id=assign.id, last_report=last, ending=Ending.RETURNED))


class _Journal(DiskJournal):
    """A real journal; with each record the controller tells people what happened."""

    state: SweepState | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self._journal.size

    def append(self, record: Record) -> None:
        """Gather a record for the next commit."""
        super().append(record)
        if self.state is not None:
            list(status.lines(record.event, record.commands, self.state))

    def commit(self) -> None:
        """Write what was gathered."""
        with WATCH.on(COMMITS):
            super().commit()


class _Sampler(Random):
    """Draws beside the controller's loop."""

    def propose(
        self, space: Space, known: Sequence[Observation], trial: int, seed: int
    ) -> dict[str, Value]:
        """The parameters of a trial."""
        with WATCH.on(SAMPLER):
            return super().propose(space, known, trial, seed)


def sweep(policy: str) -> SweepSpec:
    """The sweep that is played."""
    return SweepSpec(
        name="scale",
        space=SPACE,
        objective=maximize("accuracy"),
        sampler=_Sampler(seed=1),
        seed=1,
        limits=Limits(max_total_trials=ENDLESS),
        policy=POLICIES[policy],
    )
