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
from raysweep.core.exchange import Request
from raysweep.core.spec import SweepSpec
from raysweep.core.state import SweepState
from raysweep.runtime.local_controller import (
    DiskJournal,
    LocalController,
    MemoryJournal,
    SamplerTime,
)
from raysweep.runtime.local_slot import LocalSlot, SimulatedTrial, Step
from raysweep.runtime.virtual_clock import VirtualClock
from raysweep.storage.journal import Record

__all__ = [
    "Fault",
    "KillSlot",
    "LocalResult",
    "RestartController",
    "SimulatedTrial",
    "Step",
    "simulate",
]


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
    sampler_time: SamplerTime = 0.0,
    faults: Sequence[Fault] = (),
) -> LocalResult:
    """Run a sweep to its end on a virtual clock.

    Args:
        spec: the sweep. Its resources and its isolation play no part.
        trial: what stands for the training function.
        slots: how many trials can run at once; the spec's limits hold, too.
        journal: the folder of a journal to write as the controller does, fsync included. What
            is in it already is taken up as on a new cluster. None: records stay in memory.
        sampler_time: virtual seconds that a proposal takes; a function of how many trials are
            known; or "measured": what it does take here, so that no two runs are quite alike.
        faults: what breaks, and when.

    Raises:
        SpecError: an argument that cannot be simulated.

    >>> from raysweep.core.samplers import Grid
    >>> from raysweep.core.space import Space, choice
    >>> from raysweep.core.spec import maximize
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
    if not (callable(sampler_time) or sampler_time == "measured"):
        checks.number("sampler_time", sampler_time, at_least=0)
    for fault in faults:
        _check(fault, slots)
    kept = MemoryJournal() if journal is None else DiskJournal(journal)
    return _World(spec, trial, slots, kept, sampler_time).run(faults)


def _check(fault: Fault, slots: int) -> None:
    """Refuse a fault that cannot happen."""
    checks.number("at", fault.at, at_least=0)
    if isinstance(fault, KillSlot):
        checks.whole("slot", fault.slot, at_least=0, at_most=slots - 1)
    else:
        checks.number("down", fault.down, at_least=0)


class _World:
    """What there is: a clock, a journal, slots, and most of the time a controller."""

    def __init__(
        self,
        spec: SweepSpec,
        trial: SimulatedTrial,
        size: int,
        journal: MemoryJournal | DiskJournal,
        sampler_time: SamplerTime,
    ) -> None:
        self._spec = spec
        self._trial = trial
        self._size = size  # how many slots stand
        self._journal = journal
        self._sampler_time = sampler_time
        self._clock = VirtualClock()
        self._slots: dict[int, LocalSlot] = {}
        self._controller: LocalController | None = None
        self._worked = 0.0  # seconds that trials ran on slots that were replaced

    def run(self, faults: Sequence[Fault]) -> LocalResult:
        for fault in faults:
            self._clock.at(fault.at, partial(self._strike, fault))
        self._open()
        while self._controller is None or not self._controller.done:
            self._clock.step()
        self._journal.close()
        worked = self._worked + sum(slot.worked for slot in self._slots.values())
        room = self._size * self._clock.now
        return LocalResult(
            state=self._controller.state,
            seconds=self._clock.now,
            busy=worked / room if room else 0.0,
            records=self._journal.records,
        )

    def _open(self) -> None:
        self._controller = LocalController(
            self._spec,
            self._clock,
            self._journal,
            self._slots,
            size=self._size,
            sampler_time=self._sampler_time,
        )
        self._fill(self._controller)

    def _fill(self, controller: LocalController) -> None:
        """Put a slot wherever none stands."""
        for number in range(self._size):
            slot = self._slots.get(number)
            if slot is not None and not slot.gone:
                continue
            known = controller.state.slots.get(number)
            before = known.incarnation if known else 0
            if slot is not None:
                before = max(before, slot.incarnation)
                self._worked += slot.worked
                controller.slot_lost(number, slot.incarnation)
            self._slots[number] = self._slot(number, before + 1)

    def _slot(self, number: int, incarnation: int) -> LocalSlot:
        return LocalSlot(
            self._spec, self._trial, self._clock, self._take, number=number, incarnation=incarnation
        )

    def _take(self, request: Request) -> bool:
        """Take a request to the controller; False when there is none."""
        if self._controller is not None:
            self._controller.receive(request)
        return self._controller is not None

    def _strike(self, fault: Fault) -> None:
        if isinstance(fault, KillSlot):
            self._slots[fault.slot].die()
            if self._controller is not None:
                self._fill(self._controller)
        elif self._controller is not None:
            self._controller.gone, self._controller = True, None
            self._journal.close()
            for slot in self._slots.values():
                slot.hear_nothing()
            self._clock.at(self._clock.now + fault.down, self._open)
