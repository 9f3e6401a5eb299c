"""What every policy promises, Azure's worked examples, and the design's rules to the letter."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from types import FrameType
from typing import Any, NamedTuple

import pytest
import transcription
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.core.events import GO_ON, Decision
from raysweep.core.history import Best, Goal, History
from raysweep.core.policies import (
    POLICIES,
    Bandit,
    MedianStopping,
    NoPolicy,
    Policy,
    TruncationSelection,
)
from raysweep.errors import SpecError

NAN, INF = math.nan, math.inf
MAX, MIN = Goal.MAXIMIZE, Goal.MINIMIZE

EXAMPLES: list[Policy] = [
    NoPolicy(),
    Bandit(slack_factor=0.2),
    Bandit(slack_amount=0.1),
    MedianStopping(),
    TruncationSelection(truncation_percentage=50),
    TruncationSelection(truncation_percentage=50, exclude_finished_jobs=True),
]
STOPPING = EXAMPLES[1:]

VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 0.8, 1.0, -0.1, -0.5, -1.0]),
    st.sampled_from([NAN, INF, -INF, 1e308, -1e308, 5e-324, 0.1 + 0.2, 1e16]),
    st.floats(-2, 2),
)
every_policy = pytest.mark.parametrize("policy", EXAMPLES, ids=str)
every_stopping_policy = pytest.mark.parametrize("policy", STOPPING, ids=str)
every_goal = pytest.mark.parametrize("goal", Goal)


def told(
    policy: Policy, goal: Goal, curves: dict[int, list[float]], finished: tuple[int, ...] = ()
) -> History:
    """A history with these curves and what the policy tracks."""
    history = History(goal, policy.tracks)
    for trial, curve in curves.items():
        for value in curve:
            history.add(trial, value)
    for trial in finished:
        history.finish(trial)
    return history


def judged(policy: Policy, goal: Goal, others: list[list[float]], own: list[float]) -> Decision:
    """The decision on the last value of a trial that comes after these others."""
    curves = dict(enumerate([*others, own]))
    return policy.decide(told(policy, goal, curves), len(others), len(own))


class TestEveryPolicy:
    """The contract."""

    @every_policy
    def test_is_registered_under_its_kind(self, policy: Policy) -> None:
        """A spec finds a policy by its kind."""
        assert type(policy) is POLICIES[policy.kind]

    def test_is_named_as_azure_names_it(self) -> None:
        """The kinds are Azure's words."""
        expected = {"none", "bandit", "median_stopping", "truncation_selection"}
        assert expected == POLICIES.keys()

    @every_policy
    def test_is_frozen(self, policy: Policy) -> None:
        """A policy that judges cannot be changed."""
        name = next((f.name for f in fields_of(policy)), "kind")
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(policy, name, 1)

    @every_policy
    def test_equals_what_its_fields_rebuild(self, policy: Policy) -> None:
        """Kind and fields are all there is to a policy."""
        fields = {f.name: getattr(policy, f.name) for f in fields_of(policy)}
        rebuild: Any = POLICIES[policy.kind]
        assert policy == rebuild(**fields)

    @every_policy
    @every_goal
    def test_deciding_changes_nothing(self, policy: Policy, goal: Goal) -> None:
        """Asked twice it answers twice the same, and the history is as before."""
        curves = {0: [3.0, NAN], 1: [1.0, 1.0], 2: [2.0, 2.0]}
        history = told(policy, goal, curves)
        first, second = (policy.decide(history, 2, 2) for _ in range(2))
        assert first == second
        assert told(policy, goal, curves) == history

    @every_policy
    @every_goal
    @settings(max_examples=40)
    @given(curve=st.lists(st.floats(), min_size=1, max_size=6))
    def test_never_stops_a_trial_that_is_alone(
        self, policy: Policy, goal: Goal, curve: list[float]
    ) -> None:
        """Nothing is worse than itself, whatever it reports."""
        assert judged(policy, goal, [], curve) == GO_ON

    @every_policy
    @every_goal
    @settings(max_examples=40)
    @given(
        value=st.floats(allow_nan=False, allow_infinity=False),
        length=st.integers(1, 12),
        others=st.integers(1, 5),
    )
    def test_never_stops_trials_that_are_all_alike(
        self, policy: Policy, goal: Goal, value: float, length: int, others: int
    ) -> None:
        """Equal is not worse, and rounding does not make it so."""
        curve = [value] * length
        assert judged(policy, goal, [curve] * others, curve) == GO_ON

    @every_policy
    @settings(max_examples=40)
    @given(data=st.data())
    def test_treats_both_goals_alike(self, policy: Policy, data: st.DataObject) -> None:
        """To maximize y is to minimize -y."""
        curves = st.lists(VALUES, min_size=2, max_size=2)
        *others, own = data.draw(st.lists(curves, min_size=2, max_size=6))
        mirrored = [[-y for y in curve] for curve in others]
        expected = judged(policy, MAX, others, own).stop
        assert expected == judged(policy, MIN, mirrored, [-y for y in own]).stop

    @every_stopping_policy
    @every_goal
    def test_stops_the_hopeless_and_gives_its_reason(self, policy: Policy, goal: Goal) -> None:
        """A stop names the policy and the interval."""
        decision = judged(policy, goal, [[1.0]] * 3, [-9.0 if goal is MAX else 9.0])
        assert decision.stop
        assert re.fullmatch(rf"{policy.kind}: .*\d.* at interval 1\b.*", decision.reason)

    @every_stopping_policy
    @every_goal
    def test_stops_a_trial_without_any_finite_value(self, policy: Policy, goal: Goal) -> None:
        """A trial with no finite value yet is worst."""
        assert judged(policy, goal, [[1.0]] * 3, [NAN]).stop

    @every_policy
    @every_goal
    def test_a_trial_that_ended_earlier_is_absent(self, policy: Policy, goal: Goal) -> None:
        """Who did not reach the interval is not compared with."""
        better = 9.0 if goal is MAX else -9.0
        assert judged(policy, goal, [[better]] * 3, [1.0, 1.0]) == GO_ON

    @every_stopping_policy
    @pytest.mark.parametrize(
        ("schedule", "expected"),
        [
            ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
            ({"evaluation_interval": 0}, [1, 2, 3, 4, 5, 6, 7, 8]),
            ({"evaluation_interval": 1, "delay_evaluation": 5}, [5, 6, 7, 8]),
            ({"evaluation_interval": 2, "delay_evaluation": 5}, [6, 8]),
            ({"evaluation_interval": 3}, [3, 6]),
            ({"evaluation_interval": 4, "delay_evaluation": 4}, [4, 8]),
        ],
    )
    def test_applies_on_schedule(
        self, policy: Policy, schedule: dict[str, int], expected: list[int]
    ) -> None:
        """Azure: every multiple of evaluation_interval from delay_evaluation on."""
        scheduled: Policy = dataclasses.replace(policy, **schedule)  # type: ignore[type-var]  # every policy is a dataclass
        stops = [k for k in range(1, 9) if judged(scheduled, MAX, [[1.0] * k] * 3, [-9.0] * k).stop]
        assert expected == stops

    @every_policy
    def test_costs_the_same_among_many_trials(self, policy: Policy) -> None:
        """The lines that run for a report and its decision do not grow with the trials."""
        assert lines_run(policy, trials=1000) <= 1.2 * lines_run(policy, trials=50)


