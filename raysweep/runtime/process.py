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
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

from raysweep.core.events import AttemptId, Ending
from raysweep.core.plain import to_plain
from raysweep.runtime.messages import PACKET, Message, Order
from raysweep.runtime.process_tree import MARK, kill_group, kill_marked, killed_by
from raysweep.runtime.wire import Reader
from raysweep.storage.folder import SweepFolder

CROWD = 4096  # bytes of reports that have come together
CROWD_PAUSE = 0.005  # seconds
WRITTEN_AHEAD = 1 << 20  # bytes that the kernel holds of what a trial has said, or less if it must
DEATHS = 3  # of templates in a row before the user's code is at fault
LESSONS = 3  # a template is told at most so often what it could import for its trials
FAREWELL = 10.0  # seconds that a template has to kill what it started
TERM_TO_KILL = 5.0  # seconds between SIGTERM and SIGKILL
TELL_LEASE = 0.25  # seconds by which a lease grows before the template is told
KILLS = 3  # of a trial; one that is not gone then has a template that does not bury it


@dataclass(slots=True)
class TrialProcess:
    """One trial's process, from before it is started until it is gone with all its children."""

    order: Order
    connection: socket.socket
    far_end: socket.socket  # the trial's, until the template has it
    give_up: Callable[[TrialProcess], None]  # for a trial that does not start
    learn: Callable[[list[str]], None]  # of what it had to import
    begun: bool = False  # whether it was given its order
    pid: int = 0  # 0 until it has started
    status: int | None = None  # as wait gives it
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def messages(self, pause: Callable[[], float]) -> AsyncIterator[list[Message]]:
        """What the trial says, as much as there is each time, until its process is gone."""
        loop = asyncio.get_running_loop()
        said = Reader()
        with self.connection, contextlib.suppress(ConnectionError):
            while some := await loop.sock_recv(self.connection, PACKET):
                batch = said.messages(some)
                if batch and batch[-1][0] == "late":  # nothing follows it
                    self.learn(batch.pop()[1])
                yield batch
                if len(some) > CROWD:  # more will follow at once: they are cheaper together
                    await asyncio.sleep(min(pause(), CROWD_PAUSE))

    def bury(self, status: int | None) -> None:
        """The process is gone; what it said before is still heard, its orphans are not."""
        self.status = status
        self.gone.set()
        self.far_end.close()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def tell(self, message: Message) -> None:
        """Tell the trial something; a trial that does not listen is not waited for."""
        with contextlib.suppress(OSError):
            self.connection.send(msgpack.packb(message), socket.MSG_DONTWAIT)

    async def stop(self, reason: str, grace: float) -> None:
        """Ask the trial to end; after `grace` seconds make it. Returns when it is gone."""
        self.tell(["stop", reason])
        if await self._gone_within(grace):
            return
        self.signal(signal.SIGTERM)
        killed = 0
        while not await self._gone_within(min(grace, TERM_TO_KILL) if self.pid else 0.0):
            self.signal(signal.SIGKILL)
            killed += 1
            if not self.pid or killed > KILLS:
                self.give_up(self)
            grace = TERM_TO_KILL

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
            return ["end", Ending.LOST.value, error, "", "", ""]
        if os.WIFSIGNALED(status):
            error = killed_by(os.WTERMSIG(status))
        else:
            error = f"its process exited with code {os.WEXITSTATUS(status)} without an end"
        return ["end", Ending.KILLED.value, error, "", "", ""]


def _is_older(mark: str, other: str) -> bool:
    """Whether a mark is that of an earlier incarnation of a slot than another: `...slot-3.1`."""
    place, _, incarnation = mark.rpartition(".")
    same, _, later = other.rpartition(".")
    return place == same != "" and incarnation.isdecimal() and int(incarnation) < int(later)


