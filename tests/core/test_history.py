from __future__ import annotations

import copy
import math
import statistics
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.core.history import Best, Goal, History, Leader, Track
from raysweep.errors import InvalidTransitionError

NAN, INF = math.nan, math.inf
ALL = Track.LEADERS | Track.MEANS | Track.VALUES

Curves = dict[int, list[float]]
Step = tuple[str, int, float, int]  # what, trial, the value it adds, the interval it restarts at


def history_of(
    curves: Curves,
    *,
    goal: Goal = Goal.MAXIMIZE,
    tracks: Track = ALL,
    finished: tuple[int, ...] = (),
) -> History:
    """A history that was told these curves, trial by trial."""
    history = History(goal, tracks)
    for trial, curve in curves.items():
        for value in curve:
            history.add(trial, value)
    for trial in finished:
        history.finish(trial)
    return history


class TestGoal:
    """Which of two values is better."""

    def test_more_is_better_to_maximize(self) -> None:
        """Maximizing, the greater value is better."""
        assert [Goal.MAXIMIZE.better(2, 1), Goal.MAXIMIZE.better(1, 2)] == [True, False]

    def test_less_is_better_to_minimize(self) -> None:
        """Minimizing, the smaller value is better."""
        assert [Goal.MINIMIZE.better(1, 2), Goal.MINIMIZE.better(2, 1)] == [True, False]

    @pytest.mark.parametrize("goal", Goal)
    def test_equal_is_not_better(self, goal: Goal) -> None:
        """A value is never better than itself."""
        assert not goal.better(1.5, 1.5)

    @pytest.mark.parametrize("goal", Goal)
    def test_nan_is_neither_better_nor_worse(self, goal: Goal) -> None:
        """NaN compares with nothing."""
        assert not goal.better(NAN, 1)
        assert not goal.better(1, NAN)

    def test_is_its_word(self) -> None:
        """A goal is written as the design writes it."""
        assert [str(goal) for goal in Goal] == ["maximize", "minimize"]


class TestCurves:
    """What a trial's curve holds."""

    def test_intervals_count_from_one(self) -> None:
        """The first value is interval 1."""
        history = History(Goal.MAXIMIZE, ALL)
        assert [history.add(0, 0.1), history.add(0, 0.2), history.add(7, 0.3)] == [1, 2, 1]

    def test_a_trial_without_values_has_no_intervals(self) -> None:
        """An unknown trial has zero intervals and no best."""
        history = History(Goal.MAXIMIZE, ALL)
        assert history.intervals(3) == 0
        assert history.best(3) is None

    def test_a_value_that_is_not_finite_is_an_interval(self) -> None:
        """NaN takes a place in the curve."""
        history = history_of({0: [0.1, NAN, 0.3]})
        assert history.intervals(0) == 3
        assert math.isnan(history.value(0, 2))

    def test_best_is_up_to_an_interval(self) -> None:
        """The best so far grows with the interval and forgets nothing."""
        history = history_of({0: [0.2, 0.5, 0.4]})
        assert [history.best(0, k) for k in (1, 2, 3)] == [0.2, 0.5, 0.5]
        assert history.best(0) == 0.5

    def test_the_interval_of_the_best_is_where_it_came_first(self) -> None:
        """Up to an interval; 0 while there is none."""
        history = history_of({0: [NAN, 1, 3, 2, 3, 4]})
        found = [history.best_interval(0, upto) for upto in range(8)]
        assert found == [0, 0, 2, 3, 3, 3, 6, 6]
        assert history.best_interval(1, 1) == 0

    @pytest.mark.parametrize("goal", Goal)
    def test_infinity_is_never_best(self, goal: Goal) -> None:
        """Only finite values can be a best."""
        assert history_of({0: [INF, 3.0, -INF, NAN]}, goal=goal).best(0) == 3.0

    def test_no_finite_value_is_no_best(self) -> None:
        """A trial that only ever reported NaN has no best and no mean."""
        history = history_of({0: [NAN, INF]})
        assert history.best(0) is None
        assert history.mean(0, 2) is None

    def test_a_finished_trial_takes_no_more_values(self) -> None:
        """A report of a finished trial is refused by name."""
        history = history_of({4: [0.1]}, finished=(4,))
        with pytest.raises(InvalidTransitionError, match="trial 4 is finished after interval 1"):
            history.add(4, 0.2)

    def test_a_finished_trial_does_not_restart(self) -> None:
        """An attempt of a finished trial is refused by name."""
        history = history_of({4: [0.1]}, finished=(4,))
        with pytest.raises(InvalidTransitionError, match="it cannot start again"):
            history.restart(4, 0)