def fields_of(policy: Policy) -> tuple[dataclasses.Field[Any], ...]:
    """The parameters of a policy."""
    return dataclasses.fields(policy)  # type: ignore[arg-type]  # every policy is a dataclass


def lines_run(policy: Policy, *, trials: int) -> int:
    """How many lines of Python one more report, its decision and the best trial take."""
    history = told(policy, MAX, {t: [float(t % 17)] for t in range(trials)} | {trials: [99.0]})
    history.restart(trials, 0)  # the leader is gone: its successor is looked for, but only once
    policy.decide(history, 0, 1)
    history.best_trial()
    lines = 0

    def count(_frame: FrameType, event: str, _arg: object) -> Any:  # noqa: ANN401  (as settrace has it)
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        policy.decide(history, trials, history.add(trials, 3.5))
        history.best_trial()
    finally:
        sys.settrace(before)
    return lines


class TestAzuresExamples:
    """What Azure's documentation works out by example."""

    def test_bandit_with_a_factor(self) -> None:
        """Maximize, best 0.8 at interval 10, slack_factor 0.2: stop below 0.8 / 1.2."""
        policy = Bandit(slack_factor=0.2, evaluation_interval=1, delay_evaluation=5)
        best = [0.1] * 9 + [0.8]
        assert judged(policy, MAX, [best], [0.66] * 10).stop
        assert not judged(policy, MAX, [best], [0.67] * 10).stop
        assert not judged(policy, MAX, [best], [0.8 / 1.2] * 10).stop

    def test_bandit_compares_bests_so_far(self) -> None:
        """A trial that was good once is judged by that."""
        policy = Bandit(slack_factor=0.1, evaluation_interval=1, delay_evaluation=5)
        assert not judged(policy, MAX, [[0.8] * 5], [0.8, 0.1, 0.1, 0.1, 0.1]).stop

    def test_median_stopping(self) -> None:
        """At interval 5: stop when the best is worse than the median of the running averages."""
        policy = MedianStopping(evaluation_interval=1, delay_evaluation=5)
        others = [[0.5] * 5, [0.2, 0.4, 0.6, 0.8, 1.0], [0.9] * 5]  # means 0.5, 0.6, 0.9
        assert judged(policy, MAX, others, [0.1, 0.2, 0.3, 0.4, 0.5]).stop  # below (0.5 + 0.6) / 2
        assert not judged(policy, MAX, others, [0.1, 0.1, 0.1, 0.1, 0.9]).stop

    def test_truncation_selection(self) -> None:
        """At interval 5, 20 percent of 10 trials: the worst 2 are stopped."""
        policy = TruncationSelection(
            truncation_percentage=20, evaluation_interval=1, delay_evaluation=5
        )
        values = [t / 10 for t in range(10)]
        stopped = [
            own
            for own in values
            if judged(
                policy, MAX, [[0.0] * 4 + [v] for v in values if v != own], [0.9] * 4 + [own]
            ).stop
        ]
        assert stopped == [0.0, 0.1]

    def test_truncation_selection_without_finished_jobs(self) -> None:
        """exclude_finished_jobs leaves finished trials out of the comparison."""
        policy = TruncationSelection(
            truncation_percentage=20, delay_evaluation=5, exclude_finished_jobs=True
        )
        curves = {t: [0.5] * 5 for t in range(9)} | {9: [0.1] * 5}
        assert policy.decide(told(policy, MAX, curves), 9, 5).stop
        four_left = told(policy, MAX, curves, finished=(0, 1, 2, 3, 4, 5))
        assert policy.decide(four_left, 9, 5) == GO_ON


