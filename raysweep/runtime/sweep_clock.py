"""The sweep's own time, as its controller counts it.

One rule: only time during which a controller has the sweep in hand counts; it goes on from where the
journal left it, and stands still while the storage takes nothing.
"""

from __future__ import annotations

import time


class SweepClock:
    """Seconds since the sweep began."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._from = time.monotonic()
        self._paused = False

    def now(self) -> float:
        """The sweep's time now."""
        return self._start if self._paused else self._start + time.monotonic() - self._from

    def pause(self) -> None:
        """Let time stand still from now on."""
        self._start, self._paused = self.now(), True

    def go_on(self) -> None:
        """Let time go on, if it stands still."""
        if self._paused:
            self._from, self._paused = time.monotonic(), False
