"""A sweep's state: what each event does, the limits, the retries, and how a sweep ends."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import pytest
from drafts import (
    as_read_back,
    assigns,
    checkpoint,
    draft_spec,
    end,
    on_the_way,
    proposed,
    reports,
    said,
    stops,
    twin,
)

from raysweep.core.events import (
    Assign,
    AttemptId,
    CancelAsked,
    Command,
    Discard,
    Ending,
    Event,
    Finish,
    Opened,
    Revised,
    SamplerFailed,
    SlotLost,
    StopCause,
    SweepTimedOut,
    TrialsTimedOut,
)
from raysweep.core.policies import Bandit, TruncationSelection
from raysweep.core.samplers import Observation
from raysweep.core.state import FAIL_ALIKE, HOPELESS, Phase, SweepState
from raysweep.core.trials import TrialState
from raysweep.errors import InvalidTransitionError

ID, OTHER, THIRD = AttemptId(0, 1), AttemptId(1, 1), AttemptId(2, 1)
NAN, INF = math.nan, math.inf


def begun(count: int, **spec: object) -> SweepState:
    """A sweep that runs so many trials, a slot each, and has no more."""
    return on_the_way(draft_spec(max_total_trials=count, **spec), slots=count)  # type: ignore[arg-type]  # a spec's fields


def reported(state: SweepState, id_: AttemptId, values: Sequence[float]) -> list[Command]:
    """The slot of this attempt reports these values next."""
    trial = state.trials[id_.trial]
    block = reports(id_, values, first=trial.last_report + 1)
    return state.apply(
        said(state.time + 1, slot=trial.slot, incarnation=trial.incarnation, reports=(block,))
    )


def ended(
    state: SweepState,
    id_: AttemptId,
    ending: Ending = Ending.RETURNED,
    *,
    error: str = "",
    where: str = "",
    damaged: str = "",
) -> list[Command]:
    """The slot of this attempt says that it ended."""
    trial = state.trials[id_.trial]
    one = end(id_, trial.last_report, ending, error=error, where=where, damaged=damaged)
    return state.apply(
        said(state.time + 1, slot=trial.slot, incarnation=trial.incarnation, ends=(one,))
    )


def lost(state: SweepState, slot: int) -> list[Command]:
    """This slot is gone."""
    incarnation = state.slots[slot].incarnation
    return state.apply(
        SlotLost(time=state.time + 1, slot=slot, incarnation=incarnation, cause="killed")
    )


def saved(state: SweepState, id_: AttemptId, report: int) -> list[Command]:
    """The slot of this attempt announces a checkpoint."""
    trial = state.trials[id_.trial]
    return state.apply(
        said(
            state.time + 1,
            slot=trial.slot,
            incarnation=trial.incarnation,
            checkpoints=(checkpoint(id_, report),),
        )
    )


def states(state: SweepState) -> list[str]:
    """The trials' states, in order."""
    return [trial.state.value for trial in state.trials]


def curve(state: SweepState, trial: int) -> list[float]:
    """A trial's counted values."""
    intervals = range(1, state.history.intervals(trial) + 1)
    return [state.history.value(trial, interval) for interval in intervals]


class TestTheWayOfATrial:
    """From proposal to end."""

    def test_it_waits_is_assigned_begins_and_completes(self) -> None:
        """One step after the other, each by an event."""
        state = SweepState(draft_spec(max_total_trials=1))
        seen = []
        for event in (
            proposed(1),
            said(1.0),
            said(2.0, begun=(ID,)),
            said(3.0, reports=(reports(ID, [0.5]),), ends=(end(ID, 1),)),
        ):
            state.apply(event)
            seen += states(state)
        assert ["waiting", "assigned", "running", "completed"] == seen
        trial = state.trials[0]
        assert (2.0, 3.0, "ran to its end") == (trial.first_begun, trial.ended, trial.reason)

    def test_lower_numbers_go_first(self) -> None:
        """And what was lost goes before what is new."""
        state = on_the_way(draft_spec(max_total_trials=4), slots=2)
        lost(state, 1)
        assert [AttemptId(1, 2)] == assigns(state.apply(said(5.0, slot=5)))
        assert [THIRD] == assigns(state.apply(said(6.0, slot=6)))

    def test_a_slot_gets_as_many_as_it_has_places(self) -> None:
        """At once, and again when one has ended."""
        state = SweepState(draft_spec(max_total_trials=4))
        state.apply(proposed(4))
        assert [ID, OTHER] == assigns(state.apply(said(1.0, places=2)))
        done = said(2.0, places=2, begun=(ID, OTHER), ends=(end(ID, 0),))
        assert [THIRD] == assigns(state.apply(done))

    def test_a_slot_gets_some_ahead_while_plenty_wait(self) -> None:
        """Beyond its places it gets what it asks for, as long as more wait than there are slots."""
        state = SweepState(draft_spec(max_total_trials=5))
        state.apply(proposed(5))
        state.apply(said(1.0, slot=1, places=0))
        assert [ID, OTHER, THIRD] == assigns(state.apply(said(1.0, ahead=3)))
        assert (3, {1, 2}) == (len(state.roster.live), state.roster.queued)
        assert 4 == state.room

    def test_what_a_slot_gives_back_waits_again(self) -> None:
        """Nothing was lost; the next attempt goes where there is a place, and into no queue."""
        state = SweepState(draft_spec(max_total_trials=9))
        state.apply(proposed(9))
        state.apply(said(1.0, ahead=2))
        state.apply(said(2.0, begun=(ID,), returned=(OTHER, ID)))
        states = [trial.state for trial in state.trials[:3]]
        assert [TrialState.RUNNING, TrialState.WAITING, TrialState.ASSIGNED] == states
        assert [] == assigns(state.apply(said(3.0, ahead=3)))
        assert [AttemptId(1, 2)] == assigns(state.apply(said(4.0, slot=1)))
        assert (0, 0) == (state.trials[1].losses, state.trials[1].failures)

    def test_a_slot_may_change_how_many_places_it_has(self) -> None:
        """More places get trials at once; fewer take none away."""
        state = SweepState(draft_spec(max_total_trials=4))
        state.apply(proposed(4))
        state.apply(said(1.0, places=1))
        assert [OTHER, THIRD] == assigns(state.apply(said(2.0, places=3)))
        assert [] == assigns(state.apply(said(3.0, places=0)))
        assert {0, 1, 2} == state.slots[0].holds

    def test_an_end_frees_the_place_in_the_same_exchange(self) -> None:
        """No slot waits for another round."""
        state = on_the_way(draft_spec(max_total_trials=2))
        reported(state, ID, [0.5])
        assert [OTHER] == assigns(ended(state, ID))

    def test_what_a_slot_speaks_of_has_begun(self) -> None:
        """A report of an assigned trial counts, though nothing said that it began."""
        state = SweepState(draft_spec())
        state.apply(proposed(1))
        state.apply(said(1.0))
        state.apply(said(2.0, reports=(reports(ID, [0.5]),)))
        assert ([0.5], TrialState.RUNNING) == (curve(state, 0), state.trials[0].state)

    def test_reports_without_the_primary_metric_are_no_intervals(self) -> None:
        """They count as reports, and checkpoints find their interval all the same."""
        state = begun(1)
        reported(state, ID, [0.1])
        state.apply(said(5.0, reports=(reports(ID, [9.0, 9.0], first=2, name="loss"),)))
        reported(state, ID, [0.2])
        saved(state, ID, 3)
        saved(state, ID, 4)
        assert ([0.1, 0.2], 4) == (curve(state, 0), state.reports)
        assert [1, 2] == [kept.interval for kept in state.trials[0].checkpoints]