class TestBandit:
    """Where Azure is silent."""

    @pytest.mark.parametrize(
        ("goal", "best", "limit"),
        [
            (MAX, 0.8, 0.8 / 1.25),
            (MAX, -0.8, -0.8 * 1.25),
            (MAX, 0.0, 0.0),
            (MIN, 0.8, 0.8 * 1.25),
            (MIN, -0.8, -0.8 / 1.25),
            (MIN, 0.0, 0.0),
        ],
    )
    def test_the_factor_widens_away_from_the_best(
        self, goal: Goal, best: float, limit: float
    ) -> None:
        """On the limit a trial goes on; just beyond it the trial stops."""
        policy = Bandit(slack_factor=0.25)
        beyond = math.nextafter(limit, -INF if goal is MAX else INF)
        assert judged(policy, goal, [[best]], [limit]) == GO_ON
        assert judged(policy, goal, [[best]], [beyond]).stop

    @every_goal
    @settings(max_examples=40)
    @given(
        policy=st.builds(Bandit, slack_factor=st.floats(0, 1e9))
        | st.builds(Bandit, slack_amount=st.floats(0, 1e9)),
        curves=st.lists(st.lists(st.floats(), min_size=3, max_size=3), min_size=1, max_size=5),
    )
    def test_the_leader_never_stops(
        self, goal: Goal, policy: Bandit, curves: list[list[float]]
    ) -> None:
        """Whatever the values and the slack, the best trial is within it."""
        history = told(policy, goal, dict(enumerate(curves)))
        leader = history.leader(3)
        assert leader is None or policy.decide(history, leader.trial, 3) == GO_ON


