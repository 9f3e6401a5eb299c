"""What the runs say: means, paired differences with their intervals, ranks, speed-ups.

One rule: tasks are what is sampled. An interval is of the mean over tasks, from resampling tasks and,
within each, seeds; two contenders are compared on the same tasks and seeds only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from store import Row

Array = npt.NDArray[np.float64]
Run = tuple[str, int]  # a task and a seed

RESAMPLES = 4_000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over tasks and where it lies with 95 percent confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """`-0.021 [-0.034, -0.009]`."""
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True, kw_only=True)
class Runs:
    """All runs of one contender with one number of workers."""

    contender: str
    workers: int
    version: str
    regrets: Mapping[Run, Array]  # by task and seed: after each trial
    ends: Mapping[Run, Array]  # virtual seconds
    busy: Array  # share of the workers' time, shape (runs,)

    @property
    def tasks(self) -> set[str]:
        """The tasks that it ran on."""
        return {task for task, _ in self.regrets}

    def at(self, trials: int) -> dict[Run, float]:
        """The regret after so many trials, of the runs that had as many."""
        return {
            key: float(values[trials - 1])
            for key, values in self.regrets.items()
            if len(values) >= trials
        }


def grouped(rows: Sequence[Row]) -> dict[tuple[str, int], Runs]:
    """Runs by contender and number of workers."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        found.setdefault((row["contender"], row["workers"]), []).append(row)
    return {key: _runs(key, few) for key, few in found.items()}


def _runs(key: tuple[str, int], rows: list[Row]) -> Runs:
    return Runs(
        contender=key[0],
        workers=key[1],
        version=str(rows[-1]["version"]),
        regrets={(row["task"], row["seed"]): np.array(row["regrets"]) for row in rows},
        ends={(row["task"], row["seed"]): np.array(row["ends"]) for row in rows},
        busy=np.array([row["busy"] for row in rows]),
    )


def mean(values: Mapping[Run, float]) -> Interval:
    """The mean over tasks of the means over seeds, with its interval."""
    tasks = sorted({task for task, _ in values})
    table = [np.array([v for (task, _), v in values.items() if task == name]) for name in tasks]
    random = np.random.default_rng(0)
    means = np.column_stack(
        [
            each[random.integers(len(each), size=(RESAMPLES, len(each)))].mean(axis=1)
            for each in table
        ]
    )
    tasks_drawn = random.integers(len(table), size=means.shape)
    # A task that is drawn twice has other seeds each time: the same ones would widen the interval.
    seeds_drawn = random.integers(RESAMPLES, size=means.shape)
    drawn = means[seeds_drawn, tasks_drawn].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(
        mean=float(np.mean([each.mean() for each in table])), low=float(low), high=float(high)
    )


def paired(*runs: Mapping[Run, Any]) -> list[dict[Run, Any]]:
    """Of each what all of them have: the same tasks and seeds."""
    common = sorted(set.intersection(*(set(each) for each in runs)))
    return [{key: each[key] for key in common} for each in runs]


def differences(ours: Mapping[Run, float], theirs: Mapping[Run, float]) -> dict[Run, float]:
    """How much lower ours is, where both ran; below 0 is better."""
    mine, others = paired(ours, theirs)
    return {key: mine[key] - others[key] for key in mine}


def difference(ours: Mapping[Run, float], theirs: Mapping[Run, float]) -> Interval | None:
    """The mean of that. None: nothing is common."""
    found = differences(ours, theirs)
    return mean(found) if found else None


def by_task(values: Mapping[Run, float]) -> dict[str, float]:
    """The mean over seeds of each task."""
    found: dict[str, list[float]] = {}
    for (task, _), value in values.items():
        found.setdefault(task, []).append(value)
    return {task: float(np.mean(each)) for task, each in sorted(found.items())}


def ranks(contenders: Mapping[str, Mapping[Run, float]]) -> tuple[dict[str, float], int]:
    """The mean rank of each over the tasks, 1 for the best, ties share; and how many tasks there are.

    Of what all have run; without any such task there are no ranks.
    """
    from scipy.stats import rankdata  # noqa: PLC0415  (the report only)

    tables = [by_task(values) for values in paired(*contenders.values())]
    rows = np.array([[table[task] for table in tables] for task in tables[0]])
    if not len(rows):
        return {}, 0
    mean_ranks = np.mean([rankdata(row) for row in rows], axis=0)
    return dict(zip(contenders, map(float, mean_ranks), strict=True)), len(rows)


def critical_difference(contenders: int, tasks: int) -> float:
    """How far mean ranks must lie apart (Nemenyi's test at 5 percent; J. Demsar, JMLR 7, 2006)."""
    from scipy.stats import studentized_range  # noqa: PLC0415  (as above)

    q = studentized_range.ppf(LEVEL, contenders, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(contenders * (contenders + 1) / (6 * tasks)))


def speed_up(runs: Runs, random: Runs, trials: int) -> tuple[float, bool] | None:
    """How many times as many trials random takes for the same mean regret, on the same tasks and seeds.

    With whether it got there: otherwise it takes more than that. None: they have nothing in common.
    """
    mine, theirs = paired(runs.at(trials), random.regrets)
    if not mine:
        return None
    goal = np.mean([*by_task(mine).values()])
    curve = mean_curve(theirs)
    reached = np.flatnonzero(curve <= goal)
    return (float(reached[0] + 1 if len(reached) else len(curve)) / trials, bool(len(reached)))


def mean_curve(regrets: Mapping[Run, Array]) -> Array:
    """The mean over tasks of the regret after each trial; as long as the shortest run."""
    shortest = min(len(values) for values in regrets.values())
    tasks: dict[str, list[Array]] = {}
    for (task, _), values in regrets.items():
        tasks.setdefault(task, []).append(values[:shortest])
    curve: Array = np.mean([np.mean(few, axis=0) for few in tasks.values()], axis=0)
    return curve