class TestBadTime:
    """Time goes on."""

    @pytest.mark.parametrize("time", [0.5, NAN, INF, -1.0])
    def test_no_event_lies_before_another(self, time: float) -> None:
        """Nor is any time no number; the state is as it was."""
        state = begun(1)
        before = begun(1)
        with pytest.raises(InvalidTransitionError, match=r"does not follow 1\.0"):
            state.apply(CancelAsked(time=time))
        assert before == state

    def test_events_of_one_moment_may_follow_each_other(self) -> None:
        """The same time is no step back."""
        state = begun(1)
        state.apply(CancelAsked(time=1.0))
        assert Phase.ENDING is state.phase


class TestRefused:
    """What cannot happen is refused and changes nothing."""

    @pytest.mark.parametrize(
        ("event", "message"),
        [
            (proposed(3, time=2.0), "3 trials proposed after 2 of 4"),
            (Opened(time=2.0, epoch=3, slots_kept=True), "epoch 3 does not follow 3"),
            (Revised(time=2.0, trial=2, params={}), "trial 2 is revised, but never was proposed"),
            (Revised(time=2.0, trial=-1, params={}), "trial -1 is revised, but never was proposed"),
            (TrialsTimedOut(time=2.0, ids=(ID,)), "limits.trial_timeout was reached, but"),
            (SweepTimedOut(time=2.0), "limits.timeout was reached, but this sweep has none"),
        ],
    )
    def test_it_changes_nothing(self, event: Event, message: str) -> None:
        """The error says what and why."""
        sweeps = [on_the_way(draft_spec(max_total_trials=4), count=2) for _ in range(2)]
        for sweep in sweeps:
            sweep.apply(Opened(time=1.0, epoch=3, slots_kept=True))
        with pytest.raises(InvalidTransitionError, match=message):
            sweeps[0].apply(event)
        assert sweeps[1] == sweeps[0]

    def test_nothing_is_proposed_after_the_last(self) -> None:
        """A sampler that has run out stays so."""
        state = SweepState(draft_spec(max_total_trials=4))
        state.apply(proposed(1, exhausted=True))
        with pytest.raises(InvalidTransitionError, match="1 trials proposed after 1 of 4"):
            state.apply(proposed(1))

    def test_a_proposal_that_comes_too_late_is_passed_over(self) -> None:
        """A sampler that was asked before the end answers after it: nobody's mistake."""
        state = begun(1)
        state.apply(CancelAsked(time=2.0))
        assert [] == state.apply(proposed(1, time=3.0))
        assert 1 == len(state.trials)