class TestMeans:
    """Running means and their median."""

    def test_the_mean_leaves_out_what_is_not_finite(self) -> None:
        """The mean runs over the finite values up to the interval."""
        history = history_of({0: [1.0, NAN, 2.0, INF]})
        assert [history.mean(0, k) for k in (1, 2, 3, 4)] == [1.0, 1.0, 1.5, 1.5]

    @pytest.mark.parametrize("value", [0.1, 0.7, 1e308, -1e308, 5e-324, 1 / 49])
    def test_the_mean_of_equal_values_is_that_value(self, value: float) -> None:
        """No rounding makes a constant curve worse than itself."""
        history = history_of({0: [value] * 50})
        assert [value] * 50 == [history.mean(0, k) for k in range(1, 51)]

    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
    def test_the_mean_is_exact(self, values: list[float]) -> None:
        """The running mean is the true mean, rounded once."""
        assert statistics.mean(values) == history_of({0: values}).mean(0, len(values))

    def test_the_median_of_an_odd_count_is_the_middle_one(self) -> None:
        """Of three means the median is the second."""
        history = history_of({0: [3.0], 1: [1.0], 2: [2.0]})
        assert (history.median_of_means(1), history.mean_count(1)) == (2.0, 3)

    def test_the_median_of_an_even_count_is_the_mean_of_the_middle_two(self) -> None:
        """Of four means the median lies between the second and the third."""
        assert history_of({0: [4.0], 1: [1.0], 2: [2.0], 3: [3.0]}).median_of_means(1) == 2.5

    def test_the_median_of_large_means_does_not_overflow(self) -> None:
        """The middle two may both be near the largest float."""
        assert (
            history_of({0: [2.0**1023], 1: [1.5 * 2.0**1023]}).median_of_means(1)
            == 1.25 * 2.0**1023
        )

    def test_a_trial_that_ended_earlier_is_absent(self) -> None:
        """The median at an interval knows only trials that reached it."""
        assert history_of({0: [0.0, 5.0], 1: [9.0]}).median_of_means(2) == 2.5

    def test_no_means_no_median(self) -> None:
        """Where no trial has a finite value there is no median."""
        history = history_of({0: [NAN], 1: [INF]})
        assert history.median_of_means(1) is None
        assert history.mean_count(1) == 0


class TestLeaders:
    """Who leads at an interval."""

    def test_the_leader_is_the_best_of_bests_so_far(self) -> None:
        """A leader may have reported its best at an earlier interval."""
        history = history_of({0: [0.9, 0.1], 1: [0.5, 0.6]})
        assert Leader(0.9, 0) == history.leader(2)

    def test_a_trial_that_ended_earlier_does_not_lead(self) -> None:
        """The leader is among those that reached the interval."""
        history = history_of({0: [0.9], 1: [0.5, 0.6]})
        assert Leader(0.6, 1) == history.leader(2)

    def test_ties_go_to_the_lower_trial(self) -> None:
        """Of equal bests the lower trial number leads, whoever came first."""
        history = history_of({5: [0.9], 2: [0.9], 3: [0.9]})
        assert Leader(0.9, 2) == history.leader(1)

    def test_nobody_leads_without_a_finite_value(self) -> None:
        """NaN leads nothing."""
        assert history_of({0: [NAN]}).leader(1) is None
        assert history_of({0: [NAN]}).leader(9) is None


class TestValues:
    """The order of the values at an interval."""

    def test_values_that_are_not_finite_have_reached_the_interval(self) -> None:
        """NaN and infinities count as trials that have a value."""
        assert history_of({0: [NAN], 1: [INF], 2: [0.5]}).reached(1) == 3

    def test_only_finite_values_are_better(self) -> None:
        """Infinity is not strictly better than a finite value."""
        assert history_of({0: [NAN], 1: [INF], 2: [0.5]}).strictly_better(0.4, 1) == 1

    @pytest.mark.parametrize(("goal", "expected"), [(Goal.MAXIMIZE, 1), (Goal.MINIMIZE, 2)])
    def test_equal_values_are_not_better(self, goal: Goal, expected: int) -> None:
        """Strictly better leaves ties out, under both goals."""
        history = history_of({0: [1.0], 1: [2.0], 2: [3.0], 3: [3.0], 4: [4.0]}, goal=goal)
        assert expected == history.strictly_better(3.0, 1)

    def test_finished_trials_stay_in_the_order(self) -> None:
        """By default the trial's state does not matter."""
        assert history_of({0: [1.0], 1: [2.0]}, finished=(1,)).reached(1) == 2

    def test_finished_trials_leave_the_order_of_unfinished_ones(self) -> None:
        """Tracking unfinished values, a trial's end takes its values out; a second end nothing."""
        history = history_of({0: [1.0], 1: [2.0]}, tracks=Track.UNFINISHED_VALUES)
        history.finish(1)
        history.finish(1)
        assert (history.reached(1), history.strictly_better(0.5, 1)) == (1, 1)

    def test_an_end_without_any_value_is_noted(self) -> None:
        """A trial that never reported can finish."""
        history = history_of({}, finished=(3,))
        with pytest.raises(InvalidTransitionError, match="trial 3 is finished after interval 0"):
            history.add(3, 0.1)


