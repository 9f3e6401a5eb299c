"""Checks of what a sweep stands on: this machine, the storage, the cluster.

One rule: a check never raises; what it found, and what to do, is in its line.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import secrets
import shutil
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from raysweep.errors import RaysweepError, UserError
from raysweep.storage.bucket import Bucket
from raysweep.storage.folder import storage_path
from raysweep.storage.mirror import is_bucket
from raysweep.storage.uploads import why_kept

LEAST_PYTHON = (3, 11)
LEAST_RAY = (2, 60)
PACKAGES = (
    *("numpy", "scipy", "pyarrow", "msgpack", "cloudpickle"),
    *("sortedcontainers", "rich", "pathspec", "PyYAML"),
)
KNOCK = 5.0  # seconds that a cluster has to open its port
COMMITS = 20  # that are timed
SLOW = 20.0  # milliseconds a commit from which on a storage is worth a word
SLOW_BUCKET = 200.0  # milliseconds that a write to a bucket may take before it is remarkable
LEAST_SHM = 2**30  # bytes of shared memory that Ray's object store wants at the least
GIB = 2**30


class Mark(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"  # a sweep runs, but not as well as it could
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it went, what was found."""

    name: str
    mark: Mark
    found: str


def examine(storage: str, address: str | None) -> Iterator[Check]:
    """All checks, one after another; the cluster is asked only if there is an address."""
    yield python()
    yield ray()
    yield packages()
    yield torch()
    yield shared_memory(Path("/dev/shm"))  # noqa: S108  (it is Ray that uses it)
    yield token(Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser())
    yield commits(storage)
    yield cluster(address or os.environ.get("RAY_ADDRESS"))


def python() -> Check:
    """Whether this Python is new enough."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    new = tuple(map(int, platform.python_version_tuple()[:2])) >= LEAST_PYTHON
    return Check("python", Mark.OK if new else Mark.FAIL, found)


def ray() -> Check:
    """Whether Ray is there and new enough."""
    version = _version("ray")
    if version is None:
        return Check("ray", Mark.FAIL, "not installed: pip install ray")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < LEAST_RAY:
        least = ".".join(map(str, LEAST_RAY))
        return Check("ray", Mark.FAIL, f"{version}, but {least} is needed: pip install -U ray")
    return Check("ray", Mark.OK, version)


def packages() -> Check:
    """Whether all that raysweep imports is installed."""
    versions = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Check("packages", Mark.FAIL, f"missing: pip install {' '.join(missing)}")
    return Check("packages", Mark.OK, ", ".join(f"{name} {v}" for name, v in versions.items()))


def torch() -> Check:
    """Whether torch is there, and which GPUs it sees."""
    if importlib.util.find_spec("torch") is None:
        return Check("torch", Mark.OK, "not installed; only trials that use it need it")
    import torch as module  # noqa: PLC0415  (seconds, and not everybody has it)

    if not module.cuda.is_available():
        return Check("torch", Mark.OK, f"{module.__version__}, no CUDA device on this machine")
    names = [module.cuda.get_device_name(index) for index in range(module.cuda.device_count())]
    return Check("torch", Mark.OK, f"{module.__version__}, CUDA: {', '.join(names)}")


def shared_memory(folder: Path) -> Check:
    """Whether there is enough shared memory for Ray's object store."""
    if not folder.is_dir():
        return Check("shared memory", Mark.OK, f"no {folder} on this system: Ray does without")
    size = shutil.disk_usage(folder).total
    found = f"{folder} has {size / GIB:.1f} GiB"
    if size < LEAST_SHM:
        remedy = "in a container, start it with --shm-size=4g or more"
        return Check("shared memory", Mark.WARN, f"{found}; {remedy}")
    return Check("shared memory", Mark.OK, found)


def token(path: Path) -> Check:
    """Whether the token that lets people onto the cluster is kept from others."""
    if not path.is_file():
        return Check("ray token", Mark.OK, f"none at {path}; only a cluster with tokens needs one")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        found = f"{path} has mode {mode:o}: others may read it; chmod 600 {path}"
        return Check("ray token", Mark.WARN, found)
    return Check("ray token", Mark.OK, f"{path} has mode {mode:o}")


def commits(storage: str) -> Check:
    """Whether the storage takes writes, and how long a durable one takes."""
    if is_bucket(storage):
        return _bucket_commits(storage)
    try:
        path = storage_path(storage)
        path.mkdir(parents=True, exist_ok=True)
        took = _time_commits(path / f".doctor-{secrets.token_hex(4)}")
    except UserError as error:
        return Check("storage", Mark.FAIL, str(error))
    except OSError as error:
        why = f"{storage} cannot be written: {error.strerror or error}; choose another: --storage"
        return Check("storage", Mark.FAIL, why)
    found = f"{path}: {took:.2g} ms a commit, {shutil.disk_usage(path).free / GIB:.1f} GiB free"
    return Check("storage", Mark.WARN if took > SLOW else Mark.OK, found)


def _bucket_commits(storage: str) -> Check:
    """The same of a bucket, and whether only one of two can create an object in it."""
    try:
        bucket = Bucket(storage)
        bucket.prove()
        key = f".doctor-{secrets.token_hex(4)}"
        took = statistics.median(
            _timed(lambda: bucket.write(key, bytes(4096))) for _ in range(COMMITS)
        )
        bucket.remove([key])
    except (UserError, OSError) as error:
        return Check("storage", Mark.FAIL, str(error))
    found = f"{bucket.uri}: {took:.2g} ms a write, creates an object only once"
    if kept := why_kept(bucket.uri):
        found += f"; parts of unfinished uploads stay there: {kept}"
    return Check("storage", Mark.WARN if took > SLOW_BUCKET else Mark.OK, found)


def _time_commits(file: Path) -> float:
    """The median of some commits of 4 kB, in milliseconds."""
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        return statistics.median(_timed(lambda: _commit(descriptor)) for _ in range(COMMITS))
    finally:
        os.close(descriptor)
        file.unlink()


def _commit(descriptor: int) -> None:
    os.write(descriptor, bytes(4096))
    os.fdatasync(descriptor)


def _timed(act: Callable[[], None]) -> float:
    begin = time.perf_counter()
    act()
    return (time.perf_counter() - begin) * 1000


def cluster(address: str | None) -> Check:
    """Whether the cluster answers, and what it has."""
    if address is None:
        found = f"none asked for: a sweep starts a Ray of its own here ({os.cpu_count()} CPUs)"
        return Check("cluster", Mark.OK, f"{found}; --address auto looks for one")
    if (why := unreachable(address)) is not None:
        return Check("cluster", Mark.FAIL, f"{address} does not answer: {why}")
    from raysweep.runtime import client  # noqa: PLC0415  (ray, only for who has a cluster)
    from raysweep.runtime.cluster import nodes  # noqa: PLC0415  (the same)

    try:
        client.connect(address)
        offers = [node["Resources"] for node in nodes()]
    except (OSError, RuntimeError, ValueError, RaysweepError) as error:
        why = str(error).partition("\n")[0]
        return Check("cluster", Mark.FAIL, f"{address} does not answer: {why}")
    cpus, gpus = (sum(offer.get(kind, 0) for offer in offers) for kind in ("CPU", "GPU"))
    return Check("cluster", Mark.OK, f"{len(offers)} nodes, {cpus:g} CPUs, {gpus:g} GPUs")


def unreachable(address: str) -> str | None:
    """Why nothing can be at an address host:port; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()) or "://" in address:
        return None
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK).close()
    except (OSError, OverflowError) as error:
        return str(error)
    return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