class TestLimits:
    """`max_total_trials`, `max_concurrent_trials`, `timeout`, `trial_timeout`."""

    def test_no_more_than_max_concurrent_trials_run(self) -> None:
        """However many slots and places there are; what stops runs still."""
        state = SweepState(draft_spec(max_total_trials=9, max_concurrent_trials=2))
        state.apply(proposed(9))
        assert [ID] == assigns(state.apply(said(1.0, slot=0)))
        assert [OTHER] == assigns(state.apply(said(2.0, slot=1, places=5)))
        assert not state.can_assign(1)
        state.apply(said(3.0, slot=0, begun=(ID,), ends=(end(ID, 0),)))
        assert ({2}, {1}) == (state.slots[0].holds, state.slots[1].holds)

    def test_what_lies_in_a_queue_does_not_run(self) -> None:
        """A slot may hold trials ready, though as many run as may."""
        state = SweepState(draft_spec(max_total_trials=9, max_concurrent_trials=1))
        state.apply(proposed(9))
        assert [ID, OTHER] == assigns(state.apply(said(1.0, slot=0, ahead=1)))
        assert [] == assigns(state.apply(said(2.0, slot=1)))
        done = said(3.0, slot=0, ahead=1, begun=(ID, OTHER), ends=(end(ID, 0),))
        assert [THIRD] == assigns(state.apply(done))

    def test_proposals_stop_at_max_total_trials(self) -> None:
        """So many are wanted as may wait and are left."""
        state = SweepState(draft_spec(max_total_trials=5))
        assert 3 == state.proposals_wanted(ahead=3)
        state.apply(proposed(3))
        assert [0, 1, 2] == [state.proposals_wanted(ahead=ahead) for ahead in (2, 4, 9)]
        state.apply(proposed(2, time=1.0))
        assert (0, True) == (state.proposals_wanted(ahead=9), state.all_proposed)

    def test_a_sweep_without_a_bound_wants_as_many_as_may_wait(self) -> None:
        """Its timeout ends it."""
        state = SweepState(draft_spec(max_total_trials=None, timeout=60))
        assert (7, None) == (state.proposals_wanted(ahead=7), state.slots_wanted())

    def test_slots_are_wanted_for_what_there_is_to_run(self) -> None:
        """What waits, what runs, what is yet to be proposed; no more than may run at once."""
        state = SweepState(draft_spec(max_total_trials=5))
        assert 5 == state.slots_wanted()
        state.apply(proposed(2, exhausted=True))
        assert 2 == state.slots_wanted()
        assert (
            3 == SweepState(draft_spec(max_total_trials=5, max_concurrent_trials=3)).slots_wanted()
        )

    def test_trial_timeout_stops_an_attempt(self) -> None:
        """It counts from the attempt's beginning; the trial ends as timed out."""
        state = begun(2, trial_timeout=10.0)
        reported(state, ID, [0.5])
        assert (11.0, []) == (state.next_due(), state.due(10.9))
        (event,) = state.due(11.0)
        (first, second) = stops(state.apply(event))
        assert (ID, 0, StopCause.TRIAL_TIMEOUT) == (first.id, first.report, first.cause)
        assert "trial_timeout of 10 s reached" == second.reason
        assert ([], None) == (state.due(99.0), state.next_due())
        ended(state, ID, Ending.OBEYED)
        assert ["timed_out", "stopping"] == states(state)

    def test_another_attempt_has_the_whole_time_again(self) -> None:
        """A trial that lost its slot is not timed out for it."""
        state = begun(1, trial_timeout=10.0)
        lost(state, 0)
        state.apply(said(8.0, incarnation=2))
        state.apply(said(9.0, incarnation=2, begun=(AttemptId(0, 2),)))
        assert 19.0 == state.next_due()
        assert [] == stops(state.apply(TrialsTimedOut(time=12.0, ids=(ID,))))

    def test_an_unknown_attempt_times_out_in_vain(self) -> None:
        """Whatever its number."""
        state = begun(1, trial_timeout=10.0)
        ids = (AttemptId(7, 1), AttemptId(-1, 1), AttemptId(0, 2))
        assert [] == state.apply(TrialsTimedOut(time=12.0, ids=ids))

    def test_timeout_ends_the_sweep(self) -> None:
        """What waits is canceled, what runs is told to stop; it is no failure."""
        state = on_the_way(draft_spec(timeout=60.0, max_total_trials=3), slots=2)
        reported(state, ID, [0.5])
        ended(state, ID)
        assert (60.0, [SweepTimedOut(time=60.0)]) == (state.next_due(), state.due(60.0))
        state.apply(SweepTimedOut(time=60.0))
        assert ["completed", "stopping", "canceled"] == states(state)
        ended(state, OTHER, Ending.OBEYED)
        assert (Phase.COMPLETED, "timeout of 60 s reached") == (state.phase, state.reason)
        assert "canceled" == states(state)[1]

    def test_the_first_of_the_limits_is_due(self) -> None:
        """The sweep's own, if it comes before any attempt's."""
        assert 5.0 == begun(1, timeout=5.0, trial_timeout=10.0).next_due()
        assert 11.0 == begun(1, timeout=50.0, trial_timeout=10.0).next_due()
        assert begun(1).next_due() is None


class TestRevised:
    """A sampler that learns thinks again of what waits."""

    def test_a_trial_that_waits_gets_other_values(self) -> None:
        """It keeps its number, and is run with what it got last."""
        state = on_the_way(draft_spec(max_total_trials=2))
        assert [] == state.apply(Revised(time=2.0, trial=1, params={"x": 0.9}, known=1))
        (assign,) = state.apply(said(3.0, slot=1))
        assert isinstance(assign, Assign)
        assert (OTHER, {"x": 0.9}, {"x": 0.9}) == (
            assign.id, assign.params, state.trials[1].params,
        )  # fmt: skip

    def test_one_that_a_slot_was_told_of_keeps_its_own(self) -> None:
        """Whether it runs, was lost, was given back or has ended."""
        state = SweepState(draft_spec(max_total_trials=4))
        state.apply(proposed(4))
        state.apply(said(1.0, slot=0, ahead=1, places=2))
        state.apply(said(2.0, slot=0, begun=(ID,), ends=(end(ID, 0),), returned=(OTHER,)))
        before = [trial.params for trial in state.trials]
        for number in range(3):
            state.apply(Revised(time=3.0, trial=number, params={"x": 0.9}))
        assert before == [trial.params for trial in state.trials]
        lost(state, 0)
        state.apply(Revised(time=9.0, trial=2, params={"x": 0.9}))
        assert before == [trial.params for trial in state.trials]

    def test_a_sweep_that_ends_revises_nothing(self) -> None:
        """Its trials are canceled as they were proposed."""
        state = on_the_way(draft_spec(max_total_trials=2))
        state.apply(CancelAsked(time=2.0))
        state.apply(Revised(time=3.0, trial=1, params={"x": 0.9}))
        assert {"x": 0.125} == state.trials[1].params

    def test_a_snapshot_keeps_it(self) -> None:
        """And a replay of the journal comes to the same."""
        spec = draft_spec(max_total_trials=2)
        state, twin_ = on_the_way(spec), on_the_way(spec)
        record = as_read_back(Revised(time=2.0, trial=1, params={"x": 0.9}), [])
        state.apply(Revised(time=2.0, trial=1, params={"x": 0.9}))
        twin_.apply(record.event, record.commands)
        assert state == twin_ == SweepState.restored(spec, state.kept())


