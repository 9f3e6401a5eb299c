"""One run: a contender, a task, so many workers, on a virtual clock.

One rule: nothing sleeps. A trial takes its recorded seconds, an ask the seconds that it really
took; a worker that waits for its parameters waits, and asks are answered one at a time.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from contenders import CONTENDERS, generator
from tasks import Params, Task

TWICE = "-x2"  # at the end of a contender's name: it has two machines for each of the others'


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run came to; all in the order in which trials ended."""

    regrets: npt.NDArray[np.float64]  # of the configuration that reads best so far
    ends: npt.NDArray[np.float64]  # virtual seconds
    asks: npt.NDArray[np.float64]  # seconds, in the order of asking
    busy: float  # share of the workers' time that trials ran, 0 to 1


def run(task: Task, contender: str, *, workers: int, budget: int, seed: int) -> Run:
    """Let a contender have `budget` trials, `workers` at a time; `NAME-x2` has twice of both."""
    if (once := contender.removesuffix(TWICE)) != contender:
        twice = run(task, once, workers=2 * workers, budget=2 * budget, seed=seed)
        return replace(
            twice, regrets=twice.regrets[1::2], ends=twice.ends[1::2], asks=twice.asks[1::2]
        )
    made = CONTENDERS[contender](task.space, seed)
    free = [0.0] * workers  # when each worker is free; a heap
    running: list[tuple[float, int, object, Params, float]] = []  # a heap, by end
    answered = 0.0  # when the last ask was answered
    asks, told, worked = [], [], 0.0
    for number in range(budget):
        now = max(heapq.heappop(free), answered)
        while running and running[0][0] <= now:
            told.append(_tell(made, heapq.heappop(running)))
        begun = time.perf_counter()
        handle, params = made.ask()
        asks.append(time.perf_counter() - begun)
        reading = task.read(params, generator(seed, number))
        answered = now + asks[-1]
        end = answered + reading.seconds
        worked += reading.seconds
        heapq.heappush(free, end)
        heapq.heappush(running, (end, number, handle, params, reading.value))
    while running:
        told.append(_tell(made, heapq.heappop(running)))
    return Run(
        regrets=incumbents(task, told),
        ends=np.array([end for end, _, _ in told]),
        asks=np.array(asks),
        busy=worked / (workers * told[-1][0]),
    )


def _tell(
    contender: object, ended: tuple[float, int, object, Params, float]
) -> tuple[float, Params, float]:
    end, _, handle, params, value = ended
    contender.tell(handle, -value)
    return end, params, value


def incumbents(task: Task, told: list[tuple[float, Params, float]]) -> npt.NDArray[np.float64]:
    """The regret of what reads best after each trial, told as (end, params, reading)."""
    best, regret, found = np.inf, 1.0, []
    for _, params, value in told:
        if value < best:
            best, regret = value, task.regret(params)
        found.append(regret)
    return np.array(found)
