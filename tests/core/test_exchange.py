"""The exchange, rule by rule; over a wire that cannot be trusted it runs in test_simulation.py."""

from __future__ import annotations

import math

import pytest
from drafts import (
    assigns,
    checkpoint,
    draft_spec,
    end,
    on_the_way,
    proposed,
    reports,
    request,
    said,
    stops,
)

from raysweep.core.events import (
    Assign,
    AttemptId,
    CancelAsked,
    Checkpoint,
    Ending,
    Exchanged,
    Opened,
    Reports,
    SlotLost,
    Stop,
    StopCause,
    TrialsTimedOut,
)
from raysweep.core.exchange import (
    KEEP,
    Acknowledged,
    Reception,
    Refusal,
    Reply,
    Request,
    SlotBook,
)
from raysweep.core.state import SweepState
from raysweep.core.trials import TrialState
from raysweep.errors import MetricError

ID, OTHER = AttemptId(0, 1), AttemptId(1, 1)


def assign(id_: AttemptId = ID, start: Checkpoint | None = None) -> Assign:
    """An assignment to slot 0."""
    return Assign(id=id_, slot=0, incarnation=1, params={"x": 0.5}, checkpoint=start)


def book(*ids: AttemptId) -> SlotBook:
    """The book of a slot that was given these attempts."""
    one = SlotBook(slot=0, incarnation=1, places=3)
    asked = one.request()
    one.digest(asked, reply_to(asked, assigns=tuple(map(assign, ids))))
    return one


def reply_to(
    asked: Request,
    *,
    epoch: int = 1,
    refused: Refusal | None = None,
    acknowledged: tuple[Acknowledged, ...] = (),
    assigns: tuple[Assign, ...] = (),
    stops: tuple[Stop, ...] = (),
    drops: tuple[AttemptId, ...] = (),
) -> Reply:
    """An answer to this request."""
    return Reply(
        epoch=epoch,
        sequence=asked.sequence,
        refused=refused,
        acknowledged=acknowledged,
        assigns=assigns,
        stops=stops,
        drops=drops,
    )


def said_numbers(asked: Request) -> list[int]:
    """The numbers of the reports in a request."""
    return [number for block in asked.reports for number in range(block.first, block.last + 1)]


def news_of(state: SweepState, asked: Request) -> Exchanged:
    """What is new in a request that is taken; the state takes it."""
    news = state.novel(asked, state.time)
    assert isinstance(news, Exchanged)
    state.apply(news)
    return news


def stop(id_: AttemptId = ID, reason: str = "why") -> Stop:
    """A policy's stop."""
    return Stop(id=id_, report=1, cause=StopCause.POLICY, reason=reason)


