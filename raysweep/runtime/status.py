"""What those who watch are told: where a sweep stands, and a line for each thing that happened.

One rule: it is derived from the state alone, so a watcher and a reader of the journal see the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest

from raysweep.core.events import (
    Assign,
    Command,
    End,
    Event,
    Exchanged,
    Finish,
    Opened,
    Params,
    SlotLost,
    Stop,
    StopCause,
)
from raysweep.core.roster import LATEST
from raysweep.core.state import SweepState
from raysweep.core.trials import LIVE, TERMINAL, Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trial in a table."""

    number: int
    state: str
    intervals: int
    best: float | None  # its best finite value
    latest: float | None  # its latest value
    reason: str
    params: Params


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A sweep at one moment."""

    name: str
    phase: str
    reason: str
    metric: str
    goal: str
    elapsed: float  # seconds of the sweep's own time
    counts: dict[str, int]  # trials by state
    total: int | None  # trials that there will be at most
    reports: int
    slots: int
    best: Row | None
    best_interval: int
    rows: tuple[Row, ...]
    paused: str  # what the storage says while it refuses
    over: bool
    finished: bool  # whether the result files are written
    log: tuple[str, ...]  # what happened since the reader last asked
    logged: int  # lines ever

    @property
    def ended(self) -> int:
        """Trials that have ended."""
        return sum(self.counts.get(state, 0) for state in TERMINAL)

    @property
    def live(self) -> int:
        """Trials that are with a slot."""
        return sum(self.counts.get(state, 0) for state in LIVE)


def describe(
    state: SweepState,
    *,
    now: float,
    slots: int = 0,
    paused: str = "",
    finished: bool = True,
    log: Iterable[str] = (),
    logged: int = 0,
) -> Status:
    """The status of a sweep."""
    best = state.best
    return Status(
        name=state.spec.name,
        phase=state.phase,
        reason=state.reason,
        metric=state.spec.objective.metric,
        goal=state.spec.objective.goal,
        elapsed=state.time if state.over else now,
        counts={str(kind): count for kind, count in state.counts.items() if count},
        total=state.total_trials,
        reports=state.reports,
        slots=slots,
        best=None if best is None else row(state, state.trials[best.trial]),
        best_interval=0 if best is None else best.interval,
        rows=tuple(row(state, trial) for trial in _shown(state)),
        paused=paused,
        over=state.over,
        finished=finished,
        log=tuple(log),
        logged=logged,
    )


def row(state: SweepState, trial: Trial) -> Row:
    """A trial as a table shows it."""
    intervals = state.history.intervals(trial.number)
    return Row(
        number=trial.number,
        state=trial.state,
        intervals=intervals,
        best=state.history.best(trial.number),
        latest=state.history.value(trial.number, intervals) if intervals else None,
        reason=trial.reason or trial.error,
        params=trial.params,
    )


def _shown(state: SweepState) -> list[Trial]:
    """Those that run, and those that ended last, by number; no more than `LATEST`."""
    live = nsmallest(LATEST, state.roster.live)
    ended = [*state.roster.latest][len(live) - LATEST :] if len(live) < LATEST else []
    return [state.trials[number] for number in sorted([*live, *ended])]


def lines(event: Event, commands: Iterable[Command], state: SweepState) -> Iterator[str]:
    """What an event and its commands come to, for a log."""
    if isinstance(event, Opened) and event.epoch > 1:
        yield f"a controller took the sweep up (epoch {event.epoch})"
    if isinstance(event, SlotLost) and not state.over:
        yield f"slot {event.slot} lost: {event.cause}"
    if isinstance(event, Exchanged):
        yield from (_ended(end, state) for end in event.ends)
    for command in commands:
        if isinstance(command, Assign) and command.id.attempt > 1:
            yield f"{command.id} starts from interval {command.start}"
        elif isinstance(command, Stop) and command.cause is StopCause.POLICY:
            yield f"trial {command.id.trial} is to stop: {command.reason}"
        elif isinstance(command, Finish):
            yield f"the sweep {command.phase}{command.reason and f': {command.reason}'}"


def _ended(end: End, state: SweepState) -> str:
    trial = state.trials[end.id.trial]
    if trial.state not in TERMINAL:
        return f"{end.id} ended ({end.error}); another follows"
    intervals = state.history.intervals(trial.number)
    best = state.history.best(trial.number)
    reached = f"{intervals} interval{'s' * (intervals != 1)}"
    shown = "" if best is None else f", {state.spec.objective.metric} {best:.4g}"
    why = f" ({trial.error})" if trial.state is TrialState.FAILED else ""
    return f"trial {trial.number} {trial.state} after {reached}{shown}{why}"