class Processes:
    """The template process of a slot and the trials that it has forked."""

    def __init__(self, folder: SweepFolder, environment: Mapping[str, str]) -> None:
        self.broken: Message | None = None  # why the user's code cannot be imported
        self.afresh = ""  # why every trial is a new interpreter
        self._folder = folder
        self._environment = dict(environment)
        self._trials: dict[int, TrialProcess] = {}
        self._standing_by: dict[AttemptId, tuple[int, TrialProcess]] = {}  # with their tokens
        self._tokens = 0
        self._template = 0  # its process id, once it has told it
        self._ready = False  # whether it has imported the user's code
        self._lessons = 0  # that the template was given
        self._deaths = 0  # of templates in a row that had not
        self._settled = asyncio.Event()  # it has been ready, or it will never be
        self._held_until = 0.0  # as the template knows
        self._mark = self._environment.get(MARK, "")
        if self._mark:  # one that was killed together with its template may have left something
            kill_marked(lambda mark: _is_older(mark, self._mark))
        self._launch()

    def _launch(self) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        self._control = here
        self._template, self._ready, self._held_until, self._lessons = 0, False, 0.0, 0
        command = [sys.executable, "-m", "raysweep.runtime.template", "template",
                   str(there.fileno()), self._folder.uri]  # fmt: skip
        self._starter = subprocess.Popen(  # noqa: S603  (our own module; it ends when it has forked)
            command, pass_fds=[there.fileno()], env=self._environment, start_new_session=True
        )
        there.close()
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def prepared(self) -> None:
        """Return once trials can be taken; a command's inputs and environment may take minutes.

        A function's imports are not waited for: they are the user's code, whose time a trial's
        limits hold.
        """
        if self._folder.command.exists():
            await self._settled.wait()

    def hold_until(self, moment: float) -> None:
        """Let the trials live until then, in seconds of the monotonic clock, and the slot, too."""
        if self._ready and moment - self._held_until > TELL_LEASE:
            self._held_until = moment
            lease = ["lease", moment, os.getpid()]
            with contextlib.suppress(OSError):  # a template that is lost or hangs is seen elsewhere
                self._control.send(msgpack.packb(lease), socket.MSG_DONTWAIT)

    def stand_by(self, orders: Iterable[Order]) -> None:
        """Have a process wait for each of these orders, and for no others.

        Not where a process imports for itself: what it imports may take a GPU's memory.
        """
        wanted = {order.id: order for order in orders}
        for id_ in self._standing_by.keys() - wanted.keys():
            _, trial = self._standing_by.pop(id_)
            trial.connection.close()  # which ends it
        for order in wanted.values() if self._ready and not self.afresh else ():
            if order.id not in self._standing_by:
                self._standing_by[order.id] = self._new(order)

    async def start(self, order: Order) -> TrialProcess:
        """Start a trial, now or as soon as the template is ready."""
        token, trial = self._standing_by.pop(order.id, (0, None))
        if trial is None or trial.gone.is_set():
            token, trial = self._new(order)
        trial.begun = True
        with contextlib.suppress(OSError):  # it is gone since, which is heard
            told = msgpack.packb(to_plain(order))
            await asyncio.get_running_loop().sock_sendall(trial.connection, told)
            self._control.send(msgpack.packb(["begun", token]), socket.MSG_DONTWAIT)
        return trial

    def _new(self, order: Order) -> tuple[int, TrialProcess]:
        """A process that waits for its order, with the template's token for it."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        here.setblocking(False)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WRITTEN_AHEAD)
        trial = TrialProcess(order, here, there, self._give_up, self._learn)
        if self.broken is not None:
            trial.bury(None)
            return 0, trial
        self._tokens += 1
        self._trials[self._tokens] = trial
        if self._ready:
            self._hand_over(self._tokens, trial)
        return self._tokens, trial

    def _learn(self, modules: list[str]) -> None:
        """Have the template import what a trial had to, for those after it; a few times will do."""
        if self._ready and self._lessons < LESSONS:
            self._lessons += 1
            with contextlib.suppress(OSError):
                self._control.send(msgpack.packb(["learn", modules]), socket.MSG_DONTWAIT)

    def _hand_over(self, token: int, trial: TrialProcess) -> None:
        """Let the template start a trial's process."""
        start = ["start", token, str(self._folder.log(trial.order.id.trial)), trial.begun]
        with contextlib.suppress(OSError), trial.far_end as end:  # a lost template is seen below
            socket.send_fds(self._control, [msgpack.packb(start)], [end.fileno()])

    async def _listen(self) -> None:
        """Take what the template tells until it is gone."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while packet := await loop.sock_recv(self._control, PACKET):
                self._hear(*msgpack.unpackb(packet))
        await self._lost_template()

    def _hear(self, kind: str, *rest: Any) -> None:  # noqa: ANN401  (what the template's page says)
        if kind == "born":
            (self._template,) = rest
        elif kind == "broken":
            self.broken = ["end", Ending.RAISED.value, rest[0], "import", rest[1], ""]
            self._settled.set()
        elif kind == "ready":
            (self.afresh,) = rest
            self._ready, self._deaths = True, 0
            self._settled.set()
            for token, trial in self._trials.items():
                self._hand_over(token, trial)
        elif kind == "started":
            self._trials[rest[0]].pid = rest[1]
        else:
            self._trials.pop(rest[0]).bury(rest[1])

    async def _lost_template(self) -> None:
        """The template is gone: kill what it left behind, and begin another."""
        self._control.close()
        if self._mark:  # what had left its trial's group has lost who would have found it
            await asyncio.to_thread(kill_marked, lambda mark: mark == self._mark)
        if not self._ready:
            self._deaths += 1
        if self._deaths >= DEATHS and self.broken is None:
            error = f"importing the training code ended its process, {DEATHS} times in a row"
            self.broken = ["end", Ending.KILLED.value, error, "import", "", ""]
            self._settled.set()
        if self._ready or self.broken is not None:  # otherwise the next one starts them
            for trial in self._trials.values():
                trial.signal(signal.SIGKILL)
                trial.bury(None)
            self._trials.clear()
        for _, trial in self._standing_by.values():
            trial.connection.close()
        self._standing_by.clear()
        self._ready = False
        await asyncio.to_thread(self._starter.wait)
        if self.broken is None:
            self._launch()

    def _give_up(self, trial: TrialProcess) -> None:
        """End a trial whose template hangs: in the user's code, or stopped by a signal."""
        tokens = [token for token, other in self._trials.items() if other is trial]
        for token in tokens:
            self._trials.pop(token).bury(None)
        if self._template:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._template, signal.SIGKILL)

    async def close(self) -> None:
        """Kill every trial and the template; returns when they are gone."""
        self._listening.cancel()
        for trial in self._trials.values():
            trial.signal(signal.SIGKILL)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            self._control.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(FAREWELL):
                while await loop.sock_recv(self._control, PACKET):
                    pass
        self._control.close()
        await asyncio.to_thread(self._starter.wait)
