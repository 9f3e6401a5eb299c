"""A sweep on a cluster of two machines, one of which is taken away with notice; a script.

One rule: it prints what the sweep came to as JSON, for the test that runs it; `ray.cluster_utils` wants
a process of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2
from sweeps import finished, sweep, until

from raysweep.result import load_result
from raysweep.runtime.client import Client
from raysweep.runtime.slot import NAMESPACE

LONG = 60  # epochs, of a tenth of a second
NOTICE = {"train": 20.0, "neglect": 7.0}  # seconds


def train(trial: Any) -> None:  # noqa: ANN401  (a raysweep Trial)
    """Save at every tenth epoch, and when a checkpoint is wanted."""
    epoch = (trial.checkpoint() or {"epoch": 0})["epoch"]
    while epoch < LONG:
        time.sleep(0.1)
        epoch += 1
        saves = epoch % 10 == 0 or trial.checkpoint_wanted
        trial.report(score=float(epoch), checkpoint={"epoch": epoch} if saves else None)


def neglect(trial: Any) -> None:  # noqa: ANN401  (the same)
    """Save at the fifth epoch and never again."""
    epoch = (trial.checkpoint() or {"epoch": 0})["epoch"]
    while epoch < LONG * 2:
        time.sleep(0.1)
        epoch += 1
        trial.report(score=float(epoch), checkpoint={"epoch": epoch} if epoch == 5 else None)


def main(storage: str, which: str) -> None:
    """Run the sweep, and have the machine of its slot taken away when it has been at work for a while."""
    small: dict[str, Any] = {"object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster()
    folder = tempfile.mkdtemp(prefix="rs", dir="/tmp")
    cluster.add_node(num_cpus=0, temp_dir=folder, **small)
    first = cluster.add_node(num_cpus=1, **small)
    ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False)
    try:
        made = sweep(
            {"train": train, "neglect": neglect}[which],
            Path(storage),
            limits={"max_total_trials": 1, "max_concurrent_trials": 1},
            grace=1.0,
        )
        client = Client.launch(made.create())
        until(client, lambda status: any(row.intervals >= 7 for row in status.rows))
        cluster.add_node(num_cpus=1, **small)
        drain(cluster.address, first.node_id, NOTICE[which])
        until(client, finished)
        client.release()
        (trial,) = load_result("t", storage).trials
        (state,) = load_result("t", storage).state.trials
        print(  # noqa: T201  (what the test reads)
            json.dumps(
                {
                    "state": trial.state,
                    "curve": trial.curve,
                    "attempts": trial.attempts,
                    "losses": state.losses,
                    "failures": state.failures,
                    "start": state.start,
                }
            )
        )
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]  # the same


def drain(address: str, node: str, notice: float) -> None:
    """Give notice of a machine's end, as a cloud does of a spot machine's."""
    reasons: Any = autoscaler_pb2
    reason = reasons.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = int((time.time() + notice) * 1000)
    inside: Any = ray._raylet
    inside.GcsClient(address=address).drain_node(node, reason, "spot", deadline)


if __name__ == "__main__":
    main(*sys.argv[1:])