class TestRule1:
    """A request names what it is about; one is in flight; gaps are refused; repeats recognised."""

    def test_a_request_says_who_speaks_and_what_it_holds(self) -> None:
        """Epoch, slot, incarnation, sequence and the attempts are in it."""
        asked = book(ID, OTHER).request()
        who = (asked.epoch, asked.slot, asked.incarnation, asked.sequence, asked.holds)
        assert (1, 0, 1, 2, (ID, OTHER)) == who

    def test_a_request_of_another_epoch_is_refused(self) -> None:
        """A controller takes what was said to it alone."""
        reception = Reception(epoch=2, lease=10)
        assert Refusal.EPOCH is reception.admit(request(), now=0)

    def test_a_slot_goes_over_to_a_later_epoch(self) -> None:
        """The refusal names the epoch, and the next request does too."""
        one = SlotBook(slot=0, incarnation=1, places=1)
        asked = one.request()
        assert [] == one.digest(asked, reply_to(asked, epoch=7, refused=Refusal.EPOCH))
        assert 7 == one.request().epoch

    def test_an_earlier_epoch_is_not_heeded(self) -> None:
        """A controller that was replaced gives no more orders."""
        one = book()
        asked = one.request()
        one.digest(asked, reply_to(asked, epoch=3, refused=Refusal.EPOCH))
        asked = one.request()
        assert [] == one.digest(asked, reply_to(asked, epoch=2, assigns=(assign(),)))

    def test_reports_after_a_gap_are_refused(self) -> None:
        """What is missing is asked for by what is acknowledged."""
        state = on_the_way(draft_spec())
        asked = request(holds=(ID,), reports=(reports(ID, [1.0], first=3),))
        assert Refusal.GAP is state.novel(asked, 2.0)
        assert (Acknowledged(id=ID, report=0),) == state.acknowledged(asked)

    @pytest.mark.parametrize("last", [0, 2])
    def test_an_end_that_names_other_reports_is_refused(self, last: int) -> None:
        """The end of one report too many, or too few, is a gap."""
        state = on_the_way(draft_spec())
        asked = request(holds=(ID,), reports=(reports(ID, [1.0]),), ends=(end(ID, last),))
        assert Refusal.GAP is state.novel(asked, 2.0)

    def test_a_checkpoint_ahead_of_its_report_is_refused(self) -> None:
        """It would be lost if it were passed over."""
        state = on_the_way(draft_spec())
        asked = request(holds=(ID,), checkpoints=(checkpoint(ID, 1),))
        assert Refusal.GAP is state.novel(asked, 2.0)

    def test_a_repeat_is_recognised_by_one_number(self) -> None:
        """Only what is beyond the last known report is new."""
        state = on_the_way(draft_spec())
        news_of(state, request(holds=(ID,), reports=(reports(ID, [1.0, 2.0]),)))
        again = request(sequence=2, holds=(ID,), reports=(reports(ID, [1.0, 2.0, 3.0]),))
        assert [3] == [block.first for block in news_of(state, again).reports]
        assert 3 == state.reports

    def test_a_repeat_counts_once_even_behind_the_door(self) -> None:
        """The state itself passes over what it has seen."""
        state = on_the_way(draft_spec())
        state.apply(said(2.0, reports=(reports(ID, [1.0, 2.0]),)))
        state.apply(said(3.0, reports=(reports(ID, [1.0, 2.0]),)))
        state.apply(said(4.0, reports=(reports(ID, [2.0, 3.0], first=2),)))
        assert (3, 3) == (state.reports, state.history.intervals(0))

    def test_a_repeated_checkpoint_is_known(self) -> None:
        """Checkpoints are named in the journal once."""
        state = on_the_way(draft_spec())
        asked = request(
            holds=(ID,), reports=(reports(ID, [1.0]),), checkpoints=(checkpoint(ID, 1),)
        )
        assert (checkpoint(ID, 1),) == news_of(state, asked).checkpoints
        assert not news_of(state, asked).has_news

    def test_several_blocks_of_one_attempt_follow_each_other(self) -> None:
        """Metrics that change their names make a new block, not a gap."""
        one = book(ID)
        one.report(ID, {"acc": 0.5}, at=1.0)
        one.report(ID, {"acc": 0.6, "loss": 0.1}, at=2.0)
        one.report(ID, {"acc": 0.7, "loss": math.nan}, at=3.0)
        asked = one.request()
        assert [("acc",), ("acc", "loss")] == [block.names for block in asked.reports]
        assert [1, 2, 3] == said_numbers(asked)
        state = on_the_way(draft_spec())
        assert asked.reports == news_of(state, asked).reports
        assert 3 == state.history.intervals(0)

    def test_reports_hold_a_value_for_each_metric(self) -> None:
        """A block whose bytes do not add up is refused when it is made."""
        with pytest.raises(MetricError, match="must hold 1 metrics each, but got 8 bytes of times"):
            Reports(id=ID, first=1, names=("acc",), times=bytes(8), values=bytes(16))

    def test_a_slot_that_was_given_up_is_told_so(self) -> None:
        """Whatever it has to say."""
        state = on_the_way(draft_spec())
        state.apply(SlotLost(time=2.0, slot=0, incarnation=1, cause="silent"))
        assert Refusal.SUPERSEDED is state.novel(request(holds=(ID,)), 3.0)

    def test_attempts_that_nobody_knows_are_dropped(self) -> None:
        """Numbers of trials that are not there do no harm, with or without a checkpoint."""
        state = on_the_way(draft_spec())
        nobody = (AttemptId(99, 1), AttemptId(-1, 1), AttemptId(-99, 1))
        asked = request(
            holds=(ID, *nobody),
            reports=tuple(reports(id_, [1.0]) for id_ in nobody),
            checkpoints=tuple(checkpoint(id_, 1) for id_ in nobody),
            ends=tuple(end(id_, 1) for id_ in nobody),
        )
        assert not news_of(state, asked).has_news
        assert list(nobody) == state.owed(asked)[2]


