"""What a sampler that learns is asked, and when, on any clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from raysweep.core import spec as specs
from raysweep.core.events import Assign, Params, Proposed, Revised, SamplerFailed
from raysweep.core.samplers import Observation
from raysweep.core.space import Space, Value, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.core.state import Phase, SweepState
from raysweep.runtime import local_controller, proposals
from raysweep.runtime.local import Fault, KillSlot, LocalResult, RestartController, Step, simulate

SECONDS = 10.0  # between a trial's reports
REPORTS = 3


@dataclass(frozen=True, kw_only=True)
class Diligent:
    """A sampler that learns: what it proposes says how much it knew."""

    kind: ClassVar[str] = "diligent"
    learns: ClassVar[bool] = True

    seed: int | None = None
    ends: int | None = None  # after so many trials
    raises: int | None = None  # asked with so many results

    def check(self, space: Space) -> None:
        """Any space will do."""

    def size(self, space: Space) -> int | None:
        """No end that a limit could be taken from."""

    def propose(
        self, space: Space, known: Sequence[Observation], trial: int, seed: int
    ) -> dict[str, Value] | None:
        """How many trials have ended, how many intervals were reported, and who else is there."""
        del space, seed
        assert trial not in [each.trial for each in known]
        if trial == self.ends:
            return None
        ended = sum(not each.pending for each in known)
        if ended == self.raises:
            raise ValueError("it does not add up")
        return {"x": 1 + trial, "ended": ended, "seen": sum(len(each.curve) for each in known)}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler is one that a spec may have."""
    monkeypatch.setitem(specs.REGISTRIES, "sampler", {Diligent.kind: Diligent})


def spec(*, trials: int | None = 6, sampler: Diligent | None = None, **limits: int) -> SweepSpec:
    """A sweep whose sampler learns."""
    return SweepSpec(
        name="t",
        space=Space({"x": uniform(0, 1)}),
        objective=maximize("score"),
        sampler=Diligent() if sampler is None else sampler,
        seed=0,
        limits=Limits(max_total_trials=trials, **limits),
    )


def train(params: Params, seed: int, start: int) -> Iterator[Step]:
    """Three reports; the next trial takes a little longer than the last, so that they end apart."""
    del seed
    for k in range(start, REPORTS):
        yield Step(seconds=SECONDS + params["x"], metrics={"score": k}, checkpoint=True)


def run(
    of: SweepSpec,
    *,
    slots: int = 1,
    sampler_time: local_controller.SamplerTime = 0.0,
    faults: Sequence[Fault] = (),
) -> LocalResult:
    """The sweep on a virtual clock; a replay of its journal comes to the same state."""
    result = simulate(of, train, slots=slots, sampler_time=sampler_time, faults=faults)
    replay = SweepState(of)
    for event, commands in result.records:
        replay.apply(event, commands)
    assert result.state == replay
    return result


def ran(result: LocalResult) -> list[Params]:
    """What each trial was first run with, by number."""
    commands = [command for record in result.records for command in record.commands]
    orders = [each for each in commands if isinstance(each, Assign) and each.id.attempt == 1]
    return [order.params for order in sorted(orders, key=lambda order: order.id)]


def revised(result: LocalResult) -> list[int]:
    """The trials that were proposed anew, in order."""
    return [r.event.trial for r in result.records if isinstance(r.event, Revised)]


class TestOnDemand:
    """Asking is cheap beside a trial."""

    def test_one_after_the_other_each_knows_all_before_it(self) -> None:
        """No proposal is made before the result of the trial before it is known."""
        result = run(spec())
        assert [0, 1, 2, 3, 4, 5] == [params["ended"] for params in ran(result)]
        assert [] == revised(result)
        assert 1.0 == result.busy

    def test_the_idle_gap_is_the_ask(self) -> None:
        """A tenth of a second before each trial, and no more."""
        result = run(spec(trials=4), sampler_time=0.1)
        trained = sum(REPORTS * (SECONDS + number) for number in (1, 2, 3, 4))
        assert pytest.approx(trained + 4 * 0.1) == result.seconds
        assert [0, 1, 2, 3] == [params["ended"] for params in ran(result)]

    def test_at_first_all_free_places_get_a_trial(self) -> None:
        """One after the other, without a pause, and no more than there are places."""
        result = run(spec(), slots=4, sampler_time=9.0)
        times = [r.event.time for r in result.records if isinstance(r.event, Proposed)]
        assert [9.0, 18.0, 27.0, 36.0] == times[:4]
        assert times[4] > 36.0 + 9.0

    def test_no_more_are_proposed_than_may_run(self) -> None:
        """A limit leaves places empty, and no trial waits for them."""
        result = run(spec(max_concurrent_trials=2), slots=4)
        assert [0, 0, 1, 2, 3, 4] == [params["ended"] for params in ran(result)]


