"""A storage that can be filled and closed: a small file system in memory, seen by this run alone.

One rule: it is mounted in a mount namespace of the benchmark's own, which ends with it, so that
nothing stays mounted and no other process ever sees it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import processes

SIZE = 64 * 1024 * 1024  # bytes
CHUNK = 1024 * 1024
APART = "RAYSWEEP_CHAOS_APART"  # says how this process has come into its namespace, or why not
PATIENCE = 5.0  # seconds until nobody has a file open for writing
WAYS = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


def go_apart() -> None:
    """Run this program anew in a mount namespace of its own, if the machine lets us."""
    if APART in os.environ:
        return
    for way in WAYS:
        if _succeeds(*way, "true"):
            os.environ[APART] = " ".join(way)
            os.execvp(way[0], [*way, sys.executable, *sys.argv])  # noqa: S606  (this very program)
    os.environ[APART] = ""


def why_not() -> str:
    """Why no file system can be mounted here; "" if one can."""
    return "" if os.environ[APART] else "no mount namespace can be made here (`unshare --mount`)"


def mount(place: Path) -> None:
    """Mount an empty file system."""
    place.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place))


def unmount(place: Path) -> None:
    """Let go of it, whoever still looks at it."""
    _call("umount", "--lazy", str(place))


@contextlib.contextmanager
def full(place: Path) -> Iterator[None]:
    """Not a byte is free meanwhile."""
    ballast = place / ".ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            _fill(file.fileno())
        yield
    finally:
        ballast.unlink(missing_ok=True)


def _fill(file: int) -> None:
    """Write until there is no room for a single byte more."""
    size = CHUNK
    while size:
        try:
            os.write(file, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            size //= 2


@contextlib.contextmanager
def read_only(place: Path, writers_end: Callable[[], object]) -> Iterator[bool]:
    """Nobody can write meanwhile; yields False where somebody always had a file open for that."""
    writers_end()
    closed = processes.until(lambda: _remount(place, "ro"), PATIENCE, every=0.01)
    try:
        yield closed
    finally:
        _remount(place, "rw")


def _remount(place: Path, how: str) -> bool:
    return _succeeds("mount", "-o", f"remount,{how}", str(place))


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603  (ours)
    except FileNotFoundError:
        return False


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  (ours)
