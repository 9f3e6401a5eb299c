"""A Ray of one's own: started for one measurement, gone after it.

One rule: whatever is compared gets the same, with so many CPUs by name as trials are to run at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

OBJECT_STORE = 100 * 2**20  # bytes
NAMESPACE = "raysweep"
PATIENCE = 300  # seconds until the workers must have started


@contextlib.contextmanager
def own_ray(
    slots: int, temporary: Path, runtime_env: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """A Ray on this machine.

    Args:
        slots: CPUs that it believes to have; a worker process stands ready for each, as it does on a
            machine that has them. (Otherwise Ray starts two ahead here, and one for each real core at once.)
        temporary: its folder; sockets lie in it, so its name must be short.
        runtime_env: what its workers run in; none of these stands ready before it is asked for.
    """
    os.environ |= {
        "RAY_worker_maximum_startup_concurrency": str(slots),
        "RAY_worker_register_timeout_seconds": str(PATIENCE),  # all start at once, on few cores
    }
    ray.init(
        address="local",
        num_cpus=slots,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace=NAMESPACE,
        object_store_memory=OBJECT_STORE,
        runtime_env=runtime_env,
        _temp_dir=str(temporary),
    )
    try:
        if runtime_env is None:
            _wait_for_workers(slots)
        yield
    finally:
        ray.shutdown()


def _wait_for_workers(slots: int) -> None:
    """Return once a worker stands ready for each CPU."""
    until = time.monotonic() + PATIENCE
    while (ready := len(workers("ray::IDLE"))) < slots:
        if time.monotonic() > until:
            raise TimeoutError(f"only {ready} of {slots} workers of Ray have started")
        time.sleep(0.2)


def workers(title: str) -> set[int]:
    """The process ids of the workers in this process's own Ray whose title begins so."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            pid = int(path.parent.name)
            if path.read_bytes().startswith(title.encode()) and parent(parent(pid)) == os.getpid():
                found.add(pid)  # whose parent is the raylet, which this process has started
    return found


def parent(pid: int) -> int:
    """The process that started another."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
