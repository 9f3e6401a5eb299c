"""What a node keeps for the trials that land on it: downloads, and environments.

One rule: a thing is made once, however many processes ask, and counts only when it is whole. The
makers take turns under a file's lock, which the system takes back from a process that dies; a stamp
that is written last tells what is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from raysweep.errors import SpecError
from raysweep.storage.private import PLACE, PRIVATE, node_place, private

BERTH = "trials-"  # what the names of berths begin with
HELD, GUARD = ".held", ".guard"  # the lock of a berth; what ends the name of that of a cache

Make = Callable[[Path, int], None]  # fills a folder; the lock's descriptor, for its children


def node_root() -> Path:
    """The folder of this node in which sweeps have theirs, this user's alone.

    Raises:
        StorageUnusableError: It cannot be made, or is somebody else's.
    """
    return private(private(node_place()) / "sweeps")


def node_cache(sweep_id: str) -> Path:
    """A folder of this node for one sweep, this user's alone.

    Raises:
        StorageUnusableError: It cannot be made, or is somebody else's.
    """
    if sweep_id in ("", ".", "..") or sweep_id != Path(sweep_id).name:
        raise SpecError(f"a sweep's id must be usable as a folder's name, but got {sweep_id!r}")
    return private(node_root() / sweep_id)


def user_cache() -> Path:
    """A folder for what outlives a sweep, this user's alone; below the home, nodes may share it.

    Raises:
        StorageUnusableError: It cannot be made, or is somebody else's.
    """
    if os.environ.get(PLACE):
        return private(node_place())
    return private(Path("~/.cache/raysweep").expanduser())


@dataclass(frozen=True, kw_only=True)
class Berth:
    """A slot's place on a node for what its trials need while they run.

    Who holds one holds the lock of a file in it, which the system takes back from a process that
    dies: what is left in a berth that nobody holds is nobody's.
    """

    cache: Path  # of the sweep on this node, shared by its slots
    place: Path  # this slot's own, in the cache
    _lock: int  # the descriptor of the file that tells that it is held

    @classmethod
    def taken(cls, sweep_id: str) -> Self:
        """A new berth in a sweep's cache; caches that were abandoned on this node are removed.

        Raises:
            StorageUnusableError: The cache cannot be made, or is somebody else's.
        """
        root = node_root()
        for abandoned in root.iterdir():
            if abandoned.is_dir() and abandoned.name != sweep_id:
                clear(abandoned)
        with _guarded(root / sweep_id):
            cache = node_cache(sweep_id)
            place = Path(tempfile.mkdtemp(prefix=BERTH, dir=cache))
            lock = os.open(place / HELD, os.O_RDWR | os.O_CREAT, PRIVATE)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(cache=cache, place=place, _lock=lock)

    def left(self) -> list[str]:
        """Leave it; the names of the berths that are removed, this one and those of the dead."""
        os.close(self._lock)
        return clear(self.cache)


def clear(cache: Path) -> list[str]:
    """Remove a cache's berths that nobody holds, and with the last of all the cache; their names."""
    with _guarded(cache):
        berths = sorted(cache.glob(f"{BERTH}*"))
        free = [berth for berth in berths if not _is_held(berth)]
        for berth in free:
            shutil.rmtree(berth, ignore_errors=True)
        if free == berths:
            shutil.rmtree(cache, ignore_errors=True)
    return [berth.name for berth in free]


def _guarded(cache: Path) -> contextlib.AbstractContextManager[int]:
    """Be the only one who changes what berths a cache has; the lock lies beside it and stays."""
    return _locked(cache.with_name(f"{cache.name}{GUARD}"), lambda: None)


def _is_held(berth: Path) -> bool:
    """Whether the process that took a berth is alive, or a trial that it started."""
    try:
        lock = os.open(berth / HELD, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def once(folder: Path, make: Make, *, wait: Callable[[], None] = lambda: None) -> Path:
    """A folder that `make` has filled, once for all processes that share it.

    A `make` that raises, or whose process dies, leaves nothing that counts: the next one begins
    with an empty folder.

    Args:
        folder: Where; beside it lie its lock and its stamp.
        make: Fills the folder, which it finds empty. What it starts should inherit the lock's
            descriptor, so that a child that outlives it is waited for.
        wait: Called when another process is at it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    stamp = folder.with_name(f"{folder.name}.whole")
    if _whole(folder, stamp):
        return folder
    with _locked(folder.with_name(f"{folder.name}.lock"), wait) as descriptor:
        if not _whole(folder, stamp):
            stamp.unlink(missing_ok=True)
            _fill(folder, make, descriptor)
            stamp.touch()
    return folder


def _whole(folder: Path, stamp: Path) -> bool:
    return stamp.exists() and folder.is_dir()


def _fill(folder: Path, make: Make, descriptor: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        make(folder, descriptor)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(path: Path, wait: Callable[[], None]) -> Iterator[int]:
    """Hold a file's lock; yields its descriptor. The file stays: removing it would free two makers."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
