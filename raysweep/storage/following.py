"""Who runs a sweep in a terminal, as others on the same machine can see.

One rule: the lock of a file tells, since it ends with the process that holds it, however that ends. A
storage that knows no locks tells nothing, and nobody is refused for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from raysweep.storage.folder import SweepFolder

OWN, CLUSTER = "own", "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """A process that runs a sweep, or that did."""

    host: str
    pid: int
    owns_ray: bool  # whether the Ray that the sweep runs on ends with it
    lives: bool

    @property
    def is_here(self) -> bool:
        """Whether this machine is its machine."""
        return self.host == socket.gethostname()


@contextlib.contextmanager
def following(folder: SweepFolder, *, owns_ray: bool) -> Iterator[None]:
    """Let others see that this process runs the sweep, for as long as it lives and does so."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = stack.enter_context(folder.followed.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"{socket.gethostname()} {os.getpid()} {OWN if owns_ray else CLUSTER}")
            file.flush()
            stack.callback(forget_follower, folder)
        yield


def forget_follower(folder: SweepFolder) -> None:
    """Nobody runs the sweep any more, or it is run in another way from now on."""
    with contextlib.suppress(OSError):
        folder.followed.unlink(missing_ok=True)


def follower_of(folder: SweepFolder) -> Follower | None:
    """Who runs the sweep, or ran it last; None when nobody ever has, or nobody can know."""
    lives = False
    try:
        with folder.followed.open() as file:
            host, pid, ray = file.read().split()
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                lives = True
    except (OSError, ValueError):
        return None
    return Follower(host=host, pid=int(pid), owns_ray=ray == OWN, lives=lives)
