"""Checkpoints saved beside the training: one after the other, on a thread of their trial.

One rule: what was handed over is durable before it is announced, in the order in which it was handed
over, and what goes wrong with it reaches the trial. Training waits only for a copy of its state, and
for a storage that is two states behind.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from raysweep.errors import Stopped
from raysweep.storage.checkpoints import Copies, Taken

IN_FLIGHT = 2  # states that are taken and not yet durable
YIELD = 0.002  # seconds for the training to go on first: Python changes threads every 5 ms only
LOOK = 0.1  # seconds between looks for what the trial is told while it waits


@dataclass(frozen=True, slots=True)
class _Job:
    taken: Taken
    save: Callable[[Taken], None]


class Saver:
    """Takes states and saves them; belongs to one trial.

    Args:
        hear: called again and again while the trial waits for it.
    """

    def __init__(self, hear: Callable[[], None]) -> None:
        self._hear = hear
        self._copies = Copies()
        # For one thread of the trial at a time; a signal's handler may come between.
        self._taking = threading.RLock()
        self._jobs: deque[_Job] = deque()  # the first is being saved
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(self, tree: object, save: Callable[[Taken], None]) -> None:
        """Take a state as it is now, and have it saved; where there is no memory for a copy, wait for that.

        Args:
            tree: the state.
            save: makes it durable and announces it; called on another thread.

        Raises:
            UnstorableError: something in it cannot be stored.
            Exception: what saving an earlier one raised.
        """
        with self._taking:
            self._wait(IN_FLIGHT - 1)
            taken = self._copies.taken(tree)
            if not taken.copied and self._jobs:  # those before it give memory back
                self._wait(0)
                taken = self._copies.taken(tree)
            with self._changed:
                if self._closed:
                    raise RuntimeError("the trial has ended: nothing more can be saved")
                self._jobs.append(_Job(taken, save))
                self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="checkpoints", daemon=True)
                self._thread.start()
            if not taken.copied:
                self._wait(0)

    def settle(self) -> None:
        """Return once all that was taken is durable.

        Raises:
            Exception: what saving one raised.
        """
        self._wait(0)

    def close(self) -> None:
        """Settle, end the thread and give the memory back.

        Raises:
            Exception: what saving one raised.
        """
        try:
            self._wait(0)
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            if self._thread is not None:  # it saves what is left, also after an interrupt
                self._thread.join()
            self._copies.close()

    def _wait(self, most: int) -> None:
        """Return once at most so many states are not yet durable; raise what went wrong with those before."""
        with self._changed:
            while len(self._jobs) > most:
                self._changed.wait(LOOK)
                self._hear()
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _serve(self) -> None:
        while self._saved_next():
            pass

    def _saved_next(self) -> bool:
        """Save the next state, once there is one; False when there will be none."""
        with self._changed:
            while not (self._jobs or self._closed):
                self._changed.wait()
            if not self._jobs:
                return False
            job = self._jobs[0]
        error: BaseException | None = None
        try:
            time.sleep(YIELD)
            job.taken.wait()
            job.save(job.taken)
        except Stopped:
            pass  # the trial is to end, and the storage takes nothing
        except BaseException as raised:  # noqa: BLE001  (whatever it is, the trial hears of it)
            error = raised
        job.taken.release()
        with self._changed:
            self._error = self._error or error
            self._jobs.popleft()
            self._changed.notify_all()
        return True
