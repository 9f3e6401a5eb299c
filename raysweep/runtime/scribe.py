"""The scribe: makes durable what a controller gathers, one commit after another.

One rule: a storage that fails is waited for, and nothing is lost meanwhile: the commit that it did not
take is written again, the sweep's time stands still, and `refused` says why to whoever asks. Only a
later controller ends the wait: then `StaleEpochError` reaches the controller, which falls silent.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Iterable

from raysweep.core.events import Command, Event
from raysweep.runtime.sweep_clock import SweepClock
from raysweep.storage import replay
from raysweep.storage.journal import Journal

AGAIN = 1.0  # seconds between tries at a storage that refuses
SNAPSHOT_EVERY = 8 * 2**20  # bytes of journal: half a million reports, a few seconds to replay
SNAPSHOT_TIME = 1_800.0  # seconds that a snapshot may take
SLOW = 5.0  # seconds that a commit may take before the sweep counts as paused

log = logging.getLogger(__name__)


class Scribe:
    """Writes for one controller; belongs to its loop."""

    def __init__(self, journal: Journal, clock: SweepClock) -> None:
        self.journal = journal
        self.refused = ""  # what is wrong with the storage while it takes nothing
        self.verified = time.monotonic()  # when it was last sure that no later controller is there
        self._clock = clock
        self._gathered = 0  # events
        self._durable = 0  # of these
        self._news = asyncio.Event()  # something has been gathered
        self._written = asyncio.Event()  # replaced after each commit
        self._began: float | None = None  # when the commit that is being written was begun
        self._kept = 0  # bytes of journal, from the snapshot that it began with, when one was kept
        self._every = SNAPSHOT_EVERY

    def gather(self, event: Event, commands: Iterable[Command]) -> None:
        """Take a record for the next commit."""
        self.journal.append(event, commands)
        self._gathered += 1
        self._news.set()

    async def committed(self) -> None:
        """Return once all that has been gathered so far is durable."""
        gathered = self._gathered
        while self._durable < gathered:
            await self._written.wait()

    async def write_on(self) -> None:
        """Write what has been gathered, all at once, again and again.

        Raises:
            StaleEpochError: another controller has taken the sweep over.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            gathered, payload = self._gathered, self.journal.seal()
            self._began = time.monotonic()
            await self._write(payload)
            took, self._began = time.monotonic() - self._began, None
            self._durable = gathered
            self._written.set()
            self._written = asyncio.Event()
            await asyncio.sleep(max(0.0, self.journal.least_interval - took))

    async def verify(self) -> None:
        """Make sure that no later controller has the sweep, and leave a sign of life.

        When nobody can tell, that is no news.

        Raises:
            StaleEpochError: one has.
        """
        began = time.monotonic()
        try:
            await asyncio.to_thread(self.journal.verify)
            await asyncio.to_thread(self.journal.beat)
        except OSError as error:
            log.warning("the storage does not say who has the sweep: %s", error)
            return
        self.verified = max(began, self.verified)
        if self._began is None:  # what it pauses for otherwise is a commit that is not through
            self._go_on()

    async def keep_snapshot(self, uri: str) -> None:
        """Have another process replay the journal and keep what it comes to, if there is enough of it.

        Args:
            uri: of the sweep's folder.
        """
        written = self.journal.replayed + self.journal.size
        if written - self._kept < self._every:
            return
        self._kept = written
        size = await asyncio.to_thread(_kept_snapshot, uri)
        self._every = max(SNAPSHOT_EVERY, size)  # so that all of them together stay in proportion

    def look(self, *, unseen: float) -> None:
        """Notice a storage that neither takes a commit nor refuses it, or does not let itself be seen.

        Args:
            unseen: seconds without a sight of who has the sweep that are too long.
        """
        now = time.monotonic()
        if self.refused:
            return
        if self._began is not None and now - self._began > SLOW:
            self._pause(f"the storage has not answered for {now - self._began:.0f} s")
        elif now - self.verified > unseen:
            self._pause(f"the storage has not been seen for {now - self.verified:.0f} s")

    async def _write(self, payload: bytes) -> None:
        while True:
            began = time.monotonic()
            try:
                await asyncio.to_thread(self.journal.write, payload)
            except OSError as error:
                self._pause(f"the storage refuses: {error.strerror or error}")
                await self.verify()
                await asyncio.sleep(AGAIN)
            else:
                self.verified = max(began, self.verified)
                self._go_on()
                return

    def _go_on(self) -> None:
        if self.refused:
            log.warning("the storage is there again")
        self.refused = ""
        self._clock.go_on()

    def _pause(self, why: str) -> None:
        if why != self.refused:
            log.warning("%s", why)
        self.refused = why
        self._clock.pause()


def _kept_snapshot(uri: str) -> int:
    """Have a process keep a snapshot; its bytes. Without one a replay is slower, and no less true."""
    command = [sys.executable, "-m", replay.__name__, uri]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=SNAPSHOT_TIME, check=True)  # noqa: S603  (our own module)
        return int(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        log.warning("%s: no snapshot was kept: %s", uri, error)
        return 0
