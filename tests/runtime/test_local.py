"""A sweep on a virtual clock: when what happens, what it survives, and that it repeats itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.core.events import Exchanged, Params, Proposed, SlotLost, TrialsTimedOut
from raysweep.core.exchange import KEEP
from raysweep.core.policies import Bandit
from raysweep.core.samplers import Grid, Random
from raysweep.core.space import Expression, Space, choice, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.core.state import Phase, SweepState
from raysweep.core.trials import LIVE, TrialState
from raysweep.errors import SpecError
from raysweep.runtime import pace
from raysweep.runtime.local import Fault, KillSlot, RestartController, Step, simulate
from raysweep.storage import journal
from raysweep.storage.journal import Record
from raysweep.storage.segments import FileSegments

EPOCHS = 5
SECONDS = 10.0  # an epoch's


def climb(params: Params, seed: int, start: int, *, epochs: int = EPOCHS) -> Iterator[Step]:
    """Report x, 2x, 3x, ..., each after 10 seconds and with a checkpoint."""
    del seed
    for epoch in range(start, epochs):
        yield Step(seconds=SECONDS, metrics={"score": params["x"] * (epoch + 1)}, checkpoint=True)


def once(params: Params, seed: int, start: int) -> Iterator[Step]:
    """Report x, in no time."""
    del seed, start
    yield Step(seconds=0, metrics={"score": params["x"]})


def spec(
    *,
    trials: int = 4,
    x: Expression | None = None,
    limits: Limits | None = None,
    **changes: Any,  # noqa: ANN401  (a spec's other fields)
) -> SweepSpec:
    """A small sweep over `x`, maximizing `score`."""
    defaults: dict[str, Any] = {"sampler": Random(seed=3)}
    return SweepSpec(
        name="t",
        space=Space({"x": uniform(0.5, 1) if x is None else x}),
        objective=maximize("score"),
        seed=3,
        limits=Limits(max_total_trials=trials) if limits is None else limits,
        **defaults | changes,
    )


def curves(state: SweepState) -> list[list[float]]:
    """Each trial's counted values."""
    history = state.history
    return [
        [history.value(t.number, k + 1) for k in range(history.intervals(t.number))]
        for t in state.trials
    ]


def climbed(state: SweepState) -> list[list[float]]:
    """The curves that undisturbed trials would have."""
    return [[trial.params["x"] * (epoch + 1) for epoch in range(EPOCHS)] for trial in state.trials]


def replayed(of: SweepSpec, records: Sequence[Record]) -> Iterator[SweepState]:
    """The state after each of these records."""
    state = SweepState(of)
    for event, commands in records:
        state.apply(event, commands)
        yield state


def packed(records: Sequence[Record]) -> list[bytes]:
    """Records as the journal keeps them."""
    return [journal.encode(event, commands) for event, commands in records]


# What runs, and how much of it at once.


def test_proposes_the_same_trials_on_one_slot_as_on_eight() -> None:
    """The number of slots changes nothing about what is tried."""
    one, eight = (simulate(spec(trials=40), climb, slots=slots).state for slots in (1, 8))
    assert [trial.params for trial in one.trials] == [trial.params for trial in eight.trials]
    assert curves(one) == curves(eight) == climbed(one)


def test_runs_as_many_trials_at_once_as_there_are_slots() -> None:
    """Twelve trials of 50 seconds take 150 on four slots, without a gap."""
    result = simulate(spec(trials=12), climb, slots=4)
    assert (150.0, 1.0) == (result.seconds, result.busy)


def test_respects_max_concurrent_trials() -> None:
    """Never do more trials run than the limit allows, though slots are free."""
    limited = spec(limits=Limits(max_total_trials=8, max_concurrent_trials=2))
    result = simulate(limited, climb, slots=8)
    live = [sum(s.counts[kind] for kind in LIVE) for s in replayed(limited, result.records)]
    assert (2, 200.0, 0.25) == (max(live), result.seconds, result.busy)


def test_runs_ten_thousand_trials() -> None:
    """A large sweep is a matter of seconds."""
    result = simulate(spec(trials=10_000), once, slots=16)
    assert 10_000 == result.state.counts[TrialState.COMPLETED] == result.state.reports
    assert Phase.COMPLETED is result.state.phase


def test_charges_the_samplers_time() -> None:
    """Trials wait for a slow sampler, and it draws several at once only as it is asked to."""
    result = simulate(spec(trials=4), climb, slots=1, sampler_time=3.0)
    times = [record.event.time for record in result.records if isinstance(record.event, Proposed)]
    assert [12.0] == times
    assert 12.0 + 4 * 50.0 == result.seconds


