"""Taking a sweep up: its journal opened for writing, its state as it was left; and who did so after.

One rule: a storage that is full or away is waited for, since nothing can be answered before there is an
epoch.
"""

from __future__ import annotations

import contextlib
import logging
import time

from raysweep.core.events import Opened
from raysweep.core.state import SweepState
from raysweep.errors import JournalDamagedError
from raysweep.runtime.scribe import AGAIN
from raysweep.storage import journal, replay
from raysweep.storage.folder import SweepFolder
from raysweep.storage.journal import Journal

LONGEST_PAUSE = 5.0  # seconds between tries: each may leave an empty segment
TRIES = 30  # to read what a later controller says of itself

log = logging.getLogger(__name__)


def taken_over(folder: SweepFolder) -> tuple[Journal, SweepState]:
    """The journal of a sweep, with the next epoch, and what all before comes to.

    Raises:
        JournalDamagedError: what is committed fails its checksum.
    """
    pause = AGAIN
    while True:
        try:
            folder.take_up()
            return replay.take_over(folder.journal, folder.read_spec())
        except OSError as error:
            log.warning("%s: the storage refuses: %s", folder.uri, error)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def is_elsewhere(folder: SweepFolder, epoch: int) -> bool:
    """Whether a controller after this epoch has taken the sweep up on another cluster."""
    for _ in range(TRIES):
        with contextlib.suppress(OSError, JournalDamagedError):
            events = (event for event, _ in journal.read(folder.journal))
            opened = [event for event in events if isinstance(event, Opened)]
            if later := [event for event in opened if event.epoch > epoch]:
                return not all(event.slots_kept for event in later)
        time.sleep(AGAIN)  # it has claimed the sweep and not yet said so in the journal
    return False  # the leases of the slots end them
