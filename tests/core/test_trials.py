"""A trial's table of states, its attempts and its checkpoints."""

from __future__ import annotations

import itertools

import pytest
from drafts import checkpoint, reports

from raysweep.core.events import AttemptId, StopCause
from raysweep.core.trials import (
    LIVE,
    OBEYED,
    TERMINAL,
    TRANSITIONS,
    Step,
    Trial,
    TrialState,
)
from raysweep.errors import InvalidTransitionError

EVERY = list(itertools.product(TrialState, Step))


def trial() -> Trial:
    """A trial on its first attempt."""
    one = Trial(number=0, params={"x": 0.5})
    one.begin_attempt(slot=3, incarnation=2)
    return one


class TestTable:
    """The transitions."""

    @pytest.mark.parametrize(("state", "step"), EVERY)
    def test_a_step_is_taken_as_the_table_says(self, state: TrialState, step: Step) -> None:
        """A step of the table leads where it says; any other is refused and changes nothing."""
        one = trial()
        one.state = state
        if step in TRANSITIONS[state]:
            one.step(step)
            assert TRANSITIONS[state][step] is one.state
            return
        with pytest.raises(InvalidTransitionError, match=f"attempt 1 cannot {step} while {state}"):
            one.step(step)
        assert state is one.state

    def test_a_refusal_tells_the_story(self) -> None:
        """What happened to the trial until then is in the message."""
        one = trial()
        one.state, one.failures, one.losses = TrialState.FAILED, 2, 1
        one.last_report, one.reason = 7, "ValueError: x"
        story = "2 failures, 1 losses, last report 7, reason 'ValueError: x'"
        with pytest.raises(InvalidTransitionError, match=story):
            one.step(Step.BEGIN)

    def test_every_state_is_waiting_live_or_terminal(self) -> None:
        """And no state is two of these."""
        assert {TrialState.WAITING, *LIVE, *TERMINAL} == set(TrialState)
        assert not LIVE & TERMINAL

    def test_what_has_ended_stays(self) -> None:
        """No step leads out of a terminal state."""
        assert not any(TRANSITIONS[state] for state in TERMINAL)

    def test_every_state_can_be_reached(self) -> None:
        """From waiting, along the table."""
        reached = {TrialState.WAITING}
        for _ in TrialState:
            reached |= {after for state in reached for after in TRANSITIONS[state].values()}
        assert set(TrialState) == reached

    def test_every_stop_can_be_obeyed(self) -> None:
        """Each cause has the step that a trial takes when it obeys."""
        stopping = TRANSITIONS[TrialState.STOPPING]
        assert {TrialState.STOPPED, TrialState.TIMED_OUT, TrialState.CANCELED} == {
            stopping[OBEYED[cause]] for cause in StopCause
        }


class TestAttempts:
    """One try after another."""

    def test_an_attempt_starts_from_the_latest_checkpoint(self) -> None:
        """At its interval, with reports counted anew."""
        one = trial()
        one.last_report, one.unmeasured = 4, [2]
        one.keep(checkpoint(one.id, 4), 3)
        one.begin_attempt(slot=0, incarnation=1)
        assert (AttemptId(0, 2), 3, 0) == (one.id, one.start, one.last_report)
        assert one.unmeasured is None
        assert checkpoint(AttemptId(0, 1), 4) == one.order_to_run().checkpoint

    def test_without_a_checkpoint_it_starts_from_nothing(self) -> None:
        """The order says so."""
        order = trial().order_to_run()
        assert (0, None, 3, 2) == (order.start, order.checkpoint, order.slot, order.incarnation)

    def test_intervals_are_reports_with_the_primary_metric(self) -> None:
        """Counted on from where the attempt started."""
        one = trial()
        one.start = 10
        one.note(reports(one.id, [1.0, 2.0], first=2), measured=False)
        assert [11, 11, 11, 12] == [one.interval_of(report) for report in (1, 2, 3, 4)]

    def test_the_metrics_that_were_seen_are_known(self) -> None:
        """Over all attempts."""
        one = trial()
        one.note(reports(one.id, [1.0], name="loss"), measured=False)
        one.note(reports(one.id, [1.0], name="acc"), measured=True)
        assert {"loss", "acc"} == one.names

    def test_the_end_forgets_what_only_a_running_trial_needs(self) -> None:
        """A finished trial is small."""
        one = trial()
        one.note(reports(one.id, [1.0]), measured=False)
        one.end("why", 5.0)
        assert ("why", 5.0, frozenset(), None) == (one.reason, one.ended, one.names, one.unmeasured)


class TestCheckpoints:
    """What an attempt may be restored from."""

    @pytest.mark.parametrize(("report", "taken"), [(0, False), (1, True), (3, True), (4, False)])
    def test_its_report_must_be_in(self, report: int, *, taken: bool) -> None:
        """Neither before the first report nor after the last known one."""
        assert taken is trial().takes(checkpoint(AttemptId(0, 1), report), last_report=3)

    def test_later_ones_only(self) -> None:
        """Within an attempt; another attempt counts its reports anew."""
        one = trial()
        one.keep(checkpoint(one.id, 2), 2)
        assert [False, False, True] == [
            one.takes(checkpoint(one.id, report), last_report=3) for report in (1, 2, 3)
        ]
        one.begin_attempt(slot=0, incarnation=1)
        assert one.takes(checkpoint(one.id, 1), last_report=1)

    def test_a_damaged_one_gives_way_to_the_one_before(self) -> None:
        """It is forgotten, the others are not."""
        one = trial()
        first, second = checkpoint(one.id, 1), checkpoint(one.id, 2)
        one.keep(first, 1)
        one.keep(second, 2)
        one.discard({second.path})
        one.discard({"nobody's"})
        assert first == one.restored

    @pytest.mark.parametrize(("interval", "found"), [(0, None), (1, None), (2, 2), (4, 2), (9, 5)])
    def test_the_nearest_is_at_or_before(self, interval: int, found: int | None) -> None:
        """Never one from after the interval."""
        one = trial()
        for reached in (2, 5):
            one.keep(checkpoint(one.id, reached), reached)
        kept = one.nearest_checkpoint(interval)
        assert found == (None if kept is None else kept.interval)

    def test_an_attempt_that_starts_anew_leaves_them_behind(self) -> None:
        """None of an earlier attempt's fits its curve."""
        one = trial()
        one.keep(checkpoint(one.id, 2), 2)
        one.begin_attempt(slot=0, incarnation=1)
        assert one.can_start_anew
        one.start_anew()
        assert (0, None, False) == (one.start, one.restored, one.can_start_anew)