class TestAhead:
    """Asking takes long beside a trial."""

    def test_a_trial_waits_so_that_no_place_does(self) -> None:
        """From the second trial on; until one has ended nobody knows how long they take."""
        result = run(spec(), sampler_time=8.0)
        trained = sum(REPORTS * (SECONDS + number) for number in range(1, 7))
        assert trained + 2 * 8.0 == result.seconds

    def test_what_waits_is_revised_once_more_is_known(self) -> None:
        """The reports that came while it waited are in what it is run with."""
        result = run(spec(), sampler_time=4.0)
        assert {2, 3, 4, 5} == set(revised(result))
        before = [REPORTS * number for number in range(1, 5)]  # all reports but of the one before
        seen = [params["seen"] for params in ran(result)[2:]]
        assert all(more > few for few, more in zip(before, seen, strict=True))

    def test_a_result_revises_the_next_to_be_assigned_first(self) -> None:
        """Of several that wait, the lowest number."""
        result = run(spec(trials=60), slots=16, sampler_time=0.7)
        assert revised(result)
        for numbers in _rounds(result):
            assert sorted(numbers) == numbers

    def test_a_sampler_with_no_time_to_spare_revises_nothing(self) -> None:
        """What is wanted comes first: places would wait for second thoughts."""
        assert [] == revised(run(spec(trials=20), slots=8, sampler_time=4.0))

    def test_nothing_new_is_no_reason_to_revise(self) -> None:
        """While a trial runs without a word, what waits is left as it is."""

        def mute(params: Params, seed: int, start: int) -> Iterator[Step]:
            del seed, start
            yield Step(seconds=10_000.0, metrics={"score": params["x"]})

        assert [] == revised(simulate(spec(trials=4), mute, slots=1, sampler_time=200.0))

    @pytest.mark.parametrize("time", [0.0, 3.0, lambda known: 0.5 * known])
    def test_faults_lose_no_trial(self, time: local_controller.SamplerTime) -> None:
        """Restarts and lost slots, whatever the sampler is at; a replay comes to the same."""
        faults: list[Fault] = [
            RestartController(at=12.0, down=2.0), KillSlot(at=37.0, slot=0),
            RestartController(at=41.0), KillSlot(at=41.5, slot=1), KillSlot(at=60.0, slot=2),
            RestartController(at=80.0, down=15.0), RestartController(at=140.0, down=1.0),
        ]  # fmt: skip
        result = run(spec(trials=20), slots=3, sampler_time=time, faults=faults)
        state = result.state
        assert (Phase.COMPLETED, 20) == (state.phase, len(state.trials))
        assert [REPORTS] * 20 == [state.history.intervals(number) for number in range(20)]
        assert ran(result) == [trial.params for trial in state.trials]

    def test_what_waited_before_a_restart_is_revised_after_it(self) -> None:
        """The next controller cannot know what it was proposed with, and takes it for nothing."""
        faults = [RestartController(at=48.0)]
        result = run(spec(), sampler_time=4.0, faults=faults)
        assert 2 in revised(result)


class TestOtherwise:
    """What is as it was."""

    def test_a_sampler_that_runs_out_ends_the_sweep(self) -> None:
        """After the trials that it had."""
        assert 3 == len(run(spec(sampler=Diligent(ends=3))).state.trials)

    @pytest.mark.parametrize("time", [0.0, 4.0])
    def test_a_sampler_that_raises_fails_the_sweep(self, time: float) -> None:
        """Whether it is asked for new trials or thinks again; with what it raised."""
        result = run(spec(sampler=Diligent(raises=2)), sampler_time=time)
        (event,) = [r.event for r in result.records if isinstance(r.event, SamplerFailed)]
        assert "ValueError('it does not add up')" == event.error
        assert Phase.FAILED is result.state.phase

    def test_a_proposal_says_how_many_results_it_knew(self) -> None:
        """Trials with a value, whether they have ended or not."""
        result = run(spec(trials=3))
        known = [r.event.known for r in result.records if isinstance(r.event, Proposed)]
        assert [0, 1, 2] == known

    def test_given_trials_are_never_revised(self) -> None:
        """What the user asked to be tried first is tried, whatever comes to be known before it is."""
        given = tuple({"x": (n + 1) / 8} for n in range(4))
        result = run(dataclasses.replace(spec(), try_first=given), sampler_time=2.0)
        assert [*given] == ran(result)[:4]
        assert {4, 5} == set(revised(result))

    def test_an_error_keeps_its_trace(self) -> None:
        """For the controller's log."""
        answer = proposals.answer(spec(sampler=Diligent(raises=0)), [], range(1))
        assert ((), "ValueError('it does not add up')") == (answer.drawn, answer.error)
        assert "in propose" in answer.trace


def _rounds(result: LocalResult) -> Iterator[list[int]]:
    """The trials that were revised between one end of a trial and the next."""
    numbers: list[int] = []
    for record in result.records:
        if isinstance(record.event, Revised):
            numbers.append(record.event.trial)
        elif getattr(record.event, "ends", ()):
            yield numbers
            numbers = []
    yield numbers
