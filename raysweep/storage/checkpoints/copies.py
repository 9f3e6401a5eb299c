"""Copies of a state, so that training goes on while it is written.

One rule: memory is taken once and used again, since fresh memory costs more than the copy; and no more
is taken than the machine has to spare. Where it has none, whoever saves writes from where the state is,
and waits.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import mmap
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.errors import UnstorableError
from raysweep.storage.checkpoints import trees
from raysweep.storage.checkpoints.frame import aligned
from raysweep.storage.checkpoints.leaf import Held, Leaf

IN_FLIGHT = 2  # copies at the same time, where there is room for them
SPARE = 0.25  # of the memory that is free stays so
PIECE = 2**24  # bytes that a thread moves at once
THREADS = 4  # that move memory; more do not make it faster
WORTH_THREADS = 2**23  # bytes
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


class _Buffer:
    """Memory for one copy at a time."""

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = np.frombuffer(self.memory, np.uint8).ctypes.data
        self.pinned = False


class Copies:
    """Where copies are made: a few buffers, each used again and again."""

    def __init__(self) -> None:
        self._free: list[_Buffer] = []
        self._out = 0  # buffers that are in use
        self._returned = threading.Condition()

    @cached_property
    def _movers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, thread_name_prefix="copies")

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
            self._copy(rows, held, buffer)
        except BaseException:
            self._give_back(buffer)
            raise
        events = _events() if "cuda" in devices else ()
        return Taken(
            rows=rows, copied=True, release=lambda: self._give_back(buffer), _events=events
        )

    def _copy(
        self,
        rows: list[tuple[trees.Steps, Leaf]],
        held: Sequence[tuple[int, Held]],
        buffer: _Buffer,
    ) -> None:
        """Copy what these rows hold, one after the other, and have the rows hold the copies."""
        memory, start = memoryview(buffer.memory), 0
        moves = []  # of what lies flat: from, to, bytes
        for row, data in held:
            steps, leaf = rows[row]
            size = data.nbytes
            place = memory[start : start + size]
            if address := data.address:
                moves += [
                    (address + at, buffer.address + start + at, min(PIECE, size - at))
                    for at in range(0, size, PIECE)
                ]
            else:
                try:
                    data.copy_to(place)
                except ValueError as error:
                    raise UnstorableError(f"{trees.readable(steps)} {error}") from error
            leaf.data = place
            start += aligned(size)
        self._move(moves)

    def _move(self, moves: Sequence[tuple[int, int, int]]) -> None:
        """Move flat memory; one thread alone does not move as much as memory could."""
        ends = [*itertools.accumulate(size for _, _, size in moves)]
        threads = min(THREADS, len(os.sched_getaffinity(0)))
        if not moves or ends[-1] < WORTH_THREADS or threads == 1:
            _move_in_turn(moves)
            return
        bounds = [bisect.bisect(ends, ends[-1] * share // threads) for share in range(1, threads)]
        shares = [moves[first:last] for first, last in itertools.pairwise([0, *bounds, len(moves)])]
        list(self._movers.map(_move_in_turn, shares))

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
                    buffer = _Buffer(size)
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


def _move_in_turn(moves: Sequence[tuple[int, int, int]]) -> None:
    for origin, target, size in moves:
        ctypes.memmove(target, origin, size)  # which lets other threads run


# From GPUs: a copy to pinned memory is a step in the GPU's own order of work, and waits for nobody.


def _events() -> list[Any]:
    """What comes to pass, a GPU each, when all that it was told to do so far is done."""
    cuda = sys.modules["torch"].cuda
    streams = (cuda.current_stream(device) for device in range(cuda.device_count()))
    return [stream.record_event() for stream in streams]


def _pin(buffer: _Buffer) -> None:
    """Keep the buffer where it is in memory, so that a GPU can write there; if it cannot be, it is slower."""
    runtime = sys.modules["torch"].cuda.cudart()
    buffer.pinned = int(runtime.cudaHostRegister(buffer.address, len(buffer.memory), 0)) == 0


def _unpin(buffer: _Buffer) -> None:
    if buffer.pinned:
        sys.modules["torch"].cuda.cudart().cudaHostUnregister(buffer.address)
