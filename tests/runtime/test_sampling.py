"""Sampling beside a loop: a slow sampler holds nobody up, and a sweep on Ray knows what it should."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sweeps import PATIENCE, alive, controller_pid, kill, running, sweep, until

import raysweep as rs
from raysweep.core.events import (
    AttemptId,
    CancelAsked,
    End,
    Ending,
    Event,
    Exchanged,
    Proposed,
    Revised,
    SamplerFailed,
)
from raysweep.core.samplers import Observation
from raysweep.core.space import Space, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.core.state import Phase, SweepState
from raysweep.runtime import pace, sampling
from raysweep.runtime.proposals import Answer
from raysweep.runtime.sampling import Sampling
from raysweep.storage import journal

SPEC = SweepSpec(
    name="t",
    space=Space({"x": uniform(0, 1)}),
    objective=maximize("score"),
    sampler=rs.Bayesian(),
    seed=0,
    limits=Limits(max_total_trials=4),
)


class Slow:
    """Answers only when it is told to; what it proposes says how many trials had ended."""

    def __init__(self) -> None:
        self.may_answer = threading.Semaphore(0)
        self.asked: list[range] = []
        self.at_it = threading.Event()  # it was asked
        self.closed = False
        self.error = ""

    def propose(self, numbers: range, known: Sequence[Observation]) -> Answer:
        """Once it may."""
        if numbers:
            self.asked.append(numbers)
            self.at_it.set()
            assert self.may_answer.acquire(timeout=60)
        ended = sum(not each.pending for each in known)
        drawn = () if self.error else tuple({"x": n, "ended": ended} for n in numbers)
        return Answer(drawn=drawn, error=self.error)

    def close(self) -> None:
        """Note that it was; whoever waits for an answer waits no longer."""
        self.closed = True
        self.may_answer.release()


class Sweep:
    """A controller's loop, but for the slots."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slow = Slow()
        monkeypatch.setattr(sampling, "SamplerProcess", lambda _: self.slow)
        self.state = SweepState(SPEC)
        self.events: list[Event] = []
        self.news = asyncio.Event()
        self.sampling = Sampling(
            SPEC, self.state, apply=self.apply, now=lambda: self.state.time, size=lambda: 1
        )
        self.task = asyncio.create_task(
            self.sampling.go_on(over=lambda: self.state.over, paused=lambda: False)
        )

    def apply(self, event: Event) -> None:
        """Take an event as a controller does."""
        self.events.append(event)
        self.news.set()
        self.state.apply(event)
        self.sampling.stir()

    def said(self, **what: Any) -> None:  # noqa: ANN401  (any field of an exchange)
        """The slot says this, a minute after what was before."""
        time = self.state.time + 60.0
        self.apply(Exchanged(time=time, slot=0, incarnation=1, places=1, **what))

    def ended(self, trial: int) -> None:
        """The slot has run a trial."""
        id_ = AttemptId(trial, 1)
        self.said(begun=(id_,))
        self.said(ends=(End(id=id_, last_report=0, ending=Ending.RETURNED),))

    async def noted(self, count: int, kind: type[Event]) -> list[Any]:
        """The events of a kind, once there are so many."""
        while len(found := [event for event in self.events if isinstance(event, kind)]) < count:
            self.news.clear()
            await self.news.wait()
        return found


