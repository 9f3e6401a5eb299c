"""Sampling beside the controller's loop.

One rule: nothing here waits on the loop but for an answer that is made elsewhere: on a thread by a
sampler that learns nothing, whose draw takes no time, in a process of its own by one that learns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from raysweep.core.events import Event, SamplerFailed
from raysweep.core.samplers import Observation
from raysweep.core.spec import SweepSpec
from raysweep.core.state import SweepState
from raysweep.runtime.asking import Asking
from raysweep.runtime.proposals import Answer, answer
from raysweep.runtime.sampler_process import SamplerProcess

LOOK = 0.1  # seconds between looks at what no event tells: slots that are made, a sampler's rest

log = logging.getLogger(__name__)


class Proposer(Protocol):
    """Answers for a sampler; its methods block, and are called one at a time, but for `close`."""

    def propose(self, numbers: range, known: Sequence[Observation]) -> Answer:
        """Trials of these numbers, from what is known."""

    def close(self) -> object:
        """Let go of whatever is held for it, even in the middle of an answer."""


class InThisProcess:
    """Answers for a sampler whose draw is not worth a process."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec

    def propose(self, numbers: range, known: Sequence[Observation]) -> Answer:
        """Trials of these numbers, from what is known."""
        return answer(self._spec, known, numbers)

    def close(self) -> None:
        """Nothing is held."""


class Sampling:
    """Has trials proposed for one controller; belongs to its loop."""

    def __init__(
        self,
        spec: SweepSpec,
        state: SweepState,
        *,
        apply: Callable[[Event], None],
        now: Callable[[], float],
        size: Callable[[], int],
    ) -> None:
        """Of a sweep that goes on, what was known before is looked at now, before anybody waits.

        Args:
            spec: the sweep.
            state: where it stands.
            apply: takes an event.
            now: the sweep's own time.
            size: how many slots there are, or are about to be; one that waits for room on a cluster
                that others use is none, or trials would be proposed for it that learn of nothing.
        """
        self._state = state
        self._apply = apply
        self._now = now
        self._size = size
        self._asking = Asking(spec)
        self._cause = asyncio.Event()
        learns = spec.sampler.learns
        self._proposer: Proposer = SamplerProcess(spec) if learns else InThisProcess(spec)
        if learns:
            state.observations()

    def stir(self) -> None:
        """Something has happened: there may be something to ask."""
        if self._asking.has_cause(self._state):
            self._cause.set()

    async def go_on(self, *, over: Callable[[], bool], paused: Callable[[], bool]) -> None:
        """Keep trials coming, as long as there are any to propose, until all is over.

        Args:
            over: whether that is so.
            paused: whether nothing may be proposed for now.
        """
        try:
            if not self._state.all_proposed:  # whatever is to be started for it is there then
                await self._answer(range(0), (), over)
            while not over():
                if paused() or not await self._asked(over):
                    self._cause.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._cause.wait(), LOOK)
        finally:
            await asyncio.to_thread(self._proposer.close)

    async def _answer(
        self, numbers: range, known: Sequence[Observation], over: Callable[[], bool]
    ) -> Answer | None:
        """What the sampler answers; None if all is over before."""
        asked = asyncio.create_task(asyncio.to_thread(self._proposer.propose, numbers, known))
        while not over():
            done, _ = await asyncio.wait({asked}, timeout=LOOK)
            if done:
                return asked.result()
        return None

    async def _asked(self, over: Callable[[], bool]) -> bool:
        """Ask what there is to ask; False when there is nothing, or never will be."""
        began = time.monotonic()
        ask = self._asking.next(self._state, self._size(), began)
        if ask is None:
            return False
        answer = await self._answer(ask.numbers, ask.known, over)
        if answer is None:
            return False
        if answer.error:
            log.error("the sampler failed: %s\n%s", answer.error, answer.trace)
            self._apply(SamplerFailed(time=self._now(), error=answer.error))
            return False
        now = time.monotonic()
        event = self._asking.answered(
            self._state, ask, answer, now=now, took=now - began, time=self._now()
        )
        if event is not None:
            self._apply(event)
        return True
