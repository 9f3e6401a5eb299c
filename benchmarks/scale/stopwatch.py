"""Whose CPU time it is: the controller's, or that of what is played around it.

One rule: at every moment exactly one account runs; whoever takes over says so and gives back. It is the
CPU time of this thread, so that neither a busy neighbour nor a slow disk counts.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CONTROLLER = "controller"  # its loop
COMMITS, SAMPLER = "commits", "sampler"  # on threads of their own beside it, on Ray
COLLECTIONS = "collections"  # looks through all that lives, for garbage
SLOTS = "slots"  # all that is played
OLDEST = 2  # the generation whose collection looks through all that lives

Act = Callable[[], None]


class Stopwatch:
    """Nanoseconds by account."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.running = SLOTS
        self._since = time.thread_time_ns()

    def switch(self, account: str) -> str:
        """Let this account run; returns the one that ran before."""
        now, before = time.thread_time_ns(), self.running
        self.spent[before] += now - self._since
        self.running, self._since = account, now
        return before

    @contextmanager
    def on(self, account: str) -> Iterator[None]:
        """Let this account run for a while."""
        before = self.switch(account)
        try:
            yield
        finally:
            self.switch(before)

    def run(self, account: str, act: Act) -> None:
        """Do something on an account."""
        before = self.switch(account)
        act()
        self.switch(before)


class Collections:
    """Looks through all that lives, for garbage, have an account of their own."""

    def __init__(self) -> None:
        self.longest = 0  # nanoseconds
        self._before = SLOTS
        self._spent = 0
        gc.callbacks.append(self._heard)

    def _heard(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] < OLDEST:
            return
        if phase == "start":
            self._before, self._spent = WATCH.switch(COLLECTIONS), WATCH.spent[COLLECTIONS]
            return
        WATCH.switch(self._before)
        self.longest = max(self.longest, WATCH.spent[COLLECTIONS] - self._spent)


WATCH, GARBAGE = Stopwatch(), Collections()  # this process's