def test_ends_with_the_sampler() -> None:
    """A grid that runs out ends the sweep before its limit."""
    few = spec(sampler=Grid(), x=choice([0.5, 1.0]), limits=Limits(max_total_trials=9))
    assert [0.5, 1.0] == [t.params["x"] for t in simulate(few, climb, slots=4).state.trials]


# Time limits.


def test_a_trials_timeout_reaches_it_at_its_next_report() -> None:
    """The limit counts from when the controller knew of the attempt; a heartbeat tells the slot."""
    limited = spec(limits=Limits(max_total_trials=1, trial_timeout=30))
    result = simulate(limited, partial(climb, epochs=100), slots=1)
    (due,) = [r.event.time for r in result.records if isinstance(r.event, TrialsTimedOut)]
    trial = result.state.trials[0]
    assert pace.LEAST_TICK + 30 == due
    assert (TrialState.TIMED_OUT, 40.0) == (trial.state, trial.ended)


def test_a_trial_that_does_not_report_is_killed_after_the_grace_period() -> None:
    """What a stop cannot reach is ended all the same, and its slot goes on."""

    def trial(params: Params, seed: int, start: int) -> Iterator[Step]:
        if params["x"] == 1:
            yield Step(seconds=1e9)
        yield from climb(params, seed, start)

    limited = spec(
        sampler=Grid(),
        x=choice([1, 0.5]),
        grace=5.0,
        limits=Limits(max_total_trials=2, trial_timeout=60),
    )
    state = simulate(limited, trial, slots=1).state
    assert [TrialState.TIMED_OUT, TrialState.COMPLETED] == [t.state for t in state.trials]
    assert "killed: it did not end when asked" == state.trials[0].error
    assert pace.LEAST_TICK + 60.0 + pace.HEARTBEAT + 5.0 == state.trials[0].ended


def test_the_sweeps_timeout_ends_it() -> None:
    """Trials that have ended count; what runs is told to end and is canceled."""
    limited = spec(limits=Limits(timeout=75))
    state = simulate(limited, climb, slots=2).state
    assert (Phase.COMPLETED, "timeout of 75 s reached") == (state.phase, state.reason)
    assert 2 == state.counts[TrialState.COMPLETED]
    assert {80.0} == {t.ended for t in state.trials if t.attempt and t.state is TrialState.CANCELED}


def test_time_without_a_controller_does_not_count() -> None:
    """Trials end while nobody counts, and the sweep's timeout stays where it was."""
    limited = spec(limits=Limits(timeout=75), lease=1e6)
    result = simulate(limited, climb, slots=2, faults=[RestartController(at=20, down=1000)])
    assert 4 == result.state.counts[TrialState.COMPLETED]
    assert "timeout of 75 s reached" == result.state.reason
    assert 75 <= result.state.time <= 90
    assert 1010.0 == result.seconds - result.state.time  # the last event was 10 s before the crash


# Decisions.


@pytest.mark.parametrize(("sync", "stopped_at"), [(False, 80.0), (True, 70.0)])
def test_bandit_stops_the_right_trials_at_the_right_times(*, sync: bool, stopped_at: float) -> None:
    """The second trial is stopped at its second report; it hears so there, or at the next."""
    bandit = spec(
        sampler=Grid(),
        x=choice([0.9, 0.3, 0.8]),
        policy=Bandit(slack_factor=0.2, delay_evaluation=2),
        sync_decisions=sync,
        limits=Limits(max_total_trials=3),
    )
    state = simulate(bandit, climb, slots=1).state
    assert ["completed", "stopped", "completed"] == [trial.state for trial in state.trials]
    assert [5, 2, 5] == [state.history.intervals(number) for number in range(3)]
    assert [50.0, stopped_at, stopped_at + 50] == [trial.ended for trial in state.trials]


# Trials that fail.


def test_keeps_what_a_trial_raised() -> None:
    """An exception fails the attempt, with its line, its place and its traceback."""

    def trial(params: Params, seed: int, start: int) -> Iterator[Step]:
        del seed, start
        if params["x"] == 0:
            raise ValueError("no such width: 0")
        yield Step(seconds=1, metrics={"score": 1.0})

    result = simulate(spec(sampler=Grid(), x=choice([0, 1])), trial, slots=1)
    ends = [e for r in result.records if isinstance(r.event, Exchanged) for e in r.event.ends]
    assert ["failed", "completed"] == [trial.state for trial in result.state.trials]
    assert "ValueError: no such width: 0" == ends[0].error == result.state.trials[0].error
    assert ends[0].where.startswith("test_local.py:")
    assert ends[0].where.endswith(" in trial")
    assert 'raise ValueError("no such width: 0")' in ends[0].traceback