class TestWhatASamplerKnows:
    """Observations, and what is asked of the sweep about them."""

    def test_what_has_ended_is_looked_at_once(self) -> None:
        """Asked again, a trial that has ended is the same object; one that runs is not."""
        state = begun(2)
        reported(state, ID, [0.25])
        ended(state, ID)
        reported(state, OTHER, [0.5])
        before = state.observations()
        reported(state, OTHER, [0.75])
        after = state.observations()
        assert after[0] is before[0]
        assert (0.5, 0.75) == (before[1].score, after[1].score)

    def test_what_has_not_changed_is_the_same_object(self) -> None:
        """A trial that runs without a word; not one with other values, though they be equal."""
        state = on_the_way(draft_spec(max_total_trials=2))
        state.apply(Revised(time=2.0, trial=1, params={"x": 1}))
        before = state.observations()
        assert all(one is other for one, other in zip(before, state.observations(), strict=True))
        state.apply(Revised(time=3.0, trial=1, params={"x": True}))
        after = state.observations()
        assert (True, True) == (after[0] is before[0], after[1].params["x"] is True)

    def test_an_end_is_seen_after_what_was_seen_before_it(self) -> None:
        """What was known while a trial ran gives way to what it came to."""
        state = begun(1)
        reported(state, ID, [0.25])
        assert [True] == [each.pending for each in state.observations()]
        reported(state, ID, [0.5])
        ended(state, ID)
        expected = [
            Observation(trial=0, params={"x": 0.0}, score=0.5, curve=array("d", [0.25, 0.5]))
        ]
        assert expected == state.observations()

    def test_what_ends_with_its_sweep_is_cut_short(self) -> None:
        """A trial that was canceled on its way would have come further; of one that ended, all is known."""
        state = on_the_way(draft_spec(timeout=60.0, max_total_trials=3), slots=2)
        reported(state, ID, [0.5])
        ended(state, ID)
        reported(state, OTHER, [0.25])
        state.apply(SweepTimedOut(time=60.0))
        ended(state, OTHER, Ending.OBEYED)
        assert [False, True, True] == [each.stopped for each in state.observations()]

    def test_an_attempt_that_begins_anew_is_seen_so(self) -> None:
        """What a lost attempt had reported is not known any more."""
        state = begun(1)
        reported(state, ID, [0.25])
        assert (0.25,) == tuple(state.observations()[0].curve)
        lost(state, 0)
        state.apply(said(9.0, slot=1))
        state.apply(said(9.0, slot=1, begun=(AttemptId(0, 2),)))
        assert () == tuple(state.observations()[0].curve)

    def test_a_trial_that_is_proposed_anew_does_not_know_itself(self) -> None:
        """The others stay in order."""
        state = on_the_way(draft_spec(max_total_trials=3))
        assert [0, 2] == [each.trial for each in state.observations(but=1)]
        assert [0, 1, 2] == [each.trial for each in state.observations()]

    def test_asking_changes_nothing(self) -> None:
        """A sweep whose sampler was asked equals one whose sampler was not."""
        state = begun(2)
        state.observations()
        assert begun(2) == state

    def test_news_are_ends_and_reports(self) -> None:
        """A trial that begins is none."""
        state = begun(2)
        assert (0, 0) == state.news
        reported(state, ID, [0.25])
        ended(state, ID)
        assert (1, 1) == state.news

    def test_places_are_free_that_no_trial_has(self) -> None:
        """As many as there are, but no more than may run at once."""
        assert (1, 0) == (begun(2).free(3), begun(2).free(1))
        assert 1 == begun(2, max_concurrent_trials=3).free(9)

    def test_a_trial_takes_what_the_latest_took(self) -> None:
        """From its first attempt's beginning to its end, on average."""
        state = begun(2)
        assert state.trial_time() is None
        state.apply(said(3.0, slot=0, ends=(end(ID, 0),)))
        state.apply(said(7.0, slot=1, ends=(end(OTHER, 0),)))
        assert 4.0 == state.trial_time()


class TestPolicies:
    """Decisions."""

    def test_a_policy_stops_a_trial_at_a_report(self) -> None:
        """The stop names it and gives the reason in numbers."""
        state = begun(2, policy=Bandit(slack_amount=0.1))
        reported(state, ID, [0.9])
        (stop,) = stops(reported(state, OTHER, [0.75]))
        assert [] == stops(reported(state, ID, [0.9]))
        assert (OTHER, StopCause.POLICY) == (stop.id, stop.cause)

    def test_reports_after_a_stop_count_for_nothing(self) -> None:
        """They are stored, but enter no history and no best."""
        state = begun(2, policy=Bandit(slack_amount=0.1))
        reported(state, ID, [0.9])
        (stop,) = stops(reported(state, OTHER, [0.5, 0.99]))
        reported(state, OTHER, [1.0])
        assert 1 == stop.report
        assert ([0.5], 4) == (curve(state, 1), state.reports)
        assert state.best is not None
        assert 0 == state.best.trial

    def test_a_stopped_trial_ends_as_stopped_however_it_ends(self) -> None:
        """Obeyed, killed or lost on the way; an error of the way is kept."""
        for ending in (Ending.OBEYED, Ending.KILLED, Ending.RAISED, Ending.LOST):
            state = begun(2, policy=Bandit(slack_amount=0.1))
            reported(state, ID, [0.9])
            reported(state, OTHER, [0.5])
            ended(state, OTHER, ending, error="E: x")
            assert ("stopped", "E: x") == (states(state)[1], state.trials[1].error)
            assert state.trials[1].reason.startswith("bandit: best 0.5 < 0.8 = 0.9 - 0.1")

    def test_a_slot_that_is_lost_ends_what_was_stopping(self) -> None:
        """It gets no further attempt."""
        state = begun(2, policy=Bandit(slack_amount=0.1))
        reported(state, ID, [0.9])
        reported(state, OTHER, [0.5])
        lost(state, 1)
        assert ("stopped", 0) == (states(state)[1], state.trials[1].losses)

    def test_a_checkpoint_after_a_stop_stands_where_the_curve_ends(self) -> None:
        """Its reports count no more, so its interval is the last that does."""
        state = begun(2, policy=Bandit(slack_amount=0.1))
        reported(state, ID, [0.9])
        reported(state, OTHER, [0.5, 0.6, 0.7])
        saved(state, OTHER, 3)
        assert [1] == [kept.interval for kept in state.trials[1].checkpoints]

    def test_who_has_ended_may_be_excluded(self) -> None:
        """A trial's end reaches the history that policies read."""
        policy = TruncationSelection(truncation_percentage=50, exclude_finished_jobs=True)
        state = begun(2, policy=policy)
        reported(state, ID, [0.9])
        ended(state, ID)
        assert [] == stops(reported(state, OTHER, [0.1]))

    def test_decisions_stand_when_an_attempt_starts_again(self) -> None:
        """Nobody is judged again at an interval that was taken out of history."""
        state = begun(2, policy=Bandit(slack_amount=0.1))
        reported(state, ID, [0.5])
        lost(state, 0)
        reported(state, OTHER, [0.9])
        assert "waiting" == states(state)[0]
        assert [0.5] == curve(state, 0)


