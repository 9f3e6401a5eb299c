"""Which checkpoints lie in a sweep's folder, while it runs and afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import objectives
import pytest
from sweeps import controller_pid, finished, kill, running, slot_pid, sweep, until

import raysweep as rs
from raysweep.result import Result, load_result
from raysweep.runtime.controller import Controller
from raysweep.runtime.status import Status
from raysweep.storage.folder import SweepFolder

EPOCHS = 30


def peaks(storage: Path, **changes: object) -> rs.Sweep:
    """A sweep of two trials, each with its best at interval 4, of which two checkpoints are kept."""
    return sweep(
        objectives.peak,
        storage,
        space={"epochs": rs.choice([EPOCHS])},
        limits={"max_total_trials": 2},
        keep_checkpoints=2,
        **changes,
    )


def files(folder: SweepFolder) -> Counter[str]:
    """All that lies among the checkpoints, by path."""
    return Counter(folder.unnamed([]))


def named(result: Result) -> list[str]:
    """The checkpoints that the journal says are kept."""
    return sorted(one.checkpoint.path for t in result.state.trials for one in t.checkpoints)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_the_last_and_the_bests_lie_there(tmp_path: Path) -> None:
    """Afterwards exactly these; and the others are not kept until then."""
    most = 0
    with running(peaks(tmp_path)) as client:

        def look(status: Status) -> bool:
            nonlocal most
            most = max(most, len(files(client._folder)))
            return finished(status)

        until(client, look)
    result = load_result("t", str(tmp_path))
    expected = [
        f"checkpoints/trial-{trial:05d}/1-{report:06d}.arrow"
        for trial in (0, 1)
        for report in (4, EPOCHS - 1, EPOCHS)
    ]
    assert expected == named(result) == sorted(files(result.folder))
    assert {"epoch": 4} == result.best.checkpoint()
    assert most < 2 * EPOCHS


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_what_kills_leave_behind_is_gone_in_the_end(tmp_path: Path) -> None:
    """A controller and a slot are killed, and somebody's half of a file is there."""
    with running(peaks(tmp_path)) as client:
        until(client, lambda status: status.reports >= 12)
        kill(controller_pid(client))
        until(client, lambda status: status.reports >= 24)
        half = client._folder.checkpoint(0, 1, 1).with_name(".0f.tmp")
        half.write_bytes(b"half of it")
        kill(slot_pid(client, 0))
        until(client, finished)
    result = load_result("t", str(tmp_path))
    assert ["completed"] * 2 == [trial.state for trial in result.trials]
    assert named(result) == sorted(files(result.folder))
    assert {3} == {len(trial.checkpoints) for trial in result.state.trials}
    assert {"epoch": 4} == result.best.checkpoint()


class Deletions:
    """A folder that notes what is removed, and on which thread; the first time it cannot."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[str], bool]] = []
        self.twice = threading.Event()

    def remove(self, paths: Iterable[str]) -> None:
        """Note it."""
        self.seen.append(([*paths], threading.current_thread() is threading.main_thread()))
        if len(self.seen) == 1:
            raise OSError("not now")
        self.twice.set()


def test_nothing_is_deleted_before_its_commit_or_in_the_controllers_loop() -> None:
    """And a storage that does not delete ends nothing."""

    async def scene() -> None:
        durable, folder = asyncio.Event(), Deletions()
        controller = SimpleNamespace(
            _state=SimpleNamespace(over=False),
            _replaced=False,
            _discarded=["a"],
            _scribe=SimpleNamespace(committed=durable.wait),
            _folder=folder,
        )
        work = asyncio.create_task(Controller._remove_discarded(cast("Controller", controller)))
        await asyncio.sleep(0.3)
        assert [] == folder.seen
        controller._discarded.append("b")
        durable.set()
        await asyncio.to_thread(folder.twice.wait, 20)
        assert [(["a"], False), (["b"], False)] == folder.seen
        controller._state.over = True
        await work

    asyncio.run(asyncio.wait_for(scene(), 20))
