"""A sweep's state: events go in one by one, commands come out.

One rule: `SweepState.apply` is the only way in. It asks the policy and hands out trials when an
event is new; given the commands that were recorded with the event it takes those instead, so that
a replay never asks a policy again and ends in the same state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappush
from typing import Any

from raysweep.core.events import (
    GO_ON,
    Assign,
    AttemptId,
    CancelAsked,
    Checkpoint,
    Command,
    Decision,
    End,
    Ending,
    Event,
    Exchanged,
    Finish,
    Opened,
    Proposed,
    Reports,
    SamplerFailed,
    SlotLost,
    Stop,
    StopCause,
    SweepTimedOut,
    TrialsTimedOut,
)
from raysweep.core.exchange import Acknowledged, Refusal, Request
from raysweep.core.history import Best, History
from raysweep.core.samplers import Observation
from raysweep.core.spec import SweepSpec
from raysweep.core.trials import LIVE, OBEYED, TERMINAL, Step, Trial, TrialState
from raysweep.errors import InvalidTransitionError

FAIL_ALIKE = 3  # so many first trials that fail in the same way end the sweep
HOPELESS = 10  # losses in a row, without a report between them, that end a trial


class Phase(StrEnum):
    """Where a sweep stands."""

    RUNNING = "running"
    ENDING = "ending"  # nothing new begins; what runs is told to end
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


OVER = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELED})


@dataclass(slots=True)
class Slot:
    """What the sweep knows of a slot."""

    incarnation: int
    places: int
    lost: bool
    holds: set[int]  # numbers of the trials that are its to run


class SweepState:
    """The state of one sweep; equal when all that matters is equal."""

    def __init__(self, spec: SweepSpec) -> None:
        self.spec = spec
        self.phase = Phase.RUNNING
        self.reason = ""  # why the sweep ends or ended
        self.time = 0.0  # of the last event
        self.epoch = 0
        self.trials: list[Trial] = []
        self.slots: dict[int, Slot] = {}
        self.history = History(spec.objective.goal, spec.policy.tracks)
        self.counts: Counter[TrialState] = Counter()
        self.exhausted = False  # whether the sampler has no more to propose
        self.reports = 0  # in the whole sweep
        self._waiting: list[int] = []  # a heap: lower numbers first, so what was lost goes first
        self._live: set[int] = set()
        self._alike: str | None = ""  # the failure that all ended trials share; None: not alike
        self._total = spec.total_trials
        self._most_live = spec.limits.max_concurrent_trials
        self._outcome = Phase.COMPLETED  # what an ending sweep ends as
        self._recorded: _Recorded | None = None
        self._commands: list[Command] = []

    def __eq__(self, other: object) -> bool:
        """Whether two states would answer every further event alike."""
        if not isinstance(other, SweepState):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        passing = {"_recorded", "_commands"}
        return all(mine[name] == theirs[name] for name in mine.keys() - passing)

    __hash__ = None  # type: ignore[assignment]  # it changes

    # --- events in, commands out ------------------------------------------------------------------

    def apply(self, event: Event, recorded: Sequence[Command] | None = None) -> list[Command]:
        """Take an event; returns the commands that follow from it.

        Args:
            event: what happened. Its time must not lie before that of the event before it.
            recorded: the commands that were given when the event was first applied; None when it
                is new.

        Raises:
            InvalidTransitionError: the event cannot happen here; the state is as it was.
        """
        if event.time < self.time:
            raise InvalidTransitionError(f"time {event.time} lies before {self.time}: {event}")
        self._recorded = None if recorded is None else _Recorded(recorded)
        self._commands = []
        handle: Callable[[SweepState, Any], None] = _HANDLERS[type(event)]
        handle(self, event)
        self.time = event.time
        self._finish_if_over()
        return self._commands

    def _opened(self, event: Opened) -> None:
        if event.epoch <= self.epoch:
            raise InvalidTransitionError(f"epoch {event.epoch} does not follow {self.epoch}")
        self.epoch = event.epoch
        if not event.slots_kept:
            for slot in self.slots.values():
                self._lose(slot, event.time, "the cluster that it ran on is gone")

    def _proposed(self, event: Proposed) -> None:
        if self.phase is not Phase.RUNNING:
            return
        count = len(self.trials) + len(event.params)
        if self.exhausted or (self._total is not None and count > self._total):
            raise InvalidTransitionError(
                f"{len(event.params)} trials proposed after {len(self.trials)} of {self._total}"
            )
        for params in event.params:
            number = len(self.trials)
            self.trials.append(Trial(number=number, params=params))
            self.counts[TrialState.WAITING] += 1
            heappush(self._waiting, number)
        self.exhausted = event.exhausted

    def _exchanged(self, event: Exchanged) -> None:
        slot = self._arrived(event)
        if slot is None:
            return
        for id_ in event.begun:
            self._begin(self._own(id_, event), event.time)
        for id_ in event.fresh:
            self._forget_start(self._own(id_, event))
        for block in event.reports:
            self._take_reports(self._own(block.id, event), block)
        for checkpoint in event.checkpoints:
            self._take_checkpoint(self._own(checkpoint.id, event), checkpoint)
        for end in event.ends:
            self._take_end(self._own(end.id, event), end, event.time)
        for number in self._handed_to(event.slot):
            self._assign(number, event.slot, slot)

    def _slot_lost(self, event: SlotLost) -> None:
        slot = self.slots.get(event.slot)
        if slot is not None and slot.incarnation == event.incarnation:
            self._lose(slot, event.time, event.cause)

    def _trials_timed_out(self, event: TrialsTimedOut) -> None:
        limit = self.spec.limits.trial_timeout
        for id_ in event.ids:
            trial = self.trials[id_.trial]
            if trial.id == id_ and trial.state is TrialState.RUNNING:
                self._stop(trial, StopCause.TRIAL_TIMEOUT, f"trial_timeout of {limit:g} s reached")

    def _sweep_timed_out(self, event: SweepTimedOut) -> None:
        reason = f"timeout of {self.spec.limits.timeout:g} s reached"
        self._end_sweep(Phase.COMPLETED, reason, event.time)

    def _cancel_asked(self, event: CancelAsked) -> None:
        self._end_sweep(Phase.CANCELED, event.reason, event.time)

    def _sampler_failed(self, event: SamplerFailed) -> None:
        self._end_sweep(Phase.FAILED, f"the sampler failed: {event.error}", event.time)

    # --- what a slot says -------------------------------------------------------------------------

    def _arrived(self, event: Exchanged) -> Slot | None:
        """The slot that speaks; None when it has been given up."""
        if self.superseded(event.slot, event.incarnation):
            return None
        slot = self.slots.get(event.slot)
        if slot is None or slot.incarnation < event.incarnation:
            if slot is not None:
                self._lose(slot, event.time, "it was replaced")
            slot = Slot(event.incarnation, event.places, lost=False, holds=set())
            self.slots[event.slot] = slot
        slot.places = event.places
        return slot

    def _own(self, id_: AttemptId, event: Exchanged) -> Trial | None:
        return self._owned(id_, event.slot, event.incarnation)

    def _owned(self, id_: AttemptId, slot: int, incarnation: int) -> Trial | None:
        """The trial, if this attempt at it is the current one and this slot's to run."""
        if not 0 <= id_.trial < len(self.trials):
            return None
        trial = self.trials[id_.trial]
        same = trial.id == id_ and (trial.slot, trial.incarnation) == (slot, incarnation)
        return trial if same and trial.state in LIVE else None

    def _begin(self, trial: Trial | None, time: float) -> None:
        if trial is None or trial.state is not TrialState.ASSIGNED:
            return
        self._step(trial, Step.BEGIN)
        trial.begun = time
        if trial.first_begun is None:
            trial.first_begun = time
        self.history.restart(trial.number, trial.start)

    def _forget_start(self, trial: Trial | None) -> None:
        """The attempt took no notice of its checkpoint: its curve begins anew."""
        if trial is None or trial.start == 0:
            return
        trial.start = 0
        self.history.restart(trial.number, 0)

    def _take_reports(self, trial: Trial | None, block: Reports) -> None:
        if trial is None or block.first > trial.last_report + 1:
            return
        new = block.after(trial.last_report)
        if new is None:
            return
        trial.names.update(new.names)
        trial.barren = 0
        self.reports += new.count
        column = new.column(self.spec.objective.metric)
        if column is None:
            trial.unmeasured.extend(range(new.first, new.last + 1))
            trial.last_report = new.last
            return
        for value in column:
            trial.last_report += 1
            if trial.state is TrialState.RUNNING:
                self._judge(trial, self.history.add(trial.number, value))

    def _judge(self, trial: Trial, interval: int) -> None:
        decision = self._decision(trial, interval)
        if decision.stop:
            self._stop(trial, StopCause.POLICY, decision.reason)

    def _decision(self, trial: Trial, interval: int) -> Decision:
        if self._recorded is None:
            return self.spec.policy.decide(self.history, trial.number, interval)
        reason = self._recorded.stops.get((trial.id, trial.last_report))
        return GO_ON if reason is None else Decision(stop=True, reason=reason)

    def _take_checkpoint(self, trial: Trial | None, checkpoint: Checkpoint) -> None:
        if trial is None or not self._is_new(trial, checkpoint):
            return
        interval = min(
            trial.interval_of(checkpoint.report), self.history.intervals(trial.number)
        )  # what came after a stop does not count
        trial.keep(checkpoint, interval)

    def _is_new(self, trial: Trial, checkpoint: Checkpoint) -> bool:
        """Whether its report is in and no later checkpoint of this attempt is."""
        latest = trial.restored
        known = latest.report if latest is not None and latest.id == checkpoint.id else 0
        return known < checkpoint.report <= trial.last_report

    def _take_end(self, trial: Trial | None, end: End, time: float) -> None:
        if trial is None or end.last_report != trial.last_report:
            return
        self._begin(trial, time)
        if end.damaged:
            trial.discard(end.damaged)
        if trial.state is TrialState.STOPPING:
            self._end_stopping(trial, end, time)
        elif end.ending is Ending.LOST:
            self._lose_trial(trial, end.error, time)
        elif end.ending in (Ending.RAISED, Ending.KILLED):
            self._fail_attempt(trial, end, time)
        else:
            self._complete(trial, time)

    def _end_stopping(self, trial: Trial, end: End, time: float) -> None:
        assert trial.cause is not None
        if end.ending is Ending.RETURNED and self.history.intervals(trial.number):
            reason = f"ran to its end; a stop came too late ({trial.reason})"
            self._terminate(trial, Step.COMPLETE, reason, time)
            return
        trial.error = end.error
        self._terminate(trial, OBEYED[trial.cause], trial.reason, time)

    def _fail_attempt(self, trial: Trial, end: End, time: float) -> None:
        trial.failures += 1
        trial.error = end.error
        if trial.failures < self.spec.max_attempts:
            self._step(trial, Step.RETRY)
            heappush(self._waiting, trial.number)
            return
        self._terminate(trial, Step.FAIL, end.error, time)
        self._fail_if_alike(trial, f"{end.error.partition(':')[0]} at {end.where}", time)

    def _complete(self, trial: Trial, time: float) -> None:
        if self.history.intervals(trial.number):
            self._terminate(trial, Step.COMPLETE, "ran to its end", time)
            return
        seen = ", ".join(sorted(trial.names)) or "no report at all"
        metric = self.spec.objective.metric
        trial.error = f"primary metric {metric!r} was never reported (saw: {seen})"
        trial.failures += 1
        self._terminate(trial, Step.FAIL, trial.error, time)
        self._fail_if_alike(trial, trial.error, time)

    # --- steps ------------------------------------------------------------------------------------

    def _step(self, trial: Trial, step: Step) -> None:
        self.counts[trial.state] -= 1
        trial.step(step)
        self.counts[trial.state] += 1
        if trial.state not in LIVE:
            self._live.discard(trial.number)
            if trial.slot in self.slots:
                self.slots[trial.slot].holds.discard(trial.number)

    def _stop(self, trial: Trial, cause: StopCause, reason: str) -> None:
        self._step(trial, Step.STOP)
        trial.cause, trial.reason = cause, reason
        trial.stop_report = trial.last_report if cause is StopCause.POLICY else 0
        self._commands.append(_stop_of(trial))

    def _terminate(self, trial: Trial, step: Step, reason: str, time: float) -> None:
        self._step(trial, step)
        trial.reason = reason
        trial.ended = time
        trial.names = set()
        self.history.finish(trial.number)
        if trial.state is not TrialState.FAILED:
            self._alike = None

    def _lose(self, slot: Slot, time: float, cause: str) -> None:
        slot.lost = True
        for number in sorted(slot.holds):
            self._lose_trial(self.trials[number], cause, time)

    def _lose_trial(self, trial: Trial, cause: str, time: float) -> None:
        """The attempt is gone through no fault of the trial: another follows."""
        if trial.state is TrialState.STOPPING:
            assert trial.cause is not None
            self._terminate(trial, OBEYED[trial.cause], trial.reason, time)
            return
        trial.losses += 1
        trial.barren += 1
        self._step(trial, Step.LOSE)
        if trial.barren < HOPELESS:
            heappush(self._waiting, trial.number)
            return
        trial.error = f"its slot was lost {HOPELESS} times before a report (last: {cause})"
        self._terminate(trial, Step.FAIL, trial.error, time)

    def _handed_to(self, number: int) -> Iterator[int]:
        """The trials that this slot is given now, lower numbers first."""
        if self._recorded is not None:
            yield from self._recorded.assigned
            return
        while self.can_assign(number):
            yield self._waiting[0]

    def _assign(self, number: int, slot_number: int, slot: Slot) -> None:
        self._waiting.remove(number)
        heapify(self._waiting)
        trial = self.trials[number]
        self._step(trial, Step.ASSIGN)
        trial.begin_attempt(slot_number, slot.incarnation)
        self._live.add(number)
        slot.holds.add(number)
        self._commands.append(_assign_of(trial))

    # --- the sweep's end --------------------------------------------------------------------------

    def _end_sweep(self, outcome: Phase, reason: str, time: float) -> None:
        """Nothing new begins: what waits is canceled, what runs is told to end."""
        if self.phase is not Phase.RUNNING:
            return
        self.phase, self._outcome, self.reason = Phase.ENDING, outcome, reason
        for number in sorted(self._live.union(self._waiting)):
            trial = self.trials[number]
            if trial.state is TrialState.RUNNING:
                self._stop(trial, StopCause.SWEEP_ENDS, reason)
            elif trial.state is not TrialState.STOPPING:
                self._terminate(trial, Step.CANCEL, reason, time)
        self._waiting.clear()

    def _fail_if_alike(self, trial: Trial, kind: str, time: float) -> None:
        """End a sweep whose first trials all fail in the same way, unless others get further."""
        self._alike = kind if self._alike in ("", kind) else None
        if self._alike is None or self.counts[TrialState.FAILED] < FAIL_ALIKE:
            return
        reached = self.history.intervals(trial.number)
        if all(self.history.intervals(number) <= reached for number in self._live):
            reason = f"the first {FAIL_ALIKE} trials failed alike: {trial.error}"
            self._end_sweep(Phase.FAILED, reason, time)

    def _finish_if_over(self) -> None:
        if self.phase in OVER or self._live or self._waiting:
            return
        if self.phase is Phase.RUNNING and not self.all_proposed:
            return
        self.phase = self._outcome
        if self.phase is Phase.COMPLETED and not self.counts[TrialState.COMPLETED]:
            self.phase = Phase.FAILED
            self.reason = f"no trial completed{self.reason and f' ({self.reason})'}"
        self._commands.append(Finish(phase=self.phase, reason=self.reason))

    # --- what the controller asks -----------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the sweep has ended."""
        return self.phase in OVER

    @property
    def all_proposed(self) -> bool:
        """Whether no further trial will be proposed."""
        return self.exhausted or len(self.trials) == self._total

    @property
    def best(self) -> Best | None:
        """The trial with the best finite counted value; ties to the lower number."""
        return self.history.best_trial()

    def proposals_wanted(self, ahead: int) -> int:
        """How many trials the sampler should propose so that `ahead` trials wait."""
        if self.phase is not Phase.RUNNING or self.all_proposed:
            return 0
        left = ahead if self._total is None else self._total - len(self.trials)
        return max(0, min(left, ahead - len(self._waiting)))

    def slots_wanted(self) -> int | None:
        """How many slots of one place have something to run; None when there is no bound."""
        if self.over:
            return 0
        known = len(self._live) + len(self._waiting)
        bounds = [] if self._most_live is None else [self._most_live]
        if self.phase is not Phase.RUNNING or self.all_proposed:
            bounds.append(known)
        elif self._total is not None:
            bounds.append(known + self._total - len(self.trials))
        return min(bounds, default=None)

    def observations(self) -> list[Observation]:
        """What a sampler that learns may know: every trial so far."""
        return [
            Observation(
                trial=trial.number,
                params=trial.params,
                value=self.history.best(trial.number),
                pending=trial.state not in TERMINAL,
            )
            for trial in self.trials
        ]

    def due(self, now: float) -> list[Event]:
        """The time limits that have been reached."""
        if self.phase is not Phase.RUNNING:
            return []
        limits = self.spec.limits
        if limits.timeout is not None and now >= limits.timeout:
            return [SweepTimedOut(time=now)]
        over = self._overdue(now)
        return [TrialsTimedOut(time=now, ids=over)] if over else []

    def _overdue(self, now: float) -> tuple[AttemptId, ...]:
        limit = self.spec.limits.trial_timeout
        if limit is None:
            return ()
        live = (self.trials[number] for number in sorted(self._live))
        return tuple(
            trial.id
            for trial in live
            if trial.state is TrialState.RUNNING and now >= trial.begun + limit
        )

    def next_due(self) -> float | None:
        """The time at which `due` will next have something to say."""
        if self.phase is not Phase.RUNNING:
            return None
        limits = self.spec.limits
        times = [] if limits.timeout is None else [limits.timeout]
        if limits.trial_timeout is not None:
            live = (self.trials[number] for number in self._live)
            running = (trial for trial in live if trial.state is TrialState.RUNNING)
            times.extend(trial.begun + limits.trial_timeout for trial in running)
        return min(times, default=None)

    # --- the exchange -----------------------------------------------------------------------------

    def superseded(self, slot: int, incarnation: int) -> bool:
        """Whether this actor of a slot was given up."""
        known = self.slots.get(slot)
        if known is None:
            return False
        return incarnation < known.incarnation or (incarnation == known.incarnation and known.lost)

    def can_assign(self, slot: int) -> bool:
        """Whether a trial waits that this slot may have."""
        known = self.slots[slot]
        if self.phase is not Phase.RUNNING or not self._waiting or known.lost:
            return False
        crowded = self._most_live is not None and len(self._live) >= self._most_live
        return not crowded and len(known.holds) < known.places

    def novel(self, request: Request, time: float) -> Exchanged | Refusal:
        """What a request says that is not known yet, or why it cannot be taken."""
        if self.superseded(request.slot, request.incarnation):
            return Refusal.SUPERSEDED
        whose = (request.slot, request.incarnation)
        last = {id_: t.last_report for id_ in request.holds if (t := self._owned(id_, *whose))}
        reports = []
        for block in request.reports:
            if block.id not in last or (new := block.after(last[block.id])) is None:
                continue
            if new.first > last[block.id] + 1:
                return Refusal.GAP
            last[block.id] = new.last
            reports.append(new)
        ends = tuple(end for end in request.ends if end.id in last)
        if any(end.last_report != last[end.id] for end in ends):
            return Refusal.GAP
        return Exchanged(
            time=time,
            slot=request.slot,
            incarnation=request.incarnation,
            places=request.places,
            begun=tuple(id_ for id_ in last if self._state_of(id_) is TrialState.ASSIGNED),
            fresh=tuple(id_ for id_ in request.fresh if id_ in last and self._started(id_)),
            reports=tuple(reports),
            checkpoints=tuple(self._unknown(request.checkpoints, last)),
            ends=ends,
        )

    def _state_of(self, id_: AttemptId) -> TrialState:
        return self.trials[id_.trial].state

    def _started(self, id_: AttemptId) -> bool:
        return self.trials[id_.trial].start > 0

    def _unknown(
        self, checkpoints: Sequence[Checkpoint], last: Mapping[AttemptId, int]
    ) -> Iterator[Checkpoint]:
        """Those that the journal does not name yet and whose report it has, or gets now."""
        for one in checkpoints:
            known = {kept.checkpoint.path for kept in self.trials[one.id.trial].checkpoints}
            if one.id in last and one.report <= last[one.id] and one.path not in known:
                yield one

    def acknowledged(self, request: Request) -> tuple[Acknowledged, ...]:
        """Up to which report each attempt of this request is known."""
        return tuple(
            Acknowledged(id=id_, report=trial.last_report)
            for id_ in request.holds
            if (trial := self._owned(id_, request.slot, request.incarnation))
        )

    def owed(self, request: Request) -> tuple[list[Assign], list[Stop], list[AttemptId]]:
        """What the slot must be told until it shows that it knows: assignments, stops, drops."""
        slot = self.slots[request.slot]
        held = [self.trials[number] for number in sorted(slot.holds)]
        assigns = [_assign_of(trial) for trial in held if trial.state is TrialState.ASSIGNED]
        stops = [_stop_of(trial) for trial in held if trial.state is TrialState.STOPPING]
        owned = {trial.id for trial in held}
        return assigns, stops, [id_ for id_ in request.holds if id_ not in owned]


