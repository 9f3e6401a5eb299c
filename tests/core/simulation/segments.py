"""The storage of a simulated journal: segments in memory, and all that a storage does to a writer.

One rule: what is written here is what a real disk would hold, byte by byte, so that the real journal
writes it, fences it and reads it back. `MemorySegments` keeps its word; `FaultySegments` is the same
storage as one controller meets it: full, out of reach, or the place where it dies.
"""

from __future__ import annotations

from collections.abc import Callable

from simulation.fate import Fate
from simulation.scenario import Fault


class Died(BaseException):
    """The process that asked is no more: nothing that it would have done next is done."""


class MemorySegments:
    """A storage without a fault."""

    least_interval = 0.0

    def __init__(self) -> None:
        self.contents: dict[int, bytearray] = {}  # by epoch
        self.snapshot: bytes | None = None
        self.full = False  # it takes no writes
        self.away = False  # it answers nothing

    def epochs(self) -> list[int]:
        """The epochs that were created."""
        return [*self.contents]

    def create(self, epoch: int) -> bool:
        """Create an epoch's segment, empty."""
        if epoch in self.contents:
            return False
        self.contents[epoch] = bytearray()
        return True

    def exists(self, epoch: int) -> bool:
        """Whether an epoch was created."""
        return epoch in self.contents

    def give_up(self, epoch: int) -> None:
        """Write no more to a segment, which stays."""

    def read(self, epoch: int, start: int = 0) -> bytes | None:
        """A segment's bytes."""
        content = self.contents.get(epoch)
        return None if content is None else bytes(content[start:])

    def append(self, epoch: int, offset: int, block: bytes) -> None:
        """Write a block at the end."""
        self.contents[epoch][offset:] = block

    def beat(self, epoch: int) -> None:
        """No sign of life is needed: nobody looks for one."""

    def silence(self) -> float | None:
        """Nobody looks for signs of life."""
        return None

    def close(self) -> None:
        """Nothing is open."""

    def name(self, epoch: int) -> str:
        """What a message calls a segment."""
        return f"segment {epoch}"

    def cut(self, epoch: int, offset: int) -> str:
        """What a message says of cutting one."""
        return f"cut {epoch} at {offset}"

    def read_snapshot(self) -> bytes | None:
        """The snapshot that was kept last."""
        return self.snapshot

    def keep_snapshot(self, content: bytes) -> None:
        """Keep a snapshot."""
        self.snapshot = content


class FaultySegments:
    """The storage as one controller meets it.

    Between two steps of a controller others may be as fast: `meanwhile` lets them.
    """

    least_interval = 0.0

    def __init__(self, storage: MemorySegments, fate: Fate, meanwhile: Callable[[], None]) -> None:
        self._storage = storage
        self._fate = fate
        self._meanwhile = meanwhile
        self._is_dead = False

    def epochs(self) -> list[int]:
        """The epochs that were created."""
        self._reach()
        return self._storage.epochs()

    def create(self, epoch: int) -> bool:
        """Create a segment; others may come before anything is in it."""
        self._reach()
        self._write()
        created = self._storage.create(epoch)
        self._meanwhile()
        return created

    def exists(self, epoch: int) -> bool:
        """Whether an epoch was created."""
        self._reach()
        return self._storage.exists(epoch)

    def give_up(self, epoch: int) -> None:
        """Write no more to a segment."""
        if not self._is_dead:
            self._reach()
            self._storage.give_up(epoch)

    def read(self, epoch: int, start: int = 0) -> bytes | None:
        """A segment's bytes."""
        self._reach()
        return self._storage.read(epoch, start)

    def append(self, epoch: int, offset: int, block: bytes) -> None:
        """Write a block, unless the storage refuses or the writer dies before, in or after it."""
        self._meanwhile()
        self._reach()
        if self._storage.full:  # a part may still have found room
            self._storage.append(epoch, offset, block[: self._fate.number(0, len(block) - 1)])
        self._write()
        if self._fate.strikes(Fault.KILLED_BEFORE_COMMIT):
            self._die()
        if self._fate.strikes(Fault.COMMIT_TORN):
            self._storage.append(epoch, offset, block[: self._fate.number(0, len(block) - 1)])
            self._die()
        self._storage.append(epoch, offset, block)
        if self._fate.strikes(Fault.KILLED_AFTER_COMMIT):
            self._die()
        self._meanwhile()

    def beat(self, epoch: int) -> None:
        """No sign of life is needed: nobody looks for one."""

    def silence(self) -> float | None:
        """Nobody looks for signs of life."""
        return None

    def close(self) -> None:
        """Nothing is open."""

    def name(self, epoch: int) -> str:
        """What a message calls a segment."""
        return self._storage.name(epoch)

    def cut(self, epoch: int, offset: int) -> str:
        """What a message says of cutting one."""
        return self._storage.cut(epoch, offset)

    def read_snapshot(self) -> bytes | None:
        """The snapshot that was kept last."""
        self._reach()
        return self._storage.read_snapshot()

    def keep_snapshot(self, content: bytes) -> None:
        """Keep a snapshot."""
        self._reach()
        self._write()
        self._storage.keep_snapshot(content)

    def _die(self) -> None:
        self._is_dead = True
        raise Died

    def _reach(self) -> None:
        if self._storage.away:
            raise OSError("the storage is out of reach")

    def _write(self) -> None:
        if self._storage.full:
            raise OSError("the storage is full")