class TestRule2:
    """A lost reply is harmless: orders repeat, a repeated sequence gets nothing extra."""

    def test_an_assignment_is_repeated_until_it_is_listed(self) -> None:
        """Every answer owes it, and the first request that holds it ends that."""
        state = SweepState(draft_spec())
        state.apply(proposed(1))
        for sequence in (1, 2):
            asked = request(sequence=sequence)
            news_of(state, asked)
            assert [ID] == [one.id for one in state.owed(asked)[0]]
        asked = request(sequence=3, holds=(ID,))
        news_of(state, asked)
        assert ([], [], []) == state.owed(asked)

    def test_a_repeated_assignment_is_one(self) -> None:
        """A slot that holds the attempt is not told again."""
        one = book(ID)
        asked = one.request()
        assert [] == one.digest(asked, reply_to(asked, assigns=(assign(),)))

    def test_a_stop_is_repeated_until_the_end(self) -> None:
        """It is owed for as long as the trial is stopping, and passed on once."""
        state = on_the_way(draft_spec(trial_timeout=5))
        state.apply(TrialsTimedOut(time=9.0, ids=(ID,)))
        one = book(ID)
        for news in (1, 0):
            asked = one.request()
            news_of(state, asked)
            _, owed, _ = state.owed(asked)
            assert [ID] == [order.id for order in owed]
            assert news == len(one.digest(asked, reply_to(asked, stops=tuple(owed))))

    def test_a_repeated_sequence_is_stale(self) -> None:
        """It gets no trials: it is not even read."""
        reception = Reception(epoch=1, lease=10)
        assert reception.admit(request(sequence=2), now=0) is None
        assert [Refusal.STALE] * 2 == [
            reception.admit(request(sequence=sequence), now=0) for sequence in (2, 1)
        ]

    def test_a_reply_that_comes_twice_is_harmless(self) -> None:
        """The second time nothing is new, nor is anything forgotten."""
        one = book(ID)
        one.report(ID, {"acc": 0.5}, at=1.0)
        one.checkpoint(checkpoint(ID, 1))
        asked = one.request()
        answer = reply_to(asked, acknowledged=(Acknowledged(id=ID, report=1),), stops=(stop(),))
        assert [stop()] == one.digest(asked, answer)
        one.checkpoint(checkpoint(ID, 2))
        assert [] == one.digest(asked, answer)
        assert (checkpoint(ID, 2),) == one.request().checkpoints

    def test_a_reply_that_comes_late_is_not_heeded(self) -> None:
        """It may assign what has been run to its end since."""
        one = SlotBook(slot=0, incarnation=1, places=1)
        late = one.request()
        soon = one.request()
        one.digest(soon, reply_to(soon, assigns=(assign(),)))
        one.end(end(ID, 0))
        last = one.request()
        one.digest(last, reply_to(last))
        assert [] == one.digest(late, reply_to(late, assigns=(assign(),)))
        assert () == one.holds

    def test_what_was_said_is_said_again_without_an_answer(self) -> None:
        """Reports, checkpoints and ends go with each request until one is answered."""
        one = book(ID)
        one.fresh(ID)
        one.report(ID, {"acc": 0.5}, at=1.0)
        one.checkpoint(checkpoint(ID, 1))
        one.end(end(ID, 1))
        first, second = one.request(), one.request()
        assert (first.fresh, first.reports, first.checkpoints, first.ends) == (
            second.fresh, second.reports, second.checkpoints, second.ends,
        )  # fmt: skip
        one.digest(second, reply_to(second, acknowledged=(Acknowledged(id=ID, report=1),)))
        assert (one.holds, one.waiting) == ((), False)