class TestTruncation:
    """How the worst are counted."""

    def test_rounds_the_number_of_the_worst_down(self) -> None:
        """Of 4 trials 20 percent is nobody; of 5 it is one."""
        policy = TruncationSelection(truncation_percentage=20)
        assert not judged(policy, MAX, [[1.0]] * 3, [0.0]).stop
        assert judged(policy, MAX, [[1.0]] * 4, [0.0]).stop

    def test_nan_does_not_stop_while_nobody_is_truncated(self) -> None:
        """With m of 0 even a value that is not finite goes on."""
        assert not judged(TruncationSelection(truncation_percentage=20), MAX, [[1.0]], [NAN]).stop

    def test_looks_at_the_value_of_the_interval_only(self) -> None:
        """An earlier best does not save a trial."""
        policy = TruncationSelection(truncation_percentage=50)
        assert judged(policy, MAX, [[0.5, 0.5]], [0.9, 0.1]).stop

    def test_trials_that_are_not_finite_count_but_are_not_better(self) -> None:
        """NaN and infinities are among n, and beat nobody."""
        policy = TruncationSelection(truncation_percentage=50)
        assert not judged(policy, MAX, [[NAN], [INF], [1.0]], [0.0]).stop
        assert judged(policy, MAX, [[NAN], [1.0], [1.0]], [0.0]).stop


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Bandit, "bandit needs slack_factor or slack_amount, but got neither"),
        (lambda: Bandit(slack_factor=0.1, slack_amount=0.2), r"but got both \(0.1 and 0.2\)"),
        (lambda: Bandit(slack_factor=-0.1), "slack_factor must be at least 0, but got -0.1"),
        (lambda: Bandit(slack_amount=-1), "slack_amount must be at least 0, but got -1"),
        (lambda: Bandit(slack_amount=NAN), "slack_amount must be finite, but got nan"),
        (lambda: MedianStopping(evaluation_interval=-1), "evaluation_interval must be at least 0"),
        (lambda: MedianStopping(delay_evaluation=-1), "delay_evaluation must be at least 0"),
        (lambda: truncation(percentage=0), "truncation_percentage must be at least 1, but got 0"),
        (lambda: truncation(percentage=100), "truncation_percentage must be at most 99"),
        (lambda: truncation(percentage=2.5), "truncation_percentage must be a whole number"),
        (lambda: truncation(exclude="yes"), "exclude_finished_jobs must be true or false"),
    ],
)
def test_refuses_what_cannot_be_run(make: Any, message: str) -> None:  # noqa: ANN401  (lambdas)
    """A policy is checked when it is made, and names what is wrong."""
    with pytest.raises(SpecError, match=message):
        make()


def truncation(*, percentage: Any = 20, exclude: Any = False) -> TruncationSelection:  # noqa: ANN401  (wrong on purpose)
    """A truncation selection, however wrong."""
    return TruncationSelection(truncation_percentage=percentage, exclude_finished_jobs=exclude)


