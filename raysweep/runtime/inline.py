"""Trials in the slot's own process, on threads that are kept: `isolation="none"`, for light functions.

One rule: it answers as `raysweep.runtime.process` does. What it cannot do is end a function that
never reports; such a slot ends as a whole and is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from raysweep.core.events import Ending
from raysweep.runtime.failures import failure
from raysweep.runtime.messages import Message, Order
from raysweep.runtime.trial import TrainingFunction, run
from raysweep.storage.folder import SweepFolder

BACKLOG = 10_000  # messages that a trial may be ahead of its slot
PRESSING = ("saved", "end")  # messages that are not to wait
PAUSE = 0.002  # seconds between looks whether the slot has caught up


@dataclass(slots=True, eq=False)
class InlineTrial:
    """A trial on a thread, and its channel."""

    loop: asyncio.AbstractEventLoop
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    said: deque[Message] = field(default_factory=deque)
    heard: asyncio.Event = field(default_factory=asyncio.Event)  # that something was said
    pressing: asyncio.Event = field(default_factory=asyncio.Event)  # that it is not to wait
    told: queue.SimpleQueue[Message] = field(default_factory=queue.SimpleQueue)
    over: bool = False  # whether the function has returned
    _calling: bool = False  # whether the loop is to wake up already

    def send(self, message: Message) -> None:
        """Say something, from the trial's thread; one that is far ahead waits."""
        while len(self.said) >= BACKLOG:
            time.sleep(PAUSE)
        self.said.append(message)
        self._call(pressing=message[0] in PRESSING or 2 * len(self.said) == BACKLOG)

    def receive(self, *, wait: bool) -> Message | None:
        """What the trial is told, on its thread."""
        return self.told.get() if wait or not self.told.empty() else None

    def fileno(self) -> int:
        """A thread's channel has none."""
        raise OSError("a trial in the slot's own process cannot be waited for with select")

    async def messages(self, pause: Callable[[], float]) -> AsyncIterator[list[Message]]:
        """What the trial says, as much as there is each time, until its function has returned."""
        while True:
            await self.heard.wait()
            self.heard.clear()
            self.pressing.clear()
            over = self.over  # before the last look at what was said
            if batch := [self.said.popleft() for _ in range(len(self.said))]:
                yield batch
            if over:
                self.gone.set()
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.pressing.wait(), pause())
            self._calling = False
            if self.said:
                self.heard.set()

    def tell(self, message: Message) -> None:
        """Tell the trial something."""
        self.told.put(message)

    async def stop(self, reason: str, grace: float) -> None:
        """Ask the trial to end; a thread that does not takes the slot with it."""
        if self.over:
            return
        self.tell(["stop", reason])
        try:
            await asyncio.wait_for(self.gone.wait(), max(grace, 1.0))
        except TimeoutError:
            os._exit(1)

    def unsaid_end(self) -> Message:
        """A thread always says its end; this is for the type."""
        return ["end", Ending.LOST.value, "its thread ended without an end", "", "", ""]

    def work(self, function: TrainingFunction, order: Order) -> None:
        """Run the trial, on its thread."""
        try:
            run(function, order, self)
        finally:
            self.end()

    def end(self) -> None:
        """Nothing more will be said."""
        self.over = True
        self._call(pressing=True)

    def _call(self, *, pressing: bool) -> None:
        """Wake the loop, once for all reports that are made before it looks again."""
        if pressing:
            self.loop.call_soon_threadsafe(self.pressing.set)
        if pressing or not self._calling:
            self._calling = True
            self.loop.call_soon_threadsafe(self.heard.set)


class Inline:
    """Runs trials on threads."""

    def __init__(self, folder: SweepFolder) -> None:
        self.broken: Message | None = None
        self._function: TrainingFunction | None = None
        self._idle: list[queue.SimpleQueue[tuple[InlineTrial, Order]]] = []  # a thread's inbox each
        sys.path.append(str(folder.sources))
        try:
            self._function = pickle.loads(folder.code.read_bytes())  # noqa: S301  (the user's own code, from the sweep's own folder)
        except Exception as error:  # noqa: BLE001  (the user's imports: whatever they raise is told)
            told = failure(error)
            self.broken = ["end", Ending.RAISED.value, told.error, "import", told.traceback, ""]

    async def prepared(self) -> None:
        """Nothing has to be prepared."""

    def hold_until(self, moment: float) -> None:
        """Threads stand still with their slot."""

    def stand_by(self, orders: Iterable[Order]) -> None:
        """A thread starts at once."""

    async def start(self, order: Order) -> InlineTrial:
        """Start a trial, on a thread that has none."""
        trial = InlineTrial(asyncio.get_running_loop())
        if self._function is None:
            trial.end()
            return trial
        inbox = self._idle.pop() if self._idle else self._new_thread(self._function)
        inbox.put((trial, order))
        return trial

    def _new_thread(
        self, function: TrainingFunction
    ) -> queue.SimpleQueue[tuple[InlineTrial, Order]]:
        inbox: queue.SimpleQueue[tuple[InlineTrial, Order]] = queue.SimpleQueue()

        def serve() -> None:
            while True:
                trial, order = inbox.get()
                trial.work(function, order)
                self._idle.append(inbox)

        threading.Thread(target=serve, daemon=True).start()
        return inbox

    async def close(self) -> None:
        """Nothing to end: the threads go with the slot's process."""