class TestQueue:
    """A slot holds more than it has places for; what waits there has not begun."""

    def queue(self, ahead: int = 2) -> SlotBook:
        """The book of a slot of one place that was given two attempts."""
        one = SlotBook(slot=0, incarnation=1, places=1)
        one.ahead = ahead
        asked = one.request()
        given = (assign(ID), assign(OTHER))
        assert [assign(ID)] == one.digest(asked, reply_to(asked, assigns=given))
        return one

    def test_what_has_no_place_waits_for_one(self) -> None:
        """It is listed as queued, and begins when the one before it ends."""
        one = self.queue()
        asked = one.request()
        assert ((ID, OTHER), (OTHER,)) == (asked.holds, asked.queued)
        assert ([], [assign(OTHER)]) == (one.next_to_begin(), one.next_up)
        one.end(end(ID, 0))
        assert [assign(OTHER)] == one.next_to_begin()
        asked = one.request()
        assert ((ID, OTHER), ()) == (asked.holds, asked.queued)

    def test_that_it_has_begun_is_said(self) -> None:
        """A controller that heard of it in the queue hears of it again."""
        one = self.queue()
        asked = one.request()
        one.digest(asked, reply_to(asked))
        assert not one.waiting
        one.end(end(ID, 0))
        one.next_to_begin()
        asked = one.request()
        one.digest(asked, reply_to(asked))
        assert ((OTHER,), False) == (one.holds, one.waiting)

    @pytest.mark.parametrize(("ahead", "urgent"), [(2, True), (1, False)])
    def test_an_end_is_urgent_once_half_of_the_queue_is_gone(
        self, ahead: int, *, urgent: bool
    ) -> None:
        """There is time to ask for more while something waits."""
        one = self.queue(ahead)
        one.end(end(ID, 0))
        assert one.urgent is urgent
        one.next_to_begin()
        assert one.urgent

    def test_what_is_given_back_is_said_until_it_is_heard(self) -> None:
        """It does not begin any more, and is forgotten once a reply comes."""
        one = self.queue()
        one.give_back()
        one.end(end(ID, 0))
        assert [] == one.next_to_begin()
        first, second = one.request(), one.request()
        assert (OTHER,) == first.returned == second.returned
        one.digest(second, reply_to(second))
        assert () == one.holds

    def test_what_is_taken_back_goes_unheard(self) -> None:
        """Nothing has to be ended for it."""
        one = self.queue()
        asked = one.request()
        assert [] == one.digest(asked, reply_to(asked, drops=(OTHER,)))
        assert (ID,) == one.holds

    def test_it_has_not_begun_for_the_sweep_either(self) -> None:
        """Its time does not run, and a cancel takes it back."""
        state = SweepState(draft_spec(max_total_trials=4, trial_timeout=5))
        state.apply(proposed(4))
        asked = request(ahead=1)
        news_of(state, asked)
        asked = request(sequence=2, ahead=1, holds=(ID, OTHER), queued=(OTHER,))
        news_of(state, asked)
        assert [TrialState.RUNNING, TrialState.ASSIGNED] == [t.state for t in state.trials[:2]]
        assert ([], [], []) == state.owed(asked)
        assert [TrialsTimedOut(time=99.0, ids=(ID,))] == state.due(99.0)
        state.apply(CancelAsked(time=99.0))
        assert TrialState.CANCELED is state.trials[1].state
        assert [OTHER] == state.owed(asked)[2]


