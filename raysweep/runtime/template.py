"""The clean process of a slot: it imports what the trials need, once, and forks one child a trial.

One rule: it stays clean. It is no fork of a Ray process, touches no GPU, runs no thread and no
trial. Where the user's imports start threads a fork is not safe; then every trial is a new
interpreter that imports for itself, and the slot is told why.

Started by `raysweep.runtime.process` with a socket to the slot as its standard of talk:

    slot -> template   ["start", token, log file, whether it has its order], with the socket of
                       the trial, which waits there for its order
                       ["begun", token]                 the trial has its order now
                       ["learn", [module]]              a trial had to import these: import them
                       ["lease", until when, process id of the slot]
    template -> slot   ["born", process id]
                       ["ready", why trials are started afresh, or ""]
                       ["broken", error, traceback]     the user's code cannot be imported
                       ["started", token, process id]
                       ["ended", token, wait status]

When the slot is gone its end of the socket closes, and every trial is killed with its children. For
that the template must outlive its slot for a moment: Ray kills the children of an actor that ends,
so it is no child of it, but the child of one that has ended.

A slot that stands still (stopped by a signal, frozen) cannot end its trials when its lease is over, and
by then they may run elsewhere. So the template knows the lease, too, and ends them and the slot.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import io
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack

from raysweep.core.plain import from_plain
from raysweep.errors import MetricError
from raysweep.runtime import loading
from raysweep.runtime.failures import failure
from raysweep.runtime.messages import PACKET, Message, Order
from raysweep.runtime.process_tree import (
    MARK,
    adopt_orphans,
    die_with_parent,
    kill_descendants,
    kill_group,
    kill_marked,
)
from raysweep.runtime.trial import TrainingFunction, run, seed_all
from raysweep.runtime.wire import packed
from raysweep.storage.folder import SweepFolder

LOOK = 0.001  # seconds between looks for what the slot says, at least: each is a system call
AWHILE = 86_400.0  # seconds; a wait without end is none that `select` knows
MODULE = "raysweep.runtime.template"  # as `python -m` knows it


class SocketChannel:
    """A trial's way to its slot, by a stream."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._told = msgpack.Unpacker()
        self._looked = 0.0  # when there was nothing, in monotonic seconds

    def send(self, message: Message) -> None:
        """Say something; when the slot is gone the process ends here."""
        said = packed(message)
        if len(said) > PACKET:
            raise MetricError(
                f"report() holds too many metrics for one message ({len(said):,} bytes);"
                f" report fewer at once, or put them into the checkpoint"
            )
        try:
            sent = self._connection.send(said)
            if sent < len(said):  # a signal came between
                self._connection.sendall(said[sent:])
        except (BrokenPipeError, ConnectionError):
            os._exit(1)

    def receive(self, *, wait: bool) -> Message | None:
        """What the slot has sent; without `wait` it looks a thousand times a second at most."""
        while True:
            message: Message | None = next(self._told, None)
            if message is not None:
                return message
            now = time.monotonic()
            if now - self._looked < LOOK and not wait:
                return None
            try:
                some = self._connection.recv(PACKET, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._looked = now
                return None
            if not some:
                os._exit(1)
            self._told.feed(some)

    def fileno(self) -> int:
        """The socket's."""
        return self._connection.fileno()


@dataclass(frozen=True, slots=True)
class _Child:
    token: int
    pid: int
    watch: int  # a file descriptor that is readable once the process has ended


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What could be imported ahead, and the process that tries it."""

    modules: tuple[str, ...]
    pid: int
    watch: int


@dataclass(frozen=True, slots=True)
class _Output:
    """What a trial prints. A full disk costs lines here, and never the trial."""

    pipe: int
    log: Path

    def copy(self) -> bool:
        """Copy what is there into the log; False when nothing more will come."""
        printed = os.read(self.pipe, PACKET)
        with contextlib.suppress(OSError), self.log.open("ab") as file:
            file.write(printed)
        return bool(printed)


class Template:
    """The loop: start what the slot asks for, tell what has ended."""

    def __init__(self, control: socket.socket, folder: SweepFolder) -> None:
        self._control = control
        self._folder = folder
        self._function: TrainingFunction | None = None
        self._afresh = ""  # why no fork is safe
        self._clean_up: Callable[[], None] = lambda: None
        self._lease_until = math.inf  # seconds of the monotonic clock, which all processes share
        self._slot = 0  # the slot's process id, once it has told its lease
        self._lessons: set[_Lesson] = set()  # that are being tried
        self._waiting: set[int] = set()  # tokens of the children that have no order yet
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Import the user's code, then serve until the slot is gone or its lease is over."""
        self._tell(["born", os.getpid()])
        try:
            prepares = self._folder.command.exists()
            with (ending_all_with if prepares else ending_with)(self._control):
                loaded = loading.load(self._folder)
        except BaseException as error:  # noqa: BLE001  (the user's code: whatever it raises is told)
            told = failure(error)
            self._tell(["broken", told.error, told.traceback])
            return
        self._function, self._afresh, self._clean_up = loaded
        loading.settle()
        self._tell(["ready", self._afresh])
        self._selector.register(self._control, selectors.EVENT_READ)
        while (left := self._lease_until - time.monotonic()) > 0:
            for key, _ in self._selector.select(min(left, AWHILE)):
                if isinstance(key.data, _Child):
                    self._bury(key.data)
                elif isinstance(key.data, _Output):
                    self._copy(key.data)
                elif isinstance(key.data, _Lesson):
                    self._heed(key.data)
                elif not self._do_next():
                    return

    def close(self) -> None:
        """Kill every trial with all that descends from it, and remove what they left; then the slot."""
        for child in self._children():
            kill_group(child.pid, signal.SIGKILL)
        kill_descendants()
        self._clean_up()
        if time.monotonic() >= self._lease_until:  # the slot would have ended itself, if it could
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._slot, signal.SIGKILL)

    def _children(self) -> list[_Child]:
        keys = (self._selector.get_map() or {}).values()
        return [key.data for key in keys if isinstance(key.data, _Child)]

    def _do_next(self) -> bool:
        """Do what the slot asks for; False when the slot is gone."""
        packet, files, _, _ = socket.recv_fds(self._control, PACKET, 1)
        if not packet:
            return False
        kind, *rest = msgpack.unpackb(packet)
        if kind == "lease":
            self._lease_until, self._slot = rest
        elif kind == "begun":
            self._waiting.difference_update(rest)
        elif kind == "learn":
            self._try(*rest)
        else:
            token, log, begun = rest
            if not begun:
                self._waiting.add(token)
            self._start(token, log, socket.socket(fileno=files[0]))
        return True

    def _start(self, token: int, log: str, connection: socket.socket) -> None:
        """Start a trial."""
        connection.set_inheritable(False)
        reading, printing = os.pipe()
        start = self._spawn if self._afresh else self._fork
        pid = start(connection, printing)
        connection.close()
        os.close(printing)
        self._selector.register(reading, selectors.EVENT_READ, _Output(reading, Path(log)))
        child = _Child(token, pid, os.pidfd_open(pid))
        self._selector.register(child.watch, selectors.EVENT_READ, child)
        self._tell(["started", token, pid])

    def _copy(self, output: _Output) -> None:
        if not output.copy():
            self._selector.unregister(output.pipe)
            os.close(output.pipe)

    def _fork(self, connection: socket.socket, printing: int) -> int:
        template = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._control.close()
            self._selector.close()
            become_trial(template, printing)
            loading.disown_finalizers()
            assert self._function is not None
            run_and_leave(self._function, connection)
        finally:
            os._exit(70)  # never back into the template's loop

    def _spawn(self, connection: socket.socket, printing: int) -> int:
        number = str(connection.fileno())
        command = [sys.executable, "-m", MODULE, "trial", number, self._folder.uri]
        process = subprocess.Popen(  # noqa: S603  (our own)
            command, pass_fds=[connection.fileno()], stdout=printing, stderr=printing
        )
        process.returncode = 0  # it is waited for here, not by subprocess
        return process.pid

    def _bury(self, child: _Child) -> None:
        """Kill what an ended trial left running, and tell how it ended."""
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        kill_group(child.pid, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.watch)
        os.close(child.watch)
        self._waiting.discard(child.token)
        others = self._children()
        spared = {other.pid for other in others} | {lesson.pid for lesson in self._lessons}
        if self._waiting.issuperset(other.token for other in others):
            kill_descendants(but=spared)  # those that had left the group
        self._tell(["ended", child.token, status])

    def _try(self, modules: list[str]) -> None:
        """Let a process that nobody needs import these, to see whether that leaves it fit to fork."""
        if self._afresh:
            return
        template, pid = os.getpid(), os.fork()
        if not pid:
            try:
                die_with_parent(template)
                before = loading.threads()
                loading.import_all(modules)
                os._exit(1 if loading.unfit(before) else 0)
            finally:
                os._exit(1)
        lesson = _Lesson(tuple(modules), pid, os.pidfd_open(pid))
        self._lessons.add(lesson)
        self._selector.register(lesson.watch, selectors.EVENT_READ, lesson)

    def _heed(self, lesson: _Lesson) -> None:
        """Import what has done no harm, so that no later trial has to."""
        self._lessons.remove(lesson)
        _, status = os.waitpid(lesson.pid, 0)
        self._selector.unregister(lesson.watch)
        os.close(lesson.watch)
        if status == 0:
            loading.import_all(lesson.modules)
            loading.settle()

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionError):  # the loop will see it
            self._control.send(msgpack.packb(message))


