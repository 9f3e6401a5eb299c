"""The machines of a chaos round: several Ray nodes on this one, which can be lost and added.

One rule: the conductor starts and kills nodes but is no Ray driver itself, since a driver dies with
its node.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import shutil
import time
from pathlib import Path
from typing import Any

import processes
import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

WORKERS = 2
CPUS = 2  # of a worker; the head has none, so that it holds the controller and no slot
GPUS = 1  # of a worker: only a number to Ray, but one that must come free again
STORE = 80 * 1024 * 1024  # bytes of an object store; nothing lies in it

HEALTH = {  # a lost node is noticed in seconds instead of a minute
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "1000",
}

_numbers = itertools.count(1)

logging.getLogger("ray").setLevel(logging.ERROR)  # it tells of every cluster after the first


class Nodes:
    """A cluster of a head and some workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / f"r{next(_numbers)}"  # short: sockets lie in it
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE,
                "include_dashboard": False,
                "temp_dir": str(self._folder),
            },
        )
        for _ in range(WORKERS):
            self.add()

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return str(self._cluster.address)

    def add(self) -> None:
        """One more worker; returns when it has joined."""
        self._cluster.add_node(num_cpus=CPUS, num_gpus=GPUS, object_store_memory=STORE)

    def lose(self, rng: random.Random) -> None:
        """Kill all processes of a worker at once, as when its machine is gone."""
        self._cluster.remove_node(self._one(rng), allow_graceful=False)

    def take_away(self, rng: random.Random, notice: float) -> None:
        """Give notice of a worker's end, as a cloud does of a spot machine's, and then end it."""
        worker = self._one(rng)
        reasons: Any = autoscaler_pb2
        reason = reasons.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + notice) * 1000)
        inside: Any = ray._raylet  # noqa: SLF001  (what `ray drain-node` calls)
        inside.GcsClient(address=self.address).drain_node(worker.node_id, reason, "spot", deadline)
        self.add()
        time.sleep(max(0.0, deadline / 1000 - time.time()))
        self._cluster.remove_node(worker, allow_graceful=False)

    def lose_all(self) -> None:
        """Kill every process of every node in one moment: the whole cluster dies."""
        nodes = [self._cluster.head_node, *self._cluster.worker_nodes]
        for node in nodes:
            for each in itertools.chain.from_iterable(node.all_processes.values()):
                processes.kill(each.process.pid)
        for node in nodes:
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        self._forget()

    def shut_down(self) -> None:
        """End the cluster as its owner would."""
        with contextlib.suppress(AssertionError):  # a killed one has nothing left to end
            self._cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray gives it no types
        self._forget()

    def _one(self, rng: random.Random) -> Any:  # noqa: ANN401  (Ray's own)
        """Any of the workers."""
        return rng.choice(sorted(self._cluster.worker_nodes, key=lambda node: str(node.node_id)))

    def _forget(self) -> None:
        self._cluster.worker_nodes.clear()
        self._cluster.head_node = None
        shutil.rmtree(self._folder, ignore_errors=True)
