"""Any events in any order, legal and illegal: a sweep keeps its word after each of them.

A slow `Ledger` follows along and says, from the design alone, which reports count and which trials a
policy stops; a second state replays every record as the journal gives it back.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar, TypeGuard

import msgpack
import pytest
import transcription
from drafts import as_read_back, checkpoint, draft_spec, end, reports, said, stops, twin
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from raysweep.core import state as state_module
from raysweep.core.events import (
    Assign,
    AttemptId,
    CancelAsked,
    Checkpoint,
    Command,
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
    StopCause,
    SweepTimedOut,
    TrialsTimedOut,
)
from raysweep.core.policies import Bandit, MedianStopping, NoPolicy, Policy, TruncationSelection
from raysweep.core.spec import SweepSpec, maximize, minimize
from raysweep.core.state import Phase, SweepState
from raysweep.core.trials import LIVE, TERMINAL, Kept, Trial, TrialState
from raysweep.errors import InvalidTransitionError

POLICIES: list[Policy] = [
    NoPolicy(),
    Bandit(slack_factor=0.2),
    Bandit(slack_amount=0.25, evaluation_interval=2),
    MedianStopping(delay_evaluation=2),
    TruncationSelection(truncation_percentage=50),
    TruncationSelection(truncation_percentage=50, exclude_finished_jobs=True),
]
REST = st.fixed_dictionaries(
    {
        "objective": st.sampled_from([maximize("acc"), minimize("acc")]),
        "max_attempts": st.integers(1, 2),
        "max_total_trials": st.sampled_from([1, 4, 12]),
        "max_concurrent_trials": st.sampled_from([None, 1, 3]),
        "timeout": st.sampled_from([None, 1e6]),
        "trial_timeout": st.sampled_from([None, 50.0]),
        "keep_checkpoints": st.sampled_from([None, 1, 2, 3]),
    }
)
# A few values, so that ties are common and many fit into one example.
VALUES = st.sampled_from(
    [float("nan"), float("inf"), 0.0, -1.0, -0.3, 0.2, 0.5, 0.6, 0.7, 0.8, 1.5]
)
SLOTS = st.integers(0, 2)
NEWER = st.sampled_from([0, 0, 0, 1, -1])  # incarnations after the one that is there
ENDINGS = [Ending.RETURNED, *Ending]
LONG = 30  # rules in a row: more than enough for most sweeps of a few trials to end
UNKNOWN = (AttemptId(99, 1), AttemptId(-1, 1), AttemptId(-99, 1))


@dataclasses.dataclass
class Attempt:
    """What the ledger knows of the current attempt of a trial while an event is taken."""

    state: TrialState
    last: int
    start: int


class Ledger:
    """Which values count and whom the policy stops, by the design; slow and plain."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self.curves: dict[int, list[float]] = {}

    def follow(self, before: SweepState, event: Exchanged) -> list[tuple[AttemptId, int]]:
        """Take a slot's event; the attempts that the policy stops, each with its report."""
        finished = [trial.number for trial in before.trials if trial.state in TERMINAL]
        mine = {
            trial.id: Attempt(trial.state, trial.last_report, trial.start)
            for trial in before.trials
            if trial.state in LIVE
            and (trial.slot, trial.incarnation) == (event.slot, event.incarnation)
            and not before.slots[event.slot].lost
        }
        for id_ in spoken_of(event):
            if id_ in mine and mine[id_].state is TrialState.ASSIGNED:
                mine[id_].state = TrialState.RUNNING
                del self.curves.setdefault(id_.trial, [])[mine[id_].start :]
        for id_ in event.fresh:
            if id_ in mine and mine[id_].last == 0:
                mine[id_].start = 0
                self.curves[id_.trial] = []
        stopped: list[tuple[AttemptId, int]] = []
        for block in event.reports:
            if block.id in mine and block.first <= mine[block.id].last + 1:
                stopped += self._take(block, mine[block.id], finished)
        return stopped

    def _take(
        self, block: Reports, attempt: Attempt, finished: list[int]
    ) -> Iterator[tuple[AttemptId, int]]:
        measured = self._spec.objective.metric in block.names
        for offset, (value,) in enumerate(block.table().tolist()):
            if block.first + offset <= attempt.last:
                continue  # it was seen before
            attempt.last += 1
            if not measured or attempt.state is not TrialState.RUNNING:
                continue
            self.curves.setdefault(block.id.trial, []).append(value)
            if self._stops(block.id.trial, finished):
                attempt.state = TrialState.STOPPING
                yield block.id, attempt.last

    def _stops(self, trial: int, finished: list[int]) -> bool:
        policy = self._spec.policy
        assert dataclasses.is_dataclass(policy)
        parameters: dict[str, Any] = dataclasses.asdict(policy)
        seen = transcription.Seen(
            goal=self._spec.objective.goal.value, curves=self.curves, finished=finished
        )
        return transcription.stops(policy.kind, parameters, seen, trial)

    def best(self) -> tuple[int, int, float] | None:
        """Trial, interval and value of the best."""
        seen = transcription.Seen(goal=self._spec.objective.goal.value, curves=self.curves)
        return transcription.best_trial(seen)


