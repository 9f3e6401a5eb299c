"""A sweep's state: events go in one by one, commands come out.

One rule: `SweepState.apply` is the only way in. It asks the policy and hands out trials when an
event is new; given the commands that were recorded with the event it takes those instead, so that
a replay never asks a policy again and ends in the same state.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from raysweep.core.events import (
    GO_ON,
    Assign,
    AttemptId,
    CancelAsked,
    Checkpoint,
    Command,
    Decision,
    Discard,
    End,
    Ending,
    Event,
    Exchanged,
    Finish,
    LimitsChanged,
    Opened,
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
from raysweep.core.history import History
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.policies import NoPolicy
from raysweep.core.roster import Roster, Slot
from raysweep.core.spec import Limits, SweepSpec
from raysweep.core.standing import OVER, Phase, Standing
from raysweep.core.trials import OBEYED, Step, Trial, TrialState
from raysweep.errors import InvalidTransitionError

__all__ = ["FAIL_ALIKE", "HOPELESS", "OVER", "Phase", "SweepState"]

FAIL_ALIKE = 3  # so many first trials that fail in the same way end the sweep
HOPELESS = 10  # losses in a row, without a report between them, that end a trial

# What a snapshot keeps beside the trials, the slots and the curves, and how each is read back.
_KEPT: Mapping[str, Callable[[Any], Any]] = {
    "phase": Phase,
    "reason": str,
    "time": float,
    "epoch": int,
    "exhausted": bool,
    "reports": int,
    "suspended": bool,
    "_alike": lambda plain: plain,
    "_outcome": Phase,
}


class SweepState(Standing):
    """The state of one sweep: a `Standing` that events move on."""

    _passing = Standing._passing | {"_recorded", "_commands"}  # noqa: SLF001  (its own class)

    def __init__(self, spec: SweepSpec) -> None:
        super().__init__(spec)
        self._alike: str | None = ""  # the failure that all ended trials share; None: not alike
        self._outcome = Phase.COMPLETED  # what an ending sweep ends as
        self._recorded: _Recorded | None = None
        self._commands: list[Command] = []

    def kept(self) -> list[Any]:
        """All that a snapshot keeps, as plain lists, numbers, strings and bytes."""
        fields = [to_plain(getattr(self, name)) for name in _KEPT]
        return [fields, self.roster.kept(), self.history.kept(), to_plain(self.limits)]

    @classmethod
    def restored(cls, spec: SweepSpec, kept: list[Any]) -> Self:
        """The state that gave `kept`: it answers every further event as that one would.

        Args:
            spec: what was asked for when the sweep was made.
            kept: as `kept` gave it, or msgpack made of it.
        """
        fields, roster, history, limits = kept
        state = cls(spec)
        state._limit(from_plain(Limits, limits))
        for (name, kind), plain in zip(_KEPT.items(), fields, strict=True):
            setattr(state, name, kind(plain))
        state.roster = Roster.restored(state.limits.max_concurrent_trials, roster)
        state.history = History.restored(spec.objective.goal, spec.policy.tracks, history)
        return state

    def apply(self, event: Event, recorded: Sequence[Command] | None = None) -> list[Command]:
        """Take an event; returns the commands that follow from it.

        What a slot says of an attempt that is not its to run, or not any more, has no effect.

        Args:
            event: what happened. Its time must not lie before that of the event before it.
            recorded: the commands that were given when the event was first applied; None when it
                is new.

        Raises:
            InvalidTransitionError: the event cannot happen here; the state is as it was.
        """
        if not self.time <= event.time < math.inf:
            raise InvalidTransitionError(f"time {event.time} does not follow {self.time}: {event}")
        self._recorded = None if recorded is None else _Recorded(recorded)
        self._commands = []
        self._handle(event)
        self.time = event.time
        self._finish_if_over()
        return self._commands

    def _handle(self, event: Event) -> None:
        match event:
            case Exchanged():
                self._exchanged(event)
            case Proposed():
                self._proposed(event)
            case Revised():
                self._revised(event)
            case SlotLost():
                self._slot_lost(event)
            case TrialsTimedOut():
                self._trials_timed_out(event)
            case Opened():
                self._opened(event)
            case SweepTimedOut() | CancelAsked() | SamplerFailed():
                self._end_sweep(*self._outcome_of(event), event.time)
            case LimitsChanged():
                self._limits_changed(event)
            case Suspended():
                self.suspended = True

    def _opened(self, event: Opened) -> None:
        if event.epoch <= self.epoch:
            raise InvalidTransitionError(f"epoch {event.epoch} does not follow {self.epoch}")
        self.epoch, self.suspended = event.epoch, False
        if not event.slots_kept:
            for slot in self.slots.values():
                self._lose(slot, event.time, "the cluster that it ran on is gone")

    def _limits_changed(self, event: LimitsChanged) -> None:
        """Other limits hold; what is over goes on, and is over again at once if nothing is left."""
        fields = (f.name for f in dataclasses.fields(Limits))
        self._limit(Limits(**{name: getattr(event, name) for name in fields}))
        if self.over:
            self.phase, self._outcome, self.reason = Phase.RUNNING, Phase.COMPLETED, ""

    def _limit(self, limits: Limits) -> None:
        self.limits = limits
        self.total_trials = self.spec.total_under(limits)
        self.roster.most_live = limits.max_concurrent_trials

    def _proposed(self, event: Proposed) -> None:
        if self.phase is not Phase.RUNNING:
            return
        count = len(self.trials) + len(event.params)
        if self.exhausted or (self.total_trials is not None and count > self.total_trials):
            raise InvalidTransitionError(
                f"{len(event.params)} trials proposed after {len(self.trials)} of {self.total_trials}"
            )
        for params in event.params:
            self.roster.add(params)
        self.exhausted = event.exhausted

    def _revised(self, event: Revised) -> None:
        """Other values for a trial that waits; one that a slot was told of keeps its own."""
        if not 0 <= event.trial < len(self.trials):
            raise InvalidTransitionError(f"trial {event.trial} is revised, but never was proposed")
        if self.phase is Phase.RUNNING and self.trials[event.trial].untouched:
            self.trials[event.trial].params = event.params

    def _exchanged(self, event: Exchanged) -> None:
        if self.superseded(event.slot, event.incarnation):
            return
        self._welcome(event)
        for id_ in event.begun:
            self._speaker(id_, event)
        for id_ in event.fresh:
            self._start_anew(self._speaker(id_, event))
        for block in event.reports:
            self._take_reports(self._speaker(block.id, event), block)
        for checkpoint in event.checkpoints:
            self._take_checkpoint(self._speaker(checkpoint.id, event), checkpoint)
        for end in event.ends:
            self._take_end(self._speaker(end.id, event), end, event.time)
        for id_ in event.returned:
            self._take_back(self.roster.owned(id_, event.slot, event.incarnation))
        for trial in self._handed_to(event.slot):
            self._commands.append(self.roster.assign(trial, event.slot))

    def _slot_lost(self, event: SlotLost) -> None:
        if self.superseded(event.slot, event.incarnation):
            return
        slot = self._replaced(event.slot, event.incarnation, event.time)
        self._lose(slot, event.time, event.cause)

    def _trials_timed_out(self, event: TrialsTimedOut) -> None:
        limit = _given("trial_timeout", self.limits.trial_timeout)
        for id_ in event.ids:
            trial = self.roster.current(id_)
            if trial is not None and trial.state is TrialState.RUNNING:
                self._stop(trial, StopCause.TRIAL_TIMEOUT, f"trial_timeout of {limit} reached")

    # --- what a slot says -------------------------------------------------------------------------

    def _welcome(self, event: Exchanged) -> None:
        """Note that the slot is there, and how many trials it takes."""
        slot = self._replaced(event.slot, event.incarnation, event.time)
        slot.places, slot.ahead = event.places, event.ahead

    def _replaced(self, number: int, incarnation: int, time: float) -> Slot:
        """The slot as this incarnation of it; what its predecessor held is lost."""
        slot = self.slots.get(number)
        if slot is not None and slot.incarnation == incarnation:
            return slot
        if slot is not None:
            self._lose(slot, time, "it was replaced")
        self.slots[number] = Slot(incarnation=incarnation)
        return self.slots[number]

    def _speaker(self, id_: AttemptId, event: Exchanged) -> Trial | None:
        """The trial, if this attempt is the slot's to run; what is spoken of has begun."""
        trial = self.roster.owned(id_, event.slot, event.incarnation)
        if trial is not None and trial.state is TrialState.ASSIGNED:
            self.roster.step(trial, Step.BEGIN)
            trial.begun = event.time
            trial.first_begun = event.time if trial.first_begun is None else trial.first_begun
            self.history.restart(trial.number, trial.start)
        return trial

    def _start_anew(self, trial: Trial | None) -> None:
        """The attempt took no notice of its checkpoint: its curve begins anew."""
        if trial is None or not trial.can_start_anew:
            return
        left = tuple(one.checkpoint.path for one in trial.checkpoints)
        trial.start_anew()
        self.history.restart(trial.number, 0)
        if self.spec.keep_checkpoints is not None:
            self._commands.append(Discard(id=trial.id, report=0, paths=left))

    def _take_reports(self, trial: Trial | None, block: Reports) -> None:
        if trial is None or block.first > trial.last_report + 1:
            return
        new = block.after(trial.last_report)
        if new is None:
            return
        column = new.column(self.spec.objective.metric)
        trial.note(new, measured=column is not None)
        trial.barren = 0
        self.reports += new.count
        if column and self._stops_nobody:
            if trial.state is TrialState.RUNNING:
                self.history.add_all(trial.number, column)
        else:
            self._judge(trial, column or ())
        trial.last_report = new.last

    @property
    def _stops_nobody(self) -> bool:
        """Whether the policy has nothing to say to the event."""
        if self._recorded is None:
            return isinstance(self.spec.policy, NoPolicy)
        return not self._recorded.stops

    def _judge(self, trial: Trial, values: Iterable[float]) -> None:
        for value in values:
            trial.last_report += 1
            if trial.state is TrialState.RUNNING:
                decision = self._decision(trial, self.history.add(trial.number, value))
                if decision.stop:
                    self._stop(trial, StopCause.POLICY, decision.reason)

    def _decision(self, trial: Trial, interval: int) -> Decision:
        if self._recorded is None:
            return self.spec.policy.decide(self.history, trial.number, interval)
        reason = self._recorded.stops.get((trial.id, trial.last_report))
        return GO_ON if reason is None else Decision(stop=True, reason=reason)

    def _take_checkpoint(self, trial: Trial | None, checkpoint: Checkpoint) -> None:
        if trial is None or not trial.takes(checkpoint, trial.last_report):
            return
        counted = self.history.intervals(trial.number)  # what came after a stop does not
        trial.keep(checkpoint, min(trial.interval_of(checkpoint.report), counted))
        if paths := self._given_way(trial, checkpoint.report):
            trial.discard(paths)
            self._commands.append(Discard(id=trial.id, report=checkpoint.report, paths=paths))

    def _given_way(self, trial: Trial, report: int) -> tuple[str, ...]:
        """The checkpoints that are not to be kept now that the trial has this report's.

        The best is that of the curve up to the oldest of the last n. A later best has its nearest
        checkpoint among the last n; and this way an attempt that starts from any of them, and takes
        what follows out of the curve, finds the checkpoint of what is the best then.
        """
        if self._recorded is not None:
            return self._recorded.discarded.get((trial.id, report), ())
        last = self.spec.keep_checkpoints
        if last is None or len(trial.checkpoints) <= last:
            return ()
        oldest = trial.checkpoints[-last].interval
        return trial.given_way(last, self.history.best_interval(trial.number, oldest))

    def _take_end(self, trial: Trial | None, end: End, time: float) -> None:
        if trial is None or end.last_report != trial.last_report:
            return
        if end.damaged:
            trial.discard({end.damaged})
        if trial.state is TrialState.STOPPING:
            self._end_stopping(trial, end, time)
        elif end.ending is Ending.LOST:
            self._lose_trial(trial, end.error, time)
        elif end.ending in (Ending.RAISED, Ending.KILLED):
            self._fail_attempt(trial, end, time)
        else:
            self._complete(trial, time)

    def _take_back(self, trial: Trial | None) -> None:
        if trial is not None and trial.state is TrialState.ASSIGNED:
            self.roster.step(trial, Step.GIVE_BACK)

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
            self.roster.step(trial, Step.RETRY)
            return
        self._fail(trial, f"{end.error.partition(':')[0]} at {end.where}", time)

    def _complete(self, trial: Trial, time: float) -> None:
        if self.history.intervals(trial.number):
            self._terminate(trial, Step.COMPLETE, "ran to its end", time)
            return
        seen = ", ".join(sorted(trial.names)) or "no report at all"
        metric = self.spec.objective.metric
        trial.error = f"primary metric {metric!r} was never reported (saw: {seen})"
        trial.failures += 1
        self._fail(trial, trial.error, time)

    # --- steps ------------------------------------------------------------------------------------

    def _stop(self, trial: Trial, cause: StopCause, reason: str) -> None:
        self.roster.step(trial, Step.STOP)
        trial.cause, trial.reason = cause, reason
        trial.stop_report = trial.last_report if cause is StopCause.POLICY else 0
        self._commands.append(trial.order_to_stop())

    def _terminate(self, trial: Trial, step: Step, reason: str, time: float) -> None:
        self.roster.step(trial, step)
        trial.end(reason, time)
        self.history.finish(trial.number)
        if trial.state is not TrialState.FAILED:
            self._alike = None

    def _fail(self, trial: Trial, kind: str, time: float) -> None:
        """The trial has failed for good; `kind` tells failures of one kind from others."""
        self._terminate(trial, Step.FAIL, trial.error, time)
        self._alike = kind if self._alike in ("", kind) else None
        if self._failing_alike(self.history.intervals(trial.number)):
            count = self.counts[TrialState.FAILED]
            reason = f"the first {count} trials failed alike: {trial.error}"
            self._end_sweep(Phase.FAILED, reason, time)

    def _failing_alike(self, reached: int) -> bool:
        """Whether all trials so far failed alike, and none gets beyond this interval."""
        if self._alike is None or self.counts[TrialState.FAILED] < FAIL_ALIKE:
            return False
        others = (*self.roster.live, *self.roster.waiting)
        return all(self.history.intervals(number) <= reached for number in others)

    def _lose(self, slot: Slot, time: float, cause: str) -> None:
        """The slot is gone, and the attempts with it."""
        slot.lost = True
        for number in sorted(slot.holds):
            if number in slot.holds:  # a loss that ends the sweep takes back what has not begun
                self._lose_trial(self.trials[number], cause, time)

    def _lose_trial(self, trial: Trial, cause: str, time: float) -> None:
        """The attempt is gone through no fault of the trial: another follows."""
        if trial.state is TrialState.STOPPING:
            assert trial.cause is not None
            self._terminate(trial, OBEYED[trial.cause], trial.reason, time)
            return
        trial.losses += 1
        trial.barren += 1
        self.roster.step(trial, Step.LOSE)
        if trial.barren >= HOPELESS:
            trial.error = f"its slot was lost {HOPELESS} times before a report (last: {cause})"
            self._fail(trial, "lost", time)

    def _handed_to(self, number: int) -> Iterator[Trial]:
        """The trials that this slot is given now, lower numbers first."""
        if self._recorded is not None:
            yield from (self.trials[trial] for trial in self._recorded.assigned)
            return
        while self.can_assign(number):
            yield self.trials[self.roster.waiting[0]]

    # --- the sweep's end --------------------------------------------------------------------------

    def _outcome_of(self, event: SweepTimedOut | CancelAsked | SamplerFailed) -> tuple[Phase, str]:
        """What an event that ends the sweep ends it as, and why."""
        match event:
            case SweepTimedOut():
                limit = _given("timeout", self.limits.timeout)
                return Phase.COMPLETED, f"timeout of {limit} reached"
            case CancelAsked():
                return Phase.CANCELED, event.reason
            case SamplerFailed():
                return Phase.FAILED, f"the sampler failed: {event.error}"

    def _end_sweep(self, outcome: Phase, reason: str, time: float) -> None:
        """Nothing new begins: what waits is canceled, what runs is told to end."""
        if self.phase is not Phase.RUNNING:
            return
        self.phase, self._outcome, self.reason = Phase.ENDING, outcome, reason
        for number in sorted(self.roster.live.union(self.roster.waiting)):
            trial = self.trials[number]
            if trial.state is TrialState.RUNNING:
                self._stop(trial, StopCause.SWEEP_ENDS, reason)
            elif trial.state is not TrialState.STOPPING:
                self._terminate(trial, Step.CANCEL, reason, time)

    def _finish_if_over(self) -> None:
        if self.over or self.roster.live or self.roster.waiting:
            return
        if self.phase is Phase.RUNNING and not self.all_proposed:
            return
        self.phase = self._outcome
        if self.phase is Phase.COMPLETED and not self.counts[TrialState.COMPLETED]:
            self.phase = Phase.FAILED
            self.reason = f"no trial completed{self.reason and f' ({self.reason})'}"
        self._commands.append(Finish(phase=self.phase, reason=self.reason))


class _Recorded:
    """The commands that the journal holds for an event, for looking up."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.stops: Mapping[tuple[AttemptId, int], str] = {
            (command.id, command.report): command.reason
            for command in commands
            if isinstance(command, Stop) and command.cause is StopCause.POLICY
        }
        self.assigned = [command.id.trial for command in commands if isinstance(command, Assign)]
        self.discarded: Mapping[tuple[AttemptId, int], tuple[str, ...]] = {
            (command.id, command.report): command.paths
            for command in commands
            if isinstance(command, Discard)
        }


def _given(name: str, limit: float | None) -> str:
    """A time limit as a reason shows it.

    Raises:
        InvalidTransitionError: the sweep has no such limit, so nothing can have reached it.
    """
    if limit is None:
        raise InvalidTransitionError(f"limits.{name} was reached, but this sweep has none")
    return f"{limit:g} s"