class TestRule3:
    """Acknowledged means committed; the rest is kept, bounded."""

    @pytest.mark.parametrize("refused", [Refusal.PAUSED, Refusal.STALE, Refusal.EPOCH])
    def test_a_refusal_lets_nothing_go(self, refused: Refusal) -> None:
        """What a request said is kept, whatever else the refusal says."""
        one = book(ID)
        one.report(ID, {"acc": 0.5}, at=1.0)
        one.end(end(ID, 1))
        asked = one.request()
        acknowledged = (Acknowledged(id=ID, report=1),)
        one.digest(asked, reply_to(asked, refused=refused, acknowledged=acknowledged))
        again = one.request()
        assert ([1], (end(ID, 1),)) == (said_numbers(again), again.ends)

    def test_only_what_is_acknowledged_goes(self) -> None:
        """What came after the request stays, and so does a part of a block."""
        one = book(ID)
        for value in (0.1, 0.2, 0.3):
            one.report(ID, {"acc": value}, at=1.0)
        asked = one.request()
        one.report(ID, {"acc": 0.4}, at=2.0)
        one.digest(asked, reply_to(asked, acknowledged=(Acknowledged(id=ID, report=2),)))
        left = one.request()
        assert [3, 4] == said_numbers(left)
        assert [0.3, 0.4] == [v for block in left.reports for v in block.column("acc") or ()]

    def test_after_a_gap_the_slot_repeats_from_what_is_known(self) -> None:
        """The refusal acknowledges; ends and checkpoints stay."""
        one = book(ID)
        for value in (0.1, 0.2):
            one.report(ID, {"acc": value}, at=1.0)
        one.end(end(ID, 2))
        asked = one.request()
        acknowledged = (Acknowledged(id=ID, report=1),)
        one.digest(asked, reply_to(asked, refused=Refusal.GAP, acknowledged=acknowledged))
        assert ([2], (end(ID, 2),)) == (said_numbers(one.request()), one.request().ends)

    def test_at_the_bound_a_report_waits(self) -> None:
        """An attempt is full at so many reports without an acknowledgement, and not after it."""
        one = book(ID)
        for _ in range(KEEP):
            assert not one.full(ID)
            one.report(ID, {"acc": 0.5}, at=1.0)
        assert one.full(ID)
        asked = one.request()
        one.digest(asked, reply_to(asked, acknowledged=(Acknowledged(id=ID, report=1),)))
        assert not one.full(ID)

    def test_what_is_acknowledged_is_what_the_journal_holds(self) -> None:
        """The answer names the last report of each attempt that is the slot's."""
        state = on_the_way(draft_spec(), slots=2)
        asked = request(holds=(ID, OTHER), reports=(reports(ID, [1.0, 2.0]),))
        news_of(state, asked)
        assert (Acknowledged(id=ID, report=2),) == state.acknowledged(asked)


