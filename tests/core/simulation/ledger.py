"""The ledger of a simulation: what was done, what is committed, what was acknowledged.

One rule: it is kept from the design alone, slowly and plainly. It follows the committed records one
by one, says what each has to lead to, and compares; it shares no line with `raysweep.core.state`.
What a slot really did is noted here too, so that what the journal tells can be held against it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import transcription

from raysweep.core.events import (
    Assign,
    AttemptId,
    CancelAsked,
    Checkpoint,
    Command,
    End,
    Ending,
    Exchanged,
    Opened,
    Params,
    Proposed,
    Reports,
    Revised,
    SamplerFailed,
    SlotLost,
    Stop,
    StopCause,
    Suspended,
    SweepTimedOut,
    TrialsTimedOut,
)
from raysweep.core.exchange import Reply, Request
from raysweep.core.state import FAIL_ALIKE, HOPELESS, OVER, Phase, SweepState
from raysweep.core.trials import LIVE, TERMINAL, TrialState
from raysweep.storage.journal import Record
from simulation.fate import Violation
from simulation.scenario import Scenario

OBEYED = {
    StopCause.POLICY: TrialState.STOPPED,
    StopCause.TRIAL_TIMEOUT: TrialState.TIMED_OUT,
    StopCause.SWEEP_ENDS: TrialState.CANCELED,
}
ENDS = {
    SweepTimedOut: Phase.COMPLETED,
    CancelAsked: Phase.CANCELED,
    SamplerFailed: Phase.FAILED,
}

Expected = Assign | tuple[AttemptId, int, StopCause]  # a stop: of whom, at which report, why


@dataclass
class Life:
    """A trial's life as the ledger tells it."""

    number: int
    params: Params
    state: TrialState = TrialState.WAITING
    attempt: int = 0
    slot: tuple[int, int] = (-1, 0)  # number and incarnation
    start: int = 0  # the interval that the attempt continues from
    last: int = 0  # its last report
    measured: int = 0  # of its reports, those that held the primary metric
    reached: dict[int, int] = field(default_factory=dict)  # by report: the interval it stands at
    is_queued: bool = False  # it lies on its slot and waits for a place there
    begun: float = 0.0
    curve: list[float] = field(default_factory=list)
    kept: list[tuple[int, Checkpoint]] = field(default_factory=list)
    failures: int = 0
    barren: int = 0  # losses without a report between them
    cause: StopCause | None = None

    @property
    def id(self) -> AttemptId:
        """The current attempt."""
        return AttemptId(self.number, self.attempt)

    @property
    def is_live(self) -> bool:
        """Whether the attempt is on a slot."""
        return self.state in LIVE


@dataclass
class Stand:
    """A slot as the journal knows it."""

    incarnation: int
    places: int = 0
    ahead: int = 0  # trials that it takes beyond its places
    lost: bool = False