def test_a_failed_attempt_is_followed_by_another_as_the_spec_says() -> None:
    """The second attempt continues from the checkpoint before the failure."""
    starts = []

    def trial(params: Params, seed: int, start: int) -> Iterator[Step]:
        starts.append(start)
        for step in climb(params, seed, start):
            yield step
            if start == 0 and len(starts) == 1 and step.metrics["score"] >= 3 * params["x"]:
                raise RuntimeError("once")

    state = simulate(spec(trials=1, max_attempts=2), trial, slots=1).state
    assert ([0, 3], climbed(state)) == (starts, curves(state))


def test_the_first_trials_failing_alike_end_the_sweep() -> None:
    """A mistake in the code does not cost the whole sweep's time."""

    def trial(params: Params, seed: int, start: int) -> Iterator[Step]:
        del params, seed, start
        raise TypeError("unexpected keyword")

    state = simulate(spec(trials=1000), trial, slots=1).state
    assert (Phase.FAILED, 3) == (state.phase, state.counts[TrialState.FAILED])


def test_a_trial_that_reports_without_end_waits_at_the_bound() -> None:
    """What is not acknowledged is bounded, however fast a trial reports."""

    def trial(params: Params, seed: int, start: int) -> Iterator[Step]:
        del params, seed, start
        while True:
            yield Step(seconds=0, metrics={"score": 1.0})

    result = simulate(spec(limits=Limits(timeout=0.12)), trial, slots=1)
    events = [record.event for record in result.records if isinstance(record.event, Exchanged)]
    assert KEEP == max(block.count for event in events for block in event.reports)
    assert 0.12 <= result.seconds < 0.12 + 2 * pace.HEARTBEAT


def test_a_sampler_that_fails_ends_the_sweep() -> None:
    """Whatever a sampler raises is told."""
    learner = spec()
    object.__setattr__(learner, "seed", -1)  # a spec that passed its checks cannot be wrong
    state = simulate(learner, climb, slots=1).state
    assert Phase.FAILED is state.phase
    assert state.reason.startswith("the sampler failed: SpecError('seed must be at least 0")


# Faults.


def test_a_killed_slots_trial_continues_from_its_last_checkpoint() -> None:
    """A second attempt does what is left, and each report counts once."""
    result = simulate(spec(trials=2), climb, slots=1, faults=[KillSlot(at=35, slot=0)])
    state = result.state
    assert [2, 1] == [trial.attempt for trial in state.trials]
    assert [1, 0] == [trial.losses for trial in state.trials]
    assert 3 == state.trials[0].start
    assert climbed(state) == curves(state)
    assert 2 * EPOCHS == state.reports
    assert 105.0 == result.seconds
    assert [35.0] == [r.event.time for r in result.records if isinstance(r.event, SlotLost)]


def test_a_restarted_controller_takes_up_where_the_first_left_off() -> None:
    """Trials run on, nothing is counted twice, and the sweep ends as it would have."""
    faults = [RestartController(at=at, down=2) for at in (5.0, 42.0, 70.0)]
    undisturbed = simulate(spec(trials=8), climb, slots=2).state
    restarted = simulate(spec(trials=8), climb, slots=2, faults=faults).state
    assert (1, 4) == (undisturbed.epoch, restarted.epoch)
    assert undisturbed.counts == restarted.counts
    assert undisturbed.history == restarted.history
    assert undisturbed.best == restarted.best
    assert [1] * 8 == [trial.attempt for trial in restarted.trials]


def test_replay_gives_the_final_state() -> None:
    """The records alone lead to the state that the last controller ended with."""
    faults: list[Fault] = [RestartController(at=42), KillSlot(at=55, slot=1)]
    bandit = spec(trials=8, policy=Bandit(slack_factor=0.1))
    result = simulate(bandit, climb, slots=2, faults=faults)
    *_, last = replayed(bandit, result.records)
    assert last == result.state