class TestBestTrial:
    """The best trial of the sweep."""

    def test_is_the_best_of_all_intervals(self) -> None:
        """The best trial holds the best value of the sweep, at whatever interval."""
        history = history_of({0: [0.9, 0.1], 1: [0.5, 0.6]})
        assert Best(trial=0, interval=1, value=0.9) == history.best_trial()

    def test_ties_go_to_the_lower_trial_then_to_the_earlier_interval(self) -> None:
        """Of equal values the lower trial wins, and there its first."""
        history = history_of({3: [0.9], 1: [0.2, 0.9, 0.9], 2: [0.9]})
        assert Best(trial=1, interval=2, value=0.9) == history.best_trial()

    def test_needs_a_finite_value(self) -> None:
        """Nothing but NaN and infinities has no best trial."""
        assert history_of({0: [NAN, INF]}).best_trial() is None

    def test_is_known_without_any_index(self) -> None:
        """A sweep without a policy has a best trial too."""
        history = history_of({0: [3.0], 1: [2.0]}, goal=Goal.MINIMIZE, tracks=Track.NONE)
        assert Best(trial=1, interval=1, value=2.0) == history.best_trial()


class TestRestart:
    """An attempt that starts at a checkpoint."""

    def test_takes_the_later_intervals_out_of_the_curve(self) -> None:
        """After a restart at interval 1 the next value is interval 2."""
        history = history_of({0: [0.1, 0.9, 0.2]})
        history.restart(0, 1)
        assert (history.intervals(0), history.best(0)) == (1, 0.1)
        assert history.add(0, 0.3) == 2

    def test_takes_the_later_intervals_out_of_every_index(self) -> None:
        """A restarted trial is as if it had never gone further."""
        history = history_of({0: [0.1, 0.9, 0.2], 1: [0.4, 0.4]})
        history.restart(0, 1)
        assert Leader(0.4, 1) == history.leader(2)
        assert history.leader(3) is None
        assert (history.median_of_means(2), history.median_of_means(3)) == (0.4, None)
        assert (history.reached(2), history.reached(3)) == (1, 0)
        assert Best(trial=1, interval=1, value=0.4) == history.best_trial()

    def test_a_new_leader_that_came_meanwhile_is_found(self) -> None:
        """A value that was added while the lead was open counts once the question is asked."""
        history = history_of({0: [0.9], 1: [0.4]})
        history.restart(0, 0)
        history.add(2, 0.5)
        assert Leader(0.5, 2) == history.leader(1)

    def test_the_earlier_of_equal_values_is_best_though_the_later_came_meanwhile(self) -> None:
        """A value that was added while the best was open does not hide an equal before it."""
        history = history_of({0: [0.9], 1: [0.4]})
        history.restart(0, 0)
        history.add(1, 0.4)
        assert Best(trial=1, interval=1, value=0.4) == history.best_trial()

    def test_beyond_the_last_interval_takes_nothing(self) -> None:
        """A checkpoint at the last interval costs no interval."""
        history = history_of({0: [0.1, 0.9]})
        history.restart(0, 2)
        assert history_of({0: [0.1, 0.9]}) == history

    def test_from_the_start_forgets_the_trial(self) -> None:
        """A trial that starts again without a checkpoint equals one that never reported."""
        history = history_of({0: [0.1], 1: [0.2]})
        history.restart(0, 0)
        assert history_of({1: [0.2]}) == history

    def test_the_mean_goes_on_from_the_checkpoint(self) -> None:
        """Values that a restart took out are in no later mean."""
        history = history_of({0: [1.0, 100.0]})
        history.restart(0, 1)
        history.add(0, 2.0)
        assert history.mean(0, 2) == 1.5


