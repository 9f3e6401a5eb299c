"""A trial's story, told from the journal: its attempts, how it was judged, why it ended.

One rule: a stop is told as it was recorded. That a trial went on is in no journal: a replay stands
beside the trial at each of its intervals and reads off the numbers that the policy saw.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from raysweep.core.events import (
    Assign,
    Command,
    End,
    Ending,
    Event,
    Exchanged,
    Opened,
    Params,
    Proposed,
    Revised,
    SlotLost,
    Stop,
    StopCause,
)
from raysweep.core.history import Goal, History
from raysweep.core.policies import Bandit, MedianStopping, NoPolicy, Policy, TruncationSelection
from raysweep.core.state import SweepState
from raysweep.core.trials import TERMINAL
from raysweep.errors import CommandError
from raysweep.runtime.command.shell import shown
from raysweep.runtime.table import number
from raysweep.storage import journal
from raysweep.storage.folder import SweepFolder


@dataclass(slots=True, kw_only=True)
class AttemptTold:
    """One try at running the trial. Times are the sweep's own, in seconds."""

    attempt: int
    slot: int
    start: int  # the interval that it continues from
    checkpoint: str  # what it is restored from; "" for nothing
    assigned: float
    ended: float | None = None
    reports: int = 0
    ending: str = ""  # in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The trial at one of its intervals, and what the policy made of it."""

    attempt: int
    interval: int
    value: float
    best: float | None  # the trial's own, up to the interval
    stopped: bool
    why: str  # in numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalTold:
    """The sampler's proposal of the trial's values; the last one is what it ran with."""

    time: float  # of the sweep's own, in seconds
    known: int  # how many trials with a value the sampler had seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is told of a trial beyond its result."""

    proposals: list[ProposalTold]  # by a sampler that learns, which may think again
    attempts: list[AttemptTold]
    judged: list[Judged]
    ended: str  # why it ended; what it waits for or does if it has not
    command: str  # what it ran, for people to read; "" for a function


def story_of(folder: SweepFolder, trial: int) -> Story:
    """The story of a trial, from its sweep's journal.

    Raises:
        JournalDamagedError: the journal is damaged.
    """
    teller = _Teller(folder, trial)
    for record in journal.read(folder.journal):
        teller.hear(record.event, record.commands)
    return Story(
        proposals=teller.proposals,
        attempts=teller.attempts,
        judged=teller.judged,
        ended=teller.ended(),
        command=teller.command(),
    )


class _Witness(History):
    """A history that notes how one trial stood each time it reached an interval."""

    def __init__(self, goal: Goal, policy: Policy, trial: int) -> None:
        super().__init__(goal, policy.tracks)
        self._policy = policy
        self._trial = trial
        self.seen: list[partial[Judged]] = []  # without the attempt, and as if it went on

    def add(self, trial: int, value: float) -> int:
        """Append a value; a witness writes down what the policy sees then."""
        interval = super().add(trial, value)
        if trial == self._trial:
            self.seen.append(
                partial(
                    Judged,
                    interval=interval,
                    value=value,
                    best=self.best(trial, interval),
                    stopped=False,
                    why=standing(self._policy, self, trial, interval),
                )
            )
        return interval


