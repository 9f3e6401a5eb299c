"""One run: a contender, a task, so many workers, on a virtual clock.

One rule: nothing sleeps. A trial takes its recorded seconds, an ask the seconds that it really
took; a worker that waits for its parameters waits, and asks are answered one at a time.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from contenders import CONTENDERS, generator
from plan import BUDGETS
from tasks import Params, Task


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run came to; all in the order in which trials ended."""

    regrets: npt.NDArray[np.float64]  # of the configuration that reads best so far
    ends: npt.NDArray[np.float64]  # virtual seconds
    asks: npt.NDArray[np.float64]  # seconds, in the order of asking
    recommended: list[float] | None  # regrets of the contender's own choice, at the plan's budgets
    busy: float  # share of the workers' time that trials ran, 0 to 1


def run(task: Task, contender: str, *, workers: int, budget: int, seed: int) -> Run:
    """Let a contender have `budget` trials, `workers` at a time."""
    made = CONTENDERS[contender](task.space, seed)
    free = [0.0] * workers  # when each worker is free; a heap
    running: list[tuple[float, int, object, Params, float]] = []  # a heap, by end
    answered = 0.0  # when the last ask was answered
    asks, told, worked = [], [], 0.0
    chosen = _Chosen(task, made)
    for number in range(budget):
        now = max(heapq.heappop(free), answered)
        while running and running[0][0] <= now:
            told.append(_tell(made, heapq.heappop(running)))
            chosen.look(len(told))
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
        chosen.look(len(told))
    return Run(
        regrets=_incumbents(task, told),
        ends=np.array([end for end, _, _ in told]),
        asks=np.array(asks),
        recommended=chosen.regrets or None,
        busy=worked / (workers * told[-1][0]),
    )


class _Chosen:
    """What a contender itself would choose after so many trials, if it says."""

    def __init__(self, task: Task, contender: object) -> None:
        self._task = task
        self._choose = getattr(contender, "recommend", None)
        self.regrets: list[float] = []

    def look(self, told: int) -> None:
        """Ask when a budget of the plan is reached."""
        if self._choose is not None and told in BUDGETS:
            self.regrets.append(self._task.regret(self._choose()))


def _tell(
    contender: object, ended: tuple[float, int, object, Params, float]
) -> tuple[float, Params, float]:
    end, _, handle, params, value = ended
    contender.tell(handle, -value)
    return end, params, value


def _incumbents(task: Task, told: list[tuple[float, Params, float]]) -> npt.NDArray[np.float64]:
    """The regret of what reads best after each trial."""
    best, regret, found = np.inf, 1.0, []
    for _, params, value in told:
        if value < best:
            best, regret = value, task.regret(params)
        found.append(regret)
    return np.array(found)