class TestEquality:
    """When two histories are the same."""

    def test_the_same_curves_are_equal(self) -> None:
        """The order in which trials reported makes no difference, nor does NaN."""
        assert history_of({0: [NAN], 1: [0.5]}) == history_of({1: [0.5], 0: [NAN]})

    @pytest.mark.parametrize(
        "other",
        [
            history_of({0: [0.1]}),
            history_of({0: [0.1, 0.3]}),
            history_of({1: [0.1, 0.2]}),
            history_of({0: [0.1, 0.2]}, finished=(0,)),
            history_of({0: [0.1, 0.2]}, goal=Goal.MINIMIZE),
            "a history",
        ],
    )
    def test_anything_else_is_not(self, other: object) -> None:
        """Another value, trial, end or goal makes two histories differ."""
        assert history_of({0: [0.1, 0.2]}) != other

    def test_a_copy_lives_apart(self) -> None:
        """What is told a deep copy does not reach the original."""
        history = history_of({0: [0.1]})
        other = copy.deepcopy(history)
        other.add(0, 0.2)
        assert (history.intervals(0), other.intervals(0)) == (1, 2)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add"] * 15 + ["restart"] * 2 + ["finish"]),
        st.integers(0, 4),
        st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 0.1, 0.7, 1.0, -1.0, 1e308, 5e-324]),
        st.integers(0, 4),
    ),
    min_size=20,  # else most histories are too short to have anything to restart
    max_size=50,
)


def played(steps: list[Step], goal: Goal, tracks: Track) -> tuple[History, Curves, list[int]]:
    """A history that lived through the steps, and what should be left of them."""
    history = History(goal, tracks)
    curves: Curves = {}
    finished: list[int] = []
    for what, trial, value, checkpoint in steps:
        if trial in finished:
            continue
        curve = curves.setdefault(trial, [])
        if what == "add":
            curve.append(value)
            assert len(curve) == history.add(trial, value)
        elif what == "restart":
            del curve[checkpoint:]
            history.restart(trial, checkpoint)
        else:
            finished.append(trial)
            history.finish(trial)
        if trial == 0:
            answers(history)  # asking now and then must not spoil what follows
    return history, curves, finished


@given(
    before=STEPS,
    values=st.lists(st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 0.7, 1.0, 1e308]), max_size=8),
    trial=st.integers(0, 4),
    goal=st.sampled_from(Goal),
    tracks=st.sampled_from([Track.NONE, ALL]),
)
def test_values_that_are_added_at_once_are_as_if_one_after_another(
    *, before: list[Step], values: list[float], trial: int, goal: Goal, tracks: Track
) -> None:
    """All that a history keeps is the same, bit by bit."""
    history, _, finished = played(before, goal, ALL)
    kept = [history.kept()[0], finished, [history.kept()[2][0]]]  # the curves and the best trial
    one, all_at_once = (
        History.restored(goal, Track.NONE, kept) if tracks is Track.NONE else copy.deepcopy(history)
        for _ in range(2)
    )
    for added in (trial, 9):
        if added not in finished:
            for value in values:
                one.add(added, value)
            all_at_once.add_all(added, values)
    assert one.kept() == all_at_once.kept()
    assert one.best_trial() == all_at_once.best_trial()


def answers(history: History) -> list[object]:
    """What a history answers to every question."""
    found: list[object] = [history.best_trial()]
    for k in range(1, 12):
        found += [history.leader(k), history.median_of_means(k), history.mean_count(k)]
        found += [history.reached(k), *(history.strictly_better(x, k) for x in (-1, 0, 0.7))]
    for trial in range(5):
        for k in range(1, history.intervals(trial) + 1):
            found += [history.best(trial, k), history.mean(trial, k)]
    return found


@settings(max_examples=60)
@given(STEPS, st.sampled_from(Goal), st.sampled_from([ALL, ALL | Track.UNFINISHED_VALUES]))
def test_what_grew_step_by_step_equals_what_is_built_at_once(
    steps: list[Step], goal: Goal, tracks: Track
) -> None:
    """Whatever was reported, restarted and finished, only what is left of the curves counts."""
    grown, curves, finished = played(steps, goal, tracks)
    built = history_of(curves, goal=goal, tracks=tracks, finished=tuple(finished))
    assert built == grown
    assert answers(built) == answers(grown)


@pytest.mark.parametrize(
    ("tracks", "bytes_a_value"),
    [(Track.NONE, 32), (Track.LEADERS, 32), (Track.MEANS, 64), (Track.VALUES, 64)],
)
def test_a_value_takes_little_memory(tracks: Track, bytes_a_value: int) -> None:
    """A value takes at most 32 bytes in all, 64 where an order is kept."""
    trials, intervals = 250, 250
    tracemalloc.start()
    try:
        history = History(Goal.MAXIMIZE, tracks)
        for interval in range(intervals):
            for trial in range(trials):
                history.add(trial, 1 / (1 + trial + interval))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= bytes_a_value * trials * intervals