class TestRule4:
    """An end follows its last report; where a stop and an end cross, the first one counts."""

    def test_an_end_and_its_reports_come_together(self) -> None:
        """The reports of one request count before its end."""
        state = on_the_way(draft_spec())
        news_of(state, request(holds=(ID,), reports=(reports(ID, [1.0]),), ends=(end(ID, 1),)))
        assert (TrialState.COMPLETED, 1) == (state.trials[0].state, state.history.intervals(0))

    def test_an_end_before_its_last_report_has_no_effect(self) -> None:
        """Not even where no door refuses it."""
        state = on_the_way(draft_spec())
        state.apply(said(2.0, ends=(end(ID, 1),)))
        assert TrialState.RUNNING is state.trials[0].state

    def test_a_natural_end_after_a_stop_is_completed(self) -> None:
        """The decision is kept as moot, in the reason."""
        state = on_the_way(draft_spec(trial_timeout=5))
        state.apply(said(2.0, reports=(reports(ID, [1.0]),)))
        state.apply(TrialsTimedOut(time=9.0, ids=(ID,)))
        state.apply(said(10.0, ends=(end(ID, 1, Ending.RETURNED),)))
        assert TrialState.COMPLETED is state.trials[0].state
        reason = "ran to its end; a stop came too late (trial_timeout of 5 s reached)"
        assert reason == state.trials[0].reason

    def test_a_stop_after_an_end_has_no_effect(self) -> None:
        """The trial had ended by itself."""
        state = on_the_way(draft_spec(trial_timeout=5))
        state.apply(said(2.0, reports=(reports(ID, [1.0]),), ends=(end(ID, 1),)))
        assert [] == stops(state.apply(TrialsTimedOut(time=9.0, ids=(ID,))))
        assert TrialState.COMPLETED is state.trials[0].state

    def test_the_second_end_has_no_effect(self) -> None:
        """An end that is sent again after its reply was lost is neither news nor a failure."""
        state = on_the_way(draft_spec())
        asked = request(holds=(ID,), reports=(reports(ID, [1.0]),), ends=(end(ID, 1),))
        news_of(state, asked)
        assert not news_of(state, asked).has_news
        state.apply(said(3.0, ends=(end(ID, 1, Ending.RAISED, error="E"),)))
        assert TrialState.COMPLETED is state.trials[0].state

    def test_a_stop_and_a_cancel_cross(self) -> None:
        """The stop that came first is the reason; a cancel adds none to what is stopping."""
        state = on_the_way(draft_spec(trial_timeout=5))
        state.apply(TrialsTimedOut(time=9.0, ids=(ID,)))
        assert [] == stops(state.apply(CancelAsked(time=10.0)))
        state.apply(said(11.0, ends=(end(ID, 0, Ending.OBEYED),)))
        assert TrialState.TIMED_OUT is state.trials[0].state


class TestRule5:
    """A checkpoint names its report; only journaled ones are restored."""

    def test_the_next_attempt_starts_from_the_last_one_that_is_known(self) -> None:
        """One that the slot never announced is not restored."""
        state = on_the_way(draft_spec())
        state.apply(
            said(2.0, reports=(reports(ID, [1.0, 2.0, 3.0]),), checkpoints=(checkpoint(ID, 2),))
        )
        state.apply(SlotLost(time=3.0, slot=0, incarnation=1, cause="killed"))
        (order,) = state.apply(said(4.0, incarnation=2))
        assert isinstance(order, Assign)
        assert (checkpoint(ID, 2), 2) == (order.checkpoint, order.start)

    def test_one_without_its_report_is_not_kept(self) -> None:
        """Not even where no door refuses it."""
        state = on_the_way(draft_spec())
        state.apply(said(2.0, checkpoints=(checkpoint(ID, 1),)))
        assert state.trials[0].restored is None

    def test_an_end_comes_after_its_checkpoint(self) -> None:
        """In one request the checkpoint is taken first."""
        state = on_the_way(draft_spec())
        asked = request(
            holds=(ID,),
            reports=(reports(ID, [1.0]),),
            checkpoints=(checkpoint(ID, 1),),
            ends=(end(ID, 1),),
        )
        news_of(state, asked)
        assert checkpoint(ID, 1) == state.trials[0].restored

    def test_an_earlier_one_that_comes_later_is_not_taken(self) -> None:
        """The latest stays the latest."""
        state = on_the_way(draft_spec())
        state.apply(said(2.0, reports=(reports(ID, [1.0, 2.0]),), checkpoints=(checkpoint(ID, 2),)))
        late = request(sequence=2, holds=(ID,), checkpoints=(checkpoint(ID, 1),))
        assert () == news_of(state, late).checkpoints
        assert checkpoint(ID, 2) == state.trials[0].restored