class _Teller:
    """Replays a sweep and writes down what concerns one trial."""

    def __init__(self, folder: SweepFolder, trial: int) -> None:
        spec = folder.read_spec()
        self._folder = folder
        self._trial = trial
        self._state = SweepState(spec)
        self._witness = _Witness(spec.objective.goal, spec.policy, trial)
        self._state.history = self._witness
        self.proposals: list[ProposalTold] = []
        self.attempts: list[AttemptTold] = []
        self.judged: list[Judged] = []

    def hear(self, event: Event, commands: list[Command]) -> None:
        """Replay an event."""
        slot = self._slot_of(event)
        params = self._params
        self._state.apply(event, commands)
        if isinstance(event, Proposed | Revised) and params is not self._params:
            self._hear_proposal(event)
        if isinstance(event, Exchanged):
            self._hear_reports(event)
            self._hear_stop(commands)
            self._hear_end(end for end in event.ends if end.id.trial == self._trial)
        if slot is not None:
            self._close(event.time, slot)
        for command in commands:
            if isinstance(command, Assign) and command.id.trial == self._trial:
                self._open(command, event.time)

    @property
    def _params(self) -> Params | None:
        """The trial's values, once it has any."""
        trials = self._state.trials
        return trials[self._trial].params if self._trial < len(trials) else None

    def _hear_proposal(self, event: Proposed | Revised) -> None:
        """The trial has got values, its first or others."""
        if self._state.spec.sampler.learns:
            self.proposals.append(ProposalTold(time=event.time, known=event.known))

    def _slot_of(self, event: Event) -> str | None:
        """Why the trial loses its slot with this event, if it does."""
        if self._open_attempt is None:
            return None
        if isinstance(event, Opened) and not event.slots_kept:
            return "lost with its cluster"
        trial = self._state.trials[self._trial]
        if isinstance(event, SlotLost) and (event.slot, event.incarnation) == (
            trial.slot,
            trial.incarnation,
        ):
            return f"lost with its slot: {event.cause}"
        return None

    @property
    def _open_attempt(self) -> AttemptTold | None:
        return self.attempts[-1] if self.attempts and self.attempts[-1].ended is None else None

    def _open(self, assign: Assign, time: float) -> None:
        self.attempts.append(
            AttemptTold(
                attempt=assign.id.attempt,
                slot=assign.slot,
                start=assign.start,
                checkpoint=assign.checkpoint.path if assign.checkpoint else "",
                assigned=time,
            )
        )

    def _close(self, time: float, ending: str) -> None:
        if (told := self._open_attempt) is not None:
            told.ended, told.ending = time, ending

    def _hear_reports(self, event: Exchanged) -> None:
        for block in event.reports:
            if block.id.trial == self._trial:
                self.attempts[block.id.attempt - 1].reports = block.last
        attempt = self.attempts[-1].attempt if self.attempts else 0
        self.judged += [seen(attempt=attempt) for seen in self._witness.seen]
        self._witness.seen = []

    def _hear_stop(self, commands: Iterable[Command]) -> None:
        """The last interval that was seen is the one that the policy stopped the trial at."""
        for command in commands:
            if (
                isinstance(command, Stop)
                and command.id.trial == self._trial
                and command.cause is StopCause.POLICY
            ):
                last = self.judged[-1]
                self.judged[-1] = Judged(
                    attempt=last.attempt,
                    interval=last.interval,
                    value=last.value,
                    best=last.best,
                    stopped=True,
                    why=command.reason,
                )

    def _hear_end(self, ends: Iterable[End]) -> None:
        for end in ends:
            self._close(self._state.time, _in_words(end))

    def command(self) -> str:
        """What the trial ran, if it is a command; what kept it from being one if it could not be."""
        if not self._folder.command.exists():
            return ""
        try:
            return shown(self._folder.read_command(), self._state.trials[self._trial].params)
        except CommandError as error:
            return str(error)

    def ended(self) -> str:
        """Why the trial ended, or where it stands."""
        trial = self._state.trials[self._trial]
        if trial.state in TERMINAL:
            return trial.reason or trial.error
        return f"has not ended: it is {trial.state}{trial.reason and f' ({trial.reason})'}"


def _in_words(end: End) -> str:
    if end.ending is Ending.RETURNED:
        return "ran to its end"
    if end.ending is Ending.OBEYED:
        return f"ended as it was told{end.error and f' ({end.error})'}"
    if end.ending is Ending.LOST:
        return f"was lost: {end.error}"
    return f"failed: {end.error}"


# --- why a trial went on --------------------------------------------------------------------------


def standing(policy: Policy, history: History, trial: int, interval: int) -> str:
    """Why the policy lets the trial go on at the interval that it has just reached, in numbers."""
    if isinstance(policy, Bandit):
        return _not_yet(policy, interval) or _by_bandit(policy, history, trial, interval)
    if isinstance(policy, MedianStopping):
        return _not_yet(policy, interval) or _by_median(history, trial, interval)
    if isinstance(policy, TruncationSelection):
        return _not_yet(policy, interval) or _by_truncation(policy, history, trial, interval)
    assert isinstance(policy, NoPolicy), f"a policy without words: {policy}"
    return "no policy: every trial runs to its end"


def _not_yet(policy: Bandit | MedianStopping | TruncationSelection, interval: int) -> str:
    """Why the policy does not look at this interval; nothing if it does."""
    if interval < policy.delay_evaluation:
        return f"not judged before interval {policy.delay_evaluation}"
    if interval % max(1, policy.evaluation_interval):
        return f"judged only at multiples of {policy.evaluation_interval}"
    return ""


def _by_bandit(policy: Bandit, history: History, trial: int, interval: int) -> str:
    leader, best = history.leader(interval), history.best(trial, interval)
    if leader is None or best is None:
        return "no trial has a finite value here yet"
    if leader.trial == trial:
        return f"best of all that came so far, {number(best)}"
    slack = (
        f"slack_amount {policy.slack_amount:g}"
        if policy.slack_factor is None
        else f"slack_factor {policy.slack_factor:g}"
    )
    return f"best {number(best)} is within {slack} of {number(leader.value)} (trial {leader.trial})"


def _by_median(history: History, trial: int, interval: int) -> str:
    median, best = history.median_of_means(interval), history.best(trial, interval)
    if median is None or best is None:
        return "no trial has a finite value here yet"
    count = history.mean_count(interval)
    return f"best {number(best)} is not worse than {number(median)}, the median of {count} means"


def _by_truncation(policy: TruncationSelection, history: History, trial: int, interval: int) -> str:
    count = history.reached(interval)
    worst = count * policy.truncation_percentage // 100
    if worst < 1:
        return f"too few trials ({count}) for the worst {policy.truncation_percentage} % to be one"
    value = history.value(trial, interval)
    better = history.strictly_better(value, interval)
    return (
        f"{better} of {count} trials are better than {number(value)}; {count - worst} would stop it"
    )