def become_trial(template: int, printing: int = 1) -> None:
    """Make this process the head of a group of its own that does not outlive the template.

    Args:
        template: the template's process id.
        printing: where its output, and its children's, goes.
    """
    os.setsid()
    os.dup2(printing, 1)
    os.dup2(printing, 2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a killed trial's last lines are wanted most
    die_with_parent(template)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # What it starts may want to be interrupted; Ray's threads block that, and forks inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


@contextlib.contextmanager
def ending_with(control: socket.socket) -> Iterator[None]:
    """Let the kernel end this process when the other end closes, even in code that never returns."""
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    signal.signal(signal.SIGIO, signal.SIG_DFL)  # which ends the process
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
    if not _is_open(control):
        sys.exit()
    try:
        yield
    finally:
        fcntl.fcntl(control, fcntl.F_SETFL, flags)


@contextlib.contextmanager
def ending_all_with(control: socket.socket) -> Iterator[None]:
    """End this process and all that carries its mark when the other end closes, from a thread.

    For what is prepared by our own code, and by tools that start processes of their own. The thread
    is gone when the block ends, before anything is forked.
    """
    done, over = socket.socketpair()
    mark = os.environ.get(MARK, "")

    def watch() -> None:
        with selectors.DefaultSelector() as selector:
            for each in (control, done):
                selector.register(each, selectors.EVENT_READ)
            if any(key.fileobj is control for key, _ in selector.select()):
                kill_marked(lambda found: found == mark != "")
                os._exit(1)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.send(b".")
        watching.join()
        done.close()
        over.close()


def _is_open(control: socket.socket) -> bool:
    """Whether the slot is there; it says nothing before it has heard that this is ready."""
    try:
        return bool(control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True


def run_and_leave(function: TrainingFunction, connection: socket.socket) -> None:
    """Run the trial that the connection orders, in this process, and end the process."""
    known = frozenset(sys.modules)
    # A fork copies a page when it is first written to: now, and not when it has its order.
    seed_all(0)
    channel = SocketChannel(connection)
    plain = channel.receive(wait=True)
    order = from_plain(Order, plain)
    run(function, order, channel)
    if len(sys.modules) > len(known) and (late := loading.late(known)):
        channel.send(["late", late])
    atexit._run_exitfuncs()  # noqa: SLF001  (a forked process runs none by itself)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main(role: str, descriptor: str, path: str) -> None:
    """What `python -m raysweep.runtime.template` does: be a template, or one trial afresh."""
    folder = SweepFolder.at(path)
    connection = socket.socket(fileno=int(descriptor))
    connection.set_inheritable(False)  # what the user's code starts does not hold it open
    if role == "trial":
        become_trial(os.getppid())
        run_and_leave(loading.load(folder).function, connection)
    if os.fork():
        os._exit(0)  # the slot's child ends, the template is nobody's
    adopt_orphans()
    template = Template(connection, folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's to act on
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # by way of close
    try:
        template.serve()
    finally:
        template.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