class Keeper:
    """All checkpoints that were ever saved and not found damaged, and which of them are deleted."""

    def __init__(self, spec: SweepSpec) -> None:
        self._last = spec.keep_checkpoints
        self._best = max if spec.objective.goal.value == "maximize" else min
        self._saved: dict[int, list[Kept]] = {}
        # Of these the last so many, as it was when some gave way, and what came later: if all of them
        # are damaged, none is there that was kept for that.
        self._recent: dict[int, list[Kept]] = {}
        self.deleted: set[str] = set()

    def follow(self, state: SweepState, commands: list[Command]) -> None:
        """Take what an event has led to."""
        discards = [command for command in commands if isinstance(command, Discard)]
        for trial in state.trials:
            mine = [discard for discard in discards if discard.id.trial == trial.number]
            self._follow(trial, mine)
            for one in trial.checkpoints:
                assert one.checkpoint.path not in self.deleted

    def _follow(self, trial: Trial, discards: list[Discard]) -> None:
        saved = self._saved.setdefault(trial.number, [])
        recent = self._recent.setdefault(trial.number, [])
        new = [one for one in trial.checkpoints if one not in saved]
        saved += new
        recent += new
        for discard in discards:
            assert discard.paths
            assert self.deleted.isdisjoint(discard.paths)
            self.deleted |= {*discard.paths}
            recent[:] = trial.checkpoints[-(self._last or 0) :]
            if discard.report == 0:
                saved[:] = recent
        there = {one.checkpoint.path for one in trial.checkpoints} | self.deleted
        damaged = [one for one in saved if one.checkpoint.path not in there]
        saved[:] = [one for one in saved if one not in damaged]
        recent[:] = [one for one in recent if one not in damaged]
        if damaged and not recent:
            saved[:] = recent[:] = trial.checkpoints

    def check(self, trial: Trial, curve: list[float]) -> None:
        """What is kept is no more than was asked for, and serves as all that was saved would."""
        saved, kept = self._saved.get(trial.number, []), trial.checkpoints
        if self._last is None:
            assert (saved, set()) == ([*kept], self.deleted)
            return
        assert len(kept) <= self._last + 1
        assert saved[-1:] == [*kept[-1:]]
        starts = [one.interval for one in self._recent.get(trial.number, [])]
        for reached in (len(curve), *starts):  # an attempt may have to start at each of these
            finite = [value for value in curve[:reached] if math.isfinite(value)]
            best = curve.index(self._best(finite)) + 1 if finite else 0
            upto = [one.interval for one in saved if one.interval <= best]
            nearest = trial.nearest_checkpoint(best)
            found = None if nearest is None else nearest.interval
            assert not best or max(upto, default=None) == found


def spoken_of(event: Exchanged) -> set[AttemptId]:
    """The attempts that an event says anything of."""
    said_of: list[Reports | Checkpoint | End]
    said_of = [*event.reports, *event.checkpoints, *event.ends]
    return {*event.begun, *event.fresh, *(one.id for one in said_of)}


