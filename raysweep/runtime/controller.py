"""The controller: the one actor that holds a sweep's state, journals every event and decides.

One rule: nothing is answered before it is on disk. An event is given its time, applied, journaled
with the commands that follow from it, committed together with all that came meanwhile, and only
then answered. When the storage refuses, nothing further is applied until it takes writes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgpack
import ray

from raysweep.core.events import (
    CancelAsked,
    Discard,
    Event,
    Finish,
    LimitsChanged,
    Opened,
    SlotLost,
    Suspended,
)
from raysweep.core.exchange import Reception, Refusal, Reply, Request
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.spec import Limits
from raysweep.errors import StaleEpochError, StorageUnusableError
from raysweep.runtime import answers, heap, opening, pace, scribe
from raysweep.runtime.crew import Crew
from raysweep.runtime.failures import failure
from raysweep.runtime.sampling import Sampling
from raysweep.runtime.scribe import Scribe
from raysweep.runtime.slot import Post
from raysweep.runtime.status import Status, describe, lines
from raysweep.runtime.sweep_clock import SweepClock
from raysweep.storage.atomic import PARTIAL
from raysweep.storage.folder import SweepFolder

HOLD = 5.0  # seconds that an idle slot's request is held back for a trial to come
LOOK = 0.1  # seconds between looks at time limits, leases and slots
GOODBYE = 10.0  # seconds that slots have to leave by themselves when the sweep is over
LINGER = 300.0  # seconds that the controller of an ended sweep still answers those who watch
SHOW_ANYWAY = 1.0  # seconds that the status waits for a storage that does not answer
TIDY = 30.0  # seconds that an ended sweep has to delete what nobody needs
LOG_LINES = 2_000  # of what happened, for those who watch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """All that a controller is made with."""

    folder: str
    resumed: bool  # whether the sweep is taken up on a cluster that has none of its slots
    limits: Limits | None = None  # that hold from now on; None: those that held before


class Controller:
    """The actor. Its methods are the client's and the slots' only way to a running sweep."""

    def __init__(self, charge: Charge) -> None:
        self._folder = SweepFolder.at(charge.folder)
        self._journal, self._state = opening.taken_over(self._folder)
        self._spec = self._folder.read_spec()
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._logged = 0  # lines ever
        self._reception = Reception(self._journal.epoch, self._spec.lease)
        self._clock = SweepClock(self._state.time)
        self._scribe = Scribe(self._journal, self._clock)
        self._begun = False  # whether all that a new controller has to say is said
        self._replaced = False  # whether another controller has taken over
        self._finished = asyncio.Event()  # the results are written and the slots gone
        self._news = asyncio.Event()  # replaced each time something new can be handed out
        self._discarded: list[str] = []  # checkpoints that are to be deleted
        self._tasks: set[asyncio.Task[None]] = set()
        self._crew = Crew(self._spec, self._folder, self._post, self._slot_lost, self._doubted)
        self._sampling = Sampling(
            self._spec,
            self._state,
            apply=self._apply,
            now=self._clock.now,
            size=lambda: self._crew.expected,
        )
        self._open(charge)

    def _open(self, charge: Charge) -> None:
        kept = ray.get_runtime_context().was_current_actor_reconstructed or not charge.resumed
        self._apply(
            Opened(
                time=self._clock.now(),
                epoch=self._journal.epoch,
                slots_kept=kept,
                wall=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
        if not kept:
            with contextlib.suppress(OSError):  # before any slot is there that could write more
                self._folder.collect(self._named())
        if charge.limits not in (None, self._state.limits):
            fields = dataclasses.asdict(charge.limits)
            self._apply(LimitsChanged(time=self._clock.now(), **fields))
        for number, slot in self._state.slots.items():
            if not slot.lost:
                self._crew.rejoin(number, slot.incarnation)
                self._reception.expect(number, slot.incarnation, time.monotonic())
        beside = (self._sample, self._look, self._fill, self._verify, self._keep_snapshots)
        for work in (self._commit, *beside, self._remove_discarded, self._settle):
            self._spawn(work())
        self._begun = True
        if self._state.over:
            self._spawn(self._finish())

    # --- the slots' way in ------------------------------------------------------------------------

    async def exchange(self, packed: bytes) -> bytes:
        """Take a slot's request; answer once what it holds is durable."""
        request = from_plain(Request, msgpack.unpackb(packed))
        reply = await self._answer(request)
        answer: bytes = msgpack.packb(to_plain(reply))
        return answer

    async def _answer(self, request: Request) -> Reply:
        now = time.monotonic()
        if self._replaced:
            raise StorageUnusableError("this controller has left the sweep to another")
        if now - self._scribe.verified > self._spec.lease / 2:
            raise StorageUnusableError("nobody knows who has the sweep, so no lease is renewed")
        refusal = self._reception.admit(request, now)
        if refusal is None and self._scribe.refused:
            refusal = Refusal.PAUSED
        if refusal is not None:
            return answers.refusal(self._state, request, refusal, epoch=self._journal.epoch)
        news = self._state.novel(request, self._clock.now())
        if isinstance(news, Refusal):
            return answers.refusal(self._state, request, news, epoch=self._journal.epoch)
        if answers.has_effect(self._state, news):
            self._apply(news)
        if not self._state.slots[request.slot].holds:
            await self._hold(request)
        reply = answers.reply(
            self._state,
            request,
            epoch=self._journal.epoch,
            slots=self._crew.size,
            leave=self._crew.leaves_in(request.slot, request.incarnation),
        )
        await self._scribe.committed()
        return reply

    async def _hold(self, request: Request) -> None:
        """Keep an idle slot's request until there is a trial for it, or it is time to answer."""
        until = time.monotonic() + HOLD
        slots = self._state.slots
        while not (self._state.over or self._scribe.refused or slots[request.slot].lost):
            if self._state.can_assign(request.slot):
                self._apply(answers.no_news(request, self._clock.now()))
                return
            if (left := until - time.monotonic()) <= 0:
                return
            await _wait(self._news, left)

    # --- people's way in --------------------------------------------------------------------------

    async def status(self, since: int = 0, hold: float = 0.0) -> Status:
        """Where the sweep stands, with what was logged after line `since`.

        Args:
            since: as the status before has it.
            hold: seconds to wait for the sweep's end before answering.
        """
        await _wait(self._finished, hold)
        with contextlib.suppress(TimeoutError):  # nobody is shown what could still be lost
            await asyncio.wait_for(self._scribe.committed(), SHOW_ANYWAY)
        fresh = max(0, self._logged - since)
        return describe(
            self._state,
            now=self._clock.now(),
            slots=self._crew.size,
            paused=self._scribe.refused,
            finished=self._finished.is_set(),
            log=list(self._log)[len(self._log) - min(fresh, len(self._log)) :],
            logged=self._logged,
        )

    async def cancel(self, reason: str) -> None:
        """End the sweep; what runs is told to stop."""
        self._apply(CancelAsked(time=self._clock.now(), reason=reason))
        await self._scribe.committed()

    async def process_id(self) -> int:
        """The process id of the actor."""
        return os.getpid()

    async def suspend(self) -> None:
        """Leave the sweep as it is, for `resume`: end the slots and take no further request."""
        self._apply(Suspended(time=self._clock.now()))
        with contextlib.suppress(TimeoutError):  # a storage that refuses keeps nobody here
            await asyncio.wait_for(self._scribe.committed(), SHOW_ANYWAY)
        self._replaced = True
        self._crew.dismiss()

    # --- events in, commands out ------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        """Apply an event and gather it for the next commit."""
        commands = self._state.apply(event)
        self._scribe.gather(event, commands)
        for line in lines(event, commands, self._state):
            self._log.append(line)
            self._logged += 1
        for command in commands:
            if isinstance(command, Discard):
                self._discarded += command.paths
        self._sampling.stir()
        if self._begun and any(isinstance(command, Finish) for command in commands):
            self._spawn(self._finish())
        self._stir()

    def _stir(self) -> None:
        """Wake the requests that are held back."""
        self._news.set()
        self._news = asyncio.Event()

    async def _commit(self) -> None:
        """Write what has been gathered for as long as the controller lives."""
        try:
            await self._scribe.write_on()
        except StaleEpochError as error:
            await self._fall_silent(str(error))

    async def _fall_silent(self, why: str) -> None:
        """Another controller has the sweep: answer nobody, for good.

        One on another cluster has no use for the slots here, and gives their trials to others.
        """
        self._replaced = True
        log.error("replaced: %s", why)
        if await asyncio.to_thread(opening.is_elsewhere, self._folder, self._journal.epoch):
            self._crew.dismiss()
        ray.kill(ray.get_runtime_context().current_actor)
        await asyncio.Event().wait()

    # --- beside the loop --------------------------------------------------------------------------

    async def _sample(self) -> None:
        """Keep trials coming."""
        await self._sampling.go_on(
            over=lambda: self._state.over or self._replaced,
            paused=lambda: bool(self._scribe.refused),
        )

    async def _look(self) -> None:
        """Look after time limits and leases."""
        while not (self._state.over or self._replaced):
            now = time.monotonic()
            self._scribe.look(unseen=self._spec.lease / 2)
            if not self._scribe.refused:
                for event in self._state.due(self._clock.now()):
                    self._apply(event)
                for slot, incarnation in self._reception.silent(now, pace.margin(self._spec.lease)):
                    self._slot_lost(slot, incarnation, "it was silent for longer than its lease")
            await asyncio.sleep(LOOK)

    async def _fill(self) -> None:
        """Look after the number of slots; apart from all else, since Ray's head may be away."""
        while not (self._state.over or self._replaced):
            if not self._scribe.refused:
                await self._crew.fill(self._state)
            await asyncio.sleep(LOOK)

    async def _keep_snapshots(self) -> None:
        """Bound how long the next controller's replay takes."""
        while not (self._state.over or self._replaced):
            await self._scribe.keep_snapshot(self._folder.uri)
            await asyncio.sleep(LOOK)

    async def _remove_discarded(self) -> None:
        """Delete what was discarded, once it is committed; what is left then is collected in the end."""
        while not (self._state.over or self._replaced):
            paths, self._discarded = self._discarded, []
            if paths:
                await self._scribe.committed()
                try:
                    await asyncio.to_thread(self._folder.remove, paths)
                except OSError as error:
                    log.warning("%d checkpoints are not deleted yet: %s", len(paths), error)
            await asyncio.sleep(LOOK)

    def _named(self) -> set[str]:
        """The checkpoints that the sweep keeps."""
        return {one.checkpoint.path for t in self._state.trials for one in t.checkpoints}

    async def _tidy(self) -> None:
        """Delete what nobody needs, once the sweep is over; the sweep ends without it, and soon."""
        try:
            await asyncio.wait_for(asyncio.to_thread(self._tidied, self._named()), TIDY)
        except Exception:  # whatever it is, it costs room and no result
            log.exception("files that nobody needs are left")

    def _tidied(self, named: set[str]) -> None:
        """Delete what killed trials were writing or sending, and what is discarded and still there.

        An attempt that was given up may still write, and is heard by nobody. What a later controller
        names is not among what was there while this one still had the sweep.
        """
        left = self._folder.unnamed(named)
        if self._spec.keep_checkpoints is None:  # some were forgotten, but not to be discarded
            left = [path for path in left if path.endswith(PARTIAL)]
        self._journal.verify()
        self._folder.remove(left)
        self._folder.end_uploads()

    async def _settle(self) -> None:
        """Keep Python from looking for garbage among all trials that ever were."""
        while not (self._state.over or self._replaced):
            heap.settle()
            await asyncio.sleep(heap.EVERY)

    async def _verify(self) -> None:
        """Make sure now and then that no other controller has the sweep, though nothing is committed."""
        try:
            while not (self._state.over or self._replaced):
                if time.monotonic() - self._scribe.verified > self._spec.lease / 3:
                    await self._scribe.verify()
                await asyncio.sleep(min(scribe.AGAIN, self._spec.lease / 10))
        except StaleEpochError as error:
            await self._fall_silent(str(error))

    def _doubted(self, slot: int, incarnation: int) -> None:
        """A slot may be gone: if nothing is heard of it for a lease, it is."""
        self._reception.expect(slot, incarnation, time.monotonic())

    def _slot_lost(self, slot: int, incarnation: int, cause: str) -> None:
        """A slot is gone: its trials get another attempt."""
        self._reception.forget(slot, incarnation)
        self._crew.strike(slot, incarnation)
        if not self._state.superseded(slot, incarnation):
            self._apply(
                SlotLost(time=self._clock.now(), slot=slot, incarnation=incarnation, cause=cause)
            )

    def _post(self, slot: int, incarnation: int) -> Post:
        """What a new slot is made with; its lease counts from its first request."""
        threads = str(max(1, int(self._spec.resources.cpus)))
        return Post(
            folder=self._folder.uri,
            slot=slot,
            incarnation=incarnation,
            places=1,
            environment={"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
        )

    async def _finish(self) -> None:
        """The sweep is over: write the result files, let the slots go."""
        from raysweep.storage.dataset import export  # noqa: PLC0415  (each slot imports this module, and needs no pyarrow)

        await self._scribe.committed()
        try:
            await asyncio.to_thread(export, self._folder)
        except Exception:  # they are derived: the sweep ends without them, `export` makes them
            log.exception("result files not written")
        await _wait(self._crew.gone, GOODBYE)
        self._crew.dismiss()
        await self._tidy()
        self._finished.set()
        await asyncio.sleep(LINGER)
        ray.kill(ray.get_runtime_context().current_actor)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part of the controller that fails ends the sweep: it must not stand still unheard."""
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("the controller failed", exc_info=error)
        reason = f"the controller failed: {failure(error).error}"
        self._apply(CancelAsked(time=self._clock.now(), reason=reason))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not for longer."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
