"""Saving and loading, each way in turn: how long, side by side.

One rule: each round takes every way once, beginning with another each time, so that no way has the quieter disk.
"""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from record import QUICK, spread
from states import STATES, State, megabytes, resnet_18, resnet_152
from torch import nn
from ways import Way, ways

ROUNDS = 2 if QUICK else 9
REST = 0.5  # seconds that the disk has to itself before each save, for each 100 MB that were saved

Took = dict[str, list[float]]  # by way: seconds, a round each


@dataclass(frozen=True, slots=True)
class Measured:
    """What one kind of work on one state took."""

    what: str
    took: Took
    hold: float | None  # as fast as the faster peer, if it has to be

    def row(self) -> dict[str, Any]:
        """Ours beside the fastest peer, and each of the others."""
        medians = {way: 1e3 * statistics.median(each) for way, each in self.took.items()}
        ours = medians["raysweep"]
        peers = {way: each for way, each in medians.items() if way not in ("raysweep", "Ray Train")}
        peer = min(peers, key=lambda way: peers[way])
        ratio = peers[peer] / ours
        return {
            "what": self.what,
            "unit": "ms",
            "raysweep": round(ours, 2),
            "raysweep_spread": spread([1e3 * each for each in self.took["raysweep"]], 2),
            "peer": round(peers[peer], 2),
            "peer_is": peer,
            "peer_spread": spread([1e3 * each for each in self.took[peer]], 2),
            "ratio": round(ratio, 2),
            "hold": self.hold,
            "hold_is": "at least",
            "holds": None if self.hold is None else ratio >= self.hold,
            "others": {way: round(each, 2) for way, each in medians.items()},
        }


def measured() -> Iterator[Measured]:
    """Every kind of work on every state, and some of it on a GPU if there is one."""
    for name, make in STATES.items():
        state = make()
        with tempfile.TemporaryDirectory(prefix="raysweep-", dir="/var/tmp") as folder:
            each = ways(Path(folder))
            yield from _of(name, state, each)
            if torch.cuda.is_available():
                yield from _of_gpu(name, {key: value.cuda() for key, value in state.items()}, each)
        del state
        gc.collect()


def _of(name: str, state: State, each: list[Way]) -> Iterator[Measured]:
    label = f"{name} ({megabytes(state):,.0f} MB)"
    yield Measured(f"save, {label}", _saves(state, each), 1.0)
    yield Measured(f"verified load, {label}", _in_turns(each, 3 * ROUNDS, _load), 1.0)
    yield Measured(f"lazy load, {label}", _in_turns(each, 3 * ROUNDS, _lazily), 1.0)
    last = list(state)[-1]
    first = _in_turns(each, 10 * ROUNDS, lambda way: way.one(last))
    yield Measured(f"first tensor, lazily, {label}", first, None)
    if name in MODULES:
        module = MODULES[name]()
        whole = _in_turns(each, ROUNDS, lambda way: module.load_state_dict(way.load()))
        yield Measured(f"whole model, verified, into a module, {label}", whole, None)


def _of_gpu(name: str, state: State, each: list[Way]) -> Iterator[Measured]:
    def onto_gpu(way: Way) -> State:
        found = way.onto_gpu()
        torch.cuda.synchronize()
        return found

    label = f"{name} ({megabytes(state):,.0f} MB)"
    yield Measured(f"save from a GPU, {label}", _saves(state, each), 1.0)
    yield Measured(f"verified load to a GPU, {label}", _in_turns(each, ROUNDS, onto_gpu), 1.0)


def _saves(state: State, each: list[Way]) -> Took:
    rest = REST * megabytes(state) / 100
    return _in_turns(each, ROUNDS, lambda way: way.save(state), rest)


MODULES: dict[str, Callable[[], nn.Module]] = {"ResNet-18": resnet_18, "ResNet-152": resnet_152}


def _load(way: Way) -> State:
    return way.load()


def _lazily(way: Way) -> State:
    return way.lazily()


def _in_turns(
    each: list[Way], rounds: int, work: Callable[[Way], object], rest: float = 0.0
) -> Took:
    took: Took = {way.name: [] for way in each}
    orders = list(itertools.permutations(each))
    for number in range(rounds):
        for way in orders[7 * number % len(orders)]:  # another before each of them each time
            if rest:
                way.clear()
                os.sync()
                time.sleep(rest)
            began = time.perf_counter()
            found = work(way)
            took[way.name].append(time.perf_counter() - began)
            del found  # whose memory is given back before the next begins
    return took


torch.set_num_threads(1)
