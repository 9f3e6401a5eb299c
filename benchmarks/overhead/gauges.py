"""What a run costs the machine: CPU time and memory, read from /proc.

One rule: reading takes next to nothing and is done from outside; what is measured does not know of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from notes import Notes
from own_ray import workers

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
CONTROLLER = "ray::Controller"
EVERY = 0.1  # seconds between looks
SETTLED = 0.1  # share of the trials after which what is kept once is there, and memory only grows
BUSY = (1, 2, 3, 6, 7)  # columns of /proc/stat: user, nice, system, irq, softirq


def busy() -> float:
    """CPU seconds that this machine has spent since it started, on whatever.

    All of the machine's, not those of a tree of processes: the time of short-lived workers is lost
    to whoever looks at processes, since Ray lets the kernel reap them. So nothing else may run.
    """
    columns = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return sum(int(columns[number]) for number in BUSY) / TICK


def memory(pid: int | str = "self") -> int:
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE


@dataclass(kw_only=True)
class Growth:
    """How a process's memory grows with the trials that have ended."""

    total: int  # trials
    seen: list[tuple[int, int]] = field(default_factory=list)  # trials ended, bytes

    def look(self, ended: int, used: int) -> None:
        """Note what is in use once some trials have ended; the last one's end starts other work."""
        if SETTLED * self.total <= ended < self.total:
            self.seen.append((ended, used))

    @property
    def bytes_a_trial(self) -> float:
        """From the first look to the last."""
        if len(self.seen) < 2 or self.seen[-1][0] == self.seen[0][0]:  # noqa: PLR2004  (a slope)
            return float("nan")
        (early, less), (late, more) = self.seen[0], self.seen[-1]
        return (more - less) / (late - early)


@contextlib.contextmanager
def controller_watched(notes: Notes, trials: int) -> Iterator[Growth]:
    """Watch how the controller of a sweep that is about to start grows."""
    growth, over = Growth(total=trials), threading.Event()

    def watch() -> None:
        known = workers(CONTROLLER)  # of sweeps before, which may linger
        pid = 0
        while not over.wait(EVERY):
            pid = pid or next(iter(workers(CONTROLLER) - known), 0)
            if pid:
                with contextlib.suppress(OSError):  # it has gone
                    growth.look(notes.count(), memory(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield growth
    finally:
        over.set()
        thread.join()
