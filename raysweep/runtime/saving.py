"""Checkpoints saved beside the training: one after the other, on a thread of their trial.

One rule: what was handed over is durable before it is announced, in the order in which it was handed
over, and what goes wrong with it reaches the trial. Training waits only for a copy of its state.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from raysweep.errors import Stopped
from raysweep.storage.checkpoints import Copies, Taken

LOOK = 0.1  # seconds between looks whether whoever waits is still to wait


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
        self._jobs: deque[_Job] = deque()  # the first is being saved
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    def take(self, tree: object, save: Callable[[Taken], None]) -> None:
        """Take a state as it is now, and have it saved; where there is no memory for a copy, wait for that.

        Args:
            tree: the state.
            save: makes it durable and announces it; called on another thread.

        Raises:
            UnstorableError: something in it cannot be stored.
            Exception: what saving an earlier one raised.
        """
        self._raise_if_failed()
        taken = self._copies.taken(tree, self._hear)
        with self._changed:
            self._jobs.append(_Job(taken, save))
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="checkpoints", daemon=True)
            self._thread.start()
        if not taken.copied:
            self.settle()

    def settle(self) -> None:
        """Return once all that was taken is durable.

        Raises:
            Exception: what saving one raised.
        """
        with self._changed:
            while self._jobs:
                self._changed.wait(LOOK)
                self._hear()
        self._raise_if_failed()

    def close(self) -> None:
        """Settle, and end the thread."""
        try:
            self.settle()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not (self._jobs or self._closing):
                    self._changed.wait()
                if not self._jobs:
                    return
                job = self._jobs[0]
            try:
                job.taken.wait()
                job.save(job.taken)
            except Stopped:
                pass  # the trial is to end, and the storage takes nothing
            except BaseException as error:  # noqa: BLE001  (whatever it is, the trial hears of it)
                self._error = self._error or error
            finally:
                job.taken.release()
                with self._changed:
                    self._jobs.popleft()
                    self._changed.notify_all()
