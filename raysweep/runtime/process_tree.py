"""A process and all that descends from it: kept together, ended together.

One rule: a descendant is found whatever group or session it has moved to, since this process adopts
what its own children leave behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Container
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
OUT_OF_MEMORY = "; if nobody sent it, the machine ran out of memory: see `dmesg`"
MARK = "RAYSWEEP_SLOT"  # the variable that tells whose a process is, wherever it has gone
_LIBC = ctypes.CDLL(None, use_errno=True)
GENERATIONS = 100  # of orphans that are looked for, at most


def kill_marked(is_meant: Callable[[str], bool]) -> None:
    """Kill every process of this user whose environment has a mark that is meant, but not this."""
    own = str(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != own and is_meant(_mark_of(entry)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry.name), signal.SIGKILL)


def _mark_of(entry: Path) -> str:
    """The mark that a process was started with; "" without one."""
    try:
        variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is somebody else's
        return ""
    given = (each for each in variables if each.startswith(f"{MARK}=".encode()))
    return next(given, b"=").partition(b"=")[2].decode(errors="replace")


def killed_by(number: int) -> str:
    """How a process ended that a signal has ended, in words.

    >>> killed_by(11)
    'killed by SIGSEGV'
    """
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal, or no signal at all
        name = f"signal {number}"
    return f"killed by {name}{OUT_OF_MEMORY if name == 'SIGKILL' else ''}"


def kill_group(leader: int, number: signal.Signals) -> None:
    """Signal a process and all of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends; at once if it has ended already."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, whatever group it is in."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def ending_with_parent() -> Callable[[], None]:
    """What a child runs before its program, to be killed when this process ends: `preexec_fn`."""
    parent = os.getpid()
    return lambda: die_with_parent(parent)


def children() -> list[int]:
    """The children of this process, those that it has adopted and those that wait to be reaped."""
    return [*map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())]


def reap(*, but: Container[int]) -> None:
    """Let the children go that have ended, but for those that somebody else waits for."""
    for child in children():
        if child not in but:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def kill_descendants(*, but: Container[int] = ()) -> None:
    """Kill and reap every child of this process but some, and theirs as they are adopted."""
    for _ in range(GENERATIONS):
        found = [child for child in children() if child not in but]
        if not found:
            return
        for child in found:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _prctl(option: int, value: int) -> None:
    _LIBC.prctl(option, value)
