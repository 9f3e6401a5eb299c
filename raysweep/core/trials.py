"""One trial's life: its states, the steps between them as a table, and its record.

One rule: a state is left only by `Trial.step`, and only as the table says.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from raysweep.core.events import Assign, AttemptId, Checkpoint, Params, Reports, Stop, StopCause
from raysweep.errors import InvalidTransitionError


class TrialState(StrEnum):
    """Where a trial stands."""

    WAITING = "waiting"  # for a slot, at first or for another attempt
    ASSIGNED = "assigned"  # handed to a slot that has not yet shown that it knows
    RUNNING = "running"
    STOPPING = "stopping"  # told to end
    COMPLETED = "completed"
    STOPPED = "stopped"  # by the policy
    TIMED_OUT = "timed_out"  # by trial_timeout
    CANCELED = "canceled"  # with its sweep
    FAILED = "failed"


class Step(StrEnum):
    """What happens to a trial."""

    ASSIGN = "assign"
    BEGIN = "begin"
    STOP = "stop"  # somebody decides that it ends
    LOSE = "lose"  # its slot is gone
    GIVE_BACK = "give back"  # its slot has no place for it after all
    RETRY = "retry"  # its attempt failed and it has another
    COMPLETE = "complete"
    FAIL = "fail"
    OBEY_POLICY = "obey policy"
    OBEY_TIMEOUT = "obey timeout"
    CANCEL = "cancel"


LIVE = frozenset({TrialState.ASSIGNED, TrialState.RUNNING, TrialState.STOPPING})
TERMINAL = frozenset(TrialState) - LIVE - {TrialState.WAITING}
# What would have come further. Of a trial whose time was up, all is known that its time allows.
CUT_SHORT = frozenset({TrialState.STOPPED, TrialState.CANCELED})

TRANSITIONS: Mapping[TrialState, Mapping[Step, TrialState]] = {
    TrialState.WAITING: {
        Step.ASSIGN: TrialState.ASSIGNED,
        Step.CANCEL: TrialState.CANCELED,
        Step.FAIL: TrialState.FAILED,  # lost too often
    },
    TrialState.ASSIGNED: {
        Step.BEGIN: TrialState.RUNNING,
        Step.LOSE: TrialState.WAITING,
        Step.GIVE_BACK: TrialState.WAITING,
        Step.CANCEL: TrialState.CANCELED,  # taken back
    },
    TrialState.RUNNING: {
        Step.STOP: TrialState.STOPPING,
        Step.LOSE: TrialState.WAITING,
        Step.RETRY: TrialState.WAITING,
        Step.COMPLETE: TrialState.COMPLETED,
        Step.FAIL: TrialState.FAILED,
    },
    TrialState.STOPPING: {
        Step.COMPLETE: TrialState.COMPLETED,  # it crossed the stop; the decision is moot
        Step.OBEY_POLICY: TrialState.STOPPED,
        Step.OBEY_TIMEOUT: TrialState.TIMED_OUT,
        Step.CANCEL: TrialState.CANCELED,
    },
    **{state: {} for state in TERMINAL},
}

NO_NAMES: frozenset[str] = frozenset()  # one for all: an empty set takes 216 bytes

OBEYED = {
    StopCause.POLICY: Step.OBEY_POLICY,
    StopCause.TRIAL_TIMEOUT: Step.OBEY_TIMEOUT,
    StopCause.SWEEP_ENDS: Step.CANCEL,
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint and the interval that it stands at."""

    interval: int
    checkpoint: Checkpoint


