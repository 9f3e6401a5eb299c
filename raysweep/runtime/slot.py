"""The slot: an actor that talks to the controller and runs trials, one process each.

One rule: it stays light. No torch, no user code, no state but its `SlotBook`; whatever it has not
heard acknowledged it says again, to whichever controller answers. Without one it trains on until
its lease is over, then ends its trials and itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import ray

from raysweep.core.exchange import Refusal, Reply, Request, SlotBook
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.spec import SweepSpec
from raysweep.runtime import pace
from raysweep.runtime.attempts import Attempts, Launcher
from raysweep.runtime.process import Processes
from raysweep.runtime.process_tree import MARK
from raysweep.storage.folder import SweepFolder

ANSWER = 30.0  # seconds to wait for a reply: longer than a controller holds one back
GOODBYE = 5.0  # seconds after its end in which its actor is killed by itself

NAMESPACE = "raysweep"

log = logging.getLogger(__name__)


def slot_name(folder: SweepFolder, slot: int, incarnation: int) -> str:
    """The name of a slot's actor; the controller's is the sweep's own."""
    return f"{folder.actor_name}:slot-{slot}.{incarnation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Where a slot stands: all that its actor is made with."""

    folder: str  # of the sweep
    slot: int
    incarnation: int
    places: int
    environment: Mapping[str, str]  # of its trials, beside the actor's own


class Slot:
    """The actor; `stand` lasts as long as the slot does."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._folder = SweepFolder.at(post.folder)
        self._folder.take_up()
        self._spec = self._folder.read_spec()
        self._book = SlotBook(slot=post.slot, incarnation=post.incarnation, places=post.places)
        mark = slot_name(self._folder, post.slot, post.incarnation)
        self._launcher = _launcher(
            self._spec, self._folder, {**os.environ, **post.environment, MARK: mark}
        )
        self._attempts = Attempts(self._spec, self._folder, self._book, self._launcher)
        self._closing = False  # whether the last reply has been heard
        self._over = asyncio.Event()  # nothing is left of the slot's trials
        self._controller: Any = None
        self._lease_until = time.monotonic() + self._spec.lease
        self._talking = asyncio.get_running_loop().create_task(self._talk())

    async def stand(self) -> None:
        """Return when the slot has nothing more to do."""
        await self._over.wait()

    async def node_id(self) -> str:
        """Ray's id of the node that the slot is on."""
        return ray.get_runtime_context().get_node_id()

    async def process_id(self) -> int:
        """The process id of the actor."""
        return os.getpid()

    # --- talking ----------------------------------------------------------------------------------

    async def _talk(self) -> None:
        """One request after another until there is no reason for a further one."""
        try:
            await self._launcher.prepared()
            self._lease_until = time.monotonic() + self._spec.lease
            while not self._closing:
                request = self._book.request()
                sent = time.monotonic()
                reply = await self._ask(request)
                if reply is not None:
                    self._take(request, reply, sent)
                elif time.monotonic() > self._lease_until:
                    log.warning("slot %d: no controller within its lease; it ends", self._post.slot)
                    break
                if not self._closing:
                    await self._until_next(reply, sent)
        finally:
            await self._launcher.close()
            self._over.set()
        await asyncio.sleep(GOODBYE)  # a controller that hears `stand` return is faster
        ray.kill(ray.get_runtime_context().current_actor)

    async def _ask(self, request: Request) -> Reply | None:
        """The controller's reply; None when there is none."""
        packed = msgpack.packb(to_plain(request))
        try:
            if self._controller is None:
                self._controller = ray.get_actor(self._folder.actor_name, namespace=NAMESPACE)
            answer = await asyncio.wait_for(self._controller.exchange.remote(packed), ANSWER)
        except (ray.exceptions.RayError, ValueError, TimeoutError) as error:
            log.info("slot %d: no answer: %s", self._post.slot, type(error).__name__)
            self._controller = None
            return None
        return from_plain(Reply, msgpack.unpackb(answer))

    def _take(self, request: Request, reply: Reply, sent: float) -> None:
        """Do what a reply says."""
        if reply.epoch >= self._book.epoch:
            self._lease_until = max(self._lease_until, sent + self._spec.lease)
            self._launcher.hold_until(self._lease_until + pace.margin(self._spec.lease) / 2)
        if request.holds:  # otherwise the controller may have held its reply back
            self._attempts.asked(time.monotonic() - sent)
        self._attempts.do(self._book.digest(request, reply))
        if self._spec.sync_decisions:
            self._attempts.tell_heard(reply.acknowledged)
        if reply.leave is not None and not self._attempts.leaving:
            log.warning(
                "slot %d: its machine is taken away in %.0f s", self._post.slot, reply.leave
            )
            self._attempts.leave(reply.leave)
        gone = self._attempts.leaving and not self._book.holds
        if reply.refused is Refusal.SUPERSEDED or reply.close or gone:
            self._closing = True

    async def _until_next(self, reply: Reply | None, sent: float) -> None:
        """Wait until the next request is worth making."""
        if reply is None or reply.refused is Refusal.PAUSED:
            await asyncio.sleep(pace.AGAIN)
            return
        if reply.refused is not None:
            return
        tick = pace.eased(reply.tick, self._attempts.exchange_takes)
        if self._spec.sync_decisions:
            tick = 0.0
        while (left := pace.due(self._book, sent, tick=tick) - time.monotonic()) > 0:
            self._attempts.stirred.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._attempts.stirred.wait(), left)


def _launcher(spec: SweepSpec, folder: SweepFolder, environment: Mapping[str, str]) -> Launcher:
    if spec.isolation == "none":
        from raysweep.runtime.inline import Inline  # noqa: PLC0415  (it brings what only trials need)

        return Inline(folder)
    return Processes(folder, environment)