class Ledger:
    """Where a sweep stands after the records so far, and what its slots really did."""

    def __init__(self, scenario: Scenario) -> None:
        self.made: dict[AttemptId, int] = {}  # how many reports each attempt really made
        self.acknowledged: dict[AttemptId, int] = {}  # up to which report a slot was told
        self.lost = self.twice = 0  # reports
        self.lives: list[Life] = []  # by trial
        self.known: Counter[AttemptId] = Counter()  # committed reports of every attempt
        self.phase = Phase.RUNNING
        self._scenario = scenario
        self._spec = scenario.spec
        self._limits = scenario.spec.limits
        self._goal = scenario.spec.objective.goal.value
        self._stands: dict[int, Stand] = {}
        self._outcome = Phase.COMPLETED
        self._kinds: list[str | None] = []  # of failure, of each trial that ended; None: it did not
        self._exhausted = False
        self._epoch = 0
        self._time = 0.0
        self._expected: list[Expected] = []
        self._saved: set[str] = set()  # paths of all checkpoints that were ever committed
        self._touched: set[int] = set()  # trials whose curves were not compared since

    # --- what slots do and are told ---------------------------------------------------------------

    def note_report(self, id_: AttemptId, report: int) -> None:
        """An attempt really made this report."""
        self.made[id_] = report

    def note_acknowledged(self, id_: AttemptId, report: int) -> None:
        """A slot was told that all up to this report is in the journal."""
        self.acknowledged[id_] = max(report, self.acknowledged.get(id_, 0))

    def check_acknowledgement(self, id_: AttemptId, report: int) -> None:
        """What is acknowledged is committed."""
        missing = report - self.known[id_]
        if missing > 0:
            self.lost += missing
            raise Violation(
                f"lost: report {report} of {id_} is acknowledged, but {self.known[id_]} are"
                " committed"
            )

    def check_told(self, told: Assign | Stop, who: tuple[int, int]) -> None:
        """What a slot is told was decided in the journal."""
        life = self.lives[told.id.trial] if told.id.trial < len(self.lives) else None
        if life is None or life.attempt < told.id.attempt:
            raise Violation(f"slot {who} is told of {told.id}, which no commit assigned")
        if isinstance(told, Assign) and told.params != life.params:
            raise Violation(f"slot {who} is told {told}, but the trial has {life.params}")
        if isinstance(told, Assign) and (told.slot, told.incarnation) != who:
            raise Violation(f"slot {who} is told of {told}, which is another's to run")
        if life.id != told.id:
            return  # it was true once
        if isinstance(told, Stop) and told.reason and life.cause is None:
            raise Violation(f"slot {who} is told to stop {told.id}, which no commit decided")
        if isinstance(told, Stop) and not told.reason and life.is_live and life.slot == who:
            raise Violation(f"slot {who} is told to drop {told.id}, which is its to run")

    def check_settled(self, request: Request, reply: Reply) -> None:
        """What a slot need not say again is committed, unless it is not the slot's to say."""
        for checkpoint in request.checkpoints:
            if checkpoint.id not in reply.drops and checkpoint.path not in self._saved:
                raise Violation(f"lost: {checkpoint} was taken, but is not committed")
        for end in request.ends:
            life = self.lives[end.id.trial]
            runs = life.state in (TrialState.RUNNING, TrialState.ASSIGNED)
            if end.id not in reply.drops and life.id == end.id and runs:
                raise Violation(f"lost: {end} was taken, but is not committed")

    def is_given_up(self, number: int, incarnation: int) -> bool:
        """Whether this actor of a slot is not heard any more."""
        stand = self._stands.get(number)
        if stand is None or incarnation > stand.incarnation:
            return False
        return incarnation < stand.incarnation or stand.lost

    # --- what is committed ------------------------------------------------------------------------

    def follow(self, record: Record) -> None:
        """Take a committed record; what was commanded with it must be what the design says."""
        event = record.event
        if not self._time <= event.time:
            raise Violation(f"time went back from {self._time}: {event}")
        self._expected = []
        match event:
            case Opened():
                self._open(event)
            case Proposed() | Revised():
                self._hear_sampler(event)
            case Exchanged():
                self._exchange(event)
            case SlotLost():
                self._lose_slot(event)
            case TrialsTimedOut():
                self._time_out(event)
            case SweepTimedOut() | CancelAsked() | SamplerFailed():
                self._end_sweep(ENDS[type(event)])
            case Suspended():
                pass
            case _:
                raise Violation(f"nothing in a simulation leads to {event}")
        self._time = event.time
        self._finish_if_over()
        told = [*map(_plain, record.commands)]
        if told != self._expected:
            raise Violation(f"{event} led to {told}, but by the design to {self._expected}")

    def _open(self, event: Opened) -> None:
        if event.epoch <= self._epoch:
            raise Violation(f"epoch {event.epoch} follows {self._epoch}")
        self._epoch = event.epoch
        for number in [] if event.slots_kept else [*self._stands]:
            self._give_up(number)

    def _hear_sampler(self, event: Proposed | Revised) -> None:
        """What comes once the sweep ends is too late."""
        if self.phase is not Phase.RUNNING:
            return
        if isinstance(event, Proposed):
            self._propose(event)
        else:
            self._revise(event)

    def _propose(self, event: Proposed) -> None:
        for params in event.params:
            number = len(self.lives)
            drawn = self._spec.sampler.propose(self._spec.space, [], number, self._spec.seed)
            if params != drawn:
                raise Violation(f"trial {number} has {params}, but its number gives {drawn}")
            self.lives.append(Life(number, params))
        self._exhausted = event.exhausted

    def _revise(self, event: Revised) -> None:
        """Of a trial that no slot was told of; a trial that one knows must not change under it."""
        life = self.lives[event.trial]
        if life.state is TrialState.WAITING and not life.attempt:
            life.params = event.params

    def _lose_slot(self, event: SlotLost) -> None:
        if self.is_given_up(event.slot, event.incarnation):
            return
        self._meet(event.slot, event.incarnation)
        self._give_up(event.slot)

    def _time_out(self, event: TrialsTimedOut) -> None:
        limit = self._limits.trial_timeout
        for id_ in event.ids:
            life = self.lives[id_.trial]
            if life.id != id_ or life.state is not TrialState.RUNNING:
                continue
            if limit is None or event.time - life.begun < limit:
                raise Violation(f"{id_} began at {life.begun} and is over time at {event.time}")
            self._stop(life, StopCause.TRIAL_TIMEOUT)

    # --- what a slot says -------------------------------------------------------------------------

    def _exchange(self, event: Exchanged) -> None:
        who = (event.slot, event.incarnation)
        if self.is_given_up(*who):
            if event.has_news:
                raise Violation(f"slot {who} was given up, and was heard: {event}")
            return
        stand = self._meet(*who)
        stand.places, stand.ahead = event.places, event.ahead
        for id_ in event.begun:
            self._speaker(id_, event)
        for id_ in event.fresh:
            self._begin_anew(self._speaker(id_, event))
        for block in event.reports:
            self._take_reports(self._speaker(block.id, event), block)
        for checkpoint in event.checkpoints:
            self._take_checkpoint(self._speaker(checkpoint.id, event), checkpoint)
        for end in event.ends:
            self._take_end(self._speaker(end.id, event), end)
        for id_ in event.returned:
            self._take_back(id_, event)
        self._hand_out(event.slot)

    def _meet(self, number: int, incarnation: int) -> Stand:
        """The slot as this incarnation; with a new one its predecessor's attempts are lost."""
        stand = self._stands.get(number)
        if stand is not None and stand.incarnation == incarnation:
            return stand
        if stand is not None:
            self._give_up(number)
        self._stands[number] = Stand(incarnation)
        return self._stands[number]

    def _speaker(self, id_: AttemptId, event: Exchanged) -> Life:
        """The trial whose attempt is spoken of; whoever speaks of it has begun it."""
        who = (event.slot, event.incarnation)
        life = self.lives[id_.trial]
        if not life.is_live or life.id != id_ or life.slot != who:
            raise Violation(f"{id_} is not slot {who}'s to run, but it was heard: {event}")
        if life.state is TrialState.ASSIGNED:
            life.state, life.begun = TrialState.RUNNING, event.time
            life.is_queued = False
            del life.curve[life.start :]
            self._touched.add(life.number)
        return life

    def _take_back(self, id_: AttemptId, event: Exchanged) -> None:
        """A slot gives back what it has not begun: it waits again, and nothing was lost."""
        life = self.lives[id_.trial]
        if life.id != id_ or life.slot != (event.slot, event.incarnation):
            raise Violation(f"{id_} is not slot {event.slot}'s to give back: {event}")
        if life.state is not TrialState.ASSIGNED:
            raise Violation(f"{id_} is {life.state} and was given back: {event}")
        life.state, life.is_queued = TrialState.WAITING, False

    def _begin_anew(self, life: Life) -> None:
        if life.start == 0 or life.last:
            return
        life.start, life.kept, life.curve = 0, [], []
        self._touched.add(life.number)

    def _take_reports(self, life: Life, block: Reports) -> None:
        id_ = block.id
        if block.first <= self.known[id_]:
            self.twice += self.known[id_] + 1 - block.first
            raise Violation(f"twice: report {block.first} of {id_} was committed before")
        if block.first > self.known[id_] + 1:
            self.lost += block.first - 1 - self.known[id_]
            raise Violation(f"lost: after report {self.known[id_]} of {id_} comes {block.first}")
        if block.last > self.made.get(id_, 0):
            raise Violation(f"report {block.last} of {id_} was never made")
        self.known[id_] = block.last
        self._touched.add(life.number)
        life.barren = 0
        rows = [dict(zip(block.names, row, strict=True)) for row in block.table().tolist()]
        for report, row in enumerate(rows, start=block.first):
            life.last = report
            if (value := row.get(self._spec.objective.metric)) is not None:
                self._take_value(life, value, int(row["interval"]))
            life.reached[report] = min(life.start + life.measured, len(life.curve))

    def _take_value(self, life: Life, value: float, interval: int) -> None:
        life.measured += 1
        if interval != life.start + life.measured:
            raise Violation(
                f"report {life.last} of {life.id} was made at interval {interval}, but is its"
                f" number {life.measured} with a value, from interval {life.start} on"
            )
        if repr(value) != repr(self._scenario.value(life.number, interval)):
            raise Violation(f"{value} at interval {interval} of {life.id} was never reported")
        if life.state is TrialState.RUNNING:
            life.curve.append(value)
            if self._policy_stops(life.number):
                self._stop(life, StopCause.POLICY)

    def _policy_stops(self, trial: int) -> bool:
        policy = self._spec.policy
        assert dataclasses.is_dataclass(policy)
        parameters: dict[str, Any] = dataclasses.asdict(policy)
        ended = [life.number for life in self.lives if life.state in TERMINAL]
        curves = {life.number: life.curve for life in self.lives if life.curve}
        seen = transcription.Seen(goal=self._goal, curves=curves, finished=ended)
        return transcription.stops(policy.kind, parameters, seen, trial)

    def _take_checkpoint(self, life: Life, checkpoint: Checkpoint) -> None:
        if checkpoint.report > life.last:
            raise Violation(f"{checkpoint} was kept, but its report is not known")
        latest = life.kept[-1][1] if life.kept else None
        if latest is not None and latest.id == life.id and latest.report >= checkpoint.report:
            raise Violation(f"{checkpoint} was kept after {latest}")
        # What came after a stop entered no history, so the checkpoint stands where that ends.
        self._saved.add(checkpoint.path)
        life.kept.append((life.reached[checkpoint.report], checkpoint))

    def _take_end(self, life: Life, end: End) -> None:
        if end.last_report != life.last:
            raise Violation(f"{end} was taken after report {life.last}")
        life.kept = [kept for kept in life.kept if kept[1].path != end.damaged]
        if life.state is TrialState.STOPPING:
            moot = end.ending is Ending.RETURNED and bool(life.curve)
            self._terminate(life, TrialState.COMPLETED if moot else _obeyed(life))
        elif end.ending is Ending.LOST:
            self._lose(life)
        elif end.ending in (Ending.RAISED, Ending.KILLED):
            self._fail_attempt(life, f"{end.error.partition(':')[0]} at {end.where}")
        elif life.curve:
            self._terminate(life, TrialState.COMPLETED)
        else:
            life.failures += 1
            self._fail(life, f"no value, but {sorted(self._names_of(life))}")

    def _names_of(self, life: Life) -> set[str]:
        """What a trial that never reported the primary metric reported instead."""
        attempts = range(1, life.attempt + 1)
        return {"loss" for n in attempts if self.known[AttemptId(life.number, n)]}

    def _hand_out(self, number: int) -> None:
        """The slot gets what it has room for, the lowest number first."""
        stand = self._stands[number]
        for life in self.lives:
            if life.state is TrialState.WAITING and not stand.lost:
                mine = [
                    o for o in self.lives if o.is_live and o.slot == (number, stand.incarnation)
                ]
                busy = sum(not other.is_queued for other in mine)
                if busy < stand.places and self._is_crowded:
                    return
                if busy >= stand.places and not self._may_queue(life, stand, len(mine) - busy):
                    return
                self._expected.append(self._assign(life, number, stand.incarnation))
                life.is_queued = busy >= stand.places

    @property
    def _is_crowded(self) -> bool:
        """Whether as many run as may."""
        most = self._limits.max_concurrent_trials
        running = sum(life.is_live and not life.is_queued for life in self.lives)
        return most is not None and running >= most

    def _may_queue(self, life: Life, stand: Stand, in_queue: int) -> bool:
        """Beyond its places a slot gets a trial that is new, while more wait than there are slots."""
        waiting = sum(other.state is TrialState.WAITING for other in self.lives)
        return in_queue < stand.ahead and waiting > len(self._stands) and not life.attempt

    def _assign(self, life: Life, slot: int, incarnation: int) -> Assign:
        life.state, life.slot = TrialState.ASSIGNED, (slot, incarnation)
        life.attempt += 1
        life.last = life.measured = 0
        life.reached = {}
        life.start, checkpoint = life.kept[-1] if life.kept else (0, None)
        return Assign(
            id=life.id,
            slot=slot,
            incarnation=incarnation,
            params=life.params,
            start=life.start,
            checkpoint=checkpoint,
        )

    # --- how trials end ---------------------------------------------------------------------------

    def _stop(self, life: Life, cause: StopCause) -> None:
        life.state, life.cause = TrialState.STOPPING, cause
        report = life.last if cause is StopCause.POLICY else 0
        self._expected.append((life.id, report, cause))

    def _give_up(self, number: int) -> None:
        """What runs on this slot is lost."""
        stand = self._stands[number]
        stand.lost = True
        who = (number, stand.incarnation)
        for life in self.lives:
            if life.is_live and life.slot == who:
                self._lose(life)

    def _lose(self, life: Life) -> None:
        if life.state is TrialState.STOPPING:
            self._terminate(life, _obeyed(life))
            return
        life.state, life.is_queued = TrialState.WAITING, False
        life.barren += 1
        if life.barren >= HOPELESS:
            self._fail(life, "lost")

    def _fail_attempt(self, life: Life, kind: str) -> None:
        life.failures += 1
        if life.failures < self._spec.max_attempts:
            life.state = TrialState.WAITING
        else:
            self._fail(life, kind)

    def _fail(self, life: Life, kind: str) -> None:
        self._terminate(life, TrialState.FAILED, kind)
        others = [other for other in self.lives if other.state not in TERMINAL]
        alike = len({*self._kinds}) == 1 and len(self._kinds) >= FAIL_ALIKE
        if alike and all(len(other.curve) <= len(life.curve) for other in others):
            self._end_sweep(Phase.FAILED)

    def _terminate(self, life: Life, state: TrialState, kind: str | None = None) -> None:
        life.state, life.is_queued = state, False
        self._kinds.append(kind)

    def _end_sweep(self, outcome: Phase) -> None:
        """Nothing new begins; what runs is told to end."""
        if self.phase is not Phase.RUNNING:
            return
        self.phase, self._outcome = Phase.ENDING, outcome
        for life in self.lives:
            if life.state is TrialState.RUNNING:
                self._stop(life, StopCause.SWEEP_ENDS)
            elif life.state in (TrialState.WAITING, TrialState.ASSIGNED):
                self._terminate(life, TrialState.CANCELED)

    def _finish_if_over(self) -> None:
        if self.phase in OVER or any(life.state not in TERMINAL for life in self.lives):
            return
        if self.phase is Phase.RUNNING and not self._all_proposed:
            return
        completed = any(life.state is TrialState.COMPLETED for life in self.lives)
        none = self._outcome is Phase.COMPLETED and not completed
        self.phase = Phase.FAILED if none else self._outcome

    @property
    def _all_proposed(self) -> bool:
        return self._exhausted or len(self.lives) == self._spec.total_trials

    # --- comparing --------------------------------------------------------------------------------

    def compare(self, state: SweepState) -> None:
        """A state that has seen these records, and no others, says the same."""
        self._compare("the phase", self.phase, state.phase)
        self._compare("the number of reports", self.known.total(), state.reports)
        self._compare("the number of trials", len(self.lives), len(state.trials))
        lives = [(life.state, life.id, life.start, life.failures) for life in self.lives]
        told = [(each.state, each.id, each.start, each.failures) for each in state.trials]
        self._compare("the trials", lives, told)
        for life, trial in zip(self.lives, state.trials, strict=True):
            saved = [(kept.interval, kept.checkpoint) for kept in trial.checkpoints]
            self._compare(f"the checkpoints of trial {life.number}", life.kept, saved)
        stands = {number: (one.incarnation, one.lost) for number, one in self._stands.items()}
        slots = {number: (one.incarnation, one.lost) for number, one in state.slots.items()}
        self._compare("the slots", stands, slots)
        for number in sorted(self._touched):
            self._compare_curve(number, state)
        self._touched.clear()

    def compare_all(self, state: SweepState) -> None:
        """The same, with every curve and the best trial."""
        self._touched.update(range(len(self.lives)))
        self.compare(state)
        curves = {life.number: life.curve for life in self.lives if life.curve}
        best = transcription.best_trial(transcription.Seen(goal=self._goal, curves=curves))
        told = state.best
        found = None if told is None else (told.trial, told.interval, told.value)
        self._compare("the best trial", best, found)

    def _compare_curve(self, number: int, state: SweepState) -> None:
        reached = state.history.intervals(number)
        told = [state.history.value(number, k + 1) for k in range(reached)]
        curve = self.lives[number].curve
        true = [self._scenario.value(number, k + 1) for k in range(len(curve))]
        self._compare(f"the curve of trial {number}", repr(curve), repr(told))
        self._compare(f"the values of trial {number}", repr(true), repr(told))

    def _compare(self, what: str, mine: object, theirs: object) -> None:
        if mine != theirs:
            raise Violation(f"{what} should be {mine}, but the state has {theirs}")

    def check_the_end(self) -> None:
        """Every trial has come to an end that what it did allows; nothing acknowledged is lost."""
        for id_, report in self.acknowledged.items():
            self.check_acknowledgement(id_, report)
        if self.phase not in OVER:
            raise Violation(f"the sweep is over, but the journal says {self.phase}")
        for life in self.lives:
            whole = len(life.curve) == self._scenario.length(life.number)
            if life.state not in TERMINAL:
                raise Violation(f"trial {life.number} is {life.state} at the end")
            if life.state is TrialState.COMPLETED and life.cause is None and not whole:
                raise Violation(f"trial {life.number} completed after {len(life.curve)} intervals")

    def ended(self) -> Iterator[TrialState]:
        """How each trial ended."""
        return (life.state for life in self.lives)


def follow_all(ledger: Ledger, records: Iterable[Record]) -> None:
    """Take committed records, in order."""
    for record in records:
        ledger.follow(record)


def _obeyed(life: Life) -> TrialState:
    assert life.cause is not None, "only what was told to stop stops"
    return OBEYED[life.cause]


def _plain(command: Command) -> object:
    return (command.id, command.report, command.cause) if isinstance(command, Stop) else command
