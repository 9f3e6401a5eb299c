"""The client of a sweep: start it, attach to it, watch it, cancel it, leave it.

One rule: the client may die at any time. All that a sweep needs is in its folder and its actors.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep.core.spec import Limits
from raysweep.errors import ControllerLostError, SweepExistsError
from raysweep.result import Result
from raysweep.runtime.controller import Charge, Controller
from raysweep.runtime.slot import NAMESPACE
from raysweep.runtime.status import Status, describe
from raysweep.storage.folder import SweepFolder

ANSWER = 10.0  # seconds to wait for a status
GONE = 60.0  # seconds without any answer after which the controller counts as lost
EVERY = 0.25  # seconds between looks
UNSEEN = 1.0  # seconds between looks that nobody is shown

Watcher = Callable[[Status | None], None]  # is shown each status; None while there is no answer


def connect(address: str | None = None, **local: Any) -> bool:  # noqa: ANN401  (Ray's own options)
    """Connect to a Ray cluster, or start a Ray on this machine; returns whether one was started.

    Args:
        address: `auto`, `host:port`, or None: the environment's RAY_ADDRESS, else a new Ray.
        local: options of `ray.init` for a new Ray.
    """
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {
        "namespace": NAMESPACE,
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    if address is not None or os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, **quiet)
        return False
    ray.init(address="local", include_dashboard=False, **quiet, **local)
    return True


class Client:
    """A hold on a running sweep."""

    def __init__(self, folder: SweepFolder, controller: Any) -> None:  # noqa: ANN401  (Ray's handle)
        self._folder = folder
        self._controller = controller
        self._since = 0
        self._read: dict[str, int] = {}  # lines of each node's setup log that were told

    @classmethod
    def launch(
        cls, folder: SweepFolder, *, resumed: bool = False, limits: Limits | None = None
    ) -> Client:
        """Start the controller of a sweep whose folder is there.

        Args:
            folder: the sweep's.
            resumed: whether it is taken up on a cluster that has none of its slots.
            limits: that hold from now on; None: those that held before.

        Raises:
            SweepExistsError: one is running already.
        """
        cls._make_room(folder)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        controller = (
            ray.remote(Controller)
            .options(
                name=folder.actor_name,
                namespace=NAMESPACE,
                lifetime="detached",
                num_cpus=0,
                memory=1,  # byte; without any demand Ray does not heed where it is to be
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=10_000,
                scheduling_strategy=here,
            )
            .remote(Charge(folder=folder.uri, resumed=resumed, limits=limits))
        )
        return cls(folder, controller)

    @classmethod
    def _make_room(cls, folder: SweepFolder) -> None:
        """Refuse to start a second controller; one that lingers after the sweep's end is let go."""
        until = time.monotonic() + ANSWER
        while (there := cls.attach(folder)) is not None:
            with contextlib.suppress(ray.exceptions.RayActorError):  # it is going
                status = there.status()
                if status is None or not status.finished or time.monotonic() > until:
                    raise SweepExistsError(
                        f"sweep {folder.name!r} is running;"
                        f" watch it with `raysweep watch {folder.name}`"
                    )
                there.release()
            time.sleep(EVERY)

    @classmethod
    def attach(cls, folder: SweepFolder) -> Client | None:
        """A hold on the sweep if its controller is there."""
        try:
            return cls(folder, ray.get_actor(folder.actor_name, namespace=NAMESPACE))
        except ValueError:
            return None

    def status(self, hold: float = 0.0) -> Status | None:
        """Where the sweep stands, within `hold` seconds; None when the controller does not answer."""
        try:
            status: Status = ray.get(
                self._controller.status.remote(self._since, hold), timeout=ANSWER
            )
        except (ray.exceptions.ActorUnavailableError, ray.exceptions.GetTimeoutError):
            return None
        self._since = status.logged
        return replace(status, log=(*status.log, *self._prepared()))

    def _prepared(self) -> list[str]:
        """What the nodes have written since of what they prepare before trials run there."""
        told = []
        for path in sorted(self._folder.path.glob("logs/setup-*.log")):
            lines = path.read_text(errors="replace").splitlines()
            new = lines[self._read.get(path.name, 0) :]
            self._read[path.name] = len(lines)
            host = path.stem.partition("-")[2]
            told += [f"{host}: {line}" for line in new if not line.startswith(" ")]
        return told

    def follow(self, watcher: Watcher, every: float = EVERY) -> Status:
        """Show a status every so many seconds until the sweep is over; returns the last.

        Raises:
            ControllerLostError: the controller is gone for good and the sweep is not over.
        """
        hold, heard = 0.0, time.monotonic()
        while True:
            try:
                status = self.status(hold)
            except ray.exceptions.RayActorError as error:
                return self._after_loss(error, watcher)
            watcher(status)
            if status is None:
                if time.monotonic() - heard > GONE:
                    raise _lost(self._folder, f"no answer for {GONE:g} s")
                time.sleep(EVERY)
            elif status.over and status.finished:
                return status
            else:
                hold, heard = every, time.monotonic()

    def _after_loss(self, error: Exception, watcher: Watcher) -> Status:
        """The controller is gone: fine if the journal says that the sweep is over."""
        state = Result(self._folder).state
        if not state.over:
            raise _lost(self._folder, str(error).partition("\n")[0]) from error
        status = describe(state, now=state.time)
        watcher(status)
        return status

    def cancel(self, reason: str) -> None:
        """End the sweep; returns once that is durable."""
        ray.get(self._controller.cancel.remote(reason))

    def suspend(self) -> None:
        """Leave the sweep as it is, for `resume`: its slots and its controller end."""
        with contextlib.suppress(ray.exceptions.RayError):  # one that is not up yet, or gone
            ray.get(self._controller.suspend.remote(), timeout=ANSWER)
        self.release()

    def release(self) -> None:
        """End the controller; what it has acknowledged is in the journal."""
        ray.kill(self._controller)


def _lost(folder: SweepFolder, why: str) -> ControllerLostError:
    return ControllerLostError(
        f"the controller of {folder.name!r} is gone ({why}); nothing acknowledged is lost: take the"
        f" sweep up with `raysweep resume {folder.name} --storage {folder.storage}`"
    )