def test_slots_without_a_controller_end_within_their_lease() -> None:
    """After it their trials are given up, and go on from their checkpoints on new slots."""
    short = spec(trials=2, lease=15.0)
    faults = [RestartController(at=31, down=60)]
    result = simulate(short, climb, slots=2, faults=faults)
    assert [2, 2] == [trial.attempt for trial in result.state.trials]
    assert [2, 2] == [slot.incarnation for slot in result.state.slots.values()]
    assert climbed(result.state) == curves(result.state)


def test_a_slot_that_dies_without_a_controller_is_missed_by_the_next() -> None:
    """The new controller replaces it, though nobody told it."""
    faults: list[Fault] = [RestartController(at=31, down=5), KillSlot(at=33, slot=0)]
    state = simulate(spec(trials=2), climb, slots=2, faults=faults).state
    assert [2, 1] == [slot.incarnation for slot in state.slots.values()]
    assert climbed(state) == curves(state)


FAULTS = st.lists(
    st.one_of(
        st.builds(KillSlot, at=st.floats(0, 200), slot=st.integers(0, 2)),
        st.builds(RestartController, at=st.floats(0, 200), down=st.floats(0, 30)),
    ),
    max_size=6,
)


@given(faults=FAULTS, sync=st.booleans())
def test_whatever_breaks_every_trial_ends_with_its_whole_curve(
    *, faults: list[Fault], sync: bool
) -> None:
    """Nothing is lost, nothing is counted twice, and the records lead to the same state."""
    checked = spec(trials=6, sync_decisions=sync)
    result = simulate(checked, climb, slots=3, faults=faults)
    assert 6 == result.state.counts[TrialState.COMPLETED]
    assert climbed(result.state) == curves(result.state)
    *_, last = replayed(checked, result.records)
    assert last == result.state


# Records.


def test_the_same_inputs_give_the_same_records() -> None:
    """Byte for byte, with faults and a policy."""
    faults: list[Fault] = [KillSlot(at=35, slot=1), RestartController(at=50, down=3)]
    bandit = spec(trials=12, policy=Bandit(slack_factor=0.1))
    first, second = (simulate(bandit, climb, slots=3, faults=faults).records for _ in range(2))
    assert packed(first) == packed(second)


def test_a_real_journal_holds_the_same_records(tmp_path: Path) -> None:
    """On disk as in memory, across a restart."""
    faults = [RestartController(at=12)]
    on_disk = simulate(spec(trials=2), climb, slots=2, faults=faults, journal=tmp_path)
    in_memory = simulate(spec(trials=2), climb, slots=2, faults=faults)
    assert packed(in_memory.records) == packed(list(journal.read(FileSegments(tmp_path))))
    assert in_memory.state == on_disk.state


def test_a_simulation_that_was_broken_off_is_taken_up_from_its_journal(tmp_path: Path) -> None:
    """As on a new cluster: what ran is lost and continues from its checkpoint."""

    def broken(params: Params, seed: int, start: int) -> Iterator[Step]:
        for step in climb(params, seed, start):
            yield step
            if step.metrics["score"] >= 3 * params["x"]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(spec(trials=1), broken, slots=1, journal=tmp_path)
    state = simulate(spec(trials=1), climb, slots=1, journal=tmp_path).state
    assert (2, 2, 2) == (state.epoch, state.trials[0].attempt, state.trials[0].start)
    assert climbed(state) == curves(state)


# What cannot be simulated.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slots": 0}, "slots must be at least 1, but got 0"),
        ({"slots": 2, "sampler_time": -1.0}, "sampler_time must be at least 0, but got -1"),
        ({"slots": 2, "faults": [KillSlot(at=1, slot=2)]}, "slot must be at most 1, but got 2"),
        ({"slots": 2, "faults": [KillSlot(at=-1, slot=0)]}, "at must be at least 0, but got -1"),
        (
            {"slots": 2, "faults": [RestartController(at=1, down=math.inf)]},
            "down must be finite, but got inf",
        ),
    ],
)
def test_refuses_what_cannot_be_simulated(arguments: dict[str, Any], message: str) -> None:
    """A wrong argument is named, with the value."""
    with pytest.raises(SpecError, match=message):
        simulate(spec(), climb, **arguments)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_refuses_a_step_that_never_ends(seconds: float) -> None:
    """A step takes a finite time."""
    with pytest.raises(SpecError, match="seconds must be at least 0 and finite"):
        Step(seconds=seconds)


def test_refuses_a_checkpoint_without_a_report() -> None:
    """A checkpoint is handed to a report."""
    with pytest.raises(SpecError, match="needs metrics"):
        Step(seconds=1, checkpoint=True)
