"""The attempts that a slot runs: begun, heard, stopped, ended, and written down in its book.

One rule: an attempt that was begun gets its end written down, whatever happens. Who talks to the
controller is `raysweep.runtime.slot`, an actor; nothing in here knows Ray, whose actors' methods cost
more to call than a report may.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Protocol

from raysweep.core.events import Assign, AttemptId, Checkpoint, End, Ending, Stop
from raysweep.core.exchange import Acknowledged, SlotBook
from raysweep.core.samplers import trial_seed
from raysweep.core.spec import SweepSpec
from raysweep.runtime import pace
from raysweep.runtime.failures import failure
from raysweep.runtime.messages import LEAVING, Message, Order
from raysweep.storage.atomic import PASSING
from raysweep.storage.folder import SweepFolder

TO_TELL = 3.0  # seconds that a trial's end takes to reach the journal, before its machine is gone
STORAGE_AGAIN = 1.0  # seconds between tries at a bucket that is away

log = logging.getLogger(__name__)


class Running(Protocol):
    """A trial that runs somewhere: in a process of its own or in the slot's."""

    @property
    def gone(self) -> asyncio.Event:
        """Set once nothing of the trial is left."""

    def messages(self, pause: Callable[[], float]) -> AsyncIterator[list[Message]]:
        """What the trial says, as much as there is each time, until it can say no more.

        Args:
            pause: tells for how many seconds reports may lie unread just now.
        """

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

    def stand_by(self, orders: Iterable[Order]) -> None:
        """Make ready for these, which start before long, and for no others."""

    async def start(self, order: Order) -> Running:
        """Start a trial."""

    async def close(self) -> None:
        """End everything that was started."""


class Attempts:
    """What runs on one slot; belongs to its loop."""

    def __init__(
        self, spec: SweepSpec, folder: SweepFolder, book: SlotBook, launcher: Launcher
    ) -> None:
        self.leaving = False  # whether the machine is to be taken away
        self.stirred = asyncio.Event()  # something is to be said
        self.exchange_takes: float | None = None  # seconds, usually
        self._spec = spec
        self._folder = folder
        self._book = book
        self._launcher = launcher
        self._starting: dict[AttemptId, Assign] = {}  # begun, and not yet running
        self._running: dict[AttemptId, Running] = {}
        self._ending: set[AttemptId] = set()  # told to stop
        self._dropped: set[AttemptId] = set()  # not the slot's to speak of any more
        self._moved: set[AttemptId] = set()  # ended since the machine is to be taken away
        self._answered = asyncio.Event()  # replaced after each reply
        self._trial_takes: float | None = None  # seconds, usually
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what the slot is told --------------------------------------------------------------------

    def do(self, commands: Iterable[Assign | Stop]) -> None:
        """Do what a reply says."""
        for command in commands:
            if isinstance(command, Assign):
                self._begin(command)
            else:
                self._stop(command)
        self._stand_by()
        self._answered.set()
        self._answered = asyncio.Event()

    def tell_heard(self, acknowledged: Iterable[Acknowledged]) -> None:
        """Let go on the trials whose reports have been decided on."""
        for each in acknowledged:
            if running := self._running.get(each.id):
                running.tell(["heard", each.report])

    def asked(self, seconds: float) -> None:
        """An exchange took so long."""
        self.exchange_takes = pace.average(self.exchange_takes, seconds)

    def leave(self, seconds: float) -> None:
        """Take nothing new, and have what runs move elsewhere before the machine is taken away."""
        self.leaving = True
        self._book.places = self._book.ahead = 0
        self._book.give_back()
        self._stand_by()
        self.stirred.set()
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

    # --- running ----------------------------------------------------------------------------------

    def _begin(self, assign: Assign) -> None:
        """Begin an attempt; what waits behind it goes back if it takes much longer than usual."""
        self._starting[assign.id] = assign
        self._spawn(self._run(assign))
        if self._book.ahead:
            usual = self._trial_takes or 0.0
            loop = asyncio.get_running_loop()
            loop.call_later(pace.patience(usual), self._give_back_behind, assign.id)

    def _give_back_behind(self, id_: AttemptId) -> None:
        if (id_ in self._running or id_ in self._starting) and self._book.queued:
            self._book.give_back()
            self._stand_by()
            self.stirred.set()

    def _stand_by(self) -> None:
        """Let the launcher be ready for what begins next."""
        soon = (*self._starting.values(), *self._book.next_up)
        self._launcher.stand_by(self._order(assign) for assign in soon)

    def _order(self, assign: Assign) -> Order:
        return Order(
            id=assign.id,
            params=assign.params,
            seed=trial_seed(self._spec.seed, assign.id.trial),
            folder=self._folder.uri,
            checkpoint=assign.checkpoint.path if assign.checkpoint else "",
            start=assign.start,
            metric=self._spec.objective.metric,
            sync=self._spec.sync_decisions,
        )

    async def _run(self, assign: Assign) -> None:
        """Run an attempt from its start to its end, and write that end down whatever happens."""
        id_, began = assign.id, time.monotonic()
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
        self._starting.pop(id_, None)
        self._running.pop(id_, None)
        self._trial_takes = pace.average(self._trial_takes, time.monotonic() - began)
        if id_ not in self._dropped:
            self._finish(id_, end)
        self._go_on()
        for noted in (self._dropped, self._ending, self._moved):
            noted.discard(id_)

    async def _ran(self, assign: Assign) -> Message:
        """Run an attempt; its end."""
        id_ = assign.id
        if id_.attempt > 1:  # what the one before has left is added to
            left = self._folder.left_by(*id_)
            await self._patiently(id_, lambda: self._folder.fetch_all(*left))
        running = await self._launcher.start(self._order(assign))
        self._starting.pop(id_)
        self._running[id_] = running
        if self.leaving:
            running.tell(["leave"])
        if id_ in self._ending or id_ in self._dropped:
            self._spawn(running.stop("", 0.0))
        end = None
        async for batch in running.messages(self._pause):
            is_news = not self._book.waiting  # otherwise a request is on its way or due already
            for message in batch:
                if message[0] == "end":
                    end = message
                    self._spawn(running.stop("", self._spec.grace))  # its process should end, too
                elif id_ not in self._dropped:
                    self._note(id_, message)
            if is_news or self._book.crowded:
                self.stirred.set()
            while self._book.full(id_):  # what it says further waits
                await self._answered.wait()
        await running.gone.wait()
        return end or self._launcher.broken or running.unsaid_end()

    def _pause(self) -> float:
        """Seconds that reports may lie unread: they would not be sent much sooner."""
        if self._spec.sync_decisions:
            return 0.0
        return pace.eased(self._book.tick, self.exchange_takes) / 2

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

    def _note(self, id_: AttemptId, message: Message) -> None:
        """Write down what a trial says."""
        if message[0] == "report":
            self._book.add(id_, message[1])
        elif message[0] == "metrics":
            self._book.name(id_, tuple(message[1]))
        elif message[0] == "fresh":
            self._book.fresh(id_)
        else:
            _, report, path, size, checksum = message
            self._book.checkpoint(
                Checkpoint(id=id_, report=report, path=path, size=size, checksum=checksum)
            )

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

    def _go_on(self) -> None:
        """Fill the places that have become free, and see how much is worth holding ready."""
        if not self.leaving and self.exchange_takes is not None and self._trial_takes is not None:
            self._book.ahead = pace.queue(self.exchange_takes, self._trial_takes)
        for assign in self._book.next_to_begin():
            self._begin(assign)
        self._stand_by()
        self.stirred.set()

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