@pytest.mark.parametrize(
    ("policy", "goal", "others", "own", "reason"),
    [
        (
            Bandit(slack_factor=0.2, delay_evaluation=10),
            MAX,
            [*[[0.1] * 10] * 4, [0.8] * 10],
            [0.612] * 10,
            "bandit: best 0.612 < 0.667 = 0.8 / (1 + 0.2) at interval 10 (best: trial 4)",
        ),
        (
            Bandit(slack_amount=0.1),
            MAX,
            [[0.8]],
            [0.612],
            "bandit: best 0.612 < 0.7 = 0.8 - 0.1 at interval 1 (best: trial 0)",
        ),
        (
            Bandit(slack_amount=0.1),
            MIN,
            [[1234.5]],
            [2345.6],
            "bandit: best 2346 > 1235 = 1234 + 0.1 at interval 1 (best: trial 0)",
        ),
        (
            Bandit(slack_factor=0.2),
            MIN,
            [[0.8]],
            [1.0],
            "bandit: best 1 > 0.96 = 0.8 * (1 + 0.2) at interval 1 (best: trial 0)",
        ),
        (
            Bandit(slack_factor=0.2),
            MAX,
            [[-1.0]],
            [-1.5],
            "bandit: best -1.5 < -1.2 = -1 * (1 + 0.2) at interval 1 (best: trial 0)",
        ),
        (
            Bandit(slack_factor=0.25),
            MIN,
            [[-1.0]],
            [-0.5],
            "bandit: best -0.5 > -0.8 = -1 / (1 + 0.25) at interval 1 (best: trial 0)",
        ),
        (
            Bandit(slack_factor=0.2),
            MAX,
            [[0.0]],
            [-0.1],
            "bandit: best -0.1 < 0 = 0 / (1 + 0.2) at interval 1 (best: trial 0)",
        ),
        (
            Bandit(slack_amount=0),
            MAX,
            [[0.80001]],
            [0.8],
            "bandit: best 0.8 < 0.80001 = 0.80001 - 0 at interval 1 (best: trial 0)",
        ),
        (
            Bandit(slack_factor=0.2, evaluation_interval=3),
            MAX,
            [[0.1] * 3] * 4 + [[0.8] * 3],
            [NAN, INF, NAN],
            "bandit: no finite value yet at interval 3 (best: 0.8, trial 4)",
        ),
        (
            MedianStopping(evaluation_interval=5),
            MAX,
            [[0.52] * 5] * 6,
            [0.41] * 5,
            "median_stopping: best 0.41 < 0.52 = median of 7 running means at interval 5",
        ),
        (
            MedianStopping(),
            MIN,
            [[0.52], [0.54]],
            [0.6],
            "median_stopping: best 0.6 > 0.54 = median of 3 running means at interval 1",
        ),
        (
            MedianStopping(),
            MAX,
            [[0.52]],
            [NAN],
            "median_stopping: no finite value yet at interval 1 (median of 1 running mean: 0.52)",
        ),
        (
            TruncationSelection(truncation_percentage=10, evaluation_interval=5),
            MAX,
            [[0.5] * 5] * 9,
            [0.3] * 5,
            (
                "truncation_selection: 9 of 10 trials are better than 0.3 at interval 5;"
                " the worst 10 % are stopped"
            ),
        ),
        (
            TruncationSelection(truncation_percentage=10),
            MAX,
            [[0.5]] * 9,
            [-INF],
            "truncation_selection: -inf is not finite at interval 1; the worst 10 % are stopped",
        ),
    ],
)
def test_gives_the_reason_in_numbers(
    policy: Policy, goal: Goal, others: list[list[float]], own: list[float], reason: str
) -> None:
    """The sentence that a user reads, word by word."""
    assert reason == judged(policy, goal, others, own).reason


class Step(NamedTuple):
    """Something that happens to a trial."""

    what: str  # "report", "restart" or "finish"
    trial: int
    value: float  # what it reports
    checkpoint: int  # the interval that it restarts from


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["report"] * 20 + ["restart"] * 2 + ["finish"]),
        st.integers(0, 6),
        VALUES,
        st.integers(0, 4),
    ),
    min_size=30,  # else most sweeps are too short for a policy to stop anything
    max_size=60,
)

SCHEDULE: dict[str, st.SearchStrategy[int]] = {
    "evaluation_interval": st.integers(0, 3),
    "delay_evaluation": st.integers(0, 3),
}
SLACKS = st.sampled_from([0, 0.1, 0.2, 1, 3]) | st.floats(0, 2)
ANY_POLICY: st.SearchStrategy[Policy] = st.one_of(
    st.builds(NoPolicy),
    st.builds(Bandit, slack_factor=SLACKS, **SCHEDULE),
    st.builds(Bandit, slack_amount=SLACKS, **SCHEDULE),
    st.builds(MedianStopping, **SCHEDULE),
    st.builds(
        TruncationSelection,
        truncation_percentage=st.integers(1, 99),
        exclude_finished_jobs=st.booleans(),
        **SCHEDULE,
    ),
)


