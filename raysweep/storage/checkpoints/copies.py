"""Copies of a state, so that training goes on while it is written.

One rule: memory is taken once and used again, since fresh memory costs more than the copy; and no more
is taken than the machine has to spare. Where it has none, whoever saves writes from where the state is,
and waits.
"""

from __future__ import annotations

import mmap
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.errors import UnstorableError
from raysweep.storage.checkpoints import trees
from raysweep.storage.checkpoints.frame import aligned
from raysweep.storage.checkpoints.leaf import Held, Leaf

IN_FLIGHT = 2  # copies at the same time, where there is room for them
SPARE = 0.25  # of the memory that is free stays so
LOOK = 0.1  # seconds between looks whether whoever waits for memory is still to wait

MEMORY = Path("/proc/meminfo")
LIMIT, USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A state as it was at one moment, to be written once and then released.

    Attributes:
        rows: its leaves.
        copied: whether the state may change meanwhile.
    """

    rows: list[tuple[trees.Steps, Leaf]]
    copied: bool
    release: Callable[[], None] = lambda: None
    _events: Sequence[Any] = ()  # after which copies from GPUs are there

    def wait(self) -> None:
        """Return once all of it is in the CPU's memory."""
        for event in self._events:
            event.synchronize()


@dataclass(slots=True)
class _Buffer:
    memory: mmap.mmap
    pinned: bool = False


@dataclass(slots=True)
class Copies:
    """Where copies are made: a few buffers, each used again and again."""

    _free: list[_Buffer] = field(default_factory=list)
    _out: int = 0  # buffers that are in use
    _returned: threading.Condition = field(default_factory=threading.Condition)

    def taken(self, tree: object, heed: Callable[[], None] = lambda: None) -> Taken:
        """A state as it is now.

        Args:
            tree: as `save` takes it.
            heed: called while there is nothing but waiting for memory that an earlier state is still
                written from; what it raises is passed on.

        Raises:
            UnstorableError: something in the tree cannot be stored; the message names its path.
        """
        rows = list(trees.flatten(tree))
        held = [
            (row, data) for row, (_, leaf) in enumerate(rows) if (data := leaf.held) is not None
        ]
        if not held:
            return Taken(rows=rows, copied=True)
        devices = {data.device for _, data in held}
        size = sum(aligned(data.nbytes) for _, data in held)
        buffer = self._buffer(size, pinned="cuda" in devices, heed=heed)
        if buffer is None:
            return Taken(rows=rows, copied=False)
        try:
            _copy(rows, held, memoryview(buffer.memory))
        except BaseException:
            self._give_back(buffer)
            raise
        events = _events() if "cuda" in devices else ()
        return Taken(
            rows=rows, copied=True, release=lambda: self._give_back(buffer), _events=events
        )

    def _buffer(self, size: int, *, pinned: bool, heed: Callable[[], None]) -> _Buffer | None:
        """A buffer of at least this size; None if no memory is to be had, and none will be."""
        with self._returned:
            while True:
                for buffer in self._free:
                    if len(buffer.memory) >= size and buffer.pinned >= pinned:
                        self._free.remove(buffer)
                        self._out += 1
                        return buffer
                while self._free:
                    _unpin(self._free.pop())  # outgrown
                if self._out < IN_FLIGHT and size < (1 - SPARE) * free_memory():
                    buffer = _Buffer(mmap.mmap(-1, size))
                    self._out += 1
                    if pinned:
                        _pin(buffer)
                    return buffer
                if not self._out:
                    return None
                if not self._returned.wait(LOOK):
                    heed()

    def _give_back(self, buffer: _Buffer) -> None:
        with self._returned:
            self._free.append(buffer)
            self._out -= 1
            self._returned.notify()


def free_memory() -> int:
    """Bytes that this machine, or the container that this is, has to give."""
    fields = dict(line.split(":") for line in MEMORY.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    try:
        return min(free, int(LIMIT.read_text()) - int(USED.read_text()))
    except (OSError, ValueError):  # there is no container, or it has no limit
        return free


def _copy(
    rows: list[tuple[trees.Steps, Leaf]], held: Sequence[tuple[int, Held]], memory: memoryview
) -> None:
    """Copy what these rows hold, one after the other, and have the rows hold the copies."""
    start = 0
    for row, data in held:
        steps, leaf = rows[row]
        place = memory[start : start + data.nbytes]
        start += aligned(data.nbytes)
        try:
            data.copy_to(place)
        except ValueError as error:
            raise UnstorableError(f"{trees.readable(steps)} {error}") from error
        leaf.data = place


# From GPUs: a copy to pinned memory is a step in the GPU's own order of work, and waits for nobody.


def _events() -> list[Any]:
    """What comes to pass, a GPU each, when all that it was told to do so far is done."""
    cuda = sys.modules["torch"].cuda
    streams = (cuda.current_stream(device) for device in range(cuda.device_count()))
    return [stream.record_event() for stream in streams]


def _pin(buffer: _Buffer) -> None:
    """Keep the buffer where it is in memory, so that a GPU can write there; if it cannot be, it is slower."""
    address = np.frombuffer(buffer.memory, np.uint8).ctypes.data
    error = sys.modules["torch"].cuda.cudart().cudaHostRegister(address, len(buffer.memory), 0)
    buffer.pinned = int(error) == 0


def _unpin(buffer: _Buffer) -> None:
    if buffer.pinned:
        address = np.frombuffer(buffer.memory, np.uint8).ctypes.data
        sys.modules["torch"].cuda.cudart().cudaHostUnregister(address)
