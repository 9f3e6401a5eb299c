"""Looks at what the controller's process is doing, some hundred times a second, from a thread inside of it.

One rule: the controller knows nothing of it. Ray runs `arm` in each worker process as it starts; the one that
turns out to host the controller writes down the stacks of its threads while reports come in, the others
leave it at that. A stack counts by the CPU time that its thread used since the look before; where a thread
is found waiting nobody knows what that was for, so it counts as unseen.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY = 0.004  # seconds between looks
WRITE_EVERY = 0.5  # seconds; a controller is killed when its sweep is over
LOOK_AGAIN = 0.05  # seconds, while it is not known what the process hosts
STILL = 0.5  # seconds without a sign of reports after which none come in
SIGN = "Controller.exchange"  # of reports that come in
OVER = "dataset.py:export"  # is called once all have come in
IDLE = b"ray::IDLE"  # the title of a worker process that hosts nothing yet
WAITING = (  # where a thread waits, or runs what is not Python
    "selectors.py:EpollSelector.select",
    "threading.py:Condition.wait",
    "concurrent/futures/thread.py:_worker",
    "ray/_private/worker.py:Worker.main_loop",
)


def arm(folder: str) -> None:
    """Begin to look, from now on, if this process comes to host the controller."""
    threading.Thread(target=_watch, args=(Path(folder),), daemon=True).start()


def _watch(folder: Path) -> None:
    title = b""
    while not title.startswith(b"ray::") or title.startswith(IDLE):
        time.sleep(LOOK_AGAIN)
        title = Path("/proc/self/cmdline").read_bytes()
    if b":Controller" in title:
        sys.setswitchinterval(1e-5)  # so that a look comes when it is due, not when the loop waits
        _Looks(folder / f"{os.getpid()}.json").go_on()


class _Looks:
    """All that was seen."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stacks: Counter[str] = Counter()  # nanoseconds of CPU time, outermost function first
        self._unseen = 0  # the same, of threads that were found waiting
        self._process = 0  # the same, of all threads, Ray's own included
        self._looking = 0  # the same, of this one
        self._elapsed = 0  # nanoseconds during which reports came in
        self._used: dict[int, int] = {}  # nanoseconds of CPU time ever, by thread

    def go_on(self) -> None:
        """Look until the sweep is over."""
        me, written, sign = threading.get_ident(), 0.0, -STILL
        before, process = time.monotonic_ns(), time.process_time_ns()
        found: dict[int, str] = {}
        while not any(OVER in stack for stack in found.values()):
            time.sleep(EVERY)
            found = {ident: _stack(frame) for ident, frame in _frames().items()}
            spent = {ident: _spent(ident) for ident in found}
            now = time.monotonic()
            sign = now if any(SIGN in stack for stack in found.values()) else sign
            if now - sign < STILL:
                self._count(me, found, spent)
                self._elapsed += time.monotonic_ns() - before
                self._process += time.process_time_ns() - process
            self._used = spent
            before, process = time.monotonic_ns(), time.process_time_ns()
            if now - written > WRITE_EVERY:
                self._write()
                written = now
        self._write()

    def _count(self, me: int, found: dict[int, str], spent: dict[int, int]) -> None:
        for ident, stack in found.items():
            used = spent[ident] - self._used.get(ident, spent[ident])
            if ident == me:
                self._looking += used
            elif stack.endswith(WAITING):
                self._unseen += used
            elif used:
                self._stacks[stack] += used

    def _write(self) -> None:
        told = {
            "seconds": self._elapsed / 1e9,
            "process": self._process / 1e9,
            "looking": self._looking / 1e9,
            "unseen": self._unseen / 1e9,
            "stacks": {stack: spent / 1e9 for stack, spent in self._stacks.items()},
        }
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(told), encoding="utf-8")
        new.rename(self._file)


def _frames() -> dict[int, FrameType]:
    return sys._current_frames()  # noqa: SLF001  (Python's way to see them)


def _spent(thread: int) -> int:
    """Nanoseconds of CPU time of a thread."""
    try:
        return time.clock_gettime_ns(time.pthread_getcpuclockid(thread))
    except OSError:  # it has just ended
        return 0


def _stack(frame: FrameType | None) -> str:
    """The functions that are being called, outermost first, as tools for flame graphs want them."""
    names: list[str] = []
    while frame is not None:
        names.append(f"{_room(frame.f_code.co_filename)}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    return ";".join(reversed(names))


def _room(path: str) -> str:
    """A file by the last parts of its path."""
    for home in ("/site-packages/", "/raysweep/", "/python3."):
        _, found, after = path.rpartition(home)
        if found:
            kept = after.partition("/")[2] if home == "/python3." else after
            return f"raysweep/{kept}" if home == "/raysweep/" else kept
    return path.rpartition("/")[2]
