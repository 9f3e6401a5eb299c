"""The slots of a sweep, as actors: made, watched, let go.

One rule: a slot is given up only when it is surely gone. That its process has died is sure; that
its node is said to be dead is not, since a process can outlive the news of its death: such a slot
is left to its lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import ray

from raysweep.core.spec import SweepSpec
from raysweep.core.state import SweepState
from raysweep.runtime import cluster
from raysweep.runtime.slot import NAMESPACE, Post, Slot, slot_name
from raysweep.storage.folder import SweepFolder

COUNT_AGAIN = 5.0  # seconds between looks at the size of the cluster
NOTICE_AGAIN = 1.0  # seconds between looks for machines that are to be taken away
LONG_START = 5.0  # seconds after which one that starts does not count: it may wait for room
ASK_AGAIN = 1.0  # seconds before a slot that is out of reach is asked again
SOON = 10.0  # a slot that dies within so many seconds is replaced ever more slowly
# What Ray says of an actor whose process has surely ended; that its node is dead is no such thing.
SURE = ("worker process has died", "killed by `ray.kill`", "creation task")
SURELY = (ray.exceptions.OutOfMemoryError, ray.exceptions.ActorUnschedulableError)
SLOWEST = 30.0  # seconds, at most, before it is

log = logging.getLogger(__name__)


class Crew:
    """The slots that stand; belongs to the controller's loop."""

    def __init__(
        self,
        spec: SweepSpec,
        folder: SweepFolder,
        post: Callable[[int, int], Post],
        lost: Callable[[int, int, str], None],
        doubted: Callable[[int, int], None],
    ) -> None:
        self._spec = spec
        self._folder = folder
        self._post = post
        self._lost = lost
        self._doubted = doubted  # a slot may be gone: its lease is to decide
        self._standing: dict[int, tuple[int, Any]] = {}  # number -> incarnation, actor or None
        self._latest: dict[int, int] = {}  # the last incarnation of each number
        self._quick_deaths: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._nodes: dict[tuple[int, int], str] = {}  # of the slots: number, incarnation -> node
        self._draining: dict[str, float] = {}  # node -> when it goes, in seconds since 1970
        self._noticed = -NOTICE_AGAIN
        self._room = 0
        self._at_a_time = 0  # slots that may be starting
        self._starting: dict[int, float] = {}  # slots that have not answered yet -> since when
        self._dismissed = False
        self._counted = -COUNT_AGAIN
        self._tasks: set[asyncio.Task[None]] = set()
        self.gone = asyncio.Event()  # no slot stands
        self.gone.set()

    @property
    def size(self) -> int:
        """How many slots stand."""
        return len(self._standing)

    @property
    def expected(self) -> int:
        """How many slots run trials or soon will: not those that may wait for room on the cluster."""
        return len(self._standing) - len(self._starting) + self._soon(time.monotonic())

    def _soon(self, now: float) -> int:
        """How many slots are about to answer for the first time."""
        return sum(now - since < LONG_START for since in self._starting.values())

    def leaves_in(self, number: int, incarnation: int) -> float | None:
        """Seconds until a slot's machine is taken away; None when it stays, as far as one knows."""
        node = self._nodes.get((number, incarnation), "")
        if (until := self._draining.get(node)) is None:
            return None
        return max(0.0, until - time.time())

    def rejoin(self, number: int, incarnation: int) -> None:
        """Take up a slot that an earlier controller made.

        One that is not found may have lost its node, and a process can outlive the news of that:
        its place is kept until its lease decides.
        """
        self._latest[number] = incarnation
        name = slot_name(self._folder, number, incarnation)
        try:
            actor = ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            self._standing[number] = (incarnation, None)
            self._doubted(number, incarnation)
            self.gone.clear()
            return
        self._stand(number, incarnation, actor)

    async def fill(self, state: SweepState) -> None:
        """Make the slots that have something to run and for which the cluster has room.

        No more of them start at a time than there are cores: sixteen that start on two are slower
        than two after two, and the first no faster than the last.
        """
        now = time.monotonic()
        if now - self._counted >= COUNT_AGAIN:
            self._room = await asyncio.to_thread(cluster.room, self._spec.resources.demand())
            self._at_a_time = await asyncio.to_thread(cluster.cores)
            self._counted = now
        if now - self._noticed >= NOTICE_AGAIN:
            self._draining = await asyncio.to_thread(cluster.draining)
            self._noticed = now
        wanted = state.slots_wanted()
        starting = self._soon(now)
        for number in range(self._room if wanted is None else min(wanted, self._room)):
            if starting >= self._at_a_time:
                break
            if number not in self._standing and now >= self._not_before.get(number, 0.0):
                starting += 1
                known = state.slots.get(number)
                before = max(self._latest.get(number, 0), known.incarnation if known else 0)
                await self._make(number, before + 1)

    async def _make(self, number: int, incarnation: int) -> None:
        post = self._post(number, incarnation)
        self._starting[number] = time.monotonic()
        actor = await asyncio.to_thread(_start, post, self._folder, self._spec)
        if self._dismissed:
            ray.kill(actor)
            return
        self._stand(number, incarnation, actor)

    def _stand(self, number: int, incarnation: int, actor: Any) -> None:  # noqa: ANN401  (Ray's handle)
        self._standing[number] = (incarnation, actor)
        self.gone.clear()
        self._latest[number] = incarnation
        task = asyncio.get_running_loop().create_task(self._watch(number, incarnation, actor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, number: int, incarnation: int, actor: Any) -> None:  # noqa: ANN401  (the same)
        """Wait for a slot's end; say so if that end is sure."""
        made = time.monotonic()
        try:
            self._nodes[number, incarnation] = await _answered(actor.node_id)
            self._starting.pop(number, None)
            await _answered(actor.stand)
            cause = "it closed"
        except ray.exceptions.RayError as error:
            cause = cause_of(error)
            if not isinstance(error, SURELY) and not any(words in str(error) for words in SURE):
                log.warning("slot %d: it may live (%s); its lease decides", number, cause)
                self._doubted(number, incarnation)
                return
            log.warning("slot %d died: %s", number, error)
        quick = time.monotonic() - made < SOON
        deaths = self._quick_deaths.get(number, 0) + 1 if quick else 0
        self._quick_deaths[number] = deaths
        self._not_before[number] = time.monotonic() + min(
            SLOWEST, 0.1 * 2.0**deaths if quick else 0
        )
        self._lost(number, incarnation, cause)

    def strike(self, number: int, incarnation: int) -> None:
        """This slot is given up: make sure that nothing is left of it."""
        self._nodes.pop((number, incarnation), None)
        if self._standing.get(number, (0, None))[0] == incarnation:
            _, actor = self._standing.pop(number)
            self._starting.pop(number, None)
            if actor is not None:
                ray.kill(actor)
        if not self._standing:
            self.gone.set()

    def dismiss(self) -> None:
        """End every slot, with the trials that it runs; none is made any more."""
        self._dismissed = True
        for number, (incarnation, _) in list(self._standing.items()):
            self.strike(number, incarnation)


def cause_of(error: ray.exceptions.RayError) -> str:
    """Why a slot is gone, in a line; of one that could not start, what kept it from that."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"it could not start: {lines[-1]}" if "creation task" in lines[0] else lines[0]


async def _answered(method: Any) -> Any:  # noqa: ANN401  (the same)
    """What a slot's method returns; one that is only out of reach for a while is asked again."""
    while True:
        try:
            return await method.remote()
        except ray.exceptions.ActorUnavailableError:
            await asyncio.sleep(ASK_AGAIN)


def _start(post: Post, folder: SweepFolder, spec: SweepSpec) -> Any:  # noqa: ANN401  (the same)
    """Start a slot's actor; one that a controller made just before it died is taken up."""
    resources = spec.resources
    return (
        ray.remote(Slot)
        .options(
            name=slot_name(folder, post.slot, post.incarnation),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            resources=dict(resources.custom),
            max_restarts=0,
            max_task_retries=0,
        )
        .remote(post)
    )
