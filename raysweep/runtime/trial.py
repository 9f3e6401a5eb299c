"""What a training function is handed, and how it is run.

One rule: everything a trial says goes through its channel, in order, as `raysweep.runtime.messages`
has it; nothing in here knows whether the other end is in another process.
"""

from __future__ import annotations

import math
import random
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from raysweep.core.events import Ending
from raysweep.errors import CheckpointDamagedError, MetricError, Stopped
from raysweep.runtime import metrics as metric
from raysweep.runtime.failures import failure
from raysweep.runtime.messages import LEAVING, Channel, Order
from raysweep.runtime.saving import Saver
from raysweep.storage import checkpoints
from raysweep.storage.atomic import PASSING
from raysweep.storage.folder import SweepFolder

T = TypeVar("T")
TrainingFunction = Callable[["Trial"], object]

RETRY = 1.0  # seconds between tries to save to a storage that takes no writes


class _Keeper(NamedTuple):
    report: int
    keep: Callable[
        [checkpoints.Taken], None
    ]  # make the state durable and announce it for the report


class Trial:
    """One trial, as its training function sees it.

    Attributes:
        params: the values that were drawn for it, by name.
        number: 0, 1, 2, ... in the order of proposal.
        attempt: 1 for the first try, more after a failure or a lost machine.
        seed: derived from the sweep's seed and the number, from 0 to 2**32 - 1. Python's, numpy's
            and torch's generators are seeded with it before the function is called.
    """

    def __init__(self, order: Order, channel: Channel) -> None:
        self.params = dict(order.params)
        self.number, self.attempt = order.id
        self.seed = order.seed
        self._order = order
        self._channel = channel
        self._folder = SweepFolder.at(order.folder)
        self._began = time.monotonic()
        self._reports = 0
        self._interval = order.start  # that the last report with the primary metric was at
        self._names: tuple[str, ...] = ()  # which the reports hold
        # Names and numbers belong together, whichever thread reports; a signal's handler may, too.
        self._turn = threading.RLock()
        self._pack = struct.Struct("=d").pack  # a report's numbers
        self._last: tuple[tuple[str, ...], list[float]] = ((), [])  # the metrics of the last one
        self._saved_with = 0  # the report that the last checkpoint belongs to
        self._restored: Any = None
        self._asked = False  # whether the function took its checkpoint
        self._saver = Saver(lambda: self._hear(wait=False))
        self._stop: str | None = None
        self._leaves = False  # whether the machine is to be taken away
        self._left = False  # whether the trial has ended for it

    @cached_property
    def shared(self) -> dict[str, Any]:
        """The sweep's shared data, mapped from one file for all trials of a node; read-only."""
        if not self._folder.shared.exists():
            return {}
        shared: dict[str, Any] = checkpoints.load(self._folder.shared, verify=False)
        return shared

    def checkpoint(self) -> Any:  # noqa: ANN401  (the tree that the user's own code saved)
        """The state to continue from: what an earlier attempt saved last, or None.

        A function that saves checkpoints asks for this once, before its first report, after which
        it is not kept. One that does not starts over when its machine is lost, and its curve begins anew.
        """
        self._asked = True
        return self._restored

    @property
    def restored(self) -> bool:
        """Whether there was such a state."""
        return bool(self._order.checkpoint)

    def report(
        self,
        metrics: Mapping[str, float] | None = None,
        /,
        *,
        checkpoint: object = None,
        **named: float,
    ) -> None:
        """Report metrics, and hand over a checkpoint with them.

        Args:
            metrics: metrics whose names are no Python names.
            checkpoint: nested dicts, lists and tuples of tensors, arrays, numbers, strings and
                bytes, of modules and optimizers of torch, scikit-learn's estimators, and folders of
                files as `pathlib.Path`. This returns once it is copied; it is written beside the
                training, and the trial's end waits for it.
            named: the metrics: numbers, numpy scalars or tensors of one element.

        Raises:
            MetricError: a metric is no number, or there is none.
            UnstorableError: the checkpoint holds what no checkpoint can.
            OSError: an earlier checkpoint cannot be saved.
            Stopped: the trial is to end. Let it pass.
        """
        given = {**(metrics or {}), **named}
        numbers = metric.numbers(given)
        if not given:
            raise MetricError("report() needs at least one metric: trial.report(accuracy=0.9)")
        with self._turn:
            self._send(given, numbers)
            keep = None if checkpoint is None else self._keeper()
        self._obey(wait=self._order.sync)
        if keep is not None:
            self._take(checkpoint, keep)

    def save(self, checkpoint: object) -> None:
        """Hand over a checkpoint that belongs to the report before; `report` can take both at once.

        Args:
            checkpoint: as `report` takes it.

        Raises:
            MetricError: there is no report before, or it has its checkpoint already.
            UnstorableError: it holds what no checkpoint can.
            OSError: an earlier one cannot be saved.
            Stopped: the trial is to end. Let it pass.
        """
        with self._turn:
            if self.saved:
                raise MetricError("save() needs a report before it that has no checkpoint yet")
            keep = self._keeper()
        self._take(checkpoint, keep)

    def _take(self, checkpoint: object, keep: _Keeper) -> None:
        """Have a checkpoint saved; leave with it if the machine goes."""
        self._saver.take(checkpoint, keep.keep)
        self._saved_with = max(self._saved_with, keep.report)
        self._obey(wait=False)
        if self._leaves:
            self._left = True
            raise Stopped(LEAVING)

    @property
    def saved(self) -> bool:
        """Whether the last report has its checkpoint; so it is before the first."""
        return self._saved_with == self._reports

    @property
    def checkpoint_wanted(self) -> bool:
        """Whether this is the time for a checkpoint: the machine is to be taken away.

        A trial that saves one from then on ends with it and goes on elsewhere; one that does not is
        ended shortly before the machine is, and begins at its last checkpoint.

            checkpoint = state() if epoch % 10 == 0 or trial.checkpoint_wanted else None
        """
        self._hear(wait=False)
        return self._leaves

    @property
    def left(self) -> bool:
        """Whether the trial has ended to go on elsewhere."""
        return self._left

    def heed(self) -> None:
        """Raise `Stopped` if the trial is to end: for work that goes on for long without a report.

        Raises:
            Stopped: the trial is to end. Let it pass.
        """
        self._obey(wait=False)

    def fileno(self) -> int:
        """A file descriptor that is readable when the trial is told something."""
        return self._channel.fileno()

    def restore(self) -> None:
        """Load the checkpoint that the attempt starts from.

        Raises:
            CheckpointDamagedError: it is damaged or gone.
        """
        if not self._order.checkpoint:
            return
        path = self._folder.path / self._order.checkpoint
        try:
            self._patiently(f"fetch {path}", lambda: self._folder.fetch(path), self.heed)
            # Estimators of any types: who can write here can write the code that trials run.
            self._restored = checkpoints.load(path, mmap=False, trusted=None)
        except FileNotFoundError:
            raise CheckpointDamagedError(f"{path} is gone") from None
        finally:
            self._folder.forget(path)

    def settle(self) -> None:
        """Return once all checkpoints that were handed over are durable.

        Raises:
            OSError: one cannot be saved.
            Stopped: the trial is to end, and one may have been left out. Let it pass.
        """
        self._saver.settle()
        self._give_up()

    def finish(self) -> None:
        """What `run` does last: wait for all checkpoints; nothing can be saved after that.

        Raises:
            OSError: a checkpoint cannot be saved.
        """
        self._saver.close()

    @property
    def told_to_stop(self) -> bool:
        """Whether a stop has reached the trial."""
        return self._stop is not None

    def _send(self, given: Mapping[str, float], numbers: list[float]) -> None:
        """Say what is reported, and before it, if that is news, which metrics it holds."""
        if self._reports == 0 and self._restored is not None and not self._asked:
            self._channel.send(["fresh"])
            self._interval = 0
        self._restored = None  # it may take as much memory as the training
        if tuple(given) != self._names:
            names = metric.names(given)
            self._channel.send(["metrics", names])
            self._names, self._pack = names, struct.Struct(f"={1 + len(names)}d").pack
        at = time.monotonic() - self._began
        self._channel.send(["report", self._pack(at, *numbers)])
        self._reports += 1  # one that could not be sent has no number
        self._interval += self._order.metric in given
        self._last = self._names, numbers

    def _obey(self, *, wait: bool) -> None:
        """Raise Stopped when the trial has been told to; with `wait`, hear the answer first."""
        self._hear(wait=wait)
        self._give_up()

    def _hear(self, *, wait: bool) -> None:
        while (message := self._channel.receive(wait=wait)) is not None:
            if message[0] == "stop":
                self._stop = str(message[1])
            elif message[0] == "leave":
                self._leaves = True
            elif message[1] >= self._reports:
                wait = False

    def _keeper(self) -> _Keeper:
        """What makes a checkpoint of the last report durable, and then announces it."""
        report = self._reports
        path = self._folder.checkpoint(self.number, self.attempt, report)
        last = zip(*self._last, strict=True)
        about: dict[str, checkpoints.JSON] = {
            "sweep": self._folder.name,
            "trial": self.number,
            "attempt": self.attempt,
            "report": report,
            "interval": self._interval,
            "metrics": {name: value for name, value in last if math.isfinite(value)},
        }

        def write(taken: checkpoints.Taken) -> checkpoints.Saved:
            path.parent.mkdir(parents=True, exist_ok=True)
            return checkpoints.write(path, taken.rows, about)

        def keep(taken: checkpoints.Taken) -> None:
            saved = self._patiently(f"save {path}", lambda: write(taken), self._give_up)
            self._patiently(f"send {path}", lambda: self._folder.send(path), self._give_up)
            self._folder.forget(path)
            relative = str(path.relative_to(self._folder.path))
            with self._turn:
                self._channel.send(["saved", report, relative, saved.size, saved.checksum])

        return _Keeper(report, keep)

    def _give_up(self) -> None:
        """Raise Stopped if the trial has heard that it is to end."""
        if self._stop is not None:
            raise Stopped(self._stop)

    def _patiently(self, what: str, act: Callable[[], T], heed: Callable[[], None]) -> T:
        """Do something with the storage; wait for one that is full, read-only or away, and heed a stop."""
        while True:
            try:
                return act()
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                print(f"raysweep: waiting to {what}: {error}", file=sys.stderr)  # noqa: T201  (the trial's log)
                heed()
                time.sleep(RETRY)