class TestRule6:
    """A proposal is journaled before it is assigned; a cancel can take an assignment back."""

    def test_only_what_was_proposed_is_assigned(self) -> None:
        """A slot that asks before there is a proposal gets nothing."""
        state = SweepState(draft_spec())
        assert [] == state.apply(said(1.0))
        state.apply(proposed(1, time=2.0))
        assert [ID] == assigns(state.apply(said(3.0)))

    def test_a_cancel_takes_an_assignment_back(self) -> None:
        """The trial has not begun, so it is canceled at once; a slot that has it drops it."""
        state = SweepState(draft_spec())
        state.apply(proposed(1))
        state.apply(said(1.0))
        assert [] == stops(state.apply(CancelAsked(time=2.0)))
        assert TrialState.CANCELED is state.trials[0].state
        asked = request(holds=(ID,))
        assert not news_of(state, asked).has_news
        assert ([], [], [ID]) == state.owed(asked)

    def test_a_dropped_attempt_ends_unheard(self) -> None:
        """The slot is told with an empty reason and forgets it, once."""
        one = book(ID)
        one.report(ID, {"acc": 0.5}, at=1.0)
        asked = one.request()
        (told,) = one.digest(asked, reply_to(asked, drops=(ID,)))
        assert isinstance(told, Stop)
        assert (ID, "") == (told.id, told.reason)
        assert ((), ()) == (one.holds, one.request().reports)
        assert [] == one.digest(asked, reply_to(asked, drops=(ID,)))


class TestRule7:
    """A new incarnation: its predecessor's attempts are lost; stale attempts are refused."""

    def test_a_new_incarnation_loses_what_its_predecessor_held(self) -> None:
        """The trial gets another attempt, at once if there is a place."""
        state = on_the_way(draft_spec())
        assert [AttemptId(0, 2)] == assigns(state.apply(said(2.0, incarnation=2)))
        assert 1 == state.trials[0].losses

    def test_the_predecessor_is_refused(self) -> None:
        """Neither the door nor the state takes what it says."""
        state = on_the_way(draft_spec())
        state.apply(said(2.0, incarnation=2))
        asked = request(holds=(ID,), reports=(reports(ID, [1.0]),))
        assert Refusal.SUPERSEDED is state.novel(asked, 3.0)
        state.apply(said(3.0, reports=(reports(ID, [1.0]),)))
        assert (0, 2) == (state.reports, state.slots[0].incarnation)

    def test_the_predecessor_is_lost_once(self) -> None:
        """News of its death that comes late harms its successor not."""
        state = on_the_way(draft_spec())
        state.apply(said(2.0, incarnation=2))
        state.apply(SlotLost(time=3.0, slot=0, incarnation=1, cause="killed"))
        assert (2, False) == (state.slots[0].incarnation, state.slots[0].lost)

    def test_a_slot_that_was_lost_can_be_given_nothing(self) -> None:
        """Whoever asks for it."""
        state = on_the_way(draft_spec())
        state.apply(SlotLost(time=2.0, slot=0, incarnation=1, cause="killed"))
        assert not state.can_assign(0)

    def test_the_predecessor_is_owed_nothing(self) -> None:
        """A request that was held back while its slot was replaced gets none of its orders."""
        state = SweepState(draft_spec())
        state.apply(said(1.0))
        state.apply(proposed(1, time=2.0))
        state.apply(said(3.0, incarnation=2))
        assert ([], [], [ID]) == state.owed(request(holds=(ID,)))
        assert [ID] == [one.id for one in state.owed(request(incarnation=2))[0]]

    def test_a_stale_attempt_is_refused(self) -> None:
        """What an older attempt of the same slot says has no effect, and it is dropped."""
        state = on_the_way(draft_spec(max_attempts=2))
        state.apply(said(2.0, ends=(end(ID, 0, Ending.RAISED, error="E"),)))
        asked = request(holds=(ID,), reports=(reports(ID, [1.0]),))
        assert not news_of(state, asked).has_news
        assert [ID] == state.owed(asked)[2]
        assert 0 == state.reports

    def test_another_slots_attempt_is_refused(self) -> None:
        """An attempt is one slot's to speak of."""
        state = on_the_way(draft_spec(), slots=2)
        assert (
            ()
            == news_of(state, request(slot=1, holds=(ID,), reports=(reports(ID, [1.0]),))).reports
        )

    def test_a_slot_that_was_lost_does_not_come_back(self) -> None:
        """The same actor is not taken again, even if nobody had heard of it before."""
        state = SweepState(draft_spec())
        state.apply(proposed(1))
        state.apply(SlotLost(time=1.0, slot=0, incarnation=1, cause="died before it spoke"))
        assert Refusal.SUPERSEDED is state.novel(request(), 2.0)
        assert [] == state.apply(said(2.0))
        assert [ID] == assigns(state.apply(said(3.0, incarnation=2)))

    def test_on_a_new_cluster_all_slots_are_lost(self) -> None:
        """What ran there gets another attempt; a controller that was only restarted keeps them."""
        state = on_the_way(draft_spec(), slots=2)
        state.apply(Opened(time=2.0, epoch=1, slots_kept=True))
        assert {0, 1} == state.roster.live
        state.apply(Opened(time=3.0, epoch=2, slots_kept=False))
        assert set() == state.roster.live
        assert [0, 1, 2] == [*state.roster.waiting]


