"""A ledger of a sweep, kept from its journal by the rules of the design alone.

One rule: it is slow, plain, and written beside the sweep's own state, not out of it: who holds which
attempt, which values count, whom the policy stops, how each trial ended.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.core.events import (
    Assign,
    AttemptId,
    Checkpoint,
    End,
    Ending,
    Exchanged,
    Opened,
    Params,
    Proposed,
    Reports,
    Revised,
    SlotLost,
    Stop,
)
from raysweep.core.spec import SweepSpec
from raysweep.storage.journal import Record

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "contracts"))

import transcription  # noqa: E402  (the tests' own, which no package holds)


@dataclass(kw_only=True)
class Attempt:
    """What runs, or should run, somewhere."""

    id: AttemptId
    slot: tuple[int, int]  # number and incarnation
    start: int  # the interval that it continued from
    last: int = 0  # its last report
    began: bool = False
    told: bool = False  # whether the policy has told it to stop


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint that the journal names."""

    path: str
    interval: int


class Ledger:
    """Where a sweep stands after the records so far."""

    def __init__(self, spec: SweepSpec) -> None:
        self.params: list[Params] = []
        self.curves: dict[int, list[float]] = {}  # what counts
        self.ended: dict[int, str] = {}  # the state that each trial ended in
        self.stopped: dict[int, int] = {}  # the interval at which the policy told it to
        self.asked = 0  # decisions that the policy was asked for
        self.wrong: list[str] = []  # what does not follow from the design
        self.damaged: list[str] = []  # checkpoints that could not be restored
        self.losses = 0  # attempts that were lost with their slot
        self.failures = 0  # attempts that failed by themselves
        self._spec = spec
        self._slots: dict[int, int] = {}  # number -> incarnation that is heard
        self._gone: set[tuple[int, int]] = set()
        self._places: dict[tuple[int, int], int] = {}
        self._live: dict[int, Attempt] = {}
        self._attempts: dict[int, int] = {}
        self._saved: dict[int, list[Saved]] = {}
        self._due: list[tuple[AttemptId, int]] = []  # stops that the record should hold

    def follow(self, record: Record) -> None:
        """Take the next record of the journal."""
        self._due = []
        match record.event:
            case Opened(slots_kept=False):
                for slot in self._slots.items():
                    self._lose(slot)
            case Proposed() as event:
                self.params += event.params
            case Revised() as event:
                if event.trial not in self._attempts:
                    self.params[event.trial] = event.params
            case SlotLost() as event:
                self._hear_from(event.slot, event.incarnation)
                self._lose((event.slot, event.incarnation))
            case Exchanged() as event:
                self._exchanged(event)
        self._compare(record)
        for command in record.commands:
            if isinstance(command, Assign):
                self._assign(command)

    def best(self) -> tuple[int, int, float] | None:
        """Trial, interval and value of the best."""
        return transcription.best_trial(self._seen())

    def checkpoints(self, trial: int) -> list[Saved]:
        """What a trial could be restored from, the latest last."""
        return self._saved.get(trial, [])

    def running(self) -> list[AttemptId]:
        """The attempts that have begun and not ended."""
        return [attempt.id for attempt in self._live.values() if attempt.began]

    # --- what a slot says -------------------------------------------------------------------------

    def _exchanged(self, event: Exchanged) -> None:
        slot = (event.slot, event.incarnation)
        if not self._hear_from(*slot):
            return
        self._places[slot] = event.places
        for id_ in _spoken_of(event):
            if attempt := self._mine(id_, slot):
                self._begin(attempt)
        for id_ in event.fresh:
            if attempt := self._mine(id_, slot):
                attempt.start, self.curves[id_.trial], self._saved[id_.trial] = 0, [], []
        for block in event.reports:
            self._take(block, slot)
        for checkpoint in event.checkpoints:
            self._keep(checkpoint, slot)
        for end in event.ends:
            self._end(end, slot)

    def _hear_from(self, number: int, incarnation: int) -> bool:
        """Whether this actor of a slot is heard; an earlier one is given up with all it held."""
        known = self._slots.get(number, 0)
        if incarnation < known or (number, incarnation) in self._gone:
            return False
        if incarnation > known:
            self._lose((number, known))
            self._slots[number] = incarnation
        return True

    def _mine(self, id_: AttemptId, slot: tuple[int, int]) -> Attempt | None:
        attempt = self._live.get(id_.trial)
        return attempt if attempt and (attempt.id, attempt.slot) == (id_, slot) else None

    def _begin(self, attempt: Attempt) -> None:
        if not attempt.began:
            attempt.began = True
            del self.curves.setdefault(attempt.id.trial, [])[attempt.start :]

    def _take(self, block: Reports, slot: tuple[int, int]) -> None:
        attempt = self._mine(block.id, slot)
        if attempt is None or block.first > attempt.last + 1:
            self.wrong.append(f"reports of {block.id} from {block.first} on do not follow")
            return
        values = block.column(self._spec.objective.metric)
        assert values is not None, "every report of this benchmark holds the metric"
        for number, value in enumerate(values, start=block.first):
            if number <= attempt.last:
                continue  # it was seen before
            attempt.last = number
            if not attempt.told:
                self.curves[block.id.trial].append(value)
                self._judge(attempt)

    def _judge(self, attempt: Attempt) -> None:
        """Ask the transcription what the policy says of the value that came last."""
        trial = attempt.id.trial
        policy: Any = self._spec.policy
        self.asked += 1
        if transcription.stops(policy.kind, dataclasses.asdict(policy), self._seen(), trial):
            attempt.told = True
            self.stopped[trial] = len(self.curves[trial])
            self._due.append((attempt.id, attempt.last))

    def _seen(self) -> transcription.Seen:
        goal = self._spec.objective.goal.value
        return transcription.Seen(goal=goal, curves=self.curves, finished=self.ended.keys())

    def _keep(self, checkpoint: Checkpoint, slot: tuple[int, int]) -> None:
        attempt = self._mine(checkpoint.id, slot)
        if attempt is None or checkpoint.report > attempt.last:
            self.wrong.append(f"{checkpoint.path} was journaled before its report")
            return
        trial = checkpoint.id.trial
        interval = min(attempt.start + checkpoint.report, len(self.curves[trial]))
        self._saved.setdefault(trial, []).append(Saved(path=checkpoint.path, interval=interval))

    def _end(self, end: End, slot: tuple[int, int]) -> None:
        attempt = self._mine(end.id, slot)
        if attempt is None or attempt.last != end.last_report:
            self.wrong.append(f"{end.id} ended after {end.last_report} reports, but not all are in")
            return
        del self._live[end.id.trial]
        if end.damaged:
            self._discard(end.id.trial, end.damaged)
        if end.ending is Ending.RETURNED:
            self.ended[end.id.trial] = "completed"
        elif attempt.told:
            self.ended[end.id.trial] = "stopped"
        elif end.ending is Ending.LOST:
            self.losses += 1
        elif end.ending in (Ending.RAISED, Ending.KILLED):
            self.failures += 1
            if end.ending is Ending.RAISED:
                self.wrong.append(f"{end.id} raised {end.error}")
        else:
            self.wrong.append(f"{end.id} obeyed, but nobody told it to stop")

    def _discard(self, trial: int, path: str) -> None:
        self.damaged.append(path)
        self._saved[trial] = [one for one in self.checkpoints(trial) if one.path != path]

    # --- what follows -----------------------------------------------------------------------------

    def _lose(self, slot: tuple[int, int]) -> None:
        """This actor of a slot is gone, and what it held."""
        self._gone.add(slot)
        for trial, attempt in list(self._live.items()):
            if attempt.slot == slot:
                del self._live[trial]
                self.losses += 1
                if attempt.told:
                    self.ended[trial] = "stopped"

    def _compare(self, record: Record) -> None:
        """The stops that were given are those that are due."""
        given = [(c.id, c.report) for c in record.commands if isinstance(c, Stop)]
        for id_, report in {*given} ^ {*self._due}:
            asked = "was told" if (id_, report) in given else "was not told"
            self.wrong.append(f"{id_} {asked} to stop at report {report}, against the policy")

    def _assign(self, command: Assign) -> None:
        """A new attempt: the next in number, of a trial that nobody runs, from its last checkpoint."""
        trial, attempt = command.id
        saved = self.checkpoints(trial)
        path = "" if command.checkpoint is None else command.checkpoint.path
        if attempt != self._attempts.get(trial, 0) + 1:
            self.wrong.append(f"{command.id} follows attempt {self._attempts.get(trial, 0)}")
        if trial in self._live or trial in self.ended:
            self.wrong.append(f"{command.id} begins though the trial runs or has ended")
        if (path, command.start) != ((saved[-1].path, saved[-1].interval) if saved else ("", 0)):
            self.wrong.append(f"{command.id} is not restored from the latest checkpoint")
        slot = (command.slot, command.incarnation)
        if slot in self._gone:
            self.wrong.append(f"{command.id} is given to slot {slot}, which is gone")
        held = [attempt.id for attempt in self._live.values() if attempt.slot == slot]
        if len(held) >= self._places.get(slot, 0):
            self.wrong.append(f"{command.id} is given to slot {slot}, which holds {held}")
        self._attempts[trial] = attempt
        self._live[trial] = Attempt(id=command.id, slot=slot, start=command.start)


def _spoken_of(event: Exchanged) -> Iterator[AttemptId]:
    """The attempts that an event says anything of."""
    yield from event.begun
    yield from event.fresh
    said_of: list[Reports | Checkpoint | End]
    said_of = [*event.reports, *event.checkpoints, *event.ends]
    for said in said_of:
        yield said.id
