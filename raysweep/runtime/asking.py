"""What a sampler is asked, and when: for the next trials, or again for one that waits.

One rule: what is asked follows from the state, from how long asking takes and from what was asked
before, so that a controller on Ray and one on a virtual clock cannot differ.

A sampler that learns nothing is asked well ahead. One that learns is asked once a place is free,
and so knows every result, unless asking takes too long for that: then a few trials wait, and are
proposed anew when results come in that they were proposed without.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from raysweep.core.events import Proposed, Revised
from raysweep.core.samplers import Observation
from raysweep.core.spec import SweepSpec
from raysweep.core.standing import News
from raysweep.core.state import SweepState
from raysweep.runtime import pace
from raysweep.runtime.proposals import Answer, may_be_revised

LATEST = 9  # asks whose median says how long one takes: what one imports makes none slow for long
NOTHING = News(0, 0)  # what one may take a proposal for that an earlier controller had made


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question to the sampler."""

    numbers: range  # of the trials to be proposed
    known: Sequence[Observation]  # by a sampler that learns
    news: News  # how much had come to light by then
    revises: bool = False  # whether the trial, then only one, waits already

    @property
    def results(self) -> int:
        """How many trials with a value are known."""
        return sum(each.score is not None for each in self.known)


class Asking:
    """What one sweep's sampler is asked next."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._learns = spec.sampler.learns
        self._latest: deque[float] = deque(maxlen=LATEST)  # seconds that each proposal took
        self._first = True  # whether nothing was answered yet
        self._rests_until = 0.0  # from thinking again for mere reports
        self._places = 1  # how many trials run at once, when last counted
        self._ahead: int | None = None if self._learns else pace.AHEAD  # None: on demand
        self._ended = 0  # trials, when last looked
        self._knew: dict[int, News] = {}  # what each trial that waits was proposed with

    def has_cause(self, state: SweepState) -> bool:
        """Whether there may be something to ask; looks at no trial, for it follows each event."""
        waiting = len(state.roster.waiting)
        if not self._learns:
            return pace.runs_low(waiting, self._wanted(state))
        return waiting < self._wanted(state) or bool(waiting and state.news.ended > self._ended)

    def next(self, state: SweepState, size: int, now: float) -> Ask | None:
        """What to ask now, if anything.

        Args:
            state: where the sweep stands.
            size: how many slots there are, or are about to be.
            now: in seconds, on the clock that `answered` is told.
        """
        if not self._learns:
            self._ahead = pace.ahead(size, state.room)
            wanted = state.proposals_wanted(self._ahead)
            low = pace.runs_low(len(state.roster.waiting), self._ahead)
            return self._fresh(state, wanted) if wanted and low else None
        slots, trial = max(1, size), state.trial_time()
        self._places, self._ended = max(slots, state.places), state.news.ended
        on_demand = pace.asks_on_demand(self._took, trial, slots)
        self._ahead = None if on_demand else pace.ahead_of_learning(slots)
        if wanted := state.proposals_wanted(self._wanted(state)):
            return self._fresh(state, pace.batch(wanted, self._took))
        return self._again(state, now) if pace.has_time(self._took, trial, slots) else None

    def answered(
        self, state: SweepState, ask: Ask, answer: Answer, *, now: float, took: float, time: float
    ) -> Proposed | Revised | None:
        """The event that an answer is; None where it comes too late.

        Args:
            state: where the sweep stands by now.
            ask: what was asked.
            answer: without an error.
            now: in seconds.
            took: seconds from the ask to the answer.
            time: the sweep's own.
        """
        drawn = answer.drawn
        if not self._first:  # which starts a process, and imports what a sampler needs
            self._latest.append(took / max(1, len(drawn)))
        self._first = False
        self._rests_until = now + pace.RESTS * took
        if self._learns:
            waiting = state.roster.waiting
            self._knew = {trial: news for trial, news in self._knew.items() if trial in waiting}
            self._knew |= dict.fromkeys(ask.numbers, ask.news)
        if not ask.revises:
            exhausted = len(drawn) < len(ask.numbers)
            return Proposed(time=time, params=drawn, exhausted=exhausted, known=ask.results)
        (number,) = ask.numbers
        if not (drawn and may_be_revised(self._spec, state.trials[number])):
            return None
        return Revised(time=time, trial=number, params=drawn[0], known=ask.results)

    @property
    def _took(self) -> float | None:
        """Seconds that a proposal takes; None while nobody knows."""
        return median(self._latest) if self._latest else None

    def _wanted(self, state: SweepState) -> int:
        """How many trials should wait."""
        return state.free(self._places) if self._ahead is None else self._ahead

    def _fresh(self, state: SweepState, count: int) -> Ask:
        first = len(state.trials)
        known = state.observations() if self._learns else ()
        return Ask(numbers=range(first, first + count), known=known, news=state.news)

    def _again(self, state: SweepState, now: float) -> Ask | None:
        """The first trial to be handed out that was proposed without what is known by now."""
        news = state.news
        for number in state.roster.waiting:
            knew = self._knew.get(number, NOTHING)
            told = news.reports > knew.reports and now >= self._rests_until
            if not (news.ended > knew.ended or told):
                continue
            if may_be_revised(self._spec, state.trials[number]):
                known = state.observations(but=number)
                return Ask(numbers=range(number, number + 1), known=known, news=news, revises=True)
        return None
