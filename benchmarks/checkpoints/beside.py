"""Saving beside the training, in a trial of a real sweep: what its steps wait, and what that costs them.

One rule: it is measured where it happens, by the training function itself, through the public face.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from own_ray import own_ray
from record import QUICK, spread
from states import STATES, megabytes, resnet_18, resnet_20
from torch import nn

import raysweep as rs

SAVES = 4 if QUICK else 12
STEPS = 20  # between two checkpoints
BLOCKS = 2 if QUICK else 6  # of intervals with checkpoints, and as many without
INTERVALS = 2 if QUICK else 5  # of a block
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # and how many images a step takes
    "ResNet-20": (resnet_20, 64),
    "ResNet-18": (resnet_18, 16),
}


def stall(trial: Any) -> None:  # noqa: ANN401  (a Trial)
    """Save a state again and again; report what the step waited, and when it was on the disk."""
    made = STATES[trial.params["state"]]()
    state = {name: tensor.to(trial.params["device"]) for name, tensor in made.items()}
    size = megabytes(state)
    trial.report(save=-1, checkpoint={"model": torch.ones(1)})  # after which all is imported
    trial.settle()
    before = _resident("VmRSS")
    _forget_peak()
    for save in range(SAVES):
        for tensor in state.values():
            tensor.add_(1)
        trial.report(save=save)
        began = time.perf_counter()
        trial.save({"model": state})
        waited = time.perf_counter() - began
        trial.settle()
        written = time.perf_counter() - began
        copies = (_resident("VmHWM") - before) / size
        trial.report(stall=waited, write=written, copies=copies)
        time.sleep(size / 200)  # the disk's own buffers are not what is measured


def train(trial: Any) -> None:  # noqa: ANN401  (a Trial)
    """Train in blocks with and without checkpoints, in turns; report what each took."""
    make, batch = NETWORKS[trial.params["network"]]
    module = make()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))

    def interval() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step()

    interval()
    trial.report(warm=1, checkpoint={"model": module, "optimizer": optimizer})
    trial.settle()
    for _ in range(BLOCKS):
        took = {}
        for saves in (True, False):
            began = time.perf_counter()
            for _ in range(INTERVALS):
                interval()
                state = {"model": module, "optimizer": optimizer} if saves else None
                trial.report(loss=0.0, checkpoint=state)
            trial.settle()
            took["saving" if saves else "never"] = time.perf_counter() - began
        trial.report(took)


def rows() -> Iterator[dict[str, Any]]:
    """What steps wait, the memory that takes, and what it costs a training loop."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for name, device in itertools.product(STATES, devices):
        yield from _waits(name, device)
    for name in NETWORKS:
        yield _training(name)


def _waits(name: str, device: str) -> Iterator[dict[str, Any]]:
    told = _told(stall, {"state": name, "device": device}, ("stall", "write", "copies"))
    whose = name if device == "cpu" else f"{name}, on a GPU"
    waits, writes = ([1e3 * each for each in told[what][1:]] for what in ("stall", "write"))
    what = f"what a step waits for a save, from the second on, {whose}"
    ratio = statistics.median(waits) / statistics.median(writes)
    yield _row(what, "ms", (waits, writes), "the write itself", ratio, hold=0.1)
    what = f"most memory beside the state while it is saved, one save at a time, {whose}"
    copies = max(told["copies"])
    yield _row(what, "copies", ([copies], [1.0]), "one copy", copies, hold=1.0)


def _training(name: str) -> dict[str, Any]:
    told = _told(train, {"network": name}, ("saving", "never"))
    pairs = [one / other for one, other in zip(told["saving"], told["never"], strict=True)]
    what = f"training of a {name}, a checkpoint every {STEPS} steps"
    both = (told["saving"], told["never"])
    row = _row(what, "s", both, "never saving", statistics.median(pairs), hold=1.05)
    return row | {"ratio_spread": spread(pairs, 4)}


def _row(
    what: str,
    unit: str,
    both: tuple[list[float], list[float]],
    peer_is: str,
    ratio: float,
    *,
    hold: float,
) -> dict[str, Any]:
    ours, peer = both
    return {
        "what": what,
        "unit": unit,
        "raysweep": round(statistics.median(ours), 3),
        "raysweep_spread": spread(ours, 3),
        "peer": round(statistics.median(peer), 3),
        "peer_is": peer_is,
        "peer_spread": spread(peer, 3),
        "ratio": round(ratio, 4),
        "hold": hold,
        "hold_is": "at most",
        "holds": ratio <= hold,
    }


def _told(
    function: Callable[[Any], None], values: dict[str, str], wanted: tuple[str, ...]
) -> dict[str, list[float]]:
    """What a trial reported of its own time."""
    with (
        tempfile.TemporaryDirectory(prefix="raysweep-", dir="/var/tmp") as folder,
        tempfile.TemporaryDirectory(prefix="rs-") as short,
        own_ray(2, Path(short)),
    ):
        result = rs.Sweep(
            function,
            space={name: rs.choice([value]) for name, value in values.items()},
            objective=rs.maximize(wanted[0]),
            sampler=rs.Random(seed=1),
            limits=rs.Limits(max_total_trials=1),
            resources=rs.Resources(cpus=2, gpus=int(values.get("device") == "cuda")),
            keep_checkpoints=2,
            storage=folder,
            name="beside",
        ).run(screen="none")
        [trial] = result.trials
        assert trial.state == "completed", trial.error
        count = len(trial.curve)
        found = [result.metrics_at(0, interval) for interval in range(1, count + 1)]
    return {name: [metrics[name] for metrics in found] for name in wanted}


def _resident(field: str) -> float:
    """Megabytes of this process, now (VmRSS) or at most since the peak was forgotten (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024 / 1e6


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