class TestNaN:
    """What is not finite is an interval, and never best."""

    def test_it_is_never_best(self) -> None:
        """Neither NaN nor an infinity."""
        state = begun(1)
        reported(state, ID, [NAN, INF, 0.25, -INF])
        assert state.best is not None
        assert (0, 3, 0.25) == (state.best.trial, state.best.interval, state.best.value)
        assert 4 == state.history.intervals(0)

    def test_a_trial_of_nothing_else_completes(self) -> None:
        """It has reported its primary metric, though the sweep has no best."""
        state = begun(1)
        reported(state, ID, [NAN])
        ended(state, ID)
        assert (["completed"], None, Phase.COMPLETED) == (states(state), state.best, state.phase)

    def test_a_sampler_is_not_shown_it(self) -> None:
        """What is known of such a trial is that it ended without a value."""
        state = begun(2)
        reported(state, ID, [INF])
        ended(state, ID)
        reported(state, OTHER, [0.5])
        assert [
            Observation(trial=0, params={"x": 0.0}, curve=array("d", [INF])),
            Observation(
                trial=1, params={"x": 0.125}, score=0.5, pending=True, curve=array("d", [0.5])
            ),
        ] == state.observations()

    def test_ties_go_to_the_lower_number(self) -> None:
        """And to the earlier interval."""
        state = begun(2)
        reported(state, OTHER, [0.5])
        reported(state, ID, [0.1, 0.5, 0.5])
        assert state.best is not None
        assert (0, 2) == (state.best.trial, state.best.interval)


class TestAttempts:
    """Failures, losses, and where another attempt starts."""

    def test_a_failure_is_final_by_default(self) -> None:
        """The trial failed with its error; there is no other attempt."""
        state = begun(1)
        ended(state, ID, Ending.RAISED, error="ValueError: x", where="t.py:1 in train")
        trial = state.trials[0]
        assert ("failed", "ValueError: x", 1) == (trial.state, trial.reason, trial.failures)

    def test_max_attempts_gives_another(self) -> None:
        """As many as the spec says, killed processes counted as failures."""
        state = begun(1, max_attempts=3)
        for attempt, ending in ((1, Ending.RAISED), (2, Ending.KILLED), (3, Ending.RAISED)):
            id_ = AttemptId(0, attempt)
            assert id_ == state.trials[0].id
            ended(state, id_, ending, error=f"E: {attempt}")
        trial = state.trials[0]
        assert ("failed", "E: 3", 3) == (trial.state, trial.error, trial.failures)

    def test_a_loss_is_no_failure(self) -> None:
        """Counted apart; another attempt follows though `max_attempts` is 1."""
        state = begun(1)
        lost(state, 0)
        (order,) = state.apply(said(9.0, slot=4))
        assert isinstance(order, Assign)
        assert (AttemptId(0, 2), 1, 0) == (
            order.id,
            state.trials[0].losses,
            state.trials[0].failures,
        )

    def test_an_attempt_that_never_began_is_lost_too(self) -> None:
        """The trial waits again."""
        state = SweepState(draft_spec())
        state.apply(proposed(1))
        state.apply(said(1.0))
        lost(state, 0)
        assert (["waiting"], 1) == (states(state), state.trials[0].losses)

    def test_a_slot_may_give_an_attempt_up(self) -> None:
        """An end of `lost` is a loss, and the same slot may have the next attempt."""
        state = begun(1)
        assert [AttemptId(0, 2)] == assigns(ended(state, ID, Ending.LOST, error="preempted"))
        assert (1, 0) == (state.trials[0].losses, state.trials[0].failures)

    def test_another_attempt_continues_the_curve(self) -> None:
        """What came after its checkpoint is taken out, and reported again."""
        state = begun(1)
        reported(state, ID, [0.1, 0.2, 0.3])
        saved(state, ID, 2)
        lost(state, 0)
        assert [0.1, 0.2, 0.3] == curve(state, 0)
        state.apply(said(8.0, incarnation=2))
        again = AttemptId(0, 2)
        state.apply(said(9.0, incarnation=2, begun=(again,)))
        assert [0.1, 0.2] == curve(state, 0)
        reported(state, again, [0.35, 0.4])
        assert ([0.1, 0.2, 0.35, 0.4], 5) == (curve(state, 0), state.reports)

    def test_without_a_checkpoint_the_curve_begins_anew(self) -> None:
        """Nothing of the lost attempt counts, its best neither."""
        state = begun(1)
        reported(state, ID, [0.9])
        ended(state, ID, Ending.LOST)
        reported(state, AttemptId(0, 2), [0.1])
        assert [0.1] == curve(state, 0)
        assert state.best is not None
        assert 0.1 == state.best.value

    def test_a_damaged_checkpoint_gives_way_to_the_one_before(self) -> None:
        """The attempt that found it is lost; the next starts from the one before."""
        state = begun(1)
        reported(state, ID, [0.1, 0.2])
        saved(state, ID, 1)
        saved(state, ID, 2)
        ended(state, ID, Ending.LOST)
        broken = checkpoint(ID, 2)
        assert broken == state.trials[0].order_to_run().checkpoint
        (order,) = ended(state, AttemptId(0, 2), Ending.LOST, damaged=broken.path)
        assert isinstance(order, Assign)
        assert (AttemptId(0, 3), 1, checkpoint(ID, 1)) == (order.id, order.start, order.checkpoint)
        reported(state, AttemptId(0, 3), [0.25])
        assert [0.1, 0.25] == curve(state, 0)

    def test_the_only_checkpoint_gives_way_to_none(self) -> None:
        """The trial starts from nothing."""
        state = begun(1)
        reported(state, ID, [0.1])
        saved(state, ID, 1)
        ended(state, ID, Ending.LOST)
        (order,) = ended(state, AttemptId(0, 2), Ending.LOST, damaged=checkpoint(ID, 1).path)
        assert isinstance(order, Assign)
        assert (0, None) == (order.start, order.checkpoint)

    def test_an_attempt_that_takes_no_notice_of_its_checkpoint_starts_anew(self) -> None:
        """Its curve, and what later attempts start from, know nothing of the one before."""
        state = begun(1)
        reported(state, ID, [0.1, 0.2, 0.3])
        saved(state, ID, 3)
        ended(state, ID, Ending.LOST)
        again, block = AttemptId(0, 2), reports(AttemptId(0, 2), [0.15])
        state.apply(said(9.0, begun=(again,), fresh=(again,), reports=(block,)))
        assert [0.15] == curve(state, 0)
        (order,) = ended(state, again, Ending.LOST)
        assert isinstance(order, Assign)
        assert (0, None) == (order.start, order.checkpoint)

    def test_it_cannot_say_so_after_its_first_report(self) -> None:
        """What it reported counts as going on from the checkpoint."""
        state = begun(1)
        reported(state, ID, [0.1])
        saved(state, ID, 1)
        ended(state, ID, Ending.LOST)
        again = AttemptId(0, 2)
        reported(state, again, [0.2])
        state.apply(said(9.0, fresh=(again,)))
        assert [0.1, 0.2] == curve(state, 0)

    def test_losses_without_a_report_between_them_are_hopeless(self) -> None:
        """A trial that takes its machine down with it fails in the end."""
        state = begun(1)
        for attempt in range(1, HOPELESS + 1):
            assert attempt == state.trials[0].attempt
            ended(state, AttemptId(0, attempt), Ending.LOST, error="killed")
        assert ["failed"] == states(state)
        error = f"its slot was lost {HOPELESS} times before a report (last: killed)"
        assert (error, error) == (state.trials[0].error, state.trials[0].reason)

    def test_a_report_gives_hope(self) -> None:
        """The losses before it count no more."""
        state = begun(1)
        for attempt in range(1, 2 * HOPELESS - 2):
            id_ = AttemptId(0, attempt)
            if attempt == HOPELESS - 1:
                reported(state, id_, [0.5])
            ended(state, id_, Ending.LOST)
        assert (["assigned"], 2 * HOPELESS - 3) == (states(state), state.trials[0].losses)


