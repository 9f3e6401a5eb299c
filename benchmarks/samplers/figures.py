"""What the runs say: means, paired differences with their intervals, ranks, speed-ups.

One rule: tasks are what is sampled. An interval is of the mean over tasks, from resampling tasks and,
within each, seeds; two contenders are compared on the same tasks and seeds only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from store import Row

Array = npt.NDArray[np.float64]

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
    regrets: Mapping[tuple[str, int], Array]  # by task and seed: after each trial
    ends: Mapping[tuple[str, int], Array]  # virtual seconds
    asks: Array  # seconds, shape (runs, trials); NaN past a run's budget
    busy: Array  # share of the workers' time, shape (runs,)

    def at(self, trials: int) -> dict[tuple[str, int], float]:
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
    longest = max(len(row["asks"]) for row in rows)
    asks = np.full((len(rows), longest), np.nan)
    for at, row in enumerate(rows):
        asks[at, : len(row["asks"])] = row["asks"]
    return Runs(
        contender=key[0],
        workers=key[1],
        version=str(rows[-1]["version"]),
        regrets={(row["task"], row["seed"]): np.array(row["regrets"]) for row in rows},
        ends={(row["task"], row["seed"]): np.array(row["ends"]) for row in rows},
        asks=asks,
        busy=np.array([row["busy"] for row in rows]),
    )


def mean(values: Mapping[tuple[str, int], float]) -> Interval:
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
    drawn = np.take_along_axis(means, tasks_drawn, axis=1).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(
        mean=float(np.mean([each.mean() for each in table])), low=float(low), high=float(high)
    )


def difference(
    ours: Mapping[tuple[str, int], float], theirs: Mapping[tuple[str, int], float]
) -> Interval | None:
    """How much lower ours is, paired by task and seed; below 0 is better. None: nothing is common."""
    common = ours.keys() & theirs.keys()
    return mean({key: ours[key] - theirs[key] for key in common}) if common else None


def by_task(values: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """The mean over seeds of each task."""
    found: dict[str, list[float]] = {}
    for (task, _), value in values.items():
        found.setdefault(task, []).append(value)
    return {task: float(np.mean(each)) for task, each in sorted(found.items())}


def ranks(contenders: Mapping[str, Mapping[tuple[str, int], float]]) -> dict[str, float]:
    """The mean rank of each over the tasks, 1 for the best; ties share."""
    from scipy.stats import rankdata  # noqa: PLC0415  (the report only)

    tables = {name: by_task(values) for name, values in contenders.items()}
    common = set.intersection(*(set(table) for table in tables.values()))
    rows = np.array([[table[task] for table in tables.values()] for task in sorted(common)])
    mean_ranks = np.mean([rankdata(row) for row in rows], axis=0)
    return dict(zip(tables, map(float, mean_ranks), strict=True))


def critical_difference(contenders: int, tasks: int) -> float:
    """How far mean ranks must lie apart (Nemenyi's test at 5 percent; J. Demsar, JMLR 7, 2006)."""
    from scipy.stats import studentized_range  # noqa: PLC0415  (as above)

    q = studentized_range.ppf(LEVEL, contenders, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(contenders * (contenders + 1) / (6 * tasks)))


def speed_up(runs: Runs, random: Runs, trials: int) -> float | None:
    """How many times as many trials random takes for the same mean regret; None: more than it had."""
    goal = np.mean([*runs.at(trials).values()])
    curve = mean_curve(random)
    reached = np.flatnonzero(curve <= goal)
    return float((reached[0] + 1) / trials) if len(reached) else None


def mean_curve(runs: Runs) -> Array:
    """The mean regret over all runs after each trial; as long as the shortest run."""
    shortest = min(len(values) for values in runs.regrets.values())
    curve: Array = np.mean([values[:shortest] for values in runs.regrets.values()], axis=0)
    return curve
