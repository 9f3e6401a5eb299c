"""A simulated slot: an actor with several places, a clock and a book, and the trials that it runs.

One rule: it trusts its book and its clock alone. It trains only within its lease, on the first
controller that it can find; whatever it has not heard acknowledged it says again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from raysweep.core.events import Assign, AttemptId, Checkpoint, End, Ending, Stop
from raysweep.core.exchange import Refusal, Reply, Request, SlotBook
from raysweep.runtime import pace
from simulation.fate import Clock, Fate, Violation
from simulation.ledger import Ledger
from simulation.scenario import LEASE, Fault, Scenario

PATIENCE = 6  # moments that a slot waits for a reply before it looks for a controller anew
TICK, HEARTBEAT = 2, 5  # moments between requests, with something to say and with nothing


class Wire(Protocol):
    """What a slot can do with the world around it."""

    def send_request(self, request: Request, slot: Slot, *, look: bool) -> None:
        """Send a request to the controller that the slot knows, or to one that it looks for."""


@dataclass
class Run:
    """An attempt where it runs."""

    assign: Assign
    interval: int  # what it has reached
    stop: bool = False
    heard: int = 0  # the last report that is known to be acknowledged


class Slot:
    """A slot's actor."""

    def __init__(
        self,
        number: int,
        incarnation: int,
        *,
        scenario: Scenario,
        fate: Fate,
        ledger: Ledger,
        wire: Wire,
    ) -> None:
        self.number, self.incarnation = number, incarnation
        self.alive = True
        self.death_is_known = True  # once it is dead; False when its node went with it
        self.cut_off_until = 0  # the moment until which no message goes in or out
        self.frozen_until = 0
        self.trained: frozenset[AttemptId] = frozenset()  # the attempts that trained this moment
        self.runs: dict[AttemptId, Run] = {}
        self._places = scenario.places[number]
        self._scenario, self._fate, self._ledger, self._wire = scenario, fate, ledger, wire
        self._clock = Clock(fate)
        self._book = SlotBook(slot=number, incarnation=incarnation, places=self._places)
        self._book.ahead = scenario.queue
        self._requests: dict[int, tuple[float, Request]] = {}  # all that were sent, and when
        self._begun: set[AttemptId] = set()
        self._sent = self._clock.now()  # the latest of these
        self._waits = 0  # for the answer to the request of this number; 0: for none
        self._lease_until = self._clock.now() + LEASE
        self._was_frozen = False
        self._has_a_last_word = False

    def __str__(self) -> str:
        """`slot 0.2`: number and incarnation."""
        return f"slot {self.number}.{self.incarnation}"

    @property
    def who(self) -> tuple[int, int]:
        """Number and incarnation."""
        return self.number, self.incarnation

    @property
    def is_frozen(self) -> bool:
        """Whether its process stands still while its clock goes on."""
        return self._fate.now < self.frozen_until

    def act(self) -> None:
        """Train for a moment, then speak if it is time to."""
        self.trained = frozenset()
        if self.is_frozen:
            self._was_frozen = True
        elif self._clock.now() <= self._lease_until:
            self._was_frozen = self._has_a_last_word = False
            self._train_all()
            if self._scenario.queue and self._fate.chance(0.03):
                self._book.give_back()
            if self.alive:
                self._speak_if_due()
        elif self._may_have_a_last_word():
            self._speak_if_due()
        else:
            self._fate.tell(self, "has no lease any more and ends")
            self.die(known=True)

    def _may_have_a_last_word(self) -> bool:
        """One that wakes up after its lease may ask once whether it is still wanted.

        It does not train before it hears so.
        """
        if self._was_frozen and self._fate.chance(0.5):
            self._has_a_last_word = True
            self._waits = 0
        elif self._waits and self._is_impatient():
            self._has_a_last_word = False
        self._was_frozen = False
        return self._has_a_last_word

    def die(self, *, known: bool) -> None:
        """End with all that runs here; nothing more is said.

        Args:
            known: whether whoever watches the slot will learn of it.
        """
        self.alive, self.death_is_known = False, known
        self.trained = frozenset()
        self.runs.clear()

    # --- talking ----------------------------------------------------------------------------------

    def _is_impatient(self) -> bool:
        return self._clock.now() - self._requests[self._waits][0] >= PATIENCE

    def _speak_if_due(self) -> None:
        now, look = self._clock.now(), self._waits > 0 and self._is_impatient()
        due = pace.due(self._book, self._sent, tick=TICK, heartbeat=HEARTBEAT)
        if not look and (self._waits or now < due):
            return
        request = self._book.request()
        self._requests[request.sequence] = (now, request)
        self._sent = now
        self._waits = request.sequence
        self._wire.send_request(request, self, look=look)

    def hear(self, reply: Reply) -> None:
        """Do what a reply says; which replies are outdated, the book knows."""
        sent, request = self._requests[reply.sequence]
        is_awaited = reply.sequence == self._waits and reply.epoch >= self._book.epoch
        if is_awaited:
            self._waits = 0
            if reply.refused is not Refusal.EPOCH:  # which no controller takes for a sign of life
                self._lease_until = max(self._lease_until, sent + LEASE)
        epoch = self._book.epoch
        commands = self._book.digest(request, reply)
        if self._book.epoch < epoch:
            raise Violation(f"{self} goes back from epoch {epoch} to {self._book.epoch}")
        if is_awaited and reply.refused is None:
            self._ledger.check_settled(request, reply)
        for command in commands:
            self._ledger.check_told(command, self.who)
            self._do(command)
        for acknowledged in reply.acknowledged if is_awaited else ():
            if acknowledged.id in self.runs:
                self.runs[acknowledged.id].heard = acknowledged.report
        if is_awaited and (reply.refused is Refusal.SUPERSEDED or reply.close):
            self._fate.tell(self, "is told to go")
            self.die(known=True)

    def _do(self, command: Assign | Stop) -> None:
        """Do as told."""
        if isinstance(command, Assign):
            self._begin(command)
        elif command.id in self.runs and command.reason:
            self.runs[command.id].stop = True
        else:
            self.runs.pop(command.id, None)

    @property
    def waits_for_its_last_word(self) -> bool:
        """Whether it woke up after its lease and has asked whether it is still wanted."""
        return self._has_a_last_word

    # --- running ----------------------------------------------------------------------------------

    def _begin(self, assign: Assign) -> None:
        saved = assign.checkpoint
        if (0 if saved is None else interval_in(saved)) != assign.start:
            raise Violation(f"{assign.id} starts at {assign.start}, but from {saved}")
        if assign.id in self._begun:
            raise Violation(f"{assign.id} begins twice on {self}")
        if len(self.runs) >= self._places:
            raise Violation(f"{assign.id} has no place on {self} beside {[*self.runs]}")
        self._begun.add(assign.id)
        fresh = saved is not None and self._fate.chance(self._scenario.fresh)
        if fresh:
            self._book.fresh(assign.id)
        self.runs[assign.id] = Run(assign, 0 if fresh else assign.start)

    def _train_all(self) -> None:
        self.trained = frozenset(self.runs)
        if any(id_.trial == self._scenario.deadly for id_ in self.runs):
            self._fate.tell(self, "is taken along by what it runs")
            self.die(known=True)
        for run in [*self.runs.values()]:
            self._train(run)

    def _train(self, run: Run) -> None:
        """One moment's work: perhaps a report, a checkpoint, the end."""
        if (ending := self._ending(run)) is not None:
            self._end(run, ending)
        elif self._must_wait(run):
            return
        elif self._fate.chance(self._scenario.speed):
            self._report(run)

    def _ending(self, run: Run) -> Ending | None:
        """How the attempt ends now, if it does."""
        restored = run.assign.checkpoint is not None and not self._last_report(run)
        if restored and self._fate.strikes(Fault.CHECKPOINT_DAMAGED):
            return Ending.LOST
        if run.stop and self._fate.chance(0.6):
            return Ending.OBEYED
        if self._fate.strikes(Fault.ATTEMPT_RAISES) or run.interval == self._scenario.raises_at:
            return Ending.RAISED
        if self._fate.strikes(Fault.ATTEMPT_KILLED):
            return Ending.KILLED
        if run.interval == self._scenario.length(run.assign.id.trial):
            return Ending.RETURNED
        return None

    def _must_wait(self, run: Run) -> bool:
        """Whether its report has not returned yet."""
        waits = self._scenario.spec.sync_decisions and run.heard < self._last_report(run)
        return waits or self._book.full(run.assign.id)

    def _last_report(self, run: Run) -> int:
        return self._book.last_report(run.assign.id)

    def _report(self, run: Run) -> None:
        id_ = run.assign.id
        run.interval += 1
        is_mute = self._scenario.is_mute(id_.trial)
        if is_mute or self._fate.chance(0.2):
            self._note(id_, {"loss": 0.5})
        if is_mute:
            return
        value = self._scenario.value(id_.trial, run.interval)
        report = self._note(id_, {"acc": value, "interval": run.interval})
        if self._fate.chance(self._scenario.saves):
            path = f"{id_.trial}/{id_.attempt}-{report}"
            self._book.checkpoint(
                Checkpoint(id=id_, report=report, path=path, size=run.interval, checksum="")
            )

    def _note(self, id_: AttemptId, metrics: Mapping[str, float]) -> int:
        report = self._book.report(id_, metrics, at=self._clock.now())
        self._ledger.note_report(id_, report)
        return report

    def _end(self, run: Run, ending: Ending) -> None:
        del self.runs[run.assign.id]
        saved = run.assign.checkpoint
        line = self._fate.number(1, self._scenario.places_to_fail)
        self._fate.tell(self, f"{run.assign.id}: {ending}")
        self._book.end(
            End(
                id=run.assign.id,
                last_report=self._last_report(run),
                ending=ending,
                error="" if ending in (Ending.RETURNED, Ending.OBEYED) else f"Fault: {ending}",
                where=f"line {line}",
                damaged=saved.path if saved is not None and ending is Ending.LOST else "",
            )
        )
        for assign in self._book.next_to_begin():
            self._begin(assign)


def interval_in(saved: Checkpoint) -> int:
    """The interval that a checkpoint was really taken at, which its size tells here."""
    return saved.size