class TestKeeping:
    """Which checkpoints of a trial are kept, and which give way."""

    @staticmethod
    def trained(values: Sequence[float], keep: int | None = 2) -> SweepState:
        """A sweep whose one trial has reported these values, a checkpoint each."""
        state = begun(1, keep_checkpoints=keep)
        for report, value in enumerate(values, start=1):
            reported(state, ID, [value])
            saved(state, ID, report)
        return state

    @staticmethod
    def kept(state: SweepState) -> list[int]:
        """The intervals of the trial's checkpoints."""
        return [one.interval for one in state.trials[0].checkpoints]

    @pytest.mark.parametrize(
        ("keep", "expected"), [(None, [1, 2, 3, 4, 5]), (1, [2, 5]), (2, [2, 4, 5]), (5, [1, 2, 3, 4, 5])]
    )  # fmt: skip
    def test_the_last_and_the_bests_are_kept(self, keep: int | None, expected: list[int]) -> None:
        """Which is one more, unless the best is among the last."""
        assert expected == self.kept(self.trained([0.1, 0.9, 0.2, 0.3, 0.4], keep))
        assert [3, 4] == self.kept(self.trained([0.1, 0.2, 0.3, 0.4]))

    def test_what_gives_way_is_named_with_what_takes_its_place(self) -> None:
        """A command says so, and the journal keeps it."""
        state = self.trained([0.1, 0.9, 0.2, 0.3])
        assert [2, 3, 4] == self.kept(state)
        reported(state, ID, [0.4])
        event = said(state.time + 1, checkpoints=(checkpoint(ID, 5),))
        commands = state.apply(event)
        assert [Discard(id=ID, report=5, paths=(checkpoint(ID, 3).path,))] == commands
        assert commands == as_read_back(event, commands).commands
        assert [2, 4, 5] == self.kept(state)

    def test_a_replay_takes_what_was_recorded(self) -> None:
        """Whatever rule decided it."""
        state = twin(draft_spec(max_total_trials=1, keep_checkpoints=1))
        state.apply(proposed(1))
        state.apply(said(1.0), [Assign(id=ID, slot=0, incarnation=1, params={})])
        state.apply(said(2.0, reports=(reports(ID, [0.1, 0.2, 0.3]),)), [])
        for report in (1, 2):
            state.apply(said(3.0, checkpoints=(checkpoint(ID, report),)), [])
        assert [1, 2] == self.kept(state)
        first = Discard(id=ID, report=3, paths=(checkpoint(ID, 1).path,))
        state.apply(said(4.0, checkpoints=(checkpoint(ID, 3),)), [first])
        assert [2, 3] == self.kept(state)

    def test_a_checkpoint_may_come_after_later_reports(self) -> None:
        """The best is then beyond it; what was the best up to it stays until it has one of its own."""
        state = begun(1, keep_checkpoints=1)
        reported(state, ID, [0.1, 0.5, 0.2, 0.3, 0.9])
        for report in (2, 3, 4):
            saved(state, ID, report)
        assert [2, 4] == self.kept(state)
        lost(state, 0)
        state.apply(said(9.0, incarnation=2))
        reported(state, AttemptId(0, 2), [0.4])
        assert [0.1, 0.5, 0.2, 0.3, 0.4] == curve(state, 0)
        assert [2, 4] == self.kept(state)
        best = state.trials[0].nearest_checkpoint(2)
        assert best is not None
        assert checkpoint(ID, 2) == best.checkpoint

    def test_behind_a_damaged_one_is_another_and_the_best_of_what_is_left(self) -> None:
        """Of the last two the first is as good a start: its curve's best has its checkpoint, too."""
        state = self.trained([0.5, 0.1, 0.2, 0.9])
        assert [1, 3, 4] == self.kept(state)
        ended(state, ID, Ending.LOST)
        ended(state, AttemptId(0, 2), Ending.LOST, damaged=checkpoint(ID, 4).path)
        reported(state, AttemptId(0, 3), [0.3])
        assert [0.5, 0.1, 0.2, 0.3] == curve(state, 0)
        assert [1, 3] == self.kept(state)

    def test_what_an_attempt_starts_from_stays_until_it_has_its_own(self) -> None:
        """However often it is lost before."""
        state = self.trained([0.9, 0.2], keep=1)
        for attempt in (1, 2, 3):
            ended(state, AttemptId(0, attempt), Ending.LOST)
            assert checkpoint(ID, 2) == state.trials[0].order_to_run().checkpoint
            reported(state, AttemptId(0, attempt + 1), [0.3])
        (discard,) = saved(state, AttemptId(0, 4), 1)
        assert Discard(id=AttemptId(0, 4), report=1, paths=(checkpoint(ID, 2).path,)) == discard

    @pytest.mark.parametrize("keep", [None, 2])
    def test_those_of_a_curve_that_began_anew_are_discarded(self, keep: int | None) -> None:
        """Nothing starts from them any more; without a number they are left to lie."""
        state = self.trained([0.1, 0.2], keep)
        ended(state, ID, Ending.LOST)
        again = AttemptId(0, 2)
        commands = state.apply(said(9.0, begun=(again,), fresh=(again,)))
        paths = (checkpoint(ID, 1).path, checkpoint(ID, 2).path)
        expected = [] if keep is None else [Discard(id=again, report=0, paths=paths)]
        assert expected == commands
        assert [] == self.kept(state)


