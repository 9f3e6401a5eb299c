"""A process and all that descends from it: kept together, ended together.

One rule: a descendant is found whatever group or session it has moved to, since this process adopts
what its own children leave behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GENERATIONS = 100  # of orphans that are looked for, at most


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


def kill_descendants() -> None:
    """Kill and reap every child of this process, and theirs as they are adopted."""
    for _ in range(GENERATIONS):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:
            return
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value)
