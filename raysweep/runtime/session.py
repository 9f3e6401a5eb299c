"""From a sweep to its result: check the cluster, start the controller, watch until it is over.

One rule: everything that can be refused is refused before the sweep's folder exists.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import ray

from raysweep.core.spec import Limits, SweepSpec
from raysweep.errors import SpecError, SweepExistsError
from raysweep.result import Result
from raysweep.runtime import cluster
from raysweep.runtime.client import EVERY, UNSEEN, Client, connect
from raysweep.runtime.proposals import check as check_sampler
from raysweep.runtime.resumption import refuse_over
from raysweep.runtime.screen import ScreenKind, shown
from raysweep.storage.folder import SweepFolder, new_sweep
from raysweep.storage.following import follower_of, following, forget_follower


def run(
    spec: SweepSpec,
    create: Callable[[], SweepFolder],
    *,
    storage: str,
    address: str | None = None,
    screen: ScreenKind = "auto",
    detach: bool = False,
) -> Result:
    """Run a new sweep to its end; with `detach`, only start it.

    Args:
        spec: what to run.
        create: makes the sweep's folder; called once nothing is left that could be refused.
        storage: where the folder will be.
        address: of the Ray cluster; None: the environment's, or a Ray of its own.
        screen: what is shown meanwhile.
        detach: return as soon as the sweep runs; needs a cluster that outlives this process.

    Raises:
        UserError: as `raysweep.sweep.Sweep.run` says.
        ControllerLostError: the cluster is gone.
    """
    place = new_sweep(storage, spec.name)
    with _ray(address, detach=detach) as owns_ray:
        cluster.require(spec.resources.demand())
        cluster.require_shared(place)
        if screen != "none" and (line := cluster.unused(spec.resources.demand())):
            print(line, file=sys.stderr)  # noqa: T201  (beside the screen)
        folder = create()
        with _kept(folder):
            client = Client.launch(folder)
            if not detach:
                _follow(client, folder, screen, owns_ray=owns_ray)
    return Result(folder)


def resume(
    folder: SweepFolder,
    *,
    limits: Limits | None = None,
    address: str | None = None,
    screen: ScreenKind = "auto",
    detach: bool = False,
) -> Result:
    """Take a sweep up that is not over: what ran restarts from its checkpoints.

    Args:
        folder: the sweep's.
        limits: that hold from now on; None: those that held before. A sweep that is over goes on
            if they leave it room.
        address: of the Ray cluster; None: the environment's, or a Ray of its own.
        screen: what is shown meanwhile.
        detach: return as soon as the sweep runs; needs a cluster that outlives this process.

    Raises:
        SpecError: the sweep is over, and stays so under these limits.
        SweepExistsError: it is running.
        JournalDamagedError: its journal is damaged; the message says where and what to do.
    """
    result = Result(folder)
    refuse_over(result, limits)
    check_sampler(result.state.spec)
    _refuse_followed(folder)
    with _ray(address, detach=detach) as owns_ray:
        cluster.require(result.state.spec.resources.demand())
        cluster.require_shared(folder)
        forget_follower(folder)
        with _kept(folder):
            client = Client.launch(folder, resumed=True, limits=limits)
            if not detach:
                _follow(client, folder, screen, owns_ray=owns_ray)
    return Result(folder)


def watch(folder: SweepFolder, *, address: str | None, screen: ScreenKind = "auto") -> bool:
    """Show a running sweep until it is over; False when none is running on the cluster.

    Ctrl-C ends the watching, not the sweep.
    """
    with _ray(address or "auto", detach=True):
        client = Client.attach(folder)
        if client is None:
            return False
        with shown(screen) as watcher:
            client.follow(watcher)
    return True


def cancel(folder: SweepFolder, *, address: str | None, reason: str) -> bool:
    """End a running sweep; False when none is running on the cluster."""
    with _ray(address or "auto", detach=True):
        client = Client.attach(folder)
        if client is not None:
            client.cancel(reason)
    return client is not None


def _follow(client: Client, folder: SweepFolder, screen: ScreenKind, *, owns_ray: bool) -> None:
    """Watch the sweep to its end; Ctrl-C leaves it so that it can be taken up again."""
    try:
        with following(folder, owns_ray=owns_ray), shown(screen) as watcher:
            client.follow(watcher, UNSEEN if screen == "none" else EVERY)
    except KeyboardInterrupt:
        client.suspend()
        raise
    client.release()


@contextlib.contextmanager
def _kept(folder: SweepFolder) -> Iterator[None]:
    """Tell who leaves with Ctrl-C how to take the sweep up again."""
    try:
        yield
    except KeyboardInterrupt:
        print(  # noqa: T201  (the line that the user needs next)
            f"interrupted; nothing is lost. Take it up again with:\n"
            f"  raysweep resume {folder.name} --storage {folder.storage}",
            file=sys.stderr,
        )
        raise KeyboardInterrupt from None  # where it was waiting is nobody's interest


def _refuse_followed(folder: SweepFolder) -> None:
    """Refuse to take up a sweep that a process of this machine runs, on a Ray of its own perhaps."""
    follower = follower_of(folder)
    if follower is not None and follower.lives and follower.is_here:
        raise SweepExistsError(
            f"sweep {folder.name!r} is being run by process {follower.pid} of this machine; end that"
            f" with Ctrl-C first, or see `raysweep logs {folder.name} -f`"
        )


@contextlib.contextmanager
def _ray(address: str | None, *, detach: bool) -> Iterator[bool]:
    """A connection to Ray; one that is made here is closed again. Yields whether the Ray is new."""
    connected = ray.is_initialized()
    started = connect(address)
    try:
        if started and detach:
            raise SpecError(
                "detaching needs a cluster that goes on without this process: start one with"
                " `ray start --head` and give --address auto"
            )
        yield started
    finally:
        if not connected:
            ray.shutdown()
