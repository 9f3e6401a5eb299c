"""Copies of a state, so that training goes on while it is written.

One rule: memory is taken once and used again, since fresh memory costs more than the copy; and no more
is taken than the machine has to spare. Where it has none, the state is not copied, and whoever saves it
writes from where it is and waits.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import itertools
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.errors import UnstorableError
from raysweep.storage.checkpoints import trees
from raysweep.storage.checkpoints.frame import aligned
from raysweep.storage.checkpoints.leaf import Held, Leaf

SPARE = 0.25  # of the memory that is free stays so
PIECE = 2**24  # bytes that a thread moves at once
THREADS = 4  # that move memory; more do not make it faster
WORTH_THREADS = 2**23  # bytes

MEMORY = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")
CONTAINERS = (  # of version 2 and 1: the limit, what is used, of what it consists, what of it is files
    (GROUPS / "memory.max", GROUPS / "memory.current", GROUPS / "memory.stat", "inactive_file"),
    (GROUPS / "memory" / "memory.limit_in_bytes", GROUPS / "memory" / "memory.usage_in_bytes",
     GROUPS / "memory" / "memory.stat", "total_inactive_file"),
)  # fmt: skip


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
        self.memory.madvise(mmap.MADV_DONTFORK)  # a child would make each page a new one, here
        self.address = np.frombuffer(self.memory, np.uint8).ctypes.data
        self.pinned = False


class Copies:
    """Where copies are made: a few buffers, each used again and again."""

    def __init__(self) -> None:
        self._free: list[_Buffer] = []
        self._pins = True  # until memory could not be pinned
        self._turn = threading.RLock()  # a signal's handler may take a state, too

    @cached_property
    def _movers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, thread_name_prefix="copies")

    def taken(self, tree: object) -> Taken:
        """A state as it is now; not copied if there is no memory for that.

        Raises:
            UnstorableError: something in the tree cannot be stored; the message names its path.
        """
        rows = list(trees.flatten(tree))
        held = [
            (row, data) for row, (_, leaf) in enumerate(rows) if (data := leaf.held) is not None
        ]
        if not held:
            return Taken(rows=rows, copied=True)
        gpus = {data.device for _, data in held if data.device.startswith("cuda")}
        buffer = self._buffer(sum(aligned(data.nbytes) for _, data in held), pinned=bool(gpus))
        if buffer is None:
            return Taken(rows=rows, copied=False)
        try:
            self._copy(rows, held, buffer)
        except BaseException:
            for event in _events(gpus):
                event.synchronize()
            self._give_back(buffer)
            raise
        release = partial(self._give_back, buffer)
        return Taken(rows=rows, copied=True, release=release, _events=_events(gpus))

    def close(self) -> None:
        """Give all memory back; nothing that was taken may be in use any more."""
        with self._turn:
            while self._free:
                _unpin(self._free.pop())
        if "_movers" in vars(self):
            self._movers.shutdown(wait=False)

    def _buffer(self, size: int, *, pinned: bool) -> _Buffer | None:
        """A buffer of at least this size; None if no memory is to be had."""
        with self._turn:
            pinned = pinned and self._pins
            while self._free:
                buffer = self._free.pop()
                if len(buffer.memory) >= size and buffer.pinned >= pinned:
                    return buffer
                _unpin(buffer)  # outgrown
            if size >= (1 - SPARE) * free_memory():
                return None
            buffer = _Buffer(size)
            if pinned:
                self._pins = _pin(buffer)
            return buffer

    def _give_back(self, buffer: _Buffer) -> None:
        with self._turn:
            self._free.append(buffer)

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
        moving = [self._movers.submit(_move_in_turn, share) for share in shares]
        try:
            for each in moving:
                each.result()
        finally:  # an interrupt must not leave them moving what somebody frees
            futures.wait(moving)


def free_memory() -> int:
    """Bytes that this machine, or the container that this is, has to give."""
    free = _fields(MEMORY)["MemAvailable:"] * 1024
    for limit, used, stat, inactive in CONTAINERS:
        # There may be no container of this kind, or none with a limit. What it keeps of files that
        # it has read or written goes when there is no room.
        with contextlib.suppress(OSError, ValueError, KeyError):
            files = _fields(stat)[inactive]
            free = min(free, int(limit.read_text()) - int(used.read_text()) + files)
    return max(0, free)


def _fields(file: Path) -> dict[str, int]:
    """The numbers of a file that has a name and a number a line."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {name: int(number) for name, number, *_ in lines}


def _move_in_turn(moves: Sequence[tuple[int, int, int]]) -> None:
    for origin, target, size in moves:
        ctypes.memmove(target, origin, size)  # which lets other threads run


# From GPUs: a copy to pinned memory is a step in the GPU's own order of work, and waits for nobody.


def _events(gpus: Iterable[str]) -> list[Any]:
    """What comes to pass, a GPU each, when all that it was told to do so far is done."""
    return [sys.modules["torch"].cuda.current_stream(gpu).record_event() for gpu in gpus]


def _pin(buffer: _Buffer) -> bool:
    """Keep the buffer where it is in memory, so that a GPU can write there; without that it is slower."""
    runtime = sys.modules["torch"].cuda.cudart()
    buffer.pinned = int(runtime.cudaHostRegister(buffer.address, len(buffer.memory), 0)) == 0
    return buffer.pinned


def _unpin(buffer: _Buffer) -> None:
    if buffer.pinned:
        sys.modules["torch"].cuda.cudart().cudaHostUnregister(buffer.address)
