"""How a crew's slots start: as many at a time as there are cores."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raysweep.core.samplers import Random
from raysweep.core.space import Space, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.core.state import SweepState
from raysweep.runtime import cluster, crew
from raysweep.runtime.crew import Crew
from raysweep.storage.folder import SweepFolder

SPEC = SweepSpec(
    name="s",
    space=Space({"x": uniform(0, 1)}),
    objective=maximize("score"),
    sampler=Random(),
    seed=1,
    limits=Limits(max_total_trials=100),
)
ROOM, CORES = 5, 2


class Actor:
    """A slot's, as far as a crew asks it; Ray would start it in a process."""

    def __init__(self) -> None:
        self.node: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.node_id = SimpleNamespace(remote=lambda: self.node)
        self.stand = SimpleNamespace(remote=lambda: self.end)


Start = Callable[[], tuple[Crew, list[Actor]]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """Makes a crew on a cluster with room for more slots than it has cores, and the list of its actors."""

    def make() -> tuple[Crew, list[Actor]]:
        loop, actors = asyncio.get_running_loop(), list[Actor]()

        async def made() -> Actor:
            actors.append(Actor())
            return actors[-1]

        def started(*_: object) -> Actor:  # in a thread, as Ray's call is made
            return asyncio.run_coroutine_threadsafe(made(), loop).result()

        monkeypatch.setattr(crew, "_start", started)
        monkeypatch.setattr(cluster, "room", lambda _: ROOM)
        monkeypatch.setattr(cluster, "cores", lambda: CORES)
        monkeypatch.setattr(cluster, "draining", dict)
        post: Any = object
        return Crew(SPEC, SweepFolder(tmp_path), lambda *_: post, _never, _never), actors

    return make


def _never(*what: object) -> None:
    raise AssertionError(what)


def test_a_slot_that_has_started_makes_way_for_the_next(start: Start) -> None:
    """Two cores start five slots by twos."""

    async def check() -> None:
        made, actors = start()
        for answered, started in pairwise([0, 2, 4, 5, 5]):
            await made.fill(SweepState(SPEC))
            assert started == len(actors)
            for actor in actors[answered:]:
                actor.node.set_result("node")
            await asyncio.sleep(0)

    asyncio.run(check())


def test_slots_that_wait_for_room_hold_up_no_others(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job may have the room; and an autoscaler makes it only for what it sees waiting."""

    async def check() -> None:
        made, actors = start()
        await made.fill(SweepState(SPEC))
        monkeypatch.setattr(crew, "LONG_START", 0.0)
        await made.fill(SweepState(SPEC))
        assert len(actors) == CORES + CORES

    asyncio.run(check())


def test_no_trial_is_proposed_for_a_slot_that_waits_for_room(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has just been made counts, for a while; one that has answered counts."""

    async def check() -> None:
        made, actors = start()
        await made.fill(SweepState(SPEC))
        assert (CORES, CORES) == (made.size, made.expected)
        monkeypatch.setattr(crew, "LONG_START", 0.0)
        assert (CORES, 0) == (made.size, made.expected)
        actors[0].node.set_result("node")
        await asyncio.sleep(0)
        assert (CORES, 1) == (made.size, made.expected)

    asyncio.run(check())


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_machine_has_no_more_cores_than_it_has() -> None:
    """Whatever Ray was told."""
    assert 1 <= cluster.cores() <= (os.cpu_count() or 1)