def run(function: TrainingFunction, order: Order, channel: Channel) -> None:
    """Run an attempt to its end and say how it ended."""
    trial = Trial(order, channel)
    channel.send(["end", *_ending(function, trial, order)])


def _ending(
    function: TrainingFunction, trial: Trial, order: Order
) -> tuple[str, str, str, str, str]:
    """Run the function; the ending, the error, where it was raised, the traceback, what was damaged."""
    ended = Ending.RETURNED
    try:
        try:
            trial.restore()
        except CheckpointDamagedError as error:
            return Ending.LOST.value, str(error), "", "", order.checkpoint
        seed_all(order.seed)
        _call(function, trial)
    except Stopped:
        if trial.left:
            return Ending.LOST.value, LEAVING, "", "", ""
        ended = Ending.OBEYED if trial.told_to_stop else Ending.RETURNED
    except BaseException as error:  # noqa: BLE001  (the user's code: whatever it raises is kept)
        if not isinstance(error, SystemExit) or error.code:
            return Ending.RAISED.value, *failure(error), ""
    return ended.value, "", "", "", ""


def _call(function: TrainingFunction, trial: Trial) -> None:
    """Call the training function and wait for its checkpoints; its own error goes before theirs."""
    try:
        function(trial)
    except BaseException:
        try:
            trial.finish()
        except Exception as error:  # noqa: BLE001  (whatever a storage raises)
            print(f"raysweep: a checkpoint is not saved: {error!r}", file=sys.stderr)  # noqa: T201  (the trial's log)
        raise
    trial.finish()


def seed_all(seed: int) -> None:
    """Seed what a forked process would otherwise share with every other trial."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (the generator that the user's libraries draw from)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