class _Machine(RuleBasedStateMachine):
    """One sweep, its ledger, and its twin that replays."""

    policy: ClassVar[Policy]

    @initialize(rest=REST)
    def set_up(self, rest: dict[str, Any]) -> None:
        """A sweep with some trials, and slots that run them."""
        self.spec = spec = draft_spec(policy=self.policy, **rest)
        self.limits = spec.limits
        self.state = SweepState(spec)
        self.twin = twin(spec)
        self.ledger = Ledger(spec)
        self.keeper = Keeper(spec)
        self.params: list[object] = []
        self.ended: dict[int, Trial] = {}  # as each trial was when it ended
        self.attempts: dict[int, int] = {}
        self.last_said: dict[int, Exchanged] = {}  # by slot
        self.apply(Opened(time=0.0, epoch=1, slots_kept=True))
        assert spec.total_trials is not None
        self.propose(min(3, spec.total_trials), exhausted=False)
        for slot in range(2):
            self.apply(said(self.soon, slot=slot))

    def apply(self, event: Event) -> list[Command]:
        """Take an event with the state, the twin and the ledger; compare what they say."""
        before = copy.deepcopy(self.state)
        if isinstance(event, Exchanged):
            self.last_said[event.slot] = event
        commands = self.state.apply(event)
        record = as_read_back(event, commands)
        assert commands == self.twin.apply(record.event, record.commands)
        assert self.state == self.twin
        stopped = [(s.id, s.report) for s in stops(commands) if s.cause is StopCause.POLICY]
        expected = self.ledger.follow(before, event) if heeded(event, before) else []
        assert expected == stopped
        self.check_slots(before)
        self.keeper.follow(self.state, commands)
        self.check_begun(commands)
        self.check_end(before, commands)
        return commands

    def refused(self, event: Event) -> None:
        """An event that cannot happen here leaves everything as it was."""
        with pytest.raises(InvalidTransitionError):
            self.state.apply(event)
        assert self.state == self.twin

    def check_slots(self, before: SweepState) -> None:
        for number, was in before.slots.items():
            slot = self.state.slots[number]
            assert was.incarnation <= slot.incarnation
            assert slot.lost or not was.lost or was.incarnation < slot.incarnation

    def check_begun(self, commands: list[Command]) -> None:
        for assign in commands:
            if isinstance(assign, Assign):
                slot = self.state.slots[assign.slot]
                queued = self.state.roster.queued
                if assign.id.trial in queued:
                    assert len(slot.holds & queued) <= slot.ahead
                else:
                    assert len(slot.holds - queued) <= slot.places
                assert assign.id.attempt == self.attempts.get(assign.id.trial, 0) + 1
                start = assign.checkpoint
                assert start is None or start.path not in self.keeper.deleted
                self.attempts[assign.id.trial] = assign.id.attempt

    def check_end(self, before: SweepState, commands: list[Command]) -> None:
        finished = [command for command in commands if isinstance(command, Finish)]
        assert (self.state.over and not before.over) == (len(finished) == 1)
        if before.over and self.state.over:
            assert (before.phase, before.reason) == (self.state.phase, self.state.reason)

    @property
    def soon(self) -> float:
        return self.state.time + 1

    # --- events -----------------------------------------------------------------------------------

    @rule(count=st.integers(0, 4), exhausted=st.sampled_from([False, False, False, True]))
    def propose(self, count: int, *, exhausted: bool) -> None:
        first = len(self.params)
        params = tuple({"x": n} for n in range(first, first + count))
        event = Proposed(time=self.soon, params=params, exhausted=exhausted)
        assert self.limits.max_total_trials is not None
        if self.state.phase is not Phase.RUNNING:
            self.apply(event)
        elif self.state.exhausted or first + count > self.limits.max_total_trials:
            self.refused(event)
        else:
            self.apply(event)
            self.params += params

    @rule(number=st.integers(-1, 12))
    def revise(self, number: int) -> None:
        """The sampler thinks again, of a trial that waits or of any other."""
        event = Revised(time=self.soon, trial=number, params={"x": f"again at {self.soon}"})
        if not 0 <= number < len(self.params):
            self.refused(event)
            return
        trial = self.state.trials[number]
        waits = trial.state is TrialState.WAITING and number not in self.attempts
        if waits and self.state.phase is Phase.RUNNING:
            self.params[number] = event.params
        self.apply(event)

    @rule()
    def ask(self) -> None:
        """What a sampler is shown is what it would be shown had it never been asked before."""
        again = SweepState.restored(self.spec, self.state.kept())
        assert repr(again.observations()) == repr(self.state.observations())  # NaN is no NaN

    @rule(data=st.data(), often=st.integers(1, 2))
    def work(self, data: st.DataObject, often: int) -> None:
        """What slots should say, round after round: of all that they hold, the next reports."""
        for _ in range(often):
            for slot in sorted(self.state.slots):
                self.speak(data, slot)

    @rule(data=st.data(), slot=SLOTS)
    def speak(self, data: st.DataObject, slot: int) -> None:
        """What one slot should say."""
        queue = [id_ for id_ in self.held_by(slot) if self.is_queued(id_)]
        running = [id_ for id_ in self.held_by(slot) if not self.is_queued(id_)]
        blocks = [self.next_block(data, id_) for id_ in running]
        saved = [block for block in blocks if data.draw(st.booleans())]
        over = [block for block in blocks if data.draw(st.integers(0, 3)) == 0]
        endings = [data.draw(st.sampled_from(ENDINGS)) for _ in over]
        self.apply(
            said(
                self.soon,
                slot=slot,
                incarnation=self.latest(slot),
                places=data.draw(st.integers(1, 3)),
                ahead=data.draw(st.sampled_from([0, 0, 1, 3])),
                begun=(*(block.id for block in blocks), *queue[: len(over)]),
                returned=self.some(data, queue[len(over) :]),
                fresh=tuple(block.id for block in blocks if data.draw(st.booleans())),
                reports=tuple(blocks),
                checkpoints=tuple(checkpoint(block.id, block.last) for block in saved),
                ends=tuple(
                    end(block.id, block.last, ending, error="E: x", where="f")
                    for block, ending in zip(over, endings, strict=True)
                ),
            )
        )

    @rule(data=st.data(), slot=SLOTS, often=st.integers(3, 6))
    def train_on(self, data: st.DataObject, slot: int, often: int) -> None:
        """A trial reports and saves time and again, and its checkpoints come when they are saved."""
        for _ in range(often):
            for id_ in self.held_by(slot)[:1]:
                block = self.next_block(data, id_)
                late = data.draw(st.sampled_from([0, 0, 1, 3]))
                saved = checkpoint(id_, max(1, block.last - late))
                self.apply(
                    said(
                        self.soon,
                        slot=slot,
                        incarnation=self.latest(slot),
                        reports=(block,),
                        checkpoints=(saved,),
                    )
                )

    def next_block(self, data: st.DataObject, id_: AttemptId) -> Reports:
        values = data.draw(st.lists(VALUES, min_size=1, max_size=3))
        name = data.draw(st.sampled_from(["acc", "acc", "acc", "loss"]))
        off = data.draw(st.sampled_from([0, 0, 0, 0, 0, -1, -2, 1]))  # a repeat now and then, a gap
        first = max(1, self.state.trials[id_.trial].last_report + 1 + off)
        return reports(id_, values, first=first, name=name)

    @rule(slot=SLOTS)
    def say_again(self, slot: int) -> None:
        """What a slot says whose last reply was lost."""
        if slot in self.last_said:
            self.apply(dataclasses.replace(self.last_said[slot], time=self.soon))

    @rule(data=st.data(), slot=SLOTS, newer=NEWER)
    def talk(self, data: st.DataObject, slot: int, newer: int) -> None:
        """What no slot should say: gaps, repeats, attempts of others, an end before its reports."""
        near = [*self.held_by(slot) * 4, *self.attempts_near()]
        near = [id_ for id_ in near if not self.is_queued(id_)]  # their slot would run too many
        ids = data.draw(st.lists(st.sampled_from(near), min_size=1, max_size=3))
        self.apply(
            said(
                self.soon,
                slot=slot,
                incarnation=self.latest(slot) + newer,
                begun=self.some(data, ids),
                fresh=self.some(data, ids),
                reports=tuple(
                    reports(
                        id_, data.draw(st.lists(VALUES, max_size=4)), first=self.near(data, id_)
                    )
                    for id_ in self.some(data, ids)
                ),
                checkpoints=tuple(
                    checkpoint(id_, self.near(data, id_)) for id_ in self.some(data, ids)
                ),
                ends=tuple(
                    end(
                        id_,
                        self.near(data, id_) - 1,
                        data.draw(st.sampled_from(Ending)),
                        damaged=data.draw(st.sampled_from(["", self.latest_path(id_)])),
                    )
                    for id_ in self.some(data, ids)
                ),
            )
        )

    @rule()
    def go_on_from_a_snapshot(self) -> None:
        """A controller that begins with what another kept goes on as that one would have."""
        kept = msgpack.unpackb(msgpack.packb(self.state.kept()), strict_map_key=False)
        self.state = SweepState.restored(self.spec, kept)
        assert self.twin == self.state

    @precondition(lambda self: len(self.attempts) > 1)
    @rule(more=st.integers(0, 3), at_once=st.sampled_from([None, 2]))
    def change_limits(self, more: int, at_once: int | None) -> None:
        """Somebody wants more trials; a sweep that was over goes on if that gives it any."""
        over, exhausted = self.state.over, self.state.exhausted
        most = self.limits.max_total_trials
        assert most is not None
        changed = dataclasses.replace(
            self.limits, max_total_trials=most + more, max_concurrent_trials=at_once
        )
        running = len(self.state.roster.live) - len(self.state.roster.queued)
        if at_once is not None and running > at_once:
            return  # those that run are not ended for it, and `no_more_run_than_may` would object
        self.limits = changed
        fields = dataclasses.asdict(changed)
        event = LimitsChanged(time=self.soon, **fields)
        before = self.state.phase
        commands = self.state.apply(event)
        record = as_read_back(event, commands)
        self.twin.apply(record.event, record.commands)
        if over:
            left = not exhausted and most + more > len(self.params)
            assert left == (self.state.phase is Phase.RUNNING)
        else:
            assert before is self.state.phase or not self.state.roster.live

    @rule(data=st.data(), how=st.sampled_from(["lose", "time out", "wait", "open", "go back"]))
    def disturb(self, data: st.DataObject, how: str) -> None:
        """What happens now and then."""
        match how:
            case "lose":
                self.lose(data.draw(SLOTS), data.draw(NEWER))
            case "time out":
                self.time_out(data.draw(st.lists(st.sampled_from(self.attempts_near()))))
            case "wait":
                self.wait(data.draw(st.sampled_from([1.0, 20.0, 60.0])))
            case "open":
                self.open(data.draw(st.sampled_from([0, 1])), kept=data.draw(st.booleans()))
            case "go back":
                self.go_back(data.draw(st.sampled_from([0.5, float("nan"), float("-inf")])))

    def lose(self, slot: int, newer: int) -> None:
        """A slot is gone: the one that is there, one before it, or one that never spoke."""
        incarnation = self.latest(slot) + newer
        self.apply(SlotLost(time=self.soon, slot=slot, incarnation=incarnation, cause="killed"))
        assert self.state.superseded(slot, incarnation)

    def time_out(self, ids: list[AttemptId]) -> None:
        """Attempts are over time; it is not asked which."""
        event = TrialsTimedOut(time=self.soon, ids=tuple(ids))
        if self.limits.trial_timeout is None:
            self.refused(event)
        else:
            self.apply(event)

    def wait(self, seconds: float) -> None:
        """What is due is what has run for its whole time."""
        now = self.state.time + seconds
        for event in self.state.due(now):
            assert isinstance(event, TrialsTimedOut)
            assert list(event.ids) == [stop.id for stop in stops(self.apply(event))]
        assert self.state.due(now) == []

    def open(self, newer: int, *, kept: bool) -> None:
        """A controller takes the sweep up; two of one epoch cannot be."""
        event = Opened(time=self.soon, epoch=self.state.epoch + newer, slots_kept=kept)
        if newer:
            self.apply(event)
        else:
            self.refused(event)

    def go_back(self, seconds: float) -> None:
        """Time does not run backwards, and is a number."""
        self.refused(CancelAsked(time=self.state.time - seconds))

    @precondition(lambda self: len(self.attempts) > 1)
    @rule(how=st.sampled_from(["cancel", "time", "sampler", "", ""]))
    def end_all(self, how: str) -> None:
        """The whole sweep is told to end."""
        if how == "cancel":
            self.apply(CancelAsked(time=self.soon))
        elif how == "sampler":
            self.apply(SamplerFailed(time=self.soon, error="E"))
        elif how == "time" and self.limits.timeout is None:
            self.refused(SweepTimedOut(time=self.soon))
        elif how == "time":
            self.apply(SweepTimedOut(time=self.soon))

    # --- what the rules draw from -----------------------------------------------------------------

    def latest(self, slot: int) -> int:
        return self.state.slots[slot].incarnation if slot in self.state.slots else 1

    def held_by(self, slot: int) -> list[AttemptId]:
        holds = self.state.slots[slot].holds if slot in self.state.slots else set()
        return [self.state.trials[number].id for number in sorted(holds)]

    def is_queued(self, id_: AttemptId) -> bool:
        return id_.trial in self.state.roster.queued and self.state.trials[id_.trial].id == id_

    def attempts_near(self) -> list[AttemptId]:
        """Current attempts, those around them, and some of trials that are not there."""
        around = [
            AttemptId(trial.number, trial.attempt + more)
            for trial in self.state.trials
            for more in (0, 0, -1, 1)
        ]
        return [*around, *UNKNOWN]

    def some(self, data: st.DataObject, ids: list[AttemptId]) -> tuple[AttemptId, ...]:
        return tuple(id_ for id_ in ids if data.draw(st.booleans()))

    def near(self, data: st.DataObject, id_: AttemptId) -> int:
        """A report's number near the next one of this attempt."""
        known = 0 <= id_.trial < len(self.state.trials)
        last = self.state.trials[id_.trial].last_report if known else 0
        return max(1, last + 1 + data.draw(st.sampled_from([0, 0, 0, -1, 1, -2])))

    def latest_path(self, id_: AttemptId) -> str:
        known = 0 <= id_.trial < len(self.state.trials)
        latest = self.state.trials[id_.trial].restored if known else None
        return "" if latest is None else latest.path

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def trials_are_numbered_in_order_of_proposal(self) -> None:
        assert self.params == [trial.params for trial in self.state.trials]
        assert list(range(len(self.params))) == [trial.number for trial in self.state.trials]

    @invariant()
    def counts_and_sets_match_the_trials(self) -> None:
        roster = self.state.roster
        assert Counter(trial.state for trial in self.state.trials) == self.state.counts
        live = {trial.number for trial in self.state.trials if trial.state in LIVE}
        waiting = [t.number for t in self.state.trials if t.state is TrialState.WAITING]
        assert (live, waiting) == (roster.live, [*roster.waiting])

    @invariant()
    def no_more_run_than_may(self) -> None:
        most = self.limits.max_concurrent_trials
        roster = self.state.roster
        assert most is None or len(roster.live) - len(roster.queued) <= most

    @invariant()
    def what_lies_in_a_queue_has_not_begun(self) -> None:
        queued = [self.state.trials[number] for number in self.state.roster.queued]
        assert {TrialState.ASSIGNED}.issuperset(trial.state for trial in queued)

    @invariant()
    def each_live_trial_is_on_one_slot_that_is_there(self) -> None:
        holders = Counter(number for slot in self.state.slots.values() for number in slot.holds)
        assert dict.fromkeys(self.state.roster.live, 1) == holders
        for number in holders:
            trial = self.state.trials[number]
            slot = self.state.slots[trial.slot]
            assert number in slot.holds
            assert not slot.lost
            assert slot.incarnation == trial.incarnation

    @invariant()
    def what_has_ended_stays_as_it_is(self) -> None:
        for number, trial in self.ended.items():
            assert trial == self.state.trials[number]
        for trial in self.state.trials:
            if trial.state in TERMINAL and trial.number not in self.ended:
                self.ended[trial.number] = copy.deepcopy(trial)

    @invariant()
    def curves_are_the_ledgers(self) -> None:
        history = self.state.history
        for trial in range(len(self.state.trials)):
            curve = [history.value(trial, i + 1) for i in range(history.intervals(trial))]
            assert repr(self.ledger.curves.get(trial, [])) == repr(curve)

    @invariant()
    def the_best_is_the_ledgers(self) -> None:
        best = self.state.best
        found = None if best is None else (best.trial, best.interval, best.value)
        assert self.ledger.best() == found

    @invariant()
    def checkpoints_stand_in_order_within_the_curve(self) -> None:
        for trial in self.state.trials:
            intervals = [kept.interval for kept in trial.checkpoints]
            assert sorted(intervals) == intervals
            assert max(intervals, default=0) <= self.state.history.intervals(trial.number)

    @invariant()
    def what_is_kept_serves_as_all_that_was_saved(self) -> None:
        for trial in self.state.trials:
            self.keeper.check(trial, self.ledger.curves.get(trial.number, []))

    @invariant()
    def it_is_over_when_nothing_is_left(self) -> None:
        nothing_left = not (self.state.roster.live or self.state.roster.waiting)
        no_more = self.state.phase is not Phase.RUNNING or self.state.all_proposed
        assert (nothing_left and no_more) == self.state.over

    @invariant()
    def what_is_wanted_fits(self) -> None:
        assert self.limits.max_total_trials is not None
        wanted = self.state.proposals_wanted(5)
        assert 0 <= wanted <= self.limits.max_total_trials - len(self.state.trials)
        slots = self.state.slots_wanted()
        assert slots is not None
        assert self.state.over == (slots == 0)


def heeded(event: Event, before: SweepState) -> TypeGuard[Exchanged]:
    """Whether an event is a slot's, and one that has not been given up."""
    return isinstance(event, Exchanged) and not before.superseded(event.slot, event.incarnation)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_sweep_keeps_its_word(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens in whatever order, every invariant holds and replay equals live."""
    monkeypatch.setattr(state_module, "HOPELESS", 3)  # within reach of a few dozen events
    machine = type("Machine", (_Machine,), {"policy": policy})
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=LONG))
