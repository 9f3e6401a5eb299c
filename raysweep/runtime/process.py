"""A slot's hold on its trials' processes: start them, hear them, stop them, kill them whole.

One rule: nothing a trial does reaches the slot but its messages and its end. A trial that hangs,
holds the GIL, runs out of memory or leaves children behind is killed with its process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import msgpack

from raysweep.core.events import Ending
from raysweep.core.plain import to_plain
from raysweep.runtime.template import PACKET, kill_group
from raysweep.runtime.trial import Message, Order
from raysweep.storage.folder import SweepFolder

TERM_TO_KILL = 5.0  # seconds between SIGTERM and SIGKILL
OUT_OF_MEMORY = "; if nobody sent it, the machine ran out of memory: see `dmesg`"


@dataclass(slots=True)
class TrialProcess:
    """One trial's process, from before it is started until it is gone with all its children."""

    order: Order
    connection: socket.socket
    pid: int = 0  # 0 until it has started
    status: int | None = None  # as wait gives it
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def messages(self) -> AsyncIterator[Message]:
        """What the trial says, until its process is gone."""
        loop = asyncio.get_running_loop()
        with self.connection, contextlib.suppress(ConnectionError):
            while packet := await loop.sock_recv(self.connection, PACKET):
                yield msgpack.unpackb(packet)

    def bury(self, status: int | None) -> None:
        """The process is gone; what it said before is still heard, its orphans are not."""
        self.status = status
        self.gone.set()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def tell(self, message: Message) -> None:
        """Tell the trial something; a trial that does not listen is not waited for."""
        with contextlib.suppress(OSError):
            self.connection.send(msgpack.packb(message), socket.MSG_DONTWAIT)

    async def stop(self, reason: str, grace: float) -> None:
        """Ask the trial to end; after `grace` seconds make it."""
        self.tell(["stop", reason])
        if await self._gone_within(grace):
            return
        self.signal(signal.SIGTERM)
        if not await self._gone_within(min(grace, TERM_TO_KILL)):
            self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the trial and all its children."""
        if self.pid and not self.gone.is_set():
            kill_group(self.pid, number)

    async def _gone_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), seconds)
        return self.gone.is_set()

    def unsaid_end(self) -> Message:
        """The end of a trial that did not live to tell it."""
        status = self.status
        if status is None:
            error = "its process was lost with the slot's template process"
        elif os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            error = f"killed by {name}{OUT_OF_MEMORY if name == 'SIGKILL' else ''}"
        else:
            error = f"its process exited with code {os.WEXITSTATUS(status)} without an end"
        return ["end", Ending.KILLED.value, error, "", "", ""]


class Processes:
    """The template process of a slot and the trials that it has forked."""

    def __init__(self, folder: SweepFolder, environment: Mapping[str, str]) -> None:
        self.broken: Message | None = None  # why the user's code cannot be imported
        self.afresh = ""  # why every trial is a new interpreter
        self._folder = folder
        self._environment = dict(environment)
        self._trials: dict[int, TrialProcess] = {}
        self._tokens = 0
        self._ready = asyncio.Event()
        self._launch()

    def _launch(self) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        self._control = here
        self._ready.clear()
        command = [sys.executable, "-m", "raysweep.runtime.template", "template",
                   str(there.fileno()), str(self._folder.path)]  # fmt: skip
        self._template = subprocess.Popen(  # noqa: S603  (our own module)
            command,
            pass_fds=[there.fileno()],
            env=self._environment,
            start_new_session=True,  # it outlives a killed slot for as long as it takes to clean up
        )
        there.close()
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def start(self, order: Order) -> TrialProcess:
        """Start a trial; returns at once, the process follows."""
        await self._ready.wait()
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        trial = TrialProcess(order, here)
        if self.broken is not None:
            there.close()
            trial.bury(None)
            return trial
        self._tokens += 1
        self._trials[self._tokens] = trial
        here.send(msgpack.packb(to_plain(order)))
        start = ["start", self._tokens, str(self._folder.log(order.id.trial))]
        with there:
            socket.send_fds(self._control, [msgpack.packb(start)], [there.fileno()])
        return trial

    async def _listen(self) -> None:
        """Take what the template tells until it is gone."""
        loop = asyncio.get_running_loop()
        while packet := await loop.sock_recv(self._control, PACKET):
            kind, *rest = msgpack.unpackb(packet)
            if kind == "broken":
                self.broken = ["end", Ending.RAISED.value, rest[0], "import", rest[1], ""]
            elif kind == "ready":
                self.afresh = rest[0]
            else:
                self._note(kind, *rest)
            self._ready.set()
        self._lost_template()

    def _note(self, kind: str, token: int, number: int) -> None:
        if kind == "started":
            self._trials[token].pid = number
            return
        self._trials.pop(token).bury(number)

    def _lost_template(self) -> None:
        """The template is gone: kill what it left behind, and begin another."""
        self._control.close()
        for trial in self._trials.values():
            trial.signal(signal.SIGKILL)
            trial.bury(None)
        self._trials.clear()
        status = self._template.wait()
        if self._ready.is_set():
            if self.broken is None:
                self._launch()
            return
        error = f"importing the training code ended its process (exit status {status})"
        self.broken = ["end", Ending.KILLED.value, error, "import", "", ""]
        self._ready.set()

    async def close(self) -> None:
        """Kill every trial and the template; returns when they are gone."""
        self._listening.cancel()
        for trial in self._trials.values():
            trial.signal(signal.SIGKILL)
        self._control.close()
        await asyncio.to_thread(self._template.wait)