class TestNoPrimaryMetric:
    """A trial that never reports what the sweep is about."""

    def test_it_fails_and_says_what_was_seen(self) -> None:
        """The metrics that it did report, in order."""
        state = begun(1, max_attempts=2)
        blocks = (reports(ID, [1.0], name="loss"), reports(ID, [1.0], first=2, name="accuracy"))
        state.apply(said(2.0, reports=blocks))
        ended(state, ID)
        error = "primary metric 'acc' was never reported (saw: accuracy, loss)"
        assert (["failed"], error) == (states(state), state.trials[0].error)

    def test_it_says_if_nothing_was_seen(self) -> None:
        """Not a single report."""
        state = begun(1)
        ended(state, ID)
        error = "primary metric 'acc' was never reported (saw: no report at all)"
        assert error == state.trials[0].error

    def test_a_sweep_of_such_trials_stops(self) -> None:
        """It is a failure like another."""
        state = on_the_way(draft_spec(max_total_trials=9), slots=3)
        for id_ in (ID, OTHER, THIRD):
            ended(state, id_)
        assert state.reason.startswith("the first 3 trials failed alike: primary metric 'acc'")


class TestFailAlike:
    """If the first trials all fail alike, the sweep stops and says so."""

    @staticmethod
    def failing(slots: int = FAIL_ALIKE) -> SweepState:
        """A sweep of many trials, some of them running."""
        return on_the_way(draft_spec(max_total_trials=20), slots=slots)

    def test_the_sweep_stops(self) -> None:
        """What waits is canceled; the reason is the error."""
        state = self.failing()
        for number in range(FAIL_ALIKE):
            ended(state, AttemptId(number, 1), Ending.RAISED, error=f"E: {number}", where="f")
        reason = "the first 3 trials failed alike: E: 2"
        assert (Phase.FAILED, reason) == (state.phase, state.reason)
        assert ["failed"] * 3 + ["canceled"] * 17 == states(state)

    def test_it_ends_as_failed(self) -> None:
        """When all that runs has ended."""
        state = self.failing(slots=FAIL_ALIKE + 1)
        for number in range(FAIL_ALIKE):
            ended(state, AttemptId(number, 1), Ending.RAISED, error="E", where="f")
        for trial in state.trials:
            if trial.state is TrialState.STOPPING:
                ended(state, trial.id, Ending.OBEYED)
        assert (Phase.FAILED, True) == (state.phase, state.over)

    @pytest.mark.parametrize(
        ("error", "where"), [("F: x", "f"), ("E: x", "g")], ids=["another error", "another place"]
    )
    def test_another_failure_is_not_alike(self, error: str, where: str) -> None:
        """The kind of error and where it was raised both count."""
        state = self.failing()
        ended(state, ID, Ending.RAISED, error=error, where=where)
        for number in range(1, 6):
            ended(state, AttemptId(number, 1), Ending.RAISED, error="E: y", where="f")
        assert Phase.RUNNING is state.phase

    def test_not_when_one_has_come_to_its_end(self) -> None:
        """Then it is no mistake in all of them."""
        state = self.failing(slots=4)
        reported(state, ID, [0.5])
        ended(state, ID)
        for id_ in (OTHER, THIRD, AttemptId(3, 1)):
            ended(state, id_, Ending.RAISED, error="E", where="f")
        assert Phase.RUNNING is state.phase

    def test_not_when_one_was_stopped_by_the_policy(self) -> None:
        """It had something to show for itself."""
        spec = draft_spec(max_total_trials=20, policy=Bandit(slack_amount=0.1))
        state = on_the_way(spec, slots=5)
        reported(state, ID, [0.9])
        reported(state, OTHER, [0.1])
        ended(state, OTHER, Ending.OBEYED)
        for id_ in (THIRD, AttemptId(3, 1), AttemptId(4, 1)):
            reported(state, id_, [0.9])
            ended(state, id_, Ending.RAISED, error="E", where="f")
        assert ("stopped", Phase.RUNNING) == (states(state)[1], state.phase)

    def test_not_when_others_get_further(self) -> None:
        """One that runs beyond where they failed may yet complete."""
        state = self.failing(slots=4)
        reported(state, AttemptId(3, 1), [0.5])
        for id_ in (ID, OTHER, THIRD):
            ended(state, id_, Ending.RAISED, error="E", where="f")
        assert Phase.RUNNING is state.phase

    def test_not_when_one_that_got_further_lost_its_slot(self) -> None:
        """It waits for another attempt, which may complete."""
        state = self.failing(slots=4)
        reported(state, AttemptId(3, 1), [0.5])
        lost(state, 3)
        for slot in range(3):  # which take nothing further
            failed = end(AttemptId(slot, 1), 0, Ending.RAISED, error="E", where="f")
            state.apply(said(state.time, slot=slot, places=0, ends=(failed,)))
        assert (["failed"] * 3 + ["waiting"], Phase.RUNNING) == (states(state)[:4], state.phase)

    def test_when_the_others_get_no_further_after_all(self) -> None:
        """The next one that fails alike ends the sweep, and is counted."""
        state = self.failing(slots=4)
        last = AttemptId(3, 1)
        reported(state, last, [0.5])
        for id_ in (ID, OTHER, THIRD):
            ended(state, id_, Ending.RAISED, error="E", where="f")
        ended(state, last, Ending.RAISED, error="E", where="f")
        assert "the first 4 trials failed alike: E" == state.reason

    def test_losses_are_another_kind_of_failure(self) -> None:
        """A trial that was hopeless does not make two errors three of a kind."""
        state = self.failing(slots=1)
        for attempt in range(1, HOPELESS + 1):
            ended(state, AttemptId(0, attempt), Ending.LOST)
        assert ["failed", "assigned"] == states(state)[:2]
        for id_ in (OTHER, THIRD):
            ended(state, id_, Ending.RAISED, error="E", where="f")
        assert Phase.RUNNING is state.phase

    def test_hopeless_trials_are_alike(self) -> None:
        """A sweep whose trials take their machines down with them stops, in the midst of a loss."""
        spec = draft_spec(max_total_trials=20)
        state = SweepState(spec)
        state.apply(proposed(20))
        for incarnation in range(1, HOPELESS + 1):
            state.apply(said(state.time + 1, places=5, incarnation=incarnation))
            lost(state, 0)
        assert [TrialState.FAILED] * 3 == [trial.state for trial in state.trials[:3]]
        assert {TrialState.CANCELED} == {trial.state for trial in state.trials[3:]}
        assert (Phase.FAILED, True) == (state.phase, state.reason.startswith("the first 3"))


