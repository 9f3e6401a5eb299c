"""What one ask takes, against how many results a sampler knows.

One rule: one process, one thread, one ask after another, on a machine that does nothing else; the
first ask at each count, which may import and compile, is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from contenders import CONTENDERS
from store import Row
from tasks import Params

import raysweep as rs

COUNTS = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
MOST = {"optuna-gp": 1_000}  # beyond which an ask takes many seconds, then minutes
ASKS = 7  # that are timed at each count
PENDING = 16  # trials that run meanwhile
SPACE = rs.Space(
    {
        "lr": rs.loguniform(1e-5, 1e-1),
        "momentum": rs.uniform(0.1, 0.99),
        "weight_decay": rs.loguniform(1e-6, 1e-1),
        "layers": rs.randint(8),
        "width": rs.qloguniform(16, 1024, 1),
        "dropout": rs.uniform(0, 1),
        "optimizer": rs.choice(["sgd", "adam", "lamb"]),
        "schedule": rs.choice(["cosine", "constant"]),
    }
)


def renewed(kept: Sequence[Row], versions: Mapping[str, str], *, quick: bool = False) -> list[Row]:
    """What was measured before, and of each contender that was not, or in another version, what is now.

    Args:
        kept: rows of before.
        versions: of the contenders that are asked for.
        quick: as of `measured`.
    """
    good = [row for row in kept if versions.get(row["contender"], row["version"]) == row["version"]]
    there = {row["contender"] for row in good}
    return good + [
        {**row, "version": version}
        for contender, version in versions.items()
        if contender not in there
        for row in measured(contender, quick=quick)
    ]


def measured(contender: str, *, quick: bool = False) -> Iterator[Row]:
    """Rows: how many results a contender knew, and what each of some asks took, in seconds."""
    for count in COUNTS[:3] if quick else COUNTS:
        if count > MOST.get(contender, count):
            return
        made = CONTENDERS[contender](SPACE, 0)
        made.learn([(params, score(params)) for params in _params(count)])
        for _ in range(PENDING):
            made.ask()
        seconds = []
        for _ in range(ASKS + 1):
            begun = time.perf_counter()
            made.ask()
            seconds.append(time.perf_counter() - begun)
        yield {"contender": contender, "observations": count, "seconds": seconds[1:]}


def score(params: Params) -> float:
    """A smooth function with a best inside the space, so that a model has something to learn."""
    unit = SPACE.to_unit(params)
    return float(-((unit[:6] - 0.3) ** 2).sum() - 0.1 * (params["optimizer"] != "adam"))


def _params(count: int) -> list[Params]:
    random = np.random.default_rng(0)
    points = random.uniform(1e-9, 1 - 1e-9, (count, len(SPACE.dimensions)))
    return [SPACE.from_unit(point) for point in points]