def test_a_slow_sampler_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is at an answer the loop takes exchanges; the answer counts once it is there."""

    async def main() -> None:
        sweep = Sweep(monkeypatch)
        assert await asyncio.to_thread(sweep.slow.at_it.wait, 60)
        for _ in range(100):
            sweep.said()
            await asyncio.sleep(0)
        assert [range(1)] == sweep.slow.asked
        assert [] == [*sweep.state.trials]
        sweep.slow.may_answer.release()
        await sweep.noted(1, Proposed)
        sweep.slow.error = "enough"
        sweep.said()
        sweep.ended(0)
        sweep.slow.may_answer.release()
        await sweep.task

    asyncio.run(main())


def test_a_proposal_that_is_stale_is_revised_when_a_result_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits for a slot is proposed anew, and is run with what it got then."""
    monkeypatch.setattr(pace, "asks_on_demand", lambda *_: False)

    async def main() -> None:
        sweep = Sweep(monkeypatch)
        sweep.said()
        sweep.slow.may_answer.release()
        await sweep.noted(1, Proposed)
        sweep.said()  # it takes trial 0
        sweep.slow.may_answer.release()
        await sweep.noted(2, Proposed)  # trial 1 waits, and knows nothing
        id_ = AttemptId(0, 1)
        sweep.said(begun=(id_,))
        sweep.apply(
            Exchanged(
                time=sweep.state.time + 60.0,
                slot=0,
                incarnation=1,
                places=0,
                ends=(End(id=id_, last_report=0, ending=Ending.RETURNED),),
            )
        )  # fmt: skip  (the slot has no place for another yet)
        sweep.slow.may_answer.release()
        (revised,) = await sweep.noted(1, Revised)
        assert (1, {"x": 1, "ended": 1}) == (revised.trial, revised.params)
        sweep.said()
        assert {"x": 1, "ended": 1} == sweep.state.trials[1].params
        sweep.slow.error = "enough"
        sweep.slow.may_answer.release()
        await sweep.noted(1, SamplerFailed)
        sweep.task.cancel()

    asyncio.run(main())


def test_a_sampler_that_fails_is_told_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep ends, and with it the process."""

    async def main() -> Sweep:
        sweep = Sweep(monkeypatch)
        sweep.slow.error = "ValueError('x')"
        sweep.slow.may_answer.release()
        await sweep.task
        return sweep

    sweep = asyncio.run(main())
    assert Phase.FAILED is sweep.state.phase
    assert ["ValueError('x')"] == [e.error for e in sweep.events if isinstance(e, SamplerFailed)]
    assert sweep.slow.closed


def test_a_sweep_that_is_over_does_not_wait_for_its_sampler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that never answers is let go in the middle of it, and what it was at is nothing any more."""

    async def main() -> Sweep:
        sweep = Sweep(monkeypatch)
        assert await asyncio.to_thread(sweep.slow.at_it.wait, 60)
        sweep.apply(CancelAsked(time=sweep.state.time, reason="enough"))
        await sweep.task
        return sweep

    sweep = asyncio.run(main())
    assert sweep.slow.closed
    assert [CancelAsked] == [type(event) for event in sweep.events]


def first_takes_long(trial: Any) -> None:  # noqa: ANN401  (a raysweep Trial)
    """So long that any proposal takes nothing beside it."""
    if trial.number == 0:
        time.sleep(6.0)
    trial.report(score=trial.params["x"])


@pytest.mark.usefixtures("local_ray")
def test_on_ray_each_trial_of_a_sequence_knows_all_before_it(tmp_path: Path) -> None:
    """As long as a proposal takes nothing beside a trial."""
    result = sweep(
        first_takes_long,
        tmp_path,
        sampler=rs.Bayesian(seed=3),
        limits={"max_total_trials": 3, "max_concurrent_trials": 1},
        isolation="none",
    ).run(screen="none")
    events = [record.event for record in journal.read(result.folder.journal)]
    assert [0, 1, 2] == [event.known for event in events if isinstance(event, Proposed)]


def wait(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Report every now and then, for a minute at most."""
    for _ in range(600):
        trial.report(score=trial.params["x"])
        time.sleep(0.1)


@pytest.mark.usefixtures("local_ray")
def test_on_ray_a_sampler_dies_with_its_controller(tmp_path: Path) -> None:
    """The next controller has a sampler of its own, which ends with the sweep."""
    made = sweep(wait, tmp_path, sampler=rs.Bayesian(seed=3), isolation="none")
    with running(made) as client:
        until(client, lambda status: status.live == 2)
        before = controller_pid(client)
        first = sampler_of(before)
        kill(before)
        until(client, lambda _: controller_pid(client) != before)
        second = sampler_of(controller_pid(client))
        assert gone(first)
        client.cancel("enough")
        until(client, lambda status: status.over)
        assert gone(second)


def sampler_of(controller: int) -> int:
    """The process in which the sampler of this controller computes, once it has one."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for task in Path(f"/proc/{controller}/task").iterdir():
            for child in (task / "children").read_text().split():
                if b"sampler_process import main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.02)
    raise AssertionError(f"process {controller} has no sampler")


def gone(process: int) -> bool:
    """Whether a process has ended, once it has had time to."""
    deadline = time.monotonic() + PATIENCE
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(process)
