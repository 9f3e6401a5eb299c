"""Which tasks anything may be tuned on, and which are for the verdict.

One rule: within a family, the names in order of their SHA-256, and the first third is development.
Nobody chose, nobody can choose again; tests/benchmarks keeps the list. COCO's functions are reported
apart and tune nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from itertools import groupby


def development(names: Iterable[str]) -> list[str]:
    """The names, as `family/rest`, of the tasks to tune on."""
    return [name for family in _families(names) for name in family[: _third(family)]]


def test(names: Iterable[str]) -> list[str]:
    """The names, as `family/rest`, of the tasks to judge by."""
    return [name for family in _families(names) for name in family[_third(family) :]]


def _third(family: list[str]) -> int:
    return round(len(family) / 3)


def _families(names: Iterable[str]) -> list[list[str]]:
    """The names by family, in the order of the split."""
    ordered = sorted(names, key=lambda name: (_family(name), sha256(name.encode()).hexdigest()))
    return [list(family) for _, family in groupby(ordered, key=_family)]


def _family(name: str) -> str:
    return name.partition("/")[0]
