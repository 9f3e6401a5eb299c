"""What Ray itself takes of a controller for each call: an actor that does nothing but answer.

One rule: what counts is the CPU time of the actor's whole process, Ray's own threads included; how many
calls a second that comes to beside the callers, on this machine, is told, too.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from own_ray import own_ray
from record import QUICK

CALLERS = 4  # actors, each with some calls in flight
IN_FLIGHT = 25
SECONDS = 3.0 if QUICK else 10.0


@dataclass(frozen=True, kw_only=True)
class Bare:
    """What was measured."""

    calls: float  # a second
    call: float  # microseconds of the actor's process a call
    loop: float  # of these, the thread that the actor's own code runs on


class Answering:
    """Takes bytes and answers with bytes, as the controller's `exchange` does."""

    async def exchange(self, packed: bytes) -> bytes:
        """Answer."""
        return packed[:200]

    async def spent(self) -> tuple[float, float]:
        """Seconds of CPU time of this process, and of this thread."""
        return time.process_time(), time.thread_time()


class Calling:
    """Calls as often as it can."""

    async def call(self, answering: Any, size: int) -> int:  # noqa: ANN401  (Ray's handle)
        """How often that was."""
        until, packed = time.monotonic() + SECONDS, os.urandom(size)

        async def on() -> int:
            calls = 0
            while time.monotonic() < until:
                await answering.exchange.remote(packed)
                calls += 1
            return calls

        return sum(await asyncio.gather(*(on() for _ in range(IN_FLIGHT))))


def bare(size: int) -> Bare:
    """Call an actor with requests of so many bytes."""
    with (
        tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as folder,
        own_ray(CALLERS + 1, Path(folder)),
    ):
        return _called(size)


def _called(size: int) -> Bare:
    answering: Any = ray.remote(num_cpus=0, max_concurrency=1_000)(Answering).remote()
    callers: list[Any] = [ray.remote(num_cpus=0)(Calling).remote() for _ in range(CALLERS)]
    ray.get(answering.spent.remote())
    ray.get([caller.__ray_ready__.remote() for caller in callers])
    before, began = ray.get(answering.spent.remote()), time.monotonic()
    calls = sum(ray.get([caller.call.remote(answering, size) for caller in callers]))
    took = time.monotonic() - began
    after = ray.get(answering.spent.remote())
    call, loop = (1e6 * (b - a) / calls for a, b in zip(before, after, strict=True))
    return Bare(calls=calls / took, call=call, loop=loop)


if __name__ == "__main__":
    print(bare(2_000))