class TestTheEnd:
    """How a sweep ends."""

    def test_it_finishes_with_its_last_trial(self) -> None:
        """Once, with a command that says so."""
        state = begun(1)
        reported(state, ID, [0.5])
        assert [Finish(phase=Phase.COMPLETED, reason="")] == ended(state, ID)
        assert [] == state.apply(said(state.time))
        assert (True, 0) == (state.over, state.slots_wanted())

    def test_it_does_not_finish_before_all_is_proposed(self) -> None:
        """More may come, until the sampler has run out."""
        state = on_the_way(draft_spec(max_total_trials=3), count=1)
        reported(state, ID, [0.5])
        assert [] == ended(state, ID)
        (finish,) = state.apply(proposed(0, time=9.0, exhausted=True))
        assert Finish(phase=Phase.COMPLETED, reason="") == finish

    def test_without_a_completed_trial_it_has_failed(self) -> None:
        """Whatever the trials ended with instead."""
        state = begun(2, trial_timeout=5.0, max_attempts=1)
        state.apply(TrialsTimedOut(time=9.0, ids=(ID,)))
        ended(state, ID, Ending.OBEYED)
        (finish,) = ended(state, OTHER, Ending.RAISED, error="E")
        assert Finish(phase=Phase.FAILED, reason="no trial completed") == finish

    def test_a_timeout_without_a_completed_trial_says_both(self) -> None:
        """The sweep failed, and why there was nothing."""
        state = begun(1, timeout=5.0)
        state.apply(SweepTimedOut(time=9.0))
        (finish,) = ended(state, ID, Ending.OBEYED)
        expected = "no trial completed (timeout of 5 s reached)"
        assert Finish(phase=Phase.FAILED, reason=expected) == finish

    def test_a_cancel_cancels(self) -> None:
        """What runs is told to stop, what waits is not begun, what completed stays."""
        state = on_the_way(draft_spec(max_total_trials=3), slots=2)
        reported(state, ID, [0.5])
        ended(state, ID)
        (stop,) = stops(state.apply(CancelAsked(time=9.0, reason="enough")))
        assert (OTHER, 0, StopCause.SWEEP_ENDS, "enough") == (
            stop.id, stop.report, stop.cause, stop.reason,
        )  # fmt: skip
        assert ["completed", "stopping", "canceled"] == states(state)
        (finish,) = ended(state, OTHER, Ending.OBEYED)
        assert Finish(phase=Phase.CANCELED, reason="enough") == finish
        assert "canceled" == states(state)[1]

    def test_a_sweep_that_has_nothing_is_canceled_at_once(self) -> None:
        """There is nobody to wait for."""
        (finish,) = SweepState(draft_spec()).apply(CancelAsked(time=1.0))
        assert Finish(phase=Phase.CANCELED, reason="canceled") == finish

    def test_a_sampler_that_fails_fails_the_sweep(self) -> None:
        """With what it raised."""
        state = begun(1)
        state.apply(SamplerFailed(time=2.0, error="ValueError('x')"))
        ended(state, ID, Ending.OBEYED)
        assert (Phase.FAILED, "the sampler failed: ValueError('x')") == (state.phase, state.reason)

    def test_the_first_reason_to_end_counts(self) -> None:
        """A cancel does not turn a timeout into a cancel."""
        state = begun(1, timeout=5.0)
        state.apply(SweepTimedOut(time=9.0))
        assert [] == state.apply(CancelAsked(time=10.0))
        assert "timeout of 5 s reached" == state.reason

    def test_a_sweep_that_ends_hands_out_nothing(self) -> None:
        """A slot with a free place gets no trial."""
        state = on_the_way(draft_spec(max_total_trials=9))
        state.apply(CancelAsked(time=2.0))
        assert [] == state.apply(said(3.0, slot=1))
        assert (False, 0, 1, []) == (
            state.can_assign(1), state.proposals_wanted(9), state.slots_wanted(), state.due(99.0),
        )  # fmt: skip

    def test_one_end_may_end_its_neighbours(self) -> None:
        """A failure that ends the sweep meets, in the same exchange, ends of what it stops."""
        state = SweepState(draft_spec(max_total_trials=4))
        state.apply(proposed(4))
        state.apply(said(1.0, places=4))
        ids = [AttemptId(number, 1) for number in range(4)]
        ends = tuple(end(id_, 0, Ending.RAISED, error="E", where="f") for id_ in ids)
        (stop, finish) = state.apply(said(2.0, places=4, begun=tuple(ids), ends=ends))
        assert ids[3] == getattr(stop, "id", None)
        assert ["failed", "failed", "failed", "canceled"] == states(state)
        assert isinstance(finish, Finish)


class TestEquality:
    """States compare by all that matters."""

    def test_the_same_events_give_the_same_state(self) -> None:
        """And it has no hash, for it changes."""
        assert begun(2) == begun(2)
        with pytest.raises(TypeError):
            hash(begun(2))

    def test_any_difference_tells(self) -> None:
        """A report, a slot, a reason."""
        state = begun(2)
        reported(state, ID, [0.5])
        assert begun(2) != state
        assert begun(2) != "a state"