class _Recorded:
    """The commands that the journal holds for an event, for looking up."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.stops = {
            (command.id, command.report): command.reason
            for command in commands
            if isinstance(command, Stop) and command.cause is StopCause.POLICY
        }
        self.assigned = [command.id.trial for command in commands if isinstance(command, Assign)]

    def __repr__(self) -> str:
        return f"_Recorded(stops={self.stops}, assigned={self.assigned})"


def _assign_of(trial: Trial) -> Assign:
    return Assign(
        id=trial.id,
        slot=trial.slot,
        incarnation=trial.incarnation,
        params=trial.params,
        start=trial.start,
        checkpoint=trial.restored,
    )


def _stop_of(trial: Trial) -> Stop:
    assert trial.cause is not None
    return Stop(id=trial.id, report=trial.stop_report, cause=trial.cause, reason=trial.reason)


_HANDLERS: dict[type[Event], Callable[[SweepState, Any], None]] = {
    Opened: SweepState._opened,
    Proposed: SweepState._proposed,
    Exchanged: SweepState._exchanged,
    SlotLost: SweepState._slot_lost,
    TrialsTimedOut: SweepState._trials_timed_out,
    SweepTimedOut: SweepState._sweep_timed_out,
    CancelAsked: SweepState._cancel_asked,
    SamplerFailed: SweepState._sampler_failed,
}
