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
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack
import ray

from raysweep.core.events import Assign, AttemptId, Checkpoint, End, Ending, Stop
from raysweep.core.exchange import Refusal, Reply, Request, SlotBook
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.samplers import trial_seed
from raysweep.core.spec import SweepSpec
from raysweep.runtime import pace
from raysweep.runtime.failures import failure
from raysweep.runtime.inline import Inline
from raysweep.runtime.process import Processes
from raysweep.runtime.process_tree import MARK
from raysweep.runtime.trial import LEAVING, PASSING, Message, Order
from raysweep.storage.folder import SweepFolder

ANSWER = 30.0  # seconds to wait for a reply: longer than a controller holds one back
TO_TELL = 3.0  # seconds that a trial's end takes to reach the journal, before its machine is gone
STORAGE_AGAIN = 1.0  # seconds between tries at a bucket that is away
GOODBYE = 5.0  # seconds after its end in which its actor is killed by itself

NAMESPACE = "raysweep"

log = logging.getLogger(__name__)


def slot_name(folder: SweepFolder, slot: int, incarnation: int) -> str:
    """The name of a slot's actor; the controller's is the sweep's own."""
    return f"{folder.actor_name}:slot-{slot}.{incarnation}"


class Running(Protocol):
    """A trial that runs somewhere: in a process of its own or in the slot's."""

    @property
    def gone(self) -> asyncio.Event:
        """Set once nothing of the trial is left."""

    def messages(self) -> Any:  # noqa: ANN401  (an async iterator of messages)
        """What the trial says, until it can say no more."""

    def tell(self, message: Message) -> None:
        """Tell the trial something."""

    async def stop(self, reason: str, grace: float) -> None:
        """Ask the trial to end; after `grace` seconds make it."""

    def unsaid_end(self) -> Message:
        """The end of a trial that did not live to tell it."""


