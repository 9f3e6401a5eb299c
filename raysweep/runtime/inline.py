"""Trials in the slot's own process, a thread each: `isolation="none"`, for light functions.

One rule: it answers as `raysweep.runtime.process` does. What it cannot do is end a function that
never reports; such a slot ends as a whole and is replaced.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import queue
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from raysweep.core.events import Ending
from raysweep.runtime.failures import failure
from raysweep.runtime.trial import Message, Order, TrainingFunction, run
from raysweep.storage.folder import SweepFolder


@dataclass(slots=True)
class InlineTrial:
    """A trial in a thread, and its channel."""

    loop: asyncio.AbstractEventLoop
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    said: asyncio.Queue[Message | None] = field(default_factory=asyncio.Queue)
    told: queue.SimpleQueue[Message] = field(default_factory=queue.SimpleQueue)

    def send(self, message: Message) -> None:
        """Say something, from the trial's thread."""
        self.loop.call_soon_threadsafe(self.said.put_nowait, message)

    def receive(self, *, wait: bool) -> Message | None:
        """What the trial is told, on its thread."""
        try:
            return self.told.get(block=wait)
        except queue.Empty:
            return None

    def fileno(self) -> int:
        """A thread's channel has none."""
        raise OSError("a trial in the slot's own process cannot be waited for with select")

    async def messages(self) -> AsyncIterator[Message]:
        """What the trial says, until its function has returned."""
        while (message := await self.said.get()) is not None:
            yield message

    def tell(self, message: Message) -> None:
        """Tell the trial something."""
        self.told.put(message)

    async def stop(self, reason: str, grace: float) -> None:
        """Ask the trial to end; a thread that does not takes the slot with it."""
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
            self.loop.call_soon_threadsafe(self.said.put_nowait, None)
            self.loop.call_soon_threadsafe(self.gone.set)


class Inline:
    """Starts trials in threads."""

    def __init__(self, folder: SweepFolder) -> None:
        self.broken: Message | None = None
        self._function: TrainingFunction | None = None
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

    async def start(self, order: Order) -> InlineTrial:
        """Start a trial."""
        trial = InlineTrial(asyncio.get_running_loop())
        if self._function is None:
            trial.said.put_nowait(None)
            trial.gone.set()
            return trial
        threading.Thread(target=trial.work, args=(self._function, order), daemon=True).start()
        return trial

    async def close(self) -> None:
        """Nothing to end: the threads go with the slot's process."""