@dataclass(slots=True, kw_only=True)
class Trial:
    """All that the sweep knows of a trial, except for its curve."""

    number: int
    params: Params
    state: TrialState = TrialState.WAITING
    reason: str = ""  # why it ended, or is to end
    error: str = ""  # of its last failed attempt, one line
    failures: int = 0  # attempts that failed
    losses: int = 0  # attempts lost with their slot
    barren: int = 0  # losses in a row without a report between them
    first_begun: float | None = None  # time of the first attempt's beginning
    ended: float | None = None
    checkpoints: tuple[Kept, ...] = ()

    # the current attempt
    attempt: int = 0
    slot: int = -1
    incarnation: int = 0
    start: int = 0  # the interval that it continued from
    begun: float = 0.0
    last_report: int = 0
    unmeasured: list[int] | None = None  # reports without the primary metric; None: there is none
    names: frozenset[str] = NO_NAMES  # metrics seen in any attempt; forgotten when it ends
    cause: StopCause | None = None
    stop_report: int = 0

    @property
    def id(self) -> AttemptId:
        """The current attempt."""
        return AttemptId(self.number, self.attempt)

    @property
    def untouched(self) -> bool:
        """Whether it waits and no slot was ever told of it, so that its values may still change."""
        return self.state is TrialState.WAITING and self.attempt == 0

    @property
    def restored(self) -> Checkpoint | None:
        """What the next attempt starts from."""
        return self.checkpoints[-1].checkpoint if self.checkpoints else None

    @property
    def can_start_anew(self) -> bool:
        """Whether the attempt may still say that it took no notice of its checkpoint."""
        return self.start > 0 and self.last_report == 0

    def step(self, step: Step) -> None:
        """Take a step of the table.

        Raises:
            InvalidTransitionError: the table has no such step from here.
        """
        try:
            self.state = TRANSITIONS[self.state][step]
        except KeyError:
            raise InvalidTransitionError(
                f"{self.id} cannot {step} while {self.state}: {self.failures} failures,"
                f" {self.losses} losses, last report {self.last_report}, reason {self.reason!r}"
            ) from None

    def begin_attempt(self, slot: int, incarnation: int) -> None:
        """Number a new attempt on a slot, from the latest checkpoint."""
        self.attempt += 1
        self.slot, self.incarnation = slot, incarnation
        self.start = self.checkpoints[-1].interval if self.checkpoints else 0
        self.last_report = 0
        self.unmeasured = None

    def start_anew(self) -> None:
        """The attempt took no notice of its checkpoint: none of an earlier one fits its curve."""
        self.start = 0
        self.checkpoints = ()

    def order_to_run(self) -> Assign:
        """The assignment of the current attempt."""
        return Assign(
            id=self.id,
            slot=self.slot,
            incarnation=self.incarnation,
            params=self.params,
            start=self.start,
            checkpoint=self.restored,
        )

    def order_to_stop(self) -> Stop:
        """The stop of the current attempt, once it was decided."""
        assert self.cause is not None, "only a trial that was told to stop has a cause"
        return Stop(id=self.id, report=self.stop_report, cause=self.cause, reason=self.reason)

    def note(self, reports: Reports, *, measured: bool) -> None:
        """Note which metrics these reports hold, and whether the primary metric is among them."""
        if not self.names.issuperset(reports.names):
            self.names = self.names.union(reports.names)
        if not measured:
            self.unmeasured = self.unmeasured or []
            self.unmeasured.extend(range(reports.first, reports.last + 1))

    def interval_of(self, report: int) -> int:
        """The interval that the trial had reached with this report of the current attempt."""
        return self.start + report - bisect_right(self.unmeasured or (), report)

    def takes(self, checkpoint: Checkpoint, last_report: int) -> bool:
        """Whether a checkpoint's report is in and no later checkpoint of this attempt is."""
        latest = self.restored
        known = latest.report if latest is not None and latest.id == checkpoint.id else 0
        return known < checkpoint.report <= last_report

    def keep(self, checkpoint: Checkpoint, interval: int) -> None:
        """Note a durable checkpoint."""
        self.checkpoints += (Kept(interval, checkpoint),)

    def discard(self, paths: Collection[str]) -> None:
        """Forget checkpoints: one that turned out to be damaged, or those that gave way."""
        self.checkpoints = tuple(
            one for one in self.checkpoints if one.checkpoint.path not in paths
        )

    def given_way(self, last: int, best: int) -> tuple[str, ...]:
        """The paths of all checkpoints but the last so many and the nearest to an interval."""
        nearest = self.nearest_checkpoint(best)
        return tuple(one.checkpoint.path for one in self.checkpoints[:-last] if one is not nearest)

    def nearest_checkpoint(self, interval: int) -> Kept | None:
        """The last checkpoint at or before an interval."""
        return max(
            (kept for kept in self.checkpoints if kept.interval <= interval),
            key=lambda kept: kept.interval,
            default=None,
        )

    def end(self, reason: str, time: float) -> None:
        """Note why and when the trial ended, and forget what only a running one needs."""
        self.reason, self.ended = reason, time
        self.names, self.unmeasured = NO_NAMES, None