class Launcher(Protocol):
    """Starts trials."""

    @property
    def broken(self) -> Message | None:
        """The end of every trial whose code cannot be imported."""

    async def prepared(self) -> None:
        """Return once trials can be taken."""

    def hold_until(self, moment: float) -> None:
        """Let the trials live until then, whatever happens to this process."""

    async def start(self, order: Order) -> Running:
        """Start a trial."""

    async def close(self) -> None:
        """End everything that was started."""


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
        self._running: dict[AttemptId, Running] = {}
        self._ending: set[AttemptId] = set()  # told to stop
        self._dropped: set[AttemptId] = set()  # not the slot's to speak of any more
        self._tasks: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()  # something is to be said
        self._answered = asyncio.Event()  # replaced after each reply
        self._leaving = False  # whether the machine is to be taken away
        self._moved: set[AttemptId] = set()  # ended for it
        self._closing = False  # whether the last reply has been heard
        self._over = asyncio.Event()  # nothing is left of the slot's trials
        self._controller: Any = None
        self._lease_until = time.monotonic() + self._spec.lease
        self._spawn(self._talk())

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
        for command in self._book.digest(request, reply):
            if isinstance(command, Assign):
                self._spawn(self._run(command))
            else:
                self._stop(command)
        self._answered.set()
        self._answered = asyncio.Event()
        if self._spec.sync_decisions:
            self._tell_heard(reply)
        if reply.leave is not None and not self._leaving:
            self._leave(reply.leave)
        gone = self._leaving and not self._book.holds
        if reply.refused is Refusal.SUPERSEDED or reply.close or gone:
            self._closing = True

    def _leave(self, seconds: float) -> None:
        """Take nothing new, and have what runs move elsewhere before the machine is taken away."""
        log.warning("slot %d: its machine is taken away in %.0f s", self._post.slot, seconds)
        self._leaving = True
        self._book.places = 0
        for running in self._running.values():
            running.tell(["leave"])
        self._spawn(self._move(seconds))

    async def _move(self, seconds: float) -> None:
        """End what has not left by itself in time to be told; it is lost, and begins elsewhere."""
        grace = min(self._spec.grace, seconds / 3)
        await asyncio.sleep(max(0.0, seconds - grace - TO_TELL))
        for id_, running in self._running.items():
            self._moved.add(id_)
            self._spawn(running.stop(LEAVING, grace))

    def _tell_heard(self, reply: Reply) -> None:
        """Let go on the trials whose reports have been decided on."""
        for acknowledged in reply.acknowledged:
            if running := self._running.get(acknowledged.id):
                running.tell(["heard", acknowledged.report])

    async def _until_next(self, reply: Reply | None, sent: float) -> None:
        """Wait until the next request is worth making."""
        if reply is None or reply.refused is Refusal.PAUSED:
            await asyncio.sleep(pace.AGAIN)
            return
        if reply.refused is not None:
            return
        tick = 0.0 if self._spec.sync_decisions else reply.tick
        while (left := pace.due(self._book, sent, tick=tick) - time.monotonic()) > 0:
            self._stirred.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), left)

    # --- running ----------------------------------------------------------------------------------

    async def _run(self, assign: Assign) -> None:
        """Run an attempt from its start to its end, and write that end down whatever happens."""
        id_ = assign.id
        try:
            end = await self._ran(assign)
        except Exception as error:  # an attempt without an end would hold its place for ever
            log.exception("%s", id_)
            told = failure(error)
            end = ["end", Ending.KILLED.value, f"the slot failed: {told.error}", told.where,
                   told.traceback, ""]  # fmt: skip
            if running := self._running.get(id_):
                await running.stop("", 0.0)
        try:
            await self._patiently(id_, lambda: self._folder.send(*self._folder.left_by(*id_)))
        except Exception:  # what it left is lost then; its end must not be
            log.exception("%s: what it left is not kept", id_)
        self._running.pop(id_, None)
        if id_ not in self._dropped:
            self._finish(id_, end)
        for noted in (self._dropped, self._ending, self._moved):
            noted.discard(id_)

    async def _ran(self, assign: Assign) -> Message:
        """Run an attempt; its end."""
        id_ = assign.id
        order = Order(
            id=id_,
            params=assign.params,
            seed=trial_seed(self._spec.seed, id_.trial),
            folder=self._post.folder,
            checkpoint=assign.checkpoint.path if assign.checkpoint else "",
            sync=self._spec.sync_decisions,
        )
        if id_.attempt > 1:  # what the one before has left is added to
            left = self._folder.left_by(*id_)
            await self._patiently(id_, lambda: self._folder.fetch_all(*left))
        running = await self._launcher.start(order)
        self._running[id_] = running
        if self._leaving:
            running.tell(["leave"])
        if id_ in self._ending or id_ in self._dropped:
            self._spawn(running.stop("", 0.0))
        end = None
        async for message in running.messages():
            if message[0] == "end":
                end = message
                self._spawn(running.stop("", self._spec.grace))  # its process should end now, too
            elif id_ not in self._dropped:
                await self._note(id_, message)
        await running.gone.wait()
        return end or self._launcher.broken or running.unsaid_end()

    async def _patiently(self, id_: AttemptId, act: Callable[[], None]) -> None:
        """Do something with a bucket, and wait for one that is away; a file system needs no such thing."""
        while self._folder.remote and id_ not in self._dropped:
            try:
                return await asyncio.to_thread(act)
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                log.warning("%s: %s", id_, error)
                await asyncio.sleep(STORAGE_AGAIN)
        return None

    async def _note(self, id_: AttemptId, message: Message) -> None:
        """Write down what a trial says; a trial with too much unacknowledged waits here."""
        if message[0] == "report":
            _, at, metrics, fresh = message
            if fresh:
                self._book.fresh(id_)
            self._book.report(id_, metrics, at)
        else:
            _, report, path, size, checksum = message
            self._book.checkpoint(
                Checkpoint(id=id_, report=report, path=path, size=size, checksum=checksum)
            )
        self._stirred.set()
        while self._book.full(id_):
            await self._answered.wait()

    def _finish(self, id_: AttemptId, message: Message) -> None:
        """Write down an attempt's end; a trial that was told to stop has obeyed, however it did."""
        _, ending, error, where, traceback, damaged = message
        if id_ in self._moved and ending != Ending.RETURNED:
            ending, error, where, traceback = Ending.LOST, LEAVING, "", ""
        if id_ in self._ending and ending == Ending.KILLED:
            ending, error = Ending.OBEYED, f"{error.partition(';')[0]}: it did not end when asked"
        self._book.end(
            End(
                id=id_,
                last_report=self._book.last_report(id_),
                ending=Ending(ending),
                error=error,
                where=where,
                traceback=traceback,
                damaged=damaged,
            )
        )
        self._stirred.set()

    def _stop(self, stop: Stop) -> None:
        """End an attempt as told; one that is not the slot's any more ends at once and unheard."""
        dropped = not stop.reason
        (self._dropped if dropped else self._ending).add(stop.id)
        if running := self._running.get(stop.id):
            running.tell(["stop", stop.reason])  # before it hears that its report is decided on
            self._spawn(running.stop(stop.reason, 0.0 if dropped else self._spec.grace))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _launcher(spec: SweepSpec, folder: SweepFolder, environment: Mapping[str, str]) -> Launcher:
    return Inline(folder) if spec.isolation == "none" else Processes(folder, environment)
