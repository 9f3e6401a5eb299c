"""The suites: which tasks there are, by name.

One rule: a task's name begins with its family, and a family has one home.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import split
from tasks import Task

HOMES: Mapping[str, str] = {
    "mlp": "tables",
    "fcnet": "tables",
    "nas201": "tables",
    "lcbench": "lcbench",
    "live": "live",
    "bbob": "coco",
    "bbob-mixint": "coco",
}
SUITES = sorted({*HOMES.values()})


def load(name: str) -> Task:
    """The task of this name."""
    family = name.partition("/")[0]
    task: Task = importlib.import_module(HOMES[family]).load(name)
    return task


def names(suite: str, part: str) -> list[str]:
    """The names of a suite's tasks: `development`, `test` or `all` of them."""
    every: list[str] = importlib.import_module(suite).names()
    return every if part == "all" else getattr(split, part)(every)