class TestReception:
    """The door: leases."""

    def test_who_is_silent_beyond_lease_and_margin_is_named(self) -> None:
        """The lease counts from the last request, or from when the slot was expected."""
        reception = Reception(epoch=1, lease=10)
        reception.expect(0, 1, now=0)
        reception.expect(1, 1, now=0)
        reception.admit(request(slot=0), now=5)
        assert [] == reception.silent(now=12, margin=2)
        assert [(1, 1)] == reception.silent(now=12.5, margin=2)
        assert [(0, 1), (1, 1)] == reception.silent(now=17.5, margin=2)

    def test_who_is_gone_is_forgotten(self) -> None:
        """Nobody waits for a slot that is known to be gone."""
        reception = Reception(epoch=1, lease=10)
        reception.expect(0, 1, now=0)
        reception.forget(0, 1)
        reception.forget(5, 1)
        assert [] == reception.silent(now=100, margin=0)


class TestSlotBook:
    """The slot's end."""

    def test_it_says_when_a_place_is_free(self) -> None:
        """An end is urgent; a report can wait for its tick."""
        one = book(ID)
        one.report(ID, {"acc": 0.5}, at=1.0)
        assert (True, False) == (one.waiting, one.urgent)
        one.end(end(ID, 1))
        assert (True, True) == (one.waiting, one.urgent)

    def test_a_fresh_start_is_said_once(self) -> None:
        """And only when it is known is it not said again."""
        one = book(ID)
        one.fresh(ID)
        asked = one.request()
        one.digest(asked, reply_to(asked))
        assert ((ID,), ()) == (asked.fresh, one.request().fresh)

    def test_values_come_through_bit_by_bit(self) -> None:
        """NaN, infinities and the smallest number included."""
        values = [math.nan, math.inf, -math.inf, 5e-324, -0.0, 0.1]
        one = book(ID)
        for value in values:
            one.report(ID, {"acc": value}, at=1.0)
        (block,) = one.request().reports
        assert repr(values) == repr(block.column("acc"))
        assert block.column("loss") is None

    def test_several_attempts_are_told_apart(self) -> None:
        """Each has its own numbers."""
        one = book(ID, OTHER)
        numbers = [one.report(id_, {"acc": 0.5}, at=1.0) for id_ in (ID, OTHER, OTHER)]
        assert [1, 1, 2] == numbers
        assert (1, 2) == (one.last_report(ID), one.last_report(OTHER))