class Sweep:
    """A history and a policy as the sweep drives them, beside plain lists of what counts."""

    def __init__(self, policy: Policy, goal: Goal, *, obeys: bool = True) -> None:
        self.policy = policy
        self.obeys = obeys  # whether a stopped trial stops: else all that could be judged is
        self.parameters = {f.name: getattr(policy, f.name) for f in fields_of(policy)}
        self.history = History(goal, policy.tracks)
        self.curves: dict[int, list[float]] = {}
        self.finished: set[int] = set()
        self.stopped: set[int] = set()

    @property
    def seen(self) -> transcription.Seen:
        """What the transcription judges from."""
        return transcription.Seen(
            goal=str(self.history.goal), curves=self.curves, finished=self.finished
        )

    def take(self, step: Step) -> Decision | None:
        """Let it happen, if it can; the decision, if it is a report that counts."""
        if step.trial in self.finished:
            return None
        if step.what == "finish":
            self.finished.add(step.trial)
            self.history.finish(step.trial)
            return None
        if step.trial in self.stopped:
            return None  # reports after a stop enter no history, and decisions stand
        curve = self.curves.setdefault(step.trial, [])
        if step.what == "restart":
            del curve[step.checkpoint :]
            self.history.restart(step.trial, step.checkpoint)
            return None
        return self._report(curve, step)

    def _report(self, curve: list[float], step: Step) -> Decision:
        curve.append(step.value)
        interval = self.history.add(step.trial, step.value)
        assert len(curve) == interval
        decision = self.policy.decide(self.history, step.trial, interval)
        if decision.stop and self.obeys:
            self.stopped.add(step.trial)
        return decision


@settings(max_examples=250)
@given(ANY_POLICY, st.sampled_from(Goal), STEPS, st.booleans())
def test_decides_as_the_design_says(
    policy: Policy, goal: Goal, steps: list[Step], obeys: bool
) -> None:
    """At every report, policy and transcription agree: stop or go on, and which trial is best."""
    sweep = Sweep(policy, goal, obeys=obeys)
    for step in steps:
        decision = sweep.take(step)
        if decision is not None:
            expected = transcription.stops(policy.kind, sweep.parameters, sweep.seen, step.trial)
            assert expected == decision.stop
        assert transcription.best_trial(sweep.seen) == place(sweep.history.best_trial())


def place(best: Best | None) -> tuple[int, int, float] | None:
    """A best trial as the transcription has it."""
    return None if best is None else (best.trial, best.interval, best.value)


@settings(max_examples=150)
@given(ANY_POLICY, st.sampled_from(Goal), STEPS)
def test_reasons_are_true(policy: Policy, goal: Goal, steps: list[Step]) -> None:
    """What a reason states in numbers holds for those numbers as they are printed."""
    sweep = Sweep(policy, goal, obeys=False)
    for step in steps:
        decision = sweep.take(step)
        if decision is None or not decision.stop:
            continue
        curve = sweep.curves[step.trial]
        assert f" at interval {len(curve)}" in decision.reason
        assert is_true(decision.reason, goal, curve, sweep.parameters), decision.reason


NUMBER = r"(-?[\d.]+(?:e[+-]\d+)?)"
COMPARED = re.compile(rf"best {NUMBER} ([<>]) {NUMBER} = ")
COUNTED = re.compile(rf"(\d+) of (\d+) trials are better than {NUMBER} ")


def is_true(reason: str, goal: Goal, curve: list[float], parameters: dict[str, Any]) -> bool:
    """Whether a reason says about a trial with this curve what is the case."""
    if "no finite value yet" in reason:
        return not any(map(math.isfinite, curve))
    if "is not finite" in reason:
        return not math.isfinite(curve[-1])
    if (compared := COMPARED.search(reason)) is not None:
        own, sign, limit = compared.groups()
        assert sign == ("<" if goal is MAX else ">")
        return goal.better(float(limit), float(own))
    counted = COUNTED.search(reason)
    assert counted is not None
    better, count = int(counted[1]), int(counted[2])
    worst: int = count * parameters["truncation_percentage"] // 100
    return count > better >= count - worst
