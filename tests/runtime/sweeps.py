"""Sweeps on a real Ray, driven step by step by the runtime tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

import raysweep as rs
from raysweep.core.events import AttemptId, Exchanged
from raysweep.result import Result
from raysweep.runtime.client import Client
from raysweep.runtime.slot import NAMESPACE, slot_name
from raysweep.runtime.status import Status
from raysweep.storage import journal

PATIENCE = 90.0  # seconds until a test gives up; never a measure of speed


def sweep(train: Any, storage: Path, **changes: Any) -> rs.Sweep:  # noqa: ANN401  (a training function)
    """A small sweep over `x`, maximizing `score`."""
    space = {"x": rs.uniform(0, 1), **changes.pop("space", {})}
    limits = rs.Limits(**{"max_total_trials": 4, "max_concurrent_trials": 2}
                       | changes.pop("limits", {}))  # fmt: skip
    defaults: dict[str, Any] = {
        "objective": rs.maximize("score"),
        "sampler": rs.Random(seed=3),
        "name": "t",
        "grace": 2.0,
    }
    return rs.Sweep(train, space=space, limits=limits, storage=str(storage), **defaults | changes)


@contextmanager
def running(made: rs.Sweep) -> Iterator[Client]:
    """A sweep that runs; its controller is gone afterwards."""
    client = Client.launch(made.create())
    try:
        yield client
    finally:
        with suppress(ray.exceptions.RayError):  # it may have ended by itself
            client.suspend()


def until(client: Client, reached: Callable[[Status], bool]) -> Status:
    """The first status that is as wanted."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = client.status()
        if status is not None and reached(status):
            return status
        time.sleep(0.02)
    raise AssertionError(f"not reached within {PATIENCE:g} s; last status: {status}")


def finished(status: Status) -> bool:
    """Whether the sweep is over and its results are written."""
    return status.over and status.finished


def kill(pid: int) -> None:
    """SIGKILL a process, as the kernel does when memory runs out."""
    os.kill(pid, signal.SIGKILL)


def controller_pid(client: Client) -> int:
    """The process of a sweep's controller."""
    pid: int = ray.get(client._controller.process_id.remote())
    return pid


def slot_pid(client: Client, slot: int, incarnation: int = 1) -> int:
    """The process of a slot's actor."""
    name = slot_name(client._folder, slot, incarnation)
    actor: Any = ray.get_actor(name, namespace=NAMESPACE)
    pid: int = ray.get(actor.process_id.remote())
    return pid


def journaled(result: Result) -> list[tuple[int, int, int]]:
    """Every report in the journal: trial, attempt, number."""
    return [
        (block.id.trial, block.id.attempt, number)
        for record in journal.read(result.folder.journal)
        if isinstance(record.event, Exchanged)
        for block in record.event.reports
        for number in range(block.first, block.last + 1)
    ]


def given_back(result: Result) -> list[AttemptId]:
    """The attempts that slots gave back before they had begun."""
    events = [record.event for record in journal.read(result.folder.journal)]
    return [id_ for event in events if isinstance(event, Exchanged) for id_ in event.returned]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
